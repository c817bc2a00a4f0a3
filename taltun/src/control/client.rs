//! The asking end of the control socket, blocking, for the commands.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::request::{Command, Request};
use super::response::{Answer as _, Response};
use super::{ControlError, dirs, left_switches, peer_process, runtime_dir, socket_path};
use crate::config::interface_name;
use crate::system::LeftSwitches;

/// How long to wait for an answer; more than the server takes to give up on its own.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest answer, bytes: thousands of peers with their prefixes fit many times.
const ANSWER_MAX: u64 = 64 << 20;

/// Asks the tunnel `interface`, or without a name the only one that is running, to do `command`.
pub fn call<C: Command>(interface: Option<&str>, command: C) -> Result<C::Answer, ControlError> {
    answer_to::<C>(respond(interface, &command.request())?)
}

/// The same for a command whose answer more follows behind, which can be read as it comes.
pub fn open<C: Command>(
    interface: Option<&str>,
    command: C,
) -> Result<(C::Answer, BufReader<UnixStream>), ControlError> {
    let (response, stream) = converse_with(interface, &command.request())?;
    Ok((answer_to::<C>(response)?, stream))
}

/// The interface of the tunnel that process `pid` runs.
pub fn interface_of(pid: i32) -> Result<String, ControlError> {
    let dirs = dirs::to_look_into();
    find_interface_of(pid, &dirs).ok_or(ControlError::NoTunnelOf(pid))
}

fn find_interface_of(pid: i32, dirs: &[PathBuf]) -> Option<String> {
    dirs.iter().find_map(|dir| {
        let names = socket_names(dir).unwrap_or_default();
        names.into_iter().find(|name| {
            let stream = UnixStream::connect(socket_path(dir, name));
            stream.is_ok_and(|stream| peer_process::pid(&stream) == Some(pid))
        })
    })
}

/// What the response says to a command of this kind.
fn answer_to<C: Command>(response: Response) -> Result<C::Answer, ControlError> {
    C::Answer::of(response).map_err(|other| match other {
        Response::Error(reason) => ControlError::Refused(reason.text),
        Response::Misconfigured(mistakes) => ControlError::Misconfigured(mistakes),
        other => ControlError::Unexpected(other.noun()),
    })
}

fn respond(interface: Option<&str>, request: &Request) -> Result<Response, ControlError> {
    converse_with(interface, request).map(|(response, _)| response)
}

fn converse_with(
    interface: Option<&str>,
    request: &Request,
) -> Result<(Response, BufReader<UnixStream>), ControlError> {
    let mut failure = None;
    for dir in dirs::to_look_into() {
        match open_in(&dir, interface, request) {
            // A later place may know more; who is refused there learns why.
            Err(error @ (ControlError::NotRunning { .. } | ControlError::Io { .. })) => {
                let tells_more = !matches!(&error, ControlError::NotRunning { running, .. }
                        if running.is_empty());
                if failure.is_none() || tells_more {
                    failure = Some(error);
                }
            }
            other => return other,
        }
    }
    let mut failure = failure.unwrap_or_else(|| ControlError::NotRunning {
        interface: interface.map(str::to_owned),
        dir: runtime_dir(),
        left: LeftSwitches::default(),
        running: Vec::new(),
    });
    if let ControlError::NotRunning { left, .. } = &mut failure {
        *left = left_switches();
    }
    Err(failure)
}

#[cfg(test)]
pub(super) fn call_in(
    dir: &Path,
    interface: Option<&str>,
    request: &Request,
) -> Result<Response, ControlError> {
    open_in(dir, interface, request).map(|(response, _)| response)
}

fn open_in(
    dir: &Path,
    interface: Option<&str>,
    request: &Request,
) -> Result<(Response, BufReader<UnixStream>), ControlError> {
    let (stream, path) = match interface {
        Some(name) => connect(dir, name).map_err(|mut error| {
            if let ControlError::NotRunning { running: found, .. } = &mut error {
                *found = running(dir);
            }
            error
        })?,
        None => connect_only(dir)?,
    };
    converse(stream, request).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::NoAnswer {
            path,
            seconds: PATIENCE.as_secs(),
        },
        _ => ControlError::Answer {
            path,
            reason: error.to_string(),
        },
    })
}

fn connect(dir: &Path, name: &str) -> Result<(UnixStream, PathBuf), ControlError> {
    interface_name(name).map_err(ControlError::Name)?;
    let path = socket_path(dir, name);
    match UnixStream::connect(&path) {
        Ok(stream) => Ok((stream, path)),
        Err(error) if nobody_listens(&error) => Err(ControlError::NotRunning {
            interface: Some(name.to_owned()),
            dir: dir.to_owned(),
            left: LeftSwitches::default(),
            running: Vec::new(),
        }),
        Err(reason) => Err(ControlError::Io {
            action: "connect to",
            path,
            reason,
        }),
    }
}

/// The only socket in `dir` that somebody listens on.
fn connect_only(dir: &Path) -> Result<(UnixStream, PathBuf), ControlError> {
    let mut alive = Vec::new();
    let mut refused = None;
    for name in socket_names(dir)? {
        match connect(dir, &name) {
            Ok(connected) => alive.push((name, connected)),
            Err(ControlError::NotRunning { .. }) => {}
            Err(error) => refused = Some(error),
        }
    }
    if alive.len() > 1 {
        let names = alive.into_iter().map(|(name, _)| name).collect();
        return Err(ControlError::Several(names));
    }
    match (alive.pop(), refused) {
        (Some((_, connected)), _) => Ok(connected),
        (None, Some(error)) => Err(error),
        (None, None) => Err(ControlError::NotRunning {
            interface: None,
            dir: dir.to_owned(),
            left: LeftSwitches::default(),
            running: Vec::new(),
        }),
    }
}

/// The interfaces that somebody answers for in `dir`.
fn running(dir: &Path) -> Vec<String> {
    let names = socket_names(dir).unwrap_or_default();
    let is_running = |name: &String| UnixStream::connect(socket_path(dir, name)).is_ok();
    names.into_iter().filter(is_running).collect()
}

/// The interfaces that have a socket in `dir`, in alphabetic order.
fn socket_names(dir: &Path) -> Result<Vec<String>, ControlError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(reason) => {
            return Err(ControlError::Io {
                action: "look into",
                path: dir.to_owned(),
                reason,
            });
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".sock").map(str::to_owned))
        .filter(|name| interface_name(name).is_ok())
        .collect();
    names.sort();
    Ok(names)
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn converse(
    mut stream: UnixStream,
    request: &Request,
) -> io::Result<(Response, BufReader<UnixStream>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A server that is too busy answers before it has read: hear it even so.
    let sent = stream.write_all(&line);
    // There may be keys in it.
    let mut answer = Zeroizing::new(Vec::new());
    let mut reader = BufReader::new(stream);
    (&mut reader)
        .take(ANSWER_MAX)
        .read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        sent?;
        return Err(io::Error::other("it closed the connection"));
    }
    Ok((serde_json::from_slice(&answer)?, reader))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::control::request;
    use crate::control::response::Done;

    #[test]
    fn an_answer_of_another_kind_is_an_error() {
        let done = || Response::Done(Done("reloaded".into()));
        let answer = answer_to::<request::Reload>(done()).unwrap();
        assert_eq!(answer.done.0, "reloaded");
        let unexpected = answer_to::<request::Export>(done()).unwrap_err();
        assert_eq!(
            unexpected.to_string(),
            "the tunnel answered with a sentence; is it of another version than this command?"
        );
        let busy = answer_to::<request::Stats>(Response::Error("busy".into()));
        assert!(matches!(busy, Err(ControlError::Refused(text)) if text == "busy"));
        let mistakes = answer_to::<request::Reload>(Response::Misconfigured("x".into()));
        assert!(matches!(mistakes, Err(ControlError::Misconfigured(text)) if text == "x"));
    }

    #[test]
    fn without_any_tunnel_the_error_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let ask = |dir: &Path, name| {
            call_in(dir, name, &Request::Status)
                .unwrap_err()
                .to_string()
        };
        assert!(ask(dir.path(), None).starts_with("no tunnel is running (nothing answers in"));
        assert!(ask(&dir.path().join("none"), None).starts_with("no tunnel is running"));
        assert!(ask(dir.path(), Some("hub")).starts_with("no tunnel hub is running"));
        assert!(ask(dir.path(), Some("../x")).contains("expected an interface name"));
        // What a killed process left is nobody either.
        drop(UnixListener::bind(dir.path().join("hub.sock")).unwrap());
        assert!(ask(dir.path(), None).starts_with("no tunnel is running"));
        assert!(ask(dir.path(), Some("hub")).starts_with("no tunnel hub is running"));
    }

    #[test]
    fn several_tunnels_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let _hub = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
        let _a = UnixListener::bind(dir.path().join("a.sock")).unwrap();
        drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
        let error = call_in(dir.path(), None, &Request::Status).unwrap_err();
        assert_eq!(
            error.to_string(),
            "several tunnels are running: a, hub; say which with -i NAME"
        );
    }

    #[test]
    fn a_tunnel_is_found_by_its_process() {
        let dir = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
        let _hub = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
        let dirs = [dir.path().join("none"), dir.path().to_owned()];
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(find_interface_of(own, &dirs).as_deref(), Some("hub"));
        assert_eq!(find_interface_of(1, &dirs), None);
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [&b""[..], b"nonsense\n"] {
                let (stream, _) = listener.accept().unwrap();
                let mut line = Vec::new();
                BufReader::new(&stream)
                    .read_until(b'\n', &mut line)
                    .unwrap();
                (&stream).write_all(answer).unwrap();
            }
        });
        for expected in ["it closed the connection", "expected"] {
            let error = call_in(dir.path(), Some("hub"), &Request::Status).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("gave no usable answer"), "{text}");
            assert!(text.contains(expected), "{text}");
        }
        server.join().unwrap();
    }
}
