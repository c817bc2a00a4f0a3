//! The socket and its clients.
//!
//! It believes nothing of its clients: a line is bounded, so is a request, a client that
//! stalls is let go, and whatever one of them does, the others and the tunnel go on.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::request::{LINE_MAX, SetParser};
use super::{Errno, UapiCall, uapi_dir};
use crate::control::ControlError;
use crate::control::caller::{Caller, Way};
use crate::control::listener::Listener;

/// Connections open at once.
const CLIENTS_MAX: usize = 64;
/// How long a client may take for its next line, and for taking the next piece of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a request may measure, bytes: room for the most that the parser takes.
const REQUEST_MAX: usize = 64 << 20;

/// A bound UAPI socket; dropping it removes its file.
#[derive(Debug)]
pub(in crate::control) struct UapiSocket {
    listener: Listener,
    patience: Duration,
}

impl UapiSocket {
    /// Binds `INTERFACE.sock` in the [directory of these sockets](uapi_dir), mode 0600. A
    /// socket that a killed process left is replaced; one that is served is an error naming
    /// its owner. Must be called within a tokio runtime.
    pub(in crate::control) fn bind(interface: &str) -> Result<Self, ControlError> {
        Ok(Self {
            listener: Listener::bind(&uapi_dir(), interface)?,
            patience: PATIENCE,
        })
    }

    /// Whether its file is still there. Removing it is how `wg-quick` and people tell a
    /// user-space implementation to go.
    pub(in crate::control) fn is_in_place(&self) -> bool {
        self.listener.is_in_place()
    }

    /// Serves clients until dropped, passing each request on to `calls`. Ends when nobody
    /// receives calls any more.
    pub(in crate::control) async fn serve(&self, calls: mpsc::Sender<UapiCall>) {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept(), if clients.len() < CLIENTS_MAX => accepted,
                Some(_) = clients.join_next() => continue,
                () = calls.closed() => return,
            };
            match accepted {
                Ok(stream) => {
                    clients.spawn(converse(stream, calls.clone(), self.patience));
                }
                Err(error) => {
                    // Out of descriptors, most likely: that passes, but not at once.
                    warn!("UAPI socket: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Why a conversation ends before its client ends it.
enum End {
    /// The client is told.
    Error(Errno),
    /// There is nobody to tell, or nothing.
    Silent,
}

impl From<Errno> for End {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

/// Answers a client's requests, one after the other, until it goes.
async fn converse(stream: UnixStream, calls: mpsc::Sender<UapiCall>, patience: Duration) {
    let by = Caller::of(&stream, Way::WgSocket);
    let (reader, writer) = stream.into_split();
    let mut client = Client {
        by,
        reader: BufReader::with_capacity(64 * 1024, reader),
        writer,
        patience,
    };
    loop {
        match client.operation(&calls).await {
            Ok(()) => {}
            Err(End::Error(errno)) => {
                // Where the next request would begin can't be known after an error.
                debug!("UAPI socket: a request was refused with errno {}", errno.0);
                let _ = client.write(&format!("errno={errno}\n\n")).await;
                return;
            }
            Err(End::Silent) => return,
        }
    }
}

struct Client {
    by: Caller,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    patience: Duration,
}

impl Client {
    /// One request and its answer.
    async fn operation(&mut self, calls: &mpsc::Sender<UapiCall>) -> Result<(), End> {
        let Some(first) = self.read_line().await? else {
            return Err(End::Silent);
        };
        match first.as_slice() {
            b"get=1" => {
                match self.read_line().await? {
                    Some(line) if line.is_empty() => {}
                    Some(_) => return Err(Errno::PROTOCOL.into()),
                    None => return Err(End::Silent),
                }
                let snapshot = ask(calls, UapiCall::Get).await?;
                for piece in snapshot.pieces() {
                    self.write(&piece).await?;
                }
                Ok(())
            }
            b"set=1" => {
                let mut parser = SetParser::default();
                let mut total = 0_usize;
                loop {
                    let Some(line) = self.read_line().await? else {
                        return Err(Errno::PROTOCOL.into());
                    };
                    if line.is_empty() {
                        break;
                    }
                    total = total.saturating_add(line.len());
                    if total > REQUEST_MAX {
                        return Err(Errno::TOO_LONG.into());
                    }
                    parser.line(&line)?;
                }
                let request = Box::new(parser.finish());
                let by = self.by.clone();
                ask(calls, |answer| UapiCall::Set(request, by, answer)).await??;
                self.write("errno=0\n\n").await
            }
            _ => Err(Errno::PROTOCOL.into()),
        }
    }

    /// The next line without its line feed; `None` at the end, even in the middle of a line.
    /// It may hold a key, so it is wiped.
    async fn read_line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, End> {
        let mut line = Zeroizing::new(Vec::with_capacity(128));
        let mut bounded = (&mut self.reader).take(LINE_MAX as u64);
        match timeout(self.patience, bounded.read_until(b'\n', &mut line)).await {
            Ok(Ok(_)) if line.last() == Some(&b'\n') => {
                line.pop();
                Ok(Some(line))
            }
            Ok(Ok(LINE_MAX)) => Err(Errno::TOO_LONG.into()),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(_)) | Err(_) => Err(End::Silent),
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), End> {
        match timeout(self.patience, self.writer.write_all(text.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Silent),
        }
    }
}

async fn ask<T>(
    calls: &mpsc::Sender<UapiCall>,
    call: impl FnOnce(oneshot::Sender<T>) -> UapiCall,
) -> Result<T, End> {
    let (answer, answered) = oneshot::channel();
    calls.send(call(answer)).await.map_err(|_| End::Silent)?;
    answered.await.map_err(|_| End::Silent)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;
    use crate::control::uapi::Snapshot;

    /// A socket that answers `get` with a port and refuses `set` of port 1.
    struct Served {
        dir: tempfile::TempDir,
        stop: Option<oneshot::Sender<()>>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Served {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let listener_dir = dir.path().to_owned();
            let (stop, mut stopped) = oneshot::channel::<()>();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                let serve = async {
                    let socket = UapiSocket {
                        listener: Listener::bind(&listener_dir, "wg0").unwrap(),
                        patience: Duration::from_millis(400),
                    };
                    ready.send(()).unwrap();
                    let (calls, mut received) = mpsc::channel(1);
                    let serving = socket.serve(calls);
                    tokio::pin!(serving);
                    loop {
                        tokio::select! {
                            () = &mut serving => break,
                            _ = &mut stopped => break,
                            Some(call) = received.recv() => reply(call),
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
            Self {
                dir,
                stop: Some(stop),
                thread: Some(thread),
            }
        }

        fn connect(&self) -> StdStream {
            let path: PathBuf = self.dir.path().join("wg0.sock");
            let stream = StdStream::connect(path).unwrap();
            let limit = Some(Duration::from_secs(5));
            stream.set_read_timeout(limit).unwrap();
            stream
        }

        /// Sends `bytes`, as many as are taken, ends the sending and reads all there is.
        fn exchange(&self, bytes: &[u8]) -> String {
            let mut stream = self.connect();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            // A client whose unread bytes were thrown away is cut off after the answer.
            let _ = stream.read_to_string(&mut answer);
            answer
        }

        fn still_answers(&self) {
            assert_eq!(self.exchange(b"get=1\n\n"), "listen_port=7\nerrno=0\n\n");
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            let _ = self.stop.take().unwrap().send(());
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn reply(call: UapiCall) {
        match call {
            UapiCall::Get(answer) => {
                let snapshot = Snapshot {
                    private_key: None,
                    listen_port: 7,
                    fwmark: 0,
                    peers: Vec::new(),
                };
                answer.send(snapshot).ok();
            }
            UapiCall::Set(request, _, answer) => {
                let taken = Err(Errno(libc::EADDRINUSE));
                let outcome = if request.listen_port == Some(1) {
                    taken
                } else {
                    Ok(())
                };
                answer.send(outcome).ok();
            }
        }
    }

    #[test]
    fn requests_are_answered_one_after_the_other() {
        let served = Served::start();
        assert_eq!(
            served.exchange(b"set=1\nlisten_port=2\n\nget=1\n\nset=1\n\n"),
            "errno=0\n\nlisten_port=7\nerrno=0\n\nerrno=0\n\n"
        );
    }

    #[test]
    fn a_refusal_by_the_kernel_comes_back_as_its_number() {
        let served = Served::start();
        let answer = served.exchange(b"set=1\nlisten_port=1\n\n");
        assert_eq!(answer, format!("errno=-{}\n\n", libc::EADDRINUSE));
    }

    #[test]
    fn garbage_gets_an_errno_and_the_others_are_served() {
        let served = Served::start();
        for (garbage, errno) in [
            (&b"hello\n"[..], libc::EPROTO),
            (b"\n", libc::EPROTO),
            (b"get=1\nmore\n", libc::EPROTO),
            (b"set=1\nnonsense\n\n", libc::EPROTO),
            (b"set=1\nsurprise=1\n\n", libc::EINVAL),
            (b"set=1\n\xff=\xfe\n\n", libc::EPROTO),
            (b"set=1\nlisten_port=2\n", libc::EPROTO),
        ] {
            assert_eq!(served.exchange(garbage), format!("errno=-{errno}\n\n"));
        }
        assert_eq!(served.exchange(b"set=1\nlisten_po"), "errno=-71\n\n");
        served.still_answers();
    }

    #[test]
    fn ten_megabytes_without_a_line_feed_are_cut_off() {
        let served = Served::start();
        let start = Instant::now();
        for beginning in [&b""[..], b"set=1\nfwmark="] {
            let mut bytes = beginning.to_vec();
            bytes.resize(10 << 20, b'1');
            let answer = served.exchange(&bytes);
            assert!(
                answer.is_empty() || answer.starts_with("errno=-7\n"),
                "{answer}"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        served.still_answers();
    }

    #[test]
    fn a_client_that_hangs_is_let_go_and_the_others_are_served() {
        let served = Served::start();
        let mut silent = served.connect();
        let mut halfway = served.connect();
        halfway.write_all(b"set=1\nlisten_port=2").unwrap();
        served.still_answers();
        let start = Instant::now();
        for stream in [&mut silent, &mut halfway] {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "");
        }
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn more_clients_than_places_wait_for_theirs() {
        let served = Served::start();
        let open: Vec<StdStream> = (0..CLIENTS_MAX + 4).map(|_| served.connect()).collect();
        served.still_answers();
        drop(open);
    }
}
