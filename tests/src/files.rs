//! Where the files of nodes are: a directory each, named like its namespace.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Where the directories of all nodes are.
pub const FILES: &str = "/run/taltun-lab";

/// How long a program that was killed may still make files.
const LAST_FILES: Duration = Duration::from_secs(2);

/// The directory of the node in the namespace `name`.
pub fn directory_of(name: &str) -> PathBuf {
    Path::new(FILES).join(name)
}

/// Removes the files of the node in the namespace `name`, if there are any.
pub fn remove(name: &str) -> Result<()> {
    let directory = directory_of(name);
    let deadline = Instant::now() + LAST_FILES;
    loop {
        match fs::remove_dir_all(&directory) {
            // A thread of a killed program may be at its last file still.
            Err(error)
                if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("can't remove {}", directory.display()));
            }
            _ => break,
        }
    }
    // Fails, rightly, while other nodes have theirs in it.
    let _ = fs::remove_dir(FILES);
    Ok(())
}
