//! Who asks a running tunnel for something, as the kernel tells: for the trail of changes.

use std::fmt::Display;
use std::fs;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use tokio::net::UnixStream;

/// A login that there wasn't, as of a service.
const NO_LOGIN: u32 = u32::MAX;

/// By which way something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By a command of ours, over the control socket.
    ControlSocket,
    /// By `wg` or its kin, over the socket that they know.
    WgSocket,
    /// By a signal, whose sender isn't known.
    Signal,
    /// By the page of `[web]`.
    Web,
    /// By this process itself.
    Process,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// By which way.
    pub way: Way,
    /// The signal's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'static str>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// The user who logged in, whoever that became since, by `sudo` for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_uid: Option<u32>,
    /// The process; none of another pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// What that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// The name of the token that a browser is logged in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Where that browser is.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
}

impl Caller {
    /// Who is at the other end of a socket. Called once the connection is there, as the process may
    /// be gone soon.
    pub(super) fn of(stream: &UnixStream, way: Way) -> Self {
        let peer = stream.peer_cred().ok();
        let pid = peer.and_then(|peer| peer.pid()).filter(|pid| *pid > 0);
        Self {
            uid: peer.map(|peer| peer.uid()),
            ..Self::process(way, pid)
        }
    }

    /// This process.
    pub(super) fn ourselves() -> Self {
        let pid = i32::try_from(std::process::id()).ok();
        Self {
            uid: Some(rustix::process::geteuid().as_raw()),
            ..Self::process(Way::Process, pid)
        }
    }

    /// Who sent a signal.
    pub(super) fn signal(name: &'static str) -> Self {
        Self {
            signal: Some(name),
            ..Self::process(Way::Signal, None)
        }
    }

    /// A browser, as the page's process tells.
    pub(super) fn browser(token: &str, address: IpAddr) -> Self {
        Self {
            token: Some(token.to_owned()),
            address: Some(address),
            ..Self::process(Way::Web, None)
        }
    }

    fn process(way: Way, pid: Option<i32>) -> Self {
        let login_uid = pid.and_then(|pid| told(pid, "loginuid"));
        Self {
            way,
            signal: None,
            uid: None,
            login_uid: login_uid.filter(|uid| *uid != NO_LOGIN),
            pid,
            program: pid.and_then(|pid| told(pid, "comm")),
            token: None,
            address: None,
        }
    }
}

/// What a file of a process in `/proc` has, without white space around it.
fn told<T: FromStr>(pid: impl Display, file: &str) -> Option<T> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_of_a_socket_is_told_by_the_kernel() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let caller = runtime.block_on(async {
            let (one, _other) = UnixStream::pair().unwrap();
            Caller::of(&one, Way::WgSocket)
        });
        assert_eq!(caller.way, Way::WgSocket);
        assert_eq!(caller.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(caller.uid, Caller::ourselves().uid);
        assert_eq!(caller.program, told("self", "comm"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let json = serde_json::to_string(&Caller::signal("SIGHUP")).unwrap();
        assert_eq!(json, r#"{"way":"signal","signal":"SIGHUP"}"#);
        let browser = Caller::browser("ana", "10.0.0.2".parse().unwrap());
        let json = serde_json::to_string(&browser).unwrap();
        assert_eq!(json, r#"{"way":"web","token":"ana","address":"10.0.0.2"}"#);
        assert_eq!(told::<u32>(i32::MAX, "loginuid"), None);
    }
}
