//! What can go wrong between a running tunnel and who asks it, each with its remedy.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use super::{peer_process, switch_words};
use crate::system::LeftSwitches;

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
    #[error("{}", not_running(interface.as_deref(), dir, left, running))]
    NotRunning {
        /// The interface that was asked for, if one was named.
        interface: Option<String>,
        /// Where its socket would be.
        dir: PathBuf,
        /// Kill switches that dead tunnels left.
        left: LeftSwitches,
        /// Those that do run.
        running: Vec<String>,
    },
    /// Several tunnels are running and none was named.
    #[error("several tunnels are running: {}; say which with -i NAME", .0.join(", "))]
    Several(Vec<String>),
    /// A process that was named runs no tunnel that can be asked.
    #[error("process {0} runs no tunnel that answers; `taltun status` shows what runs")]
    NoTunnelOf(i32),
    /// The conversation broke off or made no sense.
    #[error("{} gave no usable answer: {reason}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What came instead.
        reason: String,
    },
    /// There was no answer for so long that nobody waits any more. What was asked may be done.
    #[error("{} gave no answer within {seconds} seconds", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// How long that was.
        seconds: u64,
    },
    /// The answer is of another kind than the command asks for.
    #[error("the tunnel answered with {0}; is it of another version than this command?")]
    Unexpected(&'static str),
    /// The tunnel didn't do it, and says why.
    #[error("{0}")]
    Refused(String),
    /// The tunnel didn't do it, as its configuration has mistakes.
    #[error("{0}")]
    Misconfigured(String),
}

impl ControlError {
    /// The process that holds the interface, where the kernel tells.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Taken { pid, .. } => *pid,
            _ => None,
        }
    }

    /// Inode of the network namespace of that process.
    pub fn namespace(&self) -> Option<u64> {
        self.pid().and_then(peer_process::namespace)
    }
}

fn not_running(
    interface: Option<&str>,
    dir: &Path,
    left: &LeftSwitches,
    running: &[String],
) -> String {
    let mut text = match interface {
        Some(name) => format!("no tunnel {name} is running"),
        None => "no tunnel is running".to_owned(),
    };
    // Who is cut off wants to know of nothing else.
    if left.found.is_empty() && !running.is_empty() {
        let _ = write!(text, "; these are: {}", running.join(", "));
    } else if left.found.is_empty() {
        let _ = write!(
            text,
            " (nothing answers in {}); to start one: `taltun run --config FILE`",
            dir.display()
        );
    } else {
        text.push('.');
    }
    switch_words::tell(&mut text, left);
    text
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{LeftSwitch, SwitchState};

    #[test]
    fn a_kill_switch_that_was_left_is_all_that_is_told() {
        let dir = Path::new("/run/taltun");
        let none = LeftSwitches::default();
        let held = LeftSwitches {
            found: vec![LeftSwitch {
                interface: "taltun0".into(),
                start: String::new(),
                elsewhere: false,
                state: SwitchState::Holds,
            }],
            cannot_look: None,
        };
        assert_eq!(
            not_running(Some("t0"), dir, &held, &["a0".into()]),
            "no tunnel t0 is running. KILL SWITCH OF taltun0 HOLDS: nothing leaves.\n  \
             release: taltun undo taltun0"
        );
        assert_eq!(
            not_running(None, dir, &none, &[]),
            "no tunnel is running (nothing answers in /run/taltun); to start one: `taltun run \
             --config FILE`"
        );
        assert_eq!(
            not_running(Some("t0"), dir, &none, &["a0".into(), "b0".into()]),
            "no tunnel t0 is running; these are: a0, b0"
        );
    }
}
