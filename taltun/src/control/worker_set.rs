//! The sockets, the TUN and the workers between them: what has to be stopped and started
//! again when the sockets change under way.
//!
//! Another port means other sockets, and threads in the middle of a batch on the old ones.
//! Rather than have each of them ask before each batch whether its socket is still the
//! right one, all are ended, which takes them one batch at most, and started anew. What the
//! system sends meanwhile waits in the TUN's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::dataplane::counters::Counters;
use crate::dataplane::crew::{self, Crew};
use crate::dataplane::filter::Filter;
use crate::dataplane::gate::Gate;
use crate::dataplane::shared::{Handshake, Shared};
use crate::dataplane::sys::StopSignal;
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Sender, Socket, UdpOffloads};
use crate::dataplane::worker::{self, Workers};
use crate::dataplane::xsk::{self, TransmitQueues};
use crate::protocol::tunnel::Tunnel;

/// What workers are given besides sockets and TUN queues; it outlives a change of sockets.
#[derive(Debug, Clone)]
pub(super) struct WorkerInputs {
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
    /// Wakes the controller when workers ask something of it, or end.
    pub wake: Arc<Notify>,
    /// Which offloads sockets use where the kernel has them.
    pub offloads: UdpOffloads,
    /// How long a thread goes on looking for packets before it sleeps.
    pub busy_poll: Duration,
    /// Threads that share the cipher work of large batches; `None` for as many as fit the
    /// machine.
    pub crypto_threads: Option<usize>,
}

/// The running workers, with what they run on.
#[derive(Debug)]
pub(super) struct WorkerSet {
    /// `None` only while they are being replaced.
    workers: Option<Workers>,
    inputs: WorkerInputs,
    sockets: Vec<Arc<Socket>>,
    tuns: Vec<Tun>,
    mark: u32,
    queues: Arc<TransmitQueues>,
}

impl WorkerSet {
    /// Starts a worker for each pair of socket and TUN queue.
    pub(super) fn start(
        inputs: WorkerInputs,
        sockets: Vec<Arc<Socket>>,
        tuns: Vec<Tun>,
    ) -> io::Result<Self> {
        let mut set = Self {
            workers: None,
            inputs,
            sockets,
            tuns,
            mark: 0,
            queues: Arc::default(),
        };
        set.start_workers()?;
        Ok(set)
    }

    /// Where the sockets listen, with the port they really have.
    pub(super) fn listen_address(&self) -> SocketAddr {
        self.sockets[0].local_addr()
    }

    /// The workers' sockets.
    pub(super) fn sockets(&self) -> &[Arc<Socket>] {
        &self.sockets
    }

    /// A sender of the controller's own.
    pub(super) fn sender(&self) -> Sender {
        Sender::new(
            Arc::clone(&self.sockets[0]),
            Arc::clone(&self.inputs.counters),
        )
    }

    /// A queue of the TUN.
    pub(super) fn tun(&self) -> &Tun {
        &self.tuns[0]
    }

    /// The mark on our datagrams; 0 for none.
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    /// Marks all datagrams from now on.
    pub(super) fn set_mark(&mut self, mark: u32) -> io::Result<()> {
        for socket in &self.sockets {
            socket.set_mark(mark)?;
        }
        self.mark = mark;
        Ok(())
    }

    /// Listens at `address` instead. When that can't be, all stays as it is: the new
    /// sockets are bound before the old ones are let go.
    pub(super) fn listen(&mut self, address: SocketAddr) -> io::Result<()> {
        let sockets = Socket::bind_group(address, self.sockets.len(), self.inputs.offloads)?;
        if self.mark != 0 {
            for socket in &sockets {
                socket.set_mark(self.mark)?;
            }
        }
        self.workers = None;
        self.sockets = sockets;
        self.start_workers()
    }

    /// What the AF_XDP lane of this queue works with. It must end before the sockets change.
    pub(super) fn lane_parts(&self, queue: u32) -> io::Result<xsk::LaneParts> {
        let worker = queue as usize % self.sockets.len();
        let workers = self.workers.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(xsk::LaneParts {
            shared: Arc::clone(workers.shared()),
            socket: Arc::clone(&self.sockets[worker]),
            tun: self.tuns[worker].try_clone()?,
        })
    }

    /// Ways out past the network stack, by the lanes' queues.
    pub(super) fn queues(&self) -> &TransmitQueues {
        &self.queues
    }

    /// Whether a worker ended by itself, as when the interface is deleted.
    pub(super) fn has_ended(&self) -> bool {
        self.workers.as_ref().is_none_or(Workers::any_ended)
    }

    fn start_workers(&mut self) -> io::Result<()> {
        let WorkerInputs {
            tunnel,
            filter,
            counters,
            gate,
            handshakes,
            wake,
            busy_poll,
            crypto_threads,
            ..
        } = self.inputs.clone();
        tunnel.set_listen_port(self.listen_address().port());
        let cores = worker::cores();
        let helpers = crypto_threads.unwrap_or_else(|| crew::default_helpers(cores));
        let shared = Arc::new(Shared {
            tunnel,
            filter,
            counters,
            gate,
            handshakes,
            wake,
            busy_poll,
            workers: self.sockets.len() as u32,
            queues: Arc::clone(&self.queues),
            crew: Crew::new(helpers, cores),
            stop: StopSignal::new()?,
            ended: false.into(),
        });
        let tuns: io::Result<Vec<Tun>> = self.tuns.iter().map(Tun::try_clone).collect();
        self.workers = Some(Workers::start(shared, &self.sockets, tuns?)?);
        Ok(())
    }
}
