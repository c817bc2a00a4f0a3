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

use super::crew::{self, Crew};
use super::shared::{Inputs, Shared};
use super::sparse::SparseQueues;
use super::sys::StopSignal;
use super::transmit::TransmitQueues;
use super::tun::Tun;
use super::udp::{Sender, Socket, UdpSettings};
use super::worker::{self, Workers};

/// How sockets and threads are made.
#[derive(Debug, Clone, Copy)]
pub struct WorkerSettings {
    /// How sockets send and receive.
    pub udp: UdpSettings,
    /// Threads that share the cipher work of large batches; `None` for as many as fit the
    /// machine.
    pub crypto_threads: Option<usize>,
}

/// The running workers, with what they run on.
#[derive(Debug)]
pub struct WorkerSet {
    /// `None` only while they are being replaced.
    workers: Option<Workers>,
    inputs: Inputs,
    settings: WorkerSettings,
    sockets: Vec<Arc<Socket>>,
    tuns: Vec<Tun>,
    /// The sparse ones, or why there are none.
    sparse: Result<SparseQueues, String>,
    mark: u32,
    queues: Arc<TransmitQueues>,
}

impl WorkerSet {
    /// Starts a worker for each pair of socket and TUN queue, with its sparse queue where there are
    /// some.
    pub(super) fn start(
        inputs: Inputs,
        settings: WorkerSettings,
        sockets: Vec<Arc<Socket>>,
        tuns: Vec<Tun>,
        sparse: Result<SparseQueues, String>,
    ) -> io::Result<Self> {
        let mut set = Self {
            workers: None,
            inputs,
            settings,
            sockets,
            tuns,
            sparse,
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

    /// The queues of the TUN, one a worker.
    pub(super) fn tuns(&self) -> &[Tun] {
        &self.tuns
    }

    /// Why there are no sparse queues, if there are none.
    pub(super) fn sparse_refusal(&self) -> Option<&str> {
        self.sparse.as_ref().err().map(String::as_str)
    }

    /// The mark on our datagrams; 0 for none.
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    /// Marks all datagrams from now on.
    pub(super) fn set_mark(&mut self, mark: u32) -> io::Result<()> {
        Socket::mark_all(&self.sockets, mark)?;
        self.mark = mark;
        Ok(())
    }

    /// Sockets for all workers at `address`, beside those that they have.
    pub(super) fn bind(&self, address: SocketAddr) -> io::Result<Vec<Arc<Socket>>> {
        let sockets = Socket::bind_group(address, self.sockets.len(), self.settings.udp)?;
        if self.mark != 0 {
            Socket::mark_all(&sockets, self.mark)?;
        }
        Ok(sockets)
    }

    /// Listens on these sockets instead.
    pub(super) fn listen_on(&mut self, sockets: Vec<Arc<Socket>>) -> io::Result<()> {
        self.workers = None;
        self.sockets = sockets;
        self.start_workers()
    }

    /// What the workers' threads share. A lane that has it must end before the sockets change.
    pub(super) fn shared(&self) -> io::Result<&Arc<Shared>> {
        let workers = self.workers.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(workers.shared())
    }

    /// The lanes' sockets that others send by, past the network stack.
    pub(super) fn queues(&self) -> &TransmitQueues {
        &self.queues
    }

    /// Whether a worker ended by itself, as when the interface is deleted.
    pub(super) fn has_ended(&self) -> bool {
        self.workers.as_ref().is_none_or(Workers::any_ended)
    }

    fn start_workers(&mut self) -> io::Result<()> {
        let inputs = self.inputs.clone();
        inputs.tunnel.set_listen_port(self.listen_address().port());
        let cores = worker::cores();
        let helpers = self.settings.crypto_threads;
        let helpers = helpers.unwrap_or_else(|| crew::default_helpers(cores));
        let shared = Arc::new(Shared {
            inputs,
            workers: self.sockets.len() as u32,
            queues: Arc::clone(&self.queues),
            crew: Crew::new(helpers, cores),
            stop: StopSignal::new()?,
            ended: false.into(),
        });
        let tuns: io::Result<Vec<Tun>> = self.tuns.iter().map(Tun::try_clone).collect();
        let sparse = self.sparse.as_ref().ok();
        self.workers = Some(Workers::start(shared, &self.sockets, tuns?, sparse)?);
        Ok(())
    }
}
