//! A new file for its owner alone. It is made before anything is asked of the tunnel, so that
//! nothing is changed where it can't be, and is gone again where nothing comes of it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;

/// A file with nothing in it yet.
pub(super) struct MadeFile {
    file: File,
    path: PathBuf,
    is_written: bool,
}

impl MadeFile {
    /// Makes it; one that is there already is never touched.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match file {
            Ok(file) => Ok(Self {
                file,
                path: path.to_owned(),
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

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = self.file.write_all(bytes);
        written
            .and_then(|()| self.file.sync_all())
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_its_owners_alone_and_takes_no_others_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phone.conf");
        drop(MadeFile::create(&path).unwrap());
        assert!(!path.exists());
        let mut made = MadeFile::create(&path).unwrap();
        made.write(b"text").unwrap();
        drop(made);
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let refused = MadeFile::create(&path).err().unwrap().to_string();
        assert!(refused.contains("is there already"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"text");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(MadeFile::create(&link).is_err());
    }
}
