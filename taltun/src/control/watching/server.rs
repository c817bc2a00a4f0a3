//! The thread that writes packets to one client.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::names::Names;
use super::stream::Stream;
use crate::dataplane::tap::Watch;
use crate::os::capabilities;

/// How long a thread sleeps that finds nothing. Rings hold more than comes meanwhile.
const NAP: Duration = Duration::from_millis(20);
/// How long packets are still written once the end is known.
const LAST_PACKETS: Duration = Duration::from_secs(1);
/// Packets that are written together.
const TOGETHER: usize = 1024;

/// What a client is to see, and all that its thread needs.
pub(super) struct Watching {
    pub(super) watch: Watch,
    pub(super) stream: Box<dyn Stream>,
    pub(super) names: Arc<Names>,
    /// Whether the tunnel ends.
    pub(super) ending: Arc<AtomicBool>,
    pub(super) threads: Threads,
}

/// The same on its way to the connection, until that takes it.
#[derive(Clone, Default)]
pub struct Flow(Arc<Mutex<Option<Watching>>>);

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow")
    }
}

impl Flow {
    pub(super) fn new(watching: Watching) -> Self {
        Self(Arc::new(Mutex::new(Some(watching))))
    }

    /// Writes to this client from now on, by a thread of its own.
    pub(in crate::control) fn serve(&self, client: UnixStream) {
        let watching = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut watching) = watching else { return };
        let running = watching.threads.one_more();
        let patience = watching.stream.patience();
        let body = move || {
            // It reads packets of others, and writes them to somebody who is connected already.
            if let Err(error) = capabilities::give_up() {
                warn!("a thread that shows packets keeps capabilities: {error}");
            }
            let ended = watching.serve(client, patience);
            drop(watching);
            drop(running);
            match ended {
                Ok(()) => {}
                Err(error) if is_late(&error) => warn!(
                    "a client that watches packets read nothing for {} seconds; it gets no more",
                    patience.as_secs()
                ),
                Err(error) => debug!("a client that watches packets left: {error}"),
            }
        };
        let name = "taltun-watch".to_owned();
        if let Err(error) = thread::Builder::new().name(name).spawn(body) {
            warn!("packets can't be watched: {error}");
        }
    }
}

/// How many threads there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Threads(Arc<AtomicUsize>);

/// One of them.
struct Running(Threads);

impl Threads {
    fn one_more(&self) -> Running {
        self.0.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    pub(super) fn are_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watching {
    /// Until the client or the tunnel ends.
    fn serve(&mut self, mut client: UnixStream, patience: Duration) -> std::io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_write_timeout(Some(patience))?;
        // Reading is how the nap is taken: it ends when the client does.
        client.set_read_timeout(Some(NAP))?;
        info!("somebody watches packets");
        let mut left_out = 0;
        let mut out = Vec::new();
        let mut beat = Instant::now();
        let why = loop {
            let count = self.take(&mut out, &mut left_out);
            if beat.elapsed() >= Duration::from_secs(1) {
                beat = Instant::now();
                self.stream.beat(left_out, &mut out);
            }
            client.write_all(&out)?;
            out.clear();
            if self.ending.load(Ordering::Relaxed) {
                break Some("the tunnel ends");
            }
            client.set_nonblocking(count > 0)?;
            match client.read(&mut [0; 64]) {
                Ok(0) => break None,
                // It has nothing to say.
                Ok(_) => {}
                Err(error) if is_late(&error) || error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            client.set_nonblocking(false)?;
        };
        client.set_nonblocking(false)?;
        // What threads had in hand.
        if why.is_none() {
            thread::sleep(NAP);
        }
        // More may come than can be written.
        let deadline = Instant::now() + LAST_PACKETS;
        while self.take(&mut out, &mut left_out) == TOGETHER && Instant::now() < deadline {
            client.write_all(&out)?;
            out.clear();
        }
        self.stream.end(why, left_out, &mut out);
        client.write_all(&out)
    }

    /// Adds what has come, and how much of it was left out. Returns how many came.
    fn take(&mut self, out: &mut Vec<u8>, left_out: &mut u64) -> usize {
        let (stream, names) = (&mut self.stream, &self.names);
        let count = self.watch.drain(TOGETHER, &mut |observed| {
            stream.packet(observed, names, out);
        });
        *left_out += self.watch.take_left_out();
        count
    }
}

/// Whether a time limit was reached.
fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
