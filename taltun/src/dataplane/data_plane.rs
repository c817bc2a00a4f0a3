//! The data plane as the controller sees it: workers on their sockets, AF_XDP lanes beside them,
//! and a sender of the controller's own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::clock;
use super::counters::Counters;
use super::guard::Guard;
use super::redirect::Redirect;
use super::relay_pairs::Relayed;
use super::relayed_sources::RelayedSources;
use super::rights::PacketRights;
use super::runs::{DatagramRun, DatagramRuns};
use super::scheduling::Scheduling;
use super::shared::Inputs;
use super::sparse::SparseQueues;
use super::tap::{Subject, Taps};
use super::tun::Tun;
use super::udp::{Sender, Socket};
use super::unreachable::Unreachable;
use super::worker_set::{WorkerSet, WorkerSettings};
use super::xsk::{LanePolicy, Lanes};
use crate::protocol::device::Transmit;
use crate::protocol::time::Time;
use crate::report::{
    AfXdpStatus, PriorityStatus, SocketLoad, Source, SparseQueueStatus, SteeringStatus,
};

/// The running data plane.
pub struct DataPlane {
    /// Before the workers, whose sockets they use.
    lanes: Lanes,
    workers: WorkerSet,
    counters: Arc<Counters>,
    relayed_sources: Arc<RelayedSources>,
    scheduling: Arc<Scheduling>,
    /// After the workers, so that it watches them to their end.
    _guard: Option<Guard>,
    rights: Arc<PacketRights>,
    sender: Sender,
    runs: DatagramRuns,
    unreachable: Unreachable,
}

impl DataPlane {
    /// Starts the workers; lanes follow at the first [`Self::follow_queues`].
    pub fn start(
        inputs: Inputs,
        settings: WorkerSettings,
        lanes: LanePolicy,
        sockets: Vec<Arc<Socket>>,
        tuns: Vec<Tun>,
        sparse: Result<SparseQueues, String>,
    ) -> io::Result<Self> {
        let counters = Arc::clone(&inputs.counters);
        let relayed_sources = Arc::clone(&inputs.relayed_sources);
        let scheduling = Arc::clone(&inputs.scheduling);
        scheduling.raise_session();
        // Before the threads that it watches, so that these have realtime from their start.
        let guard = Guard::start(&scheduling)?;
        let rights = Arc::clone(&inputs.rights);
        let workers = WorkerSet::start(inputs, settings, sockets, tuns, sparse)?;
        Ok(Self {
            lanes: Lanes::new(lanes),
            sender: workers.sender(),
            workers,
            counters,
            relayed_sources,
            scheduling,
            _guard: guard,
            rights,
            runs: DatagramRuns::with_capacity(1),
            unreachable: Unreachable::default(),
        })
    }

    /// Where the sockets listen, with the port they really have.
    pub fn listen_address(&self) -> SocketAddr {
        self.workers.listen_address()
    }

    /// Listens at `address` from now on, where that differs from the `configured` one, which it
    /// becomes then. An error leaves all as it was. Port 0 is any port, and one that is any port
    /// already stays.
    pub fn listen(
        &mut self,
        address: SocketAddr,
        configured: &mut SocketAddr,
        programs: &mut dyn Redirect,
    ) -> io::Result<()> {
        let same_port =
            address.port() == configured.port() || address.port() == self.listen_address().port();
        if address.ip() == configured.ip() && same_port {
            return Ok(());
        }
        let sockets = self.workers.bind(address)?;
        // They send on the sockets that are about to go.
        self.lanes.end(programs, &self.workers, &self.counters);
        self.workers.listen_on(sockets)?;
        *configured = address;
        self.sender = self.workers.sender();
        programs.rebind(self.listen_address());
        self.steer(programs);
        Ok(())
    }

    /// Has the kernel give each session's datagrams to the socket of its worker.
    pub fn steer(&self, programs: &mut dyn Redirect) {
        programs.steer(&fds(self.workers.sockets()));
    }

    /// The mark on our datagrams; 0 for none.
    pub fn mark(&self) -> u32 {
        self.workers.mark()
    }

    /// Marks all datagrams from now on. What leaves past the network stack can't be marked, so
    /// nothing may leave there before the first marked one does.
    pub fn set_mark(&mut self, mark: u32) -> io::Result<()> {
        self.lanes.leave_by_socket(mark != 0);
        let outcome = self.workers.set_mark(mark);
        self.lanes.leave_by_socket(self.workers.mark() != 0);
        outcome
    }

    /// Whether other ports than the one that we listen on lead to us: what leaves past the network
    /// stack, where no program sees to it, must come from the one that its receiver sent to.
    pub fn set_has_range(&mut self, yes: bool) {
        self.lanes.set_has_range(yes);
    }

    /// What waits in the sockets, as the kernel counts it.
    pub fn socket_loads(&self) -> Vec<SocketLoad> {
        let sockets = (0..).zip(self.workers.sockets());
        let load = |(worker, socket): (u64, &Arc<Socket>)| {
            let (queued_bytes, drops) = socket.queue().ok()?;
            Some(SocketLoad {
                worker,
                queued_bytes,
                drops,
            })
        };
        sockets.filter_map(load).collect()
    }

    /// A queue of the TUN.
    pub fn tun(&self) -> &Tun {
        &self.workers.tuns()[0]
    }

    /// Has every queue that should have one an AF_XDP lane; call it once a second.
    pub fn follow_queues(&mut self, programs: &mut dyn Redirect) {
        self.lanes.follow(programs, &self.workers, &self.counters);
    }

    /// Sends a message of the controller's. Returns why the kernel refused to, if it did.
    pub fn send(&mut self, transmit: &Transmit) -> Option<i32> {
        let run = DatagramRun {
            class: transmit.class,
            ..DatagramRun::of_one(0, transmit.payload.len(), transmit.endpoint)
        };
        let subject = Subject::Leaves {
            endpoint: transmit.endpoint,
            datagram: &transmit.payload,
        };
        self.taps().pass(clock::now(), subject);
        self.runs.push(run, false);
        self.sender.send(&transmit.payload, &mut self.runs);
        self.sender.take_refusal()
    }

    /// Tells the sender of a packet that waited for a handshake in vain.
    pub fn tell_unreachable(&mut self, packet: &[u8], now: Time) {
        self.unreachable.tell(packet, now, &self.workers.tuns()[0]);
    }

    /// Whether a worker ended by itself, as when the interface is deleted.
    pub fn has_ended(&self) -> bool {
        self.workers.has_ended()
    }

    /// What each AF_XDP queue has, or why it has nothing.
    pub fn lanes_status(&self, programs: &dyn Redirect) -> Vec<AfXdpStatus> {
        self.lanes.status(programs)
    }

    /// How datagrams come to their workers.
    pub fn steering_status(&self, programs: &dyn Redirect) -> SteeringStatus {
        match self.workers.sockets() {
            [_] => SteeringStatus::none(),
            _ => programs.steering_status(),
        }
    }

    /// Whether sparse flows have queues of their own.
    pub fn sparse_queue_status(&self) -> SparseQueueStatus {
        let refusal = self.workers.sparse_refusal();
        SparseQueueStatus {
            on: refusal.is_none(),
            reason: refusal.unwrap_or("an eBPF program fills it").to_owned(),
        }
    }

    /// How the threads compete for the cores.
    pub fn priority_status(&self) -> PriorityStatus {
        self.scheduling.status()
    }

    /// Whose packets went from peer to peer.
    pub fn relayed_sources(&self) -> Vec<Source> {
        self.relayed_sources.read()
    }

    /// What went from where to where since somebody began to look; see
    /// [`RelayedSources::look_at_pairs`].
    pub fn look_at_pairs(&self) -> HashMap<(IpAddr, IpAddr), Relayed> {
        self.relayed_sources.look_at_pairs()
    }

    /// A second is over.
    pub fn tick(&self) {
        self.relayed_sources.tick();
    }

    /// Who watches what passes here.
    pub fn taps(&self) -> &Arc<Taps> {
        self.counters.taps()
    }

    /// What the packet threads may do.
    pub fn rights(&self) -> &PacketRights {
        &self.rights
    }

    /// What was moved and dropped.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// The sockets as the kernel knows them.
fn fds(sockets: &[Arc<Socket>]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(|socket| socket.as_fd()).collect()
}
