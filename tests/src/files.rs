//! Where the files of nodes are: a directory each, named like its namespace.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the directories of all nodes are.
pub const FILES: &str = "/run/taltun-lab";

/// The directory of the node in the namespace `name`.
pub fn directory_of(name: &str) -> PathBuf {
    Path::new(FILES).join(name)
}

/// Removes the files of the node in the namespace `name`, if there are any.
pub fn remove(name: &str) -> Result<()> {
    let directory = directory_of(name);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("can't remove {}", directory.display()));
        }
        _ => {}
    }
    // Fails, rightly, while other nodes have theirs in it.
    let _ = fs::remove_dir(FILES);
    Ok(())
}
