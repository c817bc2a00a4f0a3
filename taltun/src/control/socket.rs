//! The serving end of the control socket.
//!
//! It believes nothing of its clients: a line is bounded, a connection has ten seconds for
//! each of its steps, at most 64 are open at once, and whatever one of them does, the others
//! and the controller go on.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::answer_to::{AnswerTo, has_left};
use super::caller::{Caller, Way};
use super::listener::Listener;
use super::request::{Call, REQUEST_MAX, Request};
use super::response::Response;
use super::spare;
use super::{ControlError, runtime_dir};

/// Connections open at once.
const CLIENTS_MAX: usize = 64;
/// How long each step of a conversation may take: the request, its answer, the reading of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether the socket's file is still there.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);

/// An answer from this size on leaves memory behind that is worth giving back, bytes.
const LARGE: usize = 1 << 20;

/// A bound control socket; dropping it removes its file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Listener,
    dir: PathBuf,
    interface: String,
    patience: Duration,
    /// Between two looks whether the file is still there.
    between_looks: Duration,
}

impl ControlSocket {
    /// Binds `INTERFACE.sock` in the [runtime directory](runtime_dir), mode 0600. A socket
    /// that a killed process left is replaced; one that is served is an error naming its
    /// owner. Must be called within a tokio runtime.
    pub fn bind(interface: &str) -> Result<Self, ControlError> {
        Self::bind_in(&runtime_dir(), interface)
    }

    /// Serves clients until dropped, passing each request on to `calls`. Ends when nobody
    /// receives calls any more. A file that somebody removes is made again.
    pub async fn serve(&self, calls: mpsc::Sender<Call>) {
        let mut clients = JoinSet::new();
        let mut look = tokio::time::interval(self.between_looks);
        let mut again: Option<Listener> = None;
        let mut refused = None;
        loop {
            let listener = again.as_ref().unwrap_or(&self.listener);
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = look.tick() => {
                    if !listener.is_in_place() {
                        self.bind_again(&mut again, &mut refused);
                    }
                    continue;
                }
                Some(_) = clients.join_next() => continue,
                () = calls.closed() => return,
            };
            match accepted {
                Ok(stream) if clients.len() >= CLIENTS_MAX => {
                    let busy = Response::Error("too many clients at once; try again".into());
                    // A new connection's buffer is empty, so this never has to wait.
                    let _ = stream.try_write(&line(&busy));
                }
                Ok(stream) => {
                    let by = Caller::of(&stream, Way::ControlSocket);
                    clients.spawn(converse(stream, by, calls.clone(), self.patience));
                }
                Err(error) => {
                    // Out of descriptors, most likely: that passes, but not at once.
                    warn!("control socket: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Makes the file again. Why that can't be is told once.
    fn bind_again(&self, again: &mut Option<Listener>, refused: &mut Option<String>) {
        match Listener::bind(&self.dir, &self.interface) {
            Ok(listener) => {
                warn!("somebody removed the control socket; it is made again");
                (*again, *refused) = (Some(listener), None);
            }
            Err(error) => {
                let reason = Some(error.to_string());
                if *refused != reason {
                    warn!(
                        "somebody removed the control socket, and it can't be made again: {error}"
                    );
                    *refused = reason;
                }
            }
        }
    }

    fn bind_in(dir: &Path, interface: &str) -> Result<Self, ControlError> {
        Ok(Self {
            listener: Listener::bind(dir, interface)?,
            dir: dir.to_owned(),
            interface: interface.to_owned(),
            patience: PATIENCE,
            between_looks: BETWEEN_LOOKS,
        })
    }
}

/// One request, one answer.
async fn converse(
    mut stream: UnixStream,
    by: Caller,
    calls: mpsc::Sender<Call>,
    patience: Duration,
) {
    let request = match timeout(patience, read_request(&mut stream)).await {
        Ok(Ok(Some(request))) => Ok(request),
        Ok(Ok(None)) => return,
        Ok(Err(message)) => Err(message),
        Err(_) => Err(format!("no request within {} seconds", patience.as_secs())),
    };
    let response = match request {
        // While this process stood still, for example.
        Ok(_) if has_left(&stream) => return debug!("control socket: a client left"),
        Ok(request) => {
            let again = too_busy(&request);
            match timeout(patience, ask(request, by, &calls, &stream)).await {
                Ok(response) => response,
                Err(_) => Response::Error(again.into()),
            }
        }
        Err(message) => Response::Error(message.into()),
    };
    let flow = match &response {
        Response::Started(started) => Some(started.flow.clone()),
        _ => None,
    };
    // An answer about many peers is megabytes, which the controller can't wait for: it lives on
    // the same thread.
    let Ok(line) = tokio::task::spawn_blocking(move || line(&response)).await else {
        return;
    };
    match timeout(patience, stream.write_all(&line)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("control socket: a client left before its answer: {error}"),
        Err(_) => debug!("control socket: a client didn't read its answer"),
    }
    if let Some(flow) = flow
        && let Ok(stream) = stream.into_std()
    {
        return flow.serve(stream);
    }
    if line.len() >= LARGE {
        // Nobody waits for that.
        tokio::task::spawn_blocking(move || {
            drop(line);
            spare::give_back();
        });
    }
}

/// A request, `None` for a client that left without a word, or what was wrong.
async fn read_request(stream: &mut UnixStream) -> Result<Option<Request>, String> {
    let mut line = Vec::new();
    // One byte more than allowed tells too long from just long enough.
    let mut reader = BufReader::new(stream.take((REQUEST_MAX as u64).saturating_add(1)));
    reader
        .read_until(b'\n', &mut line)
        .await
        .map_err(|error| error.to_string())?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > REQUEST_MAX {
        return Err(format!("expected a request of at most {REQUEST_MAX} bytes"));
    }
    if line.last() != Some(&b'\n') {
        return Err("expected a line feed at the end of the request".into());
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| format!("not a request: {error}"))
}

/// What to tell who waited too long. What wasn't begun by then isn't done, and what was may be.
fn too_busy(request: &Request) -> &'static str {
    match request {
        Request::PeerEdit(_) => {
            "the controller is too busy to answer, so whether it was done isn't known: look by \
             `taltun peer list` before you try again"
        }
        _ => "the controller is too busy to answer; try again",
    }
}

async fn ask(
    request: Request,
    by: Caller,
    calls: &mpsc::Sender<Call>,
    stream: &UnixStream,
) -> Response {
    let (answer, answered) = oneshot::channel();
    let stopping = || Response::Error("the tunnel is stopping".into());
    let call = Call {
        request,
        by,
        answer: AnswerTo::client(answer, stream),
    };
    if calls.send(call).await.is_err() {
        return stopping();
    }
    answered.await.unwrap_or_else(|_| stopping())
}

/// An answer as a line, wiped after use as there may be keys in it.
fn line(response: &Response) -> Zeroizing<Vec<u8>> {
    let mut line = serde_json::to_vec(response).unwrap_or_else(|error| {
        // Numbers that JSON doesn't have, at worst.
        format!("{{\"error\":\"no answer: {error}\"}}").into_bytes()
    });
    line.push(b'\n');
    Zeroizing::new(line)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader as StdReader, Read, Write};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
    use std::path::PathBuf;
    use std::time::Instant;

    use super::super::client;
    use super::*;
    use crate::control::request::{self, Command as _};
    use crate::control::response::Done;
    use crate::layer::Layer;

    /// A socket in a directory of its own, served on its own thread by a controller that
    /// answers `Reload` with "reloaded", never answers `Stats`, and refuses the rest.
    struct Served {
        dir: tempfile::TempDir,
        stop: oneshot::Sender<()>,
        thread: std::thread::JoinHandle<()>,
    }

    impl Served {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (stop, mut stopped) = oneshot::channel::<()>();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let path = dir.path().to_owned();
            let thread = std::thread::spawn(move || {
                let serve = async {
                    let mut socket = ControlSocket::bind_in(&path, "hub").unwrap();
                    socket.patience = Duration::from_millis(300);
                    socket.between_looks = Duration::from_millis(20);
                    ready.send(()).unwrap();
                    let (calls, mut received) = mpsc::channel::<Call>(8);
                    let mut unanswered = Vec::new();
                    let serving = socket.serve(calls);
                    tokio::pin!(serving);
                    loop {
                        tokio::select! {
                            () = &mut serving => break,
                            _ = &mut stopped => break,
                            Some(Call { request, answer, .. }) = received.recv() => match request {
                                Request::Reload => {
                                    let done = Done("reloaded".into());
                                    answer.send(Response::Done(done));
                                }
                                Request::Stats => unanswered.push(answer),
                                other => {
                                    answer.send(Response::Error(format!("{other:?}").into()));
                                }
                            },
                        }
                    }
                };
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(serve);
            });
            is_ready.recv().unwrap();
            Self { dir, stop, thread }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("hub.sock")
        }

        fn connect(&self) -> StdStream {
            let stream = StdStream::connect(self.path()).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            stream
        }

        /// Sends `bytes`, as many as are taken, and reads the answer until the end.
        fn exchange(&self, bytes: &[u8]) -> String {
            let mut stream = self.connect();
            let _ = stream.write_all(bytes);
            let mut answer = String::new();
            StdReader::new(stream).read_line(&mut answer).unwrap();
            answer
        }

        /// Stops serving; gives back the directory, still there.
        fn stop(self) -> tempfile::TempDir {
            let _ = self.stop.send(());
            self.thread.join().unwrap();
            self.dir
        }

        fn still_answers(&self) {
            assert_eq!(self.exchange(b"\"reload\"\n"), "{\"done\":\"reloaded\"}\n");
        }
    }

    #[test]
    fn a_request_is_answered_and_its_file_removed_in_the_end() {
        let served = Served::start();
        served.still_answers();
        let path = served.path();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let answer = client::call_in(served.dir.path(), None, &Request::Reload).unwrap();
        assert!(matches!(answer, Response::Done(text) if text.0 == "reloaded"));
        let _dir = served.stop();
        assert!(!path.exists());
    }

    #[test]
    fn every_kind_of_request_arrives_as_it_was_sent() {
        let served = Served::start();
        let ban = request::Ban {
            net: "10.0.0.0/8".parse().unwrap(),
            layer: Some(Layer::Inner),
            force: false,
            seconds: Some(3),
        };
        let ban_peer = request::BanPeer {
            peer: "ana".into(),
            layer: Layer::Outer,
            force: true,
            seconds: None,
        };
        let unban = request::Unban {
            net: "2001:db8::/32".parse().unwrap(),
            layer: Layer::Outer,
        };
        let unban_peer = request::UnbanPeer {
            peer: "ana".into(),
            layer: Layer::Inner,
        };
        for request in [
            Request::Status,
            ban.request(),
            ban_peer.request(),
            unban.request(),
            unban_peer.request(),
        ] {
            let answer = client::call_in(served.dir.path(), Some("hub"), &request).unwrap();
            let expected = format!("{request:?}");
            assert!(matches!(answer, Response::Error(error) if error.text == expected));
        }
    }

    #[test]
    fn garbage_is_answered_with_an_error() {
        let served = Served::start();
        for garbage in [
            &b"hello\n"[..],
            b"\n",
            b"\"Status\"\n",
            b"{\"ban\":{\"net\":\"nonsense\"}}\n",
            b"{\"ban\":{\"net\":\"10.0.0.0/8\",\"surprise\":1}}\n",
            b"{\"ban\":{\"net\":\"10.0.0.0/8\",\"seconds\":18446744073709551616}}\n",
            b"{\"ban\":{\"net\":\"10.0.0.0/8\",\"seconds\":-1}}\n",
            b"\xff\xfe\x00\n",
            format!("{}\n", "[".repeat(60_000)).as_bytes(),
        ] {
            let answer = served.exchange(garbage);
            assert!(answer.starts_with("{\"error\":\"not a request"), "{answer}");
        }
        served.still_answers();
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_64_kib() {
        let served = Served::start();
        let answer = served.exchange(&vec![b'x'; 10 << 20]);
        assert_eq!(
            answer,
            "{\"error\":\"expected a request of at most 65536 bytes\"}\n"
        );
        served.still_answers();
    }

    #[test]
    fn half_a_line_is_refused_when_the_client_ends_it_there() {
        let served = Served::start();
        let mut stream = served.connect();
        stream.write_all(b"\"relo").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("expected a line feed"), "{answer}");
    }

    #[test]
    fn a_client_that_hangs_is_let_go_and_others_are_served_meanwhile() {
        let served = Served::start();
        let mut silent = served.connect();
        let mut slow = served.connect();
        slow.write_all(b"\"relo").unwrap();
        served.still_answers();
        let start = Instant::now();
        for stream in [&mut silent, &mut slow] {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("no request within"), "{answer}");
        }
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn a_controller_that_never_answers_is_reported() {
        let served = Served::start();
        let answer = served.exchange(b"\"stats\"\n");
        assert!(answer.contains("too busy"), "{answer}");
        served.still_answers();
    }

    #[tokio::test]
    async fn what_a_client_asked_that_left_is_not_passed_on() {
        let asked = b"\"reload\"\n";
        for (leaves, expected) in [(true, 0), (false, 1)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(asked).await.unwrap();
            let theirs = (!leaves).then_some(theirs);
            let (calls, mut received) = mpsc::channel::<Call>(8);
            let by = Caller::ourselves();
            converse(ours, by, calls, Duration::from_millis(100)).await;
            let mut passed = 0;
            while let Some(call) = received.recv().await {
                // It was told that nobody answers.
                assert!(call.answer.is_closed());
                passed += 1;
            }
            assert_eq!(passed, expected);
            drop(theirs);
        }
    }

    #[test]
    fn at_most_64_clients_are_open_at_once() {
        let served = Served::start();
        let open: Vec<StdStream> = (0..CLIENTS_MAX).map(|_| served.connect()).collect();
        let answer = served.exchange(b"\"reload\"\n");
        assert!(answer.contains("too many clients"), "{answer}");
        drop(open);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !served.exchange(b"\"reload\"\n").contains("reloaded") {
            assert!(
                Instant::now() < deadline,
                "the closed clients were not forgotten"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[tokio::test]
    async fn a_live_owner_is_named_by_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = ControlSocket::bind_in(dir.path(), "hub").unwrap();
        let error = ControlSocket::bind_in(dir.path(), "hub").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!(", pid {})", std::process::id())),
            "{text}"
        );
        drop(first);
        ControlSocket::bind_in(dir.path(), "hub").unwrap();
    }

    #[test]
    fn a_socket_that_is_removed_is_made_again_with_its_directory() {
        let served = Served::start();
        let inode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.ino());
        for _ in 0..2 {
            let before = inode(&served.path()).unwrap();
            // The new one is to have another inode, where a file system gives the next free one.
            std::fs::rename(served.path(), served.dir.path().join("away")).unwrap();
            let start = Instant::now();
            while !served.path().exists() && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_ne!(inode(&served.path()).unwrap(), before);
            let answer = client::call_in(served.dir.path(), Some("hub"), &Request::Reload);
            assert!(matches!(answer, Ok(Response::Done(_))), "{answer:?}");
        }
        let _dir = served.stop();
    }

    #[tokio::test]
    async fn a_socket_left_by_a_killed_process_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(
            path.exists(),
            "std leaves the file, as a killed process does"
        );
        ControlSocket::bind_in(dir.path(), "hub").unwrap();
    }

    #[tokio::test]
    async fn a_file_of_another_kind_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = ControlSocket::bind_in(dir.path(), "hub").unwrap_err();
        assert!(matches!(error, ControlError::InTheWay(_)));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_directory_is_made_for_all_to_look_into() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("taltun");
        let _socket = ControlSocket::bind_in(&inner, "hub").unwrap();
        assert_eq!(std::fs::metadata(&inner).unwrap().mode() & 0o777, 0o755);
    }

    #[tokio::test]
    async fn dropping_leaves_the_socket_of_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sock");
        let first = ControlSocket::bind_in(dir.path(), "hub").unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind_in(dir.path(), "hub").unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = ControlSocket::bind_in(dir.path(), "../hub").unwrap_err();
        assert!(matches!(error, ControlError::Name(_)));
    }
}
