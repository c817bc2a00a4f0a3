//! Files in the state directory: for the tunnel's owner alone, and replaced in one go.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{debug, warn};

use crate::config::file;

/// Seconds since 1970, as in these files.
pub(super) fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// What is in a regular file, of no more than `largest` bytes; `None` if there is none.
pub(super) fn read(file: &Path, largest: u64) -> Result<Option<String>, String> {
    let mut bytes = match file::read(file, largest) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read: {error}")),
    };
    let text = String::from_utf8(std::mem::take(&mut *bytes));
    text.map(Some)
        .map_err(|_| "cannot read: it is no text".to_owned())
}

/// Replaces the file in one go.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    replace(file, text, |_| Ok(()))
}

/// The same for what can't be had again: it is on the disk when this returns, also if the power fails then.
#[cfg(feature = "fleet")]
pub(super) fn write_durably(file: &Path, text: &str) -> io::Result<()> {
    replace(file, text, File::sync_all)?;
    let dir = file.parent().unwrap_or(Path::new("/"));
    File::open(dir)?.sync_all()
}

fn replace(
    file: &Path,
    text: &str,
    settle: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    make_directory(file)?;
    let new = file.with_added_extension("new");
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        // A FIFO without a reader is an error, and not waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&new)?;
    let written = opened.write_all(text.as_bytes());
    written
        .and_then(|()| settle(&opened))
        .and_then(|()| fs::rename(&new, file))
        .inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
}

/// Adds to the end of a file that is there.
pub(super) fn append(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_pipe_nor_a_file_without_end_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert_eq!(read(&file, 10), Ok(None));
        let new = file.with_added_extension("new");
        for path in [&file, &new] {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        }
        assert!(read(&file, 10).unwrap_err().contains("a pipe"));
        append(&file, "more").unwrap_err();
        write(&file, "text").unwrap_err();
        fs::remove_file(new).unwrap();
        write(&file, "text").unwrap();
        assert_eq!(read(&file, 10), Ok(Some("text".to_owned())));
        append(&file, ", and more").unwrap();
        assert!(read(&file, 10).unwrap_err().contains("larger than 10"));
        let zero = Path::new("/dev/zero");
        assert!(read(zero, 10).unwrap_err().contains("a device"));
    }
}
