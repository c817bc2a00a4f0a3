//! What the threads of all workers share with each other and with the controller.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use taltun_common::drops::DropReason;
use tokio::sync::{Notify, mpsc};

use super::clock;
use super::counters::{Counters, Tally};
use super::crew::Crew;
use super::filter::Filter;
use super::gate::Gate;
use super::relayed_sources::RelayedSources;
use super::rights::PacketRights;
use super::rules::Rules;
use super::scheduling::Scheduling;
use super::shaping::{HeldPackets, Shaper};
use super::sys::{Readable, StopSignal, Woken, wait_for, wait_readable};
use super::tap::{Place, Subject};
use super::transmit::TransmitQueues;
use crate::protocol::messages::INITIATION_LEN;
use crate::protocol::peer::Endpoint;
use crate::protocol::tunnel::Tunnel;

/// Handshake messages that may wait for the controller: as many as in the kernel's WireGuard.
pub const HANDSHAKE_QUEUE: usize = 4096;

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

/// What the threads are given; it outlives a change of sockets.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Sessions and routes.
    pub tunnel: Arc<Tunnel>,
    /// Bans.
    pub filter: Arc<Filter>,
    /// Who may start what with whom.
    pub rules: Arc<Rules>,
    /// Packets that wait for their turn.
    pub shaper: Arc<Shaper>,
    /// What was moved and dropped.
    pub counters: Arc<Counters>,
    /// Whose packets went from peer to peer.
    pub relayed_sources: Arc<RelayedSources>,
    /// Which handshake messages the controller has time for.
    pub gate: Arc<Gate>,
    /// The queue of handshake messages to the controller.
    pub handshakes: mpsc::Sender<Handshake>,
    /// Wakes the controller when workers ask something of it, or end.
    pub wake: Arc<Notify>,
    /// How long a thread goes on looking for packets before it sleeps.
    pub busy_poll: Duration,
    /// How threads compete with others for the cores.
    pub scheduling: Arc<Scheduling>,
    /// What the threads may do.
    pub rights: Arc<PacketRights>,
}

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// What they were given.
    pub inputs: Inputs,
    /// How many workers there are.
    pub workers: u32,
    /// The lanes' sockets that others send by, past the network stack.
    pub queues: Arc<TransmitQueues>,
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
        self.inputs.handshakes.try_send(handshake).is_ok()
    }

    /// Waits until `source` can be read; false when the workers are to stop.
    pub(super) fn wait_readable(&self, source: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(self.wait_for_either(source, None)?.is_some())
    }

    /// Waits until a source, or a second one, can be read; `None` when the workers are to stop.
    pub(super) fn wait_for_either(
        &self,
        source: BorrowedFd<'_>,
        second: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<Readable>> {
        if let Some(crew) = &self.crew {
            crew.rest();
        }
        let readable = wait_readable(source, second, &self.stop, self.inputs.busy_poll);
        if let Some(crew) = &self.crew {
            crew.resume();
        }
        readable
    }

    /// Has the other threads with realtime run after a batch: the kernel takes the core from none
    /// of them before its turn is over, which lasts for many batches.
    pub(super) fn let_others_run(&self) {
        if self.inputs.scheduling.is_real_time() {
            thread::yield_now();
        }
    }

    /// Has packets of a batch, which lie in `arena`, wait for their turn.
    pub(super) fn hold(&self, arena: &[u8], held: &mut HeldPackets, tally: &mut Tally) {
        let dropped = self
            .inputs
            .shaper
            .hold(arena, held, self.inputs.tunnel.mtu());
        let lost = Subject::Unknown(Place::FromHost);
        tally.drop_packets(DropReason::Shaped, dropped as usize, lost);
    }

    /// Waits until the shaper has something to release, or may have; false when the workers are
    /// to stop.
    pub(super) fn wait_to_release(&self) -> io::Result<bool> {
        let timeout = self.inputs.shaper.time_to_release(clock::now());
        if let Some(crew) = &self.crew {
            crew.rest();
        }
        let woken = wait_for(self.inputs.shaper.bell(), &self.stop, timeout);
        if let Some(crew) = &self.crew {
            crew.resume();
        }
        Ok(woken? != Woken::Stop)
    }

    /// Wakes the controller if a batch asked something of it.
    pub(super) fn wake_controller(&self) {
        if self.inputs.tunnel.take_wake() {
            self.inputs.wake.notify_one();
        }
    }
}
