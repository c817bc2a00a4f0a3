//! Who watches packets: `taltun trace`, `taltun capture`.
//!
//! The controller says what is watched and answers the request. The connection then is a thread's,
//! which takes packets from the rings of [`crate::dataplane::tap`] and writes them, in whatever
//! form its [`Stream`] gives them, until the client or the tunnel ends. So neither a packet nor the
//! controller waits for a client.
//!
//! What the eBPF programs drop, no worker sees. While somebody wants drops, the controller reads
//! the programs' counters some times a second and tells what they have risen by. That costs the
//! programs nothing.

mod capture;
mod datagram;
mod kernel;
mod names;
mod server;
mod stream;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::accel::Shield;
use crate::control::pace::Pace;
use crate::control::peers::Peers;
use crate::dataplane::rules::Rules;
use crate::dataplane::tap::{Taps, WATCHES, Wants, Watch};
use crate::protocol::device::Device;
pub use capture::{Capture, Captured};
use kernel::KernelDrops;
pub use names::Names;
pub use server::Flow;
use server::{Threads, Watching};
pub use stream::Stream;
pub use trace::{MOST_LINES, Trace};

/// How often the counters of the eBPF programs are read while somebody wants to know.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// How long the end of the tunnel waits for those who watch to be told of it.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// All who watch.
#[derive(Debug)]
pub(super) struct Watches {
    names: Arc<Names>,
    ending: Arc<AtomicBool>,
    threads: Threads,
    kernel: KernelDrops,
    next_look: Option<Instant>,
    pace: Pace,
}

impl Watches {
    /// Nobody yet.
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            names: Arc::new(Names::new(rules)),
            ending: Arc::default(),
            threads: Threads::default(),
            kernel: KernelDrops::default(),
            next_look: None,
            pace: Pace::default(),
        }
    }

    /// Somebody watches from now on, and reads it as `stream` has it.
    pub(super) fn begin(
        &mut self,
        taps: &Arc<Taps>,
        wants: Wants,
        stream: Box<dyn Stream>,
        shield: &Shield,
    ) -> Result<Flow, String> {
        let is_first = wants.lost && !taps.any(|wants| wants.lost);
        let watch = Watch::begin(taps, wants).ok_or_else(|| {
            format!("{WATCHES} watch packets already, as many as may; end one of them")
        })?;
        if is_first {
            self.kernel.begin(shield);
            self.next_look = Some(Instant::now());
        }
        Ok(Flow::new(Watching {
            watch,
            stream,
            names: Arc::clone(&self.names),
            ending: Arc::clone(&self.ending),
            threads: self.threads.clone(),
        }))
    }

    /// When to call [`Self::look`].
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Tells what the eBPF programs have dropped since the last look.
    pub(super) fn look(&mut self, taps: &Taps, shield: &Shield) {
        let is_wanted = taps.any(|wants| wants.lost);
        if is_wanted {
            self.kernel.look(taps, shield);
        }
        self.next_look = is_wanted.then(|| Instant::now() + BETWEEN_LOOKS);
    }

    /// Takes over what peers are called by now. Call it once a second.
    pub(super) fn follow(&mut self, taps: &Taps, peers: &Peers, device: &Device) {
        if taps.are_on() && self.pace.is_due(device.len()) {
            self.take_names(peers, device);
        }
    }

    /// The same at once.
    pub(super) fn take_names(&self, peers: &Peers, device: &Device) {
        let keys = device.peers().map(|peer| *peer.public_key());
        self.names.set(keys.map(|key| (key, peers.label(&key))));
    }

    /// The tunnel ends: those who watch are told, if they read.
    pub(super) async fn finish(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + LAST_WORDS;
        while self.threads.are_running() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
