//! Where a tunnel keeps its files, which depends on who runs it.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{RUNTIME_DIR_VARIABLE, STATE_DIR_VARIABLE};

/// Where sockets are, for root and under systemd.
const RUNTIME: &str = "/run/taltun";
/// Where state is, likewise.
const STATE: &str = "/var/lib/taltun";

/// Where the sockets of our own tunnels are.
pub(super) fn runtime() -> PathBuf {
    let own = named("XDG_RUNTIME_DIR").map(|dir| dir.join("taltun"));
    match (named(RUNTIME_DIR_VARIABLE), own) {
        (Some(dir), _) => dir,
        (None, Some(own)) if !may_write(Path::new(RUNTIME)) => own,
        (None, _) => RUNTIME.into(),
    }
}

/// Where sockets of tunnels may be that somebody asks for, the likeliest place first: a user's
/// own tunnels, and those that root runs.
pub(super) fn to_look_into() -> Vec<PathBuf> {
    let mut dirs = vec![runtime()];
    if named(RUNTIME_DIR_VARIABLE).is_none() && dirs[0] != Path::new(RUNTIME) {
        dirs.push(RUNTIME.into());
    }
    dirs
}

/// Where what outlives a run is, in a directory for each tunnel.
pub(super) fn state() -> PathBuf {
    match (named(STATE_DIR_VARIABLE), named(RUNTIME_DIR_VARIABLE)) {
        (Some(dir), _) => dir,
        // Tunnels of one name in several network namespaces have a directory each.
        (None, Some(dir)) => dir.join("state"),
        (None, None) => STATE.into(),
    }
}

/// The directory that a variable names; an empty one names none.
fn named(variable: &str) -> Option<PathBuf> {
    let value: Option<OsString> = std::env::var_os(variable);
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether we may make files in `dir`, or make it if it is missing.
fn may_write(dir: &Path) -> bool {
    let dir = if dir.exists() {
        dir
    } else {
        dir.parent().unwrap_or(dir)
    };
    let Ok(path) = CString::new(dir.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: the path is a text with a zero at its end that outlives the call.
    unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_may_be_made_where_its_parent_may_be_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(may_write(dir.path()));
        assert!(may_write(&dir.path().join("taltun")));
        assert!(!may_write(&dir.path().join("missing/taltun")));
        // Whoever is root may write anywhere but where there is nothing.
        assert!(!may_write(Path::new("/no/such/directory")));
    }
}
