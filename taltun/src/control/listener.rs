//! A Unix socket named after an interface, and the file that goes with it: made so that a
//! crash leaves nothing in the way, and so that nobody's file is removed but our own.
//!
//! Only root and the user who runs the tunnel are answered, as the file's mode says too.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

use super::{ControlError, peer_process, socket_path};
use crate::config::interface_name;

/// The longest wait for a process that was killed.
const DYING: Duration = Duration::from_secs(3);

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
pub(super) fn remove_stale(path: &Path) -> Result<(), ControlError> {
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
    match connect(path) {
        Ok(stream) => Err(taken(path, &stream)),
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
    let stream = connect(path).ok()?;
    Some(taken(path, &stream))
}

fn taken(path: &Path, stream: &StdStream) -> ControlError {
    ControlError::Taken {
        path: path.to_owned(),
        pid: peer_process::pid(stream),
    }
}

/// Connects to a socket. One of a process that was killed is open for a moment longer: as long
/// as its last thread takes to end, or a child of it that was just about to become another
/// program. For that there is a wait.
fn connect(path: &Path) -> io::Result<StdStream> {
    let start = Instant::now();
    loop {
        let stream = StdStream::connect(path)?;
        let is_dying = peer_process::pid(&stream).is_some_and(peer_process::is_dying);
        if !is_dying || start.elapsed() > DYING {
            return Ok(stream);
        }
        drop(stream);
        std::thread::sleep(Duration::from_millis(10));
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// Has a process listen on `path` that is killed at once, though a child of it has the
    /// socket a while longer, as one has that is about to become another program.
    fn killed(path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        // SAFETY: an address of zeros is a valid one.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(bytes) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        // SAFETY: until they end, both children only call what may be called after a fork of a
        // process with threads, and `address` is as large as is said.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
                let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
                libc::bind(socket, (&raw const address).cast(), length);
                libc::listen(socket, 8);
                if libc::fork() == 0 {
                    libc::usleep(500_000);
                    libc::_exit(0);
                }
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
            pid
        };
        assert!(pid > 0, "{}", io::Error::last_os_error());
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
        StdStream::connect(path).unwrap();
    }

    #[tokio::test]
    async fn a_process_that_was_killed_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t0.sock");
        killed(&path);
        assert!(holder(&path).is_none());
        killed(&dir.path().join("t1.sock"));
        Listener::bind(dir.path(), "t1").unwrap();
    }

    #[test]
    fn one_that_runs_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t0.sock");
        let _listener = StdListener::bind(&path).unwrap();
        let start = Instant::now();
        assert!(holder(&path).is_some());
        assert!(start.elapsed() < DYING / 2);
    }
}
