//! Who else may read a file that holds a secret.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A warning if `path` is open to others than its owner. A file that can't be looked at is
/// left to whoever reads it.
pub(crate) fn warning(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let mode = metadata.mode() & 0o777;
    // Only a regular file has a mode that says who reads the secret: not a pipe or /dev/fd.
    (metadata.is_file() && mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("{path}: open to others than its owner (mode {mode:04o}); run `chmod 600 {path}`")
    })
}
