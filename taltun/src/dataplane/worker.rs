//! Workers: their threads, and what these share with the controller.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::counters::Counters;
use super::crew::{Crew, Job, Threads};
use super::filter::Filter;
use super::gate::Gate;
use super::sys::{StopSignal, wait_readable};
use super::tun::Tun;
use super::udp::{Sender, Socket};
use super::xsk::Exits;
use super::{inbound, outbound};
use crate::protocol::messages::INITIATION_LEN;
use crate::protocol::peer::Endpoint;
use crate::protocol::tunnel::Tunnel;

/// Handshake messages that may wait for the controller.
pub const HANDSHAKE_QUEUE: usize = 1024;

/// A handshake message on its way to the controller.
#[derive(Debug, Clone)]
pub struct Handshake {
    bytes: [u8; INITIATION_LEN],
    len: usize,
    /// Where it came from.
    pub from: Endpoint,
}

impl Handshake {
    /// Copies a handshake message, of which the longest is an initiation.
    pub(super) fn new(datagram: &[u8], from: Endpoint) -> Self {
        let len = datagram.len().min(INITIATION_LEN);
        let mut bytes = [0; INITIATION_LEN];
        bytes[..len].copy_from_slice(&datagram[..len]);
        Self { bytes, len, from }
    }

    /// The message.
    pub fn datagram(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// Sessions and routes.
    pub tunnel: Arc<Tunnel>,
    /// Bans.
    pub filter: Arc<Filter>,
    /// What was moved and dropped.
    pub counters: Arc<Counters>,
    /// Which handshake messages the controller has time for.
    pub gate: Arc<Gate>,
    /// The way of handshake messages to the controller.
    pub handshakes: mpsc::Sender<Handshake>,
    /// Wakes the controller when workers ask something of it.
    pub wake: Arc<Notify>,
    /// How long a thread goes on looking for packets before it sleeps.
    pub busy_poll: Duration,
    /// How many workers there are.
    pub workers: u32,
    /// Ways out past the network stack.
    pub exits: Arc<Exits>,
    /// Who shares the cipher work of a large batch; `None` where nobody does.
    pub crew: Option<Crew>,
    /// Ends the threads.
    pub stop: StopSignal,
    /// Set, and the controller woken, by a thread that ends without having been told to.
    pub ended: AtomicBool,
}

impl Shared {
    /// Gives a handshake message to the controller; false when too many wait.
    pub(super) fn hand_over(&self, handshake: Handshake) -> bool {
        self.handshakes.try_send(handshake).is_ok()
    }

    /// Waits until `source` can be read; false when the workers are to stop.
    pub(super) fn wait_readable(&self, source: BorrowedFd<'_>) -> io::Result<bool> {
        let Some(crew) = &self.crew else {
            return wait_readable(source, &self.stop, self.busy_poll);
        };
        crew.rest();
        let readable = wait_readable(source, &self.stop, self.busy_poll);
        crew.resume();
        readable
    }

    /// Wakes the controller if a batch asked something of it.
    pub(super) fn wake_controller(&self) {
        if self.tunnel.take_wake() {
            self.wake.notify_one();
        }
    }
}

/// The running threads of all workers.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    threads: Threads,
}

/// Cores that we may run on.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How many workers a machine of `cores` gets. One saturates two cores, having a thread a
/// direction; more only pay where there are cores for their peers' traffic.
pub fn default_count(cores: usize) -> usize {
    (cores / 2).clamp(1, 8)
}

impl Workers {
    /// Starts a worker for each pair of socket and TUN queue, and `helpers` if the threads have a
    /// crew.
    pub fn start(shared: Arc<Shared>, sockets: &[Arc<Socket>], tuns: Vec<Tun>) -> io::Result<Self> {
        let mut workers = Self {
            shared,
            threads: Threads::default(),
        };
        let mut jobs = Vec::new();
        for (number, (socket, tun)) in (0..).zip(sockets.iter().zip(tuns)) {
            let out_tun = tun.try_clone()?;
            let counters = &workers.shared.counters;
            let mut sender = Sender::new(Arc::clone(socket), Arc::clone(counters));
            let mut relay_sender = Sender::new(Arc::clone(socket), Arc::clone(counters));
            let socket = Arc::clone(socket);
            jobs.push(workers.job(format!("taltun-out-{number}"), move |shared| {
                outbound::run(&out_tun, &mut sender, number, shared)
            }));
            jobs.push(workers.job(format!("taltun-in-{number}"), move |shared| {
                inbound::run(&socket, &tun, &mut relay_sender, number, shared)
            }));
        }
        let helpers = workers.shared.crew.as_ref().map_or(0, Crew::helpers);
        workers.threads.start(jobs, helpers)?;
        Ok(workers)
    }

    /// What a thread of this name does, from its start to its end.
    fn job(
        &self,
        name: String,
        body: impl FnOnce(&Shared) -> io::Result<()> + Send + 'static,
    ) -> (String, Job) {
        let shared = Arc::clone(&self.shared);
        let said = name.clone();
        let job = move || {
            if let Some(crew) = &shared.crew {
                crew.resume();
            }
            let ended = body(&shared);
            if let Some(crew) = &shared.crew {
                crew.rest();
            }
            if let Err(error) = ended {
                tracing::warn!("{said} ended: {error}");
                shared.ended.store(true, Ordering::Release);
                shared.wake.notify_one();
            }
        };
        (name, Box::new(job))
    }

    /// What the threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether any thread has ended, which none does by itself but for an error.
    pub fn any_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire) || self.threads.any_ended()
    }
}

impl Drop for Workers {
    /// Tells all threads to end; dropping them waits for it. What they have in hand is
    /// carried through.
    fn drop(&mut self) {
        if let Err(error) = self.shared.stop.stop() {
            tracing::error!("can't stop the workers: {error}");
            std::mem::take(&mut self.threads).abandon();
        }
    }
}
