//! A Unix socket named after an interface, and the file that goes with it: made so that a
//! crash leaves nothing in the way, and so that nobody's file is removed but our own.
//!
//! Only root and the user who runs the tunnel are answered, as the file's mode says too.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

use super::{ControlError, peer_process, socket_path};
use crate::config::interface_name;

/// A bound socket; dropping it removes its file.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the file we made.
    identity: (u64, u64),
}

impl Listener {
    /// Binds `INTERFACE.sock` in `dir`, mode 0600. A socket that a killed process left is
    /// replaced; one that is served is an error naming its owner. Must be called within a
    /// tokio runtime.
    pub(super) fn bind(dir: &Path, interface: &str) -> Result<Self, ControlError> {
        interface_name(interface).map_err(ControlError::Name)?;
        make_directory(dir)?;
        let path = socket_path(dir, interface);
        remove_stale(&path)?;
        let io = |action| {
            let path = path.clone();
            move |reason| ControlError::Io {
                action,
                path,
                reason,
            }
        };
        let listener = StdListener::bind(&path).map_err(io("bind"))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(io("protect"))?;
        listener.set_nonblocking(true).map_err(io("set up"))?;
        let metadata = std::fs::symlink_metadata(&path).map_err(io("look at"))?;
        Ok(Self {
            socket: UnixListener::from_std(listener).map_err(io("listen on"))?,
            identity: (metadata.dev(), metadata.ino()),
            path,
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
                self.path.display()
            );
        }
    }

    /// Whether the file is still there, and still ours.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
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

/// Clears the way for a new socket: what nobody listens on is removed. Two processes that
/// start in the same instant may both get here; the interface, of which there can be only
/// one of a name, decides between them.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let io = |action| {
        move |reason| ControlError::Io {
            action,
            path: path.to_owned(),
            reason,
        }
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("look at")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ControlError::InTheWay(path.to_owned()));
        }
        Ok(_) => {}
    }
    match StdStream::connect(path) {
        Ok(stream) => Err(ControlError::Taken {
            path: path.to_owned(),
            pid: peer_process::pid(&stream),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io("remove the stale socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A backlog that is full belongs to somebody who is alive.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ControlError::Taken {
            path: path.to_owned(),
            pid: None,
        }),
        Err(error) => Err(io("connect to")(error)),
    }
}

/// Who listens on a socket, as the error that says so.
pub(super) fn holder(path: &Path) -> Option<ControlError> {
    let stream = StdStream::connect(path).ok()?;
    Some(ControlError::Taken {
        path: path.to_owned(),
        pid: peer_process::pid(&stream),
    })
}

/// Root and our own user: between `bind` and the change of its mode the file may be open to
/// more than these.
fn may_ask(stream: &UnixStream) -> bool {
    let own = std::fs::metadata("/proc/self").map(|metadata| metadata.uid());
    stream
        .peer_cred()
        .is_ok_and(|client| client.uid() == 0 || own.is_ok_and(|own| own == client.uid()))
}
