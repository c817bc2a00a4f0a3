//! What can go wrong between a running tunnel and who asks it, each with its remedy.

use std::io;
use std::path::PathBuf;

/// Why a control socket can't be served or asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The name can't be that of an interface, and so not of a socket either.
    #[error("{0}")]
    Name(String),
    /// Another process serves this interface already.
    #[error("{} is served by another process already{}; stop it or choose another name",
        path.display(), owner(*pid))]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Its owner, where the kernel tells (not across pid namespaces).
        pid: Option<i32>,
    },
    /// Something that is not a socket has the socket's name.
    #[error("{} is in the way and not a socket; remove it", .0.display())]
    InTheWay(PathBuf),
    /// The file system refused.
    #[error("cannot {action} {}: {reason}{}", path.display(), hint(reason))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// No tunnel of this name, or none at all, is running.
    #[error("{}", match interface {
        Some(name) => format!("no tunnel {name} is running (nothing answers in {})", dir.display()),
        None => format!("no tunnel is running (nothing answers in {})", dir.display()),
    })]
    NotRunning {
        /// The interface that was asked for, if one was named.
        interface: Option<String>,
        /// Where its socket would be.
        dir: PathBuf,
    },
    /// Several tunnels are running and none was named.
    #[error("several tunnels are running: {}; say which with -i NAME", .0.join(", "))]
    Several(Vec<String>),
    /// The conversation broke off or made no sense.
    #[error("{} gave no usable answer: {reason}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What came instead.
        reason: String,
    },
}

/// Who a process is, in brackets.
fn owner(pid: Option<i32>) -> String {
    let Some(pid) = pid else {
        return String::new();
    };
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(" ({}, pid {pid})", name.trim()),
        Err(_) => format!(" (pid {pid})"),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or for tunnels of your own name a directory of yours in \
             TALTUN_RUNTIME_DIR"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; name another directory in TALTUN_RUNTIME_DIR",
        _ => "",
    }
}
