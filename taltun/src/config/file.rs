//! Reading files that somebody names, or may have put in a place of ours: regular ones only. A
//! FIFO would be waited for, a device may have no end, and who reads holds up those that wait
//! for it.

use std::fs::{FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// What is in the file, unless that is more than `largest` bytes.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = OpenOptions::new()
        .read(true)
        // Opening a FIFO waits for somebody who writes.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other(format!(
            "it is {}, and only regular files are read",
            kind(found.file_type())
        )));
    }
    let too_large = || io::Error::other(format!("it is larger than {largest} bytes"));
    if found.len() > largest {
        return Err(too_large());
    }
    // Room for all of it at once: what a growing buffer leaves behind isn't wiped.
    let length = usize::try_from(found.len()).map_err(|_| too_large())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    // It may grow meanwhile.
    file.take(largest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(too_large());
    }
    Ok(bytes)
}

fn kind(found: FileType) -> &'static str {
    if found.is_fifo() {
        "a pipe"
    } else if found.is_dir() {
        "a directory"
    } else if found.is_char_device() || found.is_block_device() {
        "a device"
    } else {
        "no regular file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_none_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for (path, kind) in [
            (fifo.as_path(), "a pipe"),
            (dir.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = read(path, 10).unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
        }
        let file = dir.path().join("file");
        std::fs::write(&file, [7; 10]).unwrap();
        assert_eq!(read(&file, 10).unwrap().as_slice(), [7; 10]);
        assert!(read(&file, 9).is_err());
        // Nothing is read of one that is too large, nor is there room made for it.
        let huge = dir.path().join("huge");
        std::fs::File::create(&huge)
            .and_then(|file| file.set_len((1 << 30) + 1))
            .unwrap();
        let error = read(&huge, 1 << 30).unwrap_err().to_string();
        assert!(error.contains("larger than"), "{error}");
        let linked = dir.path().join("linked");
        std::os::unix::fs::symlink(&file, &linked).unwrap();
        assert_eq!(read(&linked, 10).unwrap().len(), 10);
    }
}
