//! The configuration on the disk: read, and replaced in one go by another text, if nobody else has
//! changed it meanwhile. Owner and mode stay, a symbolic link goes on leading there.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::{ConfigError, Spot};
use super::load;

/// A file as it was when it was read.
#[derive(Debug)]
pub struct OnDisk {
    /// Where it really is, whatever leads there.
    path: PathBuf,
    stamp: Stamp,
    /// What was in it.
    pub text: Zeroizing<String>,
}

/// Why a file wasn't replaced. Nothing was changed.
#[derive(Debug)]
pub enum NotReplaced {
    /// Somebody else has changed it since it was read.
    Changed,
    /// It can't be.
    Failed(String),
}

/// What changes with a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl OnDisk {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let refused = |error| {
            let file = path.display().to_string();
            Spot::file(&file).error(format!("cannot read the configuration: {error}"))
        };
        let real = fs::canonicalize(path).map_err(refused)?;
        // Before it is read: a change in between shows later.
        let found = fs::metadata(&real).map_err(refused)?;
        Ok(Self {
            text: load::read_text(path)?,
            path: real,
            stamp: Stamp::of(&found),
        })
    }

    /// Puts another text in its place.
    pub fn replace(&self, text: &str) -> Result<Self, NotReplaced> {
        let failed = |error: io::Error| {
            let file = self.path.display();
            NotReplaced::Failed(format!("cannot replace {file}: {error}"))
        };
        let found = fs::metadata(&self.path).map_err(failed)?;
        if found.mode() & 0o200 == 0 {
            return Err(NotReplaced::Failed(format!(
                "{} is read-only (mode {:04o}); `chmod u+w` lets it be changed",
                self.path.display(),
                found.mode() & 0o7777
            )));
        }
        let name = self.path.file_name().unwrap_or_default();
        let beside = self.path.with_file_name(format!(".{}.new", name.display()));
        let replaced = write_new(&beside, text, &found)
            .map_err(|error| {
                NotReplaced::Failed(format!("cannot write {}: {error}", beside.display()))
            })
            .and_then(|()| {
                let found = fs::metadata(&self.path).map_err(failed)?;
                if Stamp::of(&found) != self.stamp {
                    return Err(NotReplaced::Changed);
                }
                fs::rename(&beside, &self.path).map_err(failed)
            });
        if let Err(reason) = replaced {
            let _ = fs::remove_file(&beside);
            return Err(reason);
        }
        // The file is there; that it also outlives a power cut is the best that can be done.
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
        let found = fs::metadata(&self.path).map_err(failed)?;
        Ok(Self {
            path: self.path.clone(),
            stamp: Stamp::of(&found),
            text: Zeroizing::new(text.to_owned()),
        })
    }
}

/// Writes a file with the owner and the mode of another one.
fn write_new(path: &Path, text: &str, like: &Metadata) -> io::Result<()> {
    let create = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    };
    let mut file = match create() {
        // What a process left that was killed here.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()?
        }
        created => created?,
    };
    let made = file.metadata()?;
    let differs = |is: u32, should: u32| (is != should).then_some(should);
    let (owner, group) = (
        differs(made.uid(), like.uid()),
        differs(made.gid(), like.gid()),
    );
    if owner.is_some() || group.is_some() {
        fchown(&file, owner, group)?;
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn file(dir: &Path) -> PathBuf {
        let path = dir.join("hub.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        path
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn another_text_takes_its_place_with_owner_mode_and_link_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        // Only root may, and the tests of CI are root's.
        let _ = std::os::unix::fs::chown(&path, Some(7), Some(8));
        let before = fs::metadata(&path).unwrap();
        let link = dir.path().join("link.toml");
        symlink("hub.toml", &link).unwrap();
        // Left by somebody who was killed.
        fs::write(dir.path().join(".hub.toml.new"), "half").unwrap();
        let read = OnDisk::read(&link).unwrap();
        assert_eq!(*read.text, "old");
        let again = read.replace("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let after = fs::metadata(&path).unwrap();
        let owned = |it: &Metadata| (it.uid(), it.gid(), it.mode());
        assert_eq!(owned(&after), owned(&before));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(dir.path()), ["hub.toml", "link.toml"]);
        // And back.
        again.replace("old").unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "old");
    }

    #[test]
    fn a_file_that_somebody_changed_meanwhile_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        let read = OnDisk::read(&path).unwrap();
        fs::write(&path, "by hand").unwrap();
        assert!(matches!(read.replace("new"), Err(NotReplaced::Changed)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "by hand");
        assert_eq!(names(dir.path()), ["hub.toml"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        let read = OnDisk::read(&path).unwrap();
        // A directory in the place of the new file can't be written to, by nobody.
        let beside = dir.path().join(".hub.toml.new");
        fs::create_dir(&beside).unwrap();
        let Err(NotReplaced::Failed(reason)) = read.replace("new") else {
            panic!("it was replaced");
        };
        assert!(
            reason.contains("cannot write") && reason.contains(".hub.toml.new"),
            "{reason}"
        );
        fs::remove_dir(&beside).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        let Err(NotReplaced::Failed(reason)) = read.replace("new") else {
            panic!("it was replaced");
        };
        assert!(reason.contains("read-only (mode 0440)"), "{reason}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert!(OnDisk::read(&dir.path().join("none")).is_err());
    }
}
