//! A new file for its owner alone. It is made before anything is asked of the tunnel, so that
//! nothing is changed where it can't be. It has no name until all of it is written: whoever is killed
//! before leaves nothing. Some file systems have no files without a name; there it is removed again where
//! nothing comes of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

use crate::cli::failure::Failure;

/// Nobody but the owner reads it, who may write it.
const MODE: u32 = 0o600;

/// A file with nothing in it yet.
pub(super) struct MadeFile {
    file: File,
    path: PathBuf,
    has_name: bool,
    is_written: bool,
}

impl MadeFile {
    /// Makes it; one that is there already is never touched.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let made = if path.symlink_metadata().is_ok() {
            Err(ErrorKind::AlreadyExists.into())
        } else {
            match nameless_beside(path) {
                Ok(file) => Ok((file, false)),
                Err(_) => named(path).map(|file| (file, true)),
            }
        };
        match made {
            Ok((file, has_name)) => Ok(Self {
                file,
                path: path.to_owned(),
                has_name,
                is_written: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::Other(format!(
                "{} is there already; name another file, or remove it (nothing was changed)",
                path.display()
            ))),
            Err(error) => Err(Failure::Other(format!(
                "cannot write {}: {error} (nothing was changed)",
                path.display()
            ))),
        }
    }

    /// Where it is, once it is written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut written = filled(&mut self.file, bytes).and_then(|()| self.give_name());
        if let Err(error) = &written
            && !self.has_name
            && error.kind() != ErrorKind::AlreadyExists
        {
            // As where /proc isn't there. What it is about is made by now, and may not be lost.
            written = named(&self.path).and_then(|file| {
                (self.file, self.has_name) = (file, true);
                filled(&mut self.file, bytes)
            });
        }
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        self.is_written = true;
        Ok(())
    }

    /// It never takes the place of a file that somebody made meanwhile.
    fn give_name(&mut self) -> io::Result<()> {
        if !self.has_name {
            let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, nameless, CWD, &self.path, AtFlags::SYMLINK_FOLLOW)?;
            self.has_name = true;
        }
        Ok(())
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if self.has_name && !self.is_written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file without a name in the directory where it is to get one.
fn nameless_beside(path: &Path) -> io::Result<File> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    OpenOptions::new()
        .write(true)
        .mode(MODE)
        .custom_flags(OFlags::TMPFILE.bits().cast_signed())
        .open(directory.unwrap_or(Path::new(".")))
}

/// All of it is on the disk then.
fn filled(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

fn named(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_its_owners_alone_and_takes_no_others_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phone.conf");
        let made = MadeFile::create(&path).unwrap();
        // Whoever is killed now leaves nothing, where the file system can do that.
        assert_eq!(path.exists(), made.has_name);
        drop(made);
        assert!(!path.exists());
        let mut made = MadeFile::create(&path).unwrap();
        made.write(b"text").unwrap();
        drop(made);
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let refused = MadeFile::create(&path).err().unwrap().to_string();
        assert!(refused.contains("is there already"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"text");
        // One that was made meanwhile stays as it is.
        let late = dir.path().join("late");
        let mut made = MadeFile::create(&late).unwrap();
        if !made.has_name {
            fs::write(&late, "theirs").unwrap();
            assert!(made.write(b"text").unwrap_err().contains("File exists"));
            drop(made);
            assert_eq!(fs::read(&late).unwrap(), b"theirs");
        }
        // Where there are no files without a name.
        let path = dir.path().join("named");
        let with_name = || MadeFile {
            file: named(&path).unwrap(),
            path: path.clone(),
            has_name: true,
            is_written: false,
        };
        drop(with_name());
        let mut made = with_name();
        made.write(b"text").unwrap();
        drop(made);
        assert_eq!(fs::read(&path).unwrap(), b"text");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(MadeFile::create(&link).is_err());
    }
}
