//! A Unix socket named after an interface.
//!
//! Only root and the user who runs the tunnel are answered, as the file's mode says too.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

use super::socket_file::SocketFile;
use super::{ControlError, socket_path};
use crate::config::interface_name;

/// A bound socket; dropping it removes its file.
#[derive(Debug)]
pub(super) struct Listener {
    file: SocketFile,
    socket: UnixListener,
}

impl Listener {
    /// Binds `INTERFACE.sock` in `dir`, mode 0600. A socket that a killed process left is
    /// replaced; one that is served is an error naming its owner. Must be called within a
    /// tokio runtime.
    pub(super) fn bind(dir: &Path, interface: &str) -> Result<Self, ControlError> {
        interface_name(interface).map_err(ControlError::Name)?;
        make_directory(dir)?;
        let path = socket_path(dir, interface);
        let (listener, file) = SocketFile::bind(&path, 0o600)?;
        let io = |reason| ControlError::Io {
            action: "listen on",
            path,
            reason,
        };
        let socket = listener.set_nonblocking(true);
        let socket = socket.and_then(|()| UnixListener::from_std(listener));
        Ok(Self {
            file,
            socket: socket.map_err(io)?,
        })
    }

    /// The next client that may ask; others are turned away.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.socket.accept().await?;
            if may_ask(&stream) {
                return Ok(stream);
            }
            debug!(
                "{}: a client of another user was turned away",
                self.file.path().display()
            );
        }
    }

    /// Whether the file is still there, and still ours.
    pub(super) fn is_in_place(&self) -> bool {
        self.file.is_in_place()
    }
}

/// Makes the directory, open for all to look into (the sockets in it are not), if it is
/// missing.
fn make_directory(dir: &Path) -> Result<(), ControlError> {
    let io = |reason| ControlError::Io {
        action: "make the directory",
        path: dir.to_owned(),
        reason,
    };
    match DirBuilder::new().mode(0o755).create(dir) {
        // The umask may have taken bits away.
        Ok(()) => std::fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Root and our own user: between `bind` and the change of its mode the file may be open to
/// more than these.
fn may_ask(stream: &UnixStream) -> bool {
    let own = std::fs::metadata("/proc/self").map(|metadata| metadata.uid());
    stream
        .peer_cred()
        .is_ok_and(|client| client.uid() == 0 || own.is_ok_and(|own| own == client.uid()))
}
