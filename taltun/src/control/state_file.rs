//! Files in the state directory: for the tunnel's owner alone, and replaced in one go.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{debug, warn};

/// Seconds since 1970, as in these files.
pub(super) fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// What is in a file, of no more than `largest` bytes; `None` if there is none.
pub(super) fn read(file: &Path, largest: u64) -> Result<Option<String>, String> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read: {error}")),
    };
    let mut text = String::new();
    opened
        .take(largest)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read: {error}"))?;
    Ok(Some(text))
}

/// Replaces the file in one go.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    make_directory(file)?;
    let new = file.with_added_extension("new");
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)?;
    let written = opened.write_all(text.as_bytes());
    written
        .and_then(|()| fs::rename(&new, file))
        .inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
}

/// Adds to the end of a file that is there.
pub(super) fn append(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(file)?
        .write_all(text.as_bytes())
}

fn make_directory(file: &Path) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What is told of a file that can't be written: once as a warning, until it can again.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    /// Whether it was told already.
    pub(super) told: bool,
}

impl Complaint {
    /// Tells how writing ended; `consequence` is what failing means after a restart.
    pub(super) fn tell(&mut self, file: &Path, outcome: io::Result<()>, consequence: &str) {
        match outcome {
            Ok(()) => self.told = false,
            Err(error) if self.told => debug!("{}: {error}", file.display()),
            Err(error) => {
                self.told = true;
                warn!(
                    "cannot write {}: {error}; after a restart {consequence} (TALTUN_STATE_DIR \
                     names another directory)",
                    file.display()
                );
            }
        }
    }
}
