//! The name of the file that records changes for an interface, in a directory that several network
//! namespaces share.
//!
//! That is `NAME.EXTENSION`. While that file belongs to another living namespace, or can't be read,
//! a tunnel has `NAME@NAMESPACE.EXTENSION` instead (no interface's name has an
//! `@`): what a dead tunnel of the same name left elsewhere stays known.

use std::fs;
use std::path::{Path, PathBuf};

use super::namespace::{self, Place};
use crate::config::interface_name;

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// There is no such file.
    Nobody,
    /// That of the namespace with this inode.
    Namespace(u64),
    /// It can't be read.
    Unknown,
}

impl Owner {
    /// Whether who is in `namespace` may replace or remove the file.
    pub(super) fn leaves_it_to(self, namespace: u64) -> bool {
        match self {
            Self::Nobody => true,
            Self::Namespace(owner) => {
                owner == namespace || matches!(namespace::find(owner), Place::Gone)
            }
            Self::Unknown => false,
        }
    }
}

/// The file for `interface` in `namespace`; `owner` tells whose a file is.
pub(super) fn path(
    directory: &Path,
    interface: &str,
    extension: &str,
    namespace: u64,
    owner: impl Fn(&Path) -> Owner,
) -> PathBuf {
    let own = directory.join(format!("{interface}@{namespace}.{extension}"));
    let plain = directory.join(format!("{interface}.{extension}"));
    if !own.exists() && owner(&plain).leaves_it_to(namespace) {
        plain
    } else {
        own
    }
}

/// All such files of a directory with the interfaces that they are for, in order.
pub(super) fn all(directory: &Path, extension: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let stem = file.strip_suffix(extension)?.strip_suffix('.')?;
            let (name, namespace) = stem.split_once('@').unwrap_or((stem, "0"));
            let known = interface_name(name).is_ok() && namespace.parse::<u64>().is_ok();
            known.then(|| (name.to_owned(), entry.path()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_somebody_elses_is_left_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let here = namespace::current().unwrap();
        // A process of another namespace need not exist for a file to be unknown.
        let name = |owner| {
            let path = path(dir.path(), "t0", "undo", here, |_| owner);
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        let own = format!("t0@{here}.undo");
        assert_eq!(name(Owner::Nobody), "t0.undo");
        assert_eq!(name(Owner::Namespace(here)), "t0.undo");
        // Nothing is in this namespace.
        assert_eq!(name(Owner::Namespace(1)), "t0.undo");
        assert_eq!(name(Owner::Unknown), own);
        fs::write(dir.path().join(&own), "").unwrap();
        assert_eq!(name(Owner::Nobody), own);
        fs::write(dir.path().join("t0.undo"), "").unwrap();
        fs::write(dir.path().join("t0@x.undo"), "").unwrap();
        fs::write(dir.path().join("t1.undo.new"), "").unwrap();
        let found = all(dir.path(), "undo");
        let files: Vec<_> = found.iter().map(|(_, path)| path.file_name()).collect();
        assert_eq!(files, [Some("t0.undo".as_ref()), Some(own.as_ref())]);
        assert!(found.iter().all(|(name, _)| name == "t0"));
    }
}
