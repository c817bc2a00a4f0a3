//! Finds kill switches whose tunnels don't run.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::{dirs, socket_file, socket_path};
use crate::system::{self, LeftSwitches};

/// The kill switches that dead tunnels left, as far as that can be seen.
pub fn left_switches() -> LeftSwitches {
    let directories = dirs::to_look_into();
    system::left_switches(&directories, |name, namespace| {
        runs(&directories, name, namespace)
    })
}

/// Whether a tunnel runs in a network namespace, or may. One of the same name that runs in
/// another is another tunnel.
fn runs(directories: &[PathBuf], name: &str, namespace: u64) -> bool {
    directories.iter().any(|directory| {
        let path = socket_path(directory, name);
        match UnixStream::connect(&path) {
            // Who may not ask can't tell.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Ok(_) => socket_file::holder(&path).is_some_and(|holder| {
                let found = holder.namespace();
                found.is_none_or(|found| found == namespace)
            }),
        }
    })
}
