//! A Unix socket that is listened on, and its file: made so that a crash leaves nothing in the way,
//! and so that nobody's file is removed but our own.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{ControlError, peer_process};

/// The longest wait for a process that was killed.
const DYING: Duration = Duration::from_secs(3);

/// The file of a socket of ours; dropping it removes the file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds a socket to `path`, whose file has that mode. One that a killed process left is
    /// replaced; one that is served is an error naming its owner.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Self), ControlError> {
        remove_stale(path)?;
        let io = |action| {
            let path = path.to_owned();
            move |reason| ControlError::Io {
                action,
                path,
                reason,
            }
        };
        let listener = UnixListener::bind(path).map_err(io("bind"))?;
        let identity = protect(path, mode).map_err(io("protect"))?;
        let path = path.to_owned();
        Ok((listener, Self { path, identity }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still there, and still ours.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == self.identity)
    }

    /// Removes the file, unless it is somebody else's.
    pub(super) fn remove(&self) {
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Changes the mode of the socket that is there, and tells its identity. By a descriptor: by the
/// path, who owns the directory could have put another file there meanwhile.
fn protect(path: &Path, mode: u32) -> io::Result<(u64, u64)> {
    // Not by `OpenOptions`: for musl it takes O_PATH for a kind of access, and leaves it out.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("somebody put another file there"));
    }
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(file, Permissions::from_mode(mode))?;
    Ok((metadata.dev(), metadata.ino()))
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
    match connect(path) {
        Ok(stream) => Err(taken(path, &stream)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io("remove the stale socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A queue that is full belongs to somebody who is alive.
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

fn taken(path: &Path, stream: &UnixStream) -> ControlError {
    ControlError::Taken {
        path: path.to_owned(),
        pid: peer_process::pid(stream),
    }
}

/// Connects to a socket. One of a process that was killed is open for a moment longer: as long
/// as its last thread takes to end, or a child of it that was just about to become another
/// program. For that there is a wait.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let start = Instant::now();
    let mut was_dying = false;
    loop {
        match connect_at_once(path) {
            Ok(stream) => {
                was_dying = peer_process::pid(&stream).is_some_and(peer_process::is_dying);
                if !was_dying || start.elapsed() > DYING {
                    return Ok(stream);
                }
            }
            // Our own tries fill the queue of one that takes none any more.
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && was_dying
                    && start.elapsed() <= DYING => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Without waiting for a place where the owner's queue is full: that is `WouldBlock`.
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(OwnedFd::from(socket).into())
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
        UnixStream::connect(path).unwrap();
    }

    #[test]
    fn a_process_that_was_killed_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t0.sock");
        killed(&path);
        assert!(holder(&path).is_none());
        killed(&dir.path().join("t1.sock"));
        SocketFile::bind(&dir.path().join("t1.sock"), 0o600).unwrap();
    }

    #[test]
    fn one_whose_queue_is_full_is_alive_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t0.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = connect_at_once(&path) {
            waiting.push(stream);
        }
        let taken = remove_stale(&path).unwrap_err();
        assert!(matches!(taken, ControlError::Taken { .. }), "{taken}");
        assert!(path.exists());
    }

    #[test]
    fn one_that_runs_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t0.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let start = Instant::now();
        assert!(holder(&path).is_some());
        assert!(start.elapsed() < DYING / 2);
    }

    #[test]
    fn only_our_own_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t0.sock");
        let (_listener, file) = SocketFile::bind(&path, 0o600).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(file.is_in_place());
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_in_place());
        // Another one's, by the same name.
        let (_other, other) = SocketFile::bind(&path, 0o666).unwrap();
        assert!(!file.is_in_place());
        drop(file);
        assert!(other.is_in_place());
        drop(other);
        assert!(!path.exists());
    }
}
