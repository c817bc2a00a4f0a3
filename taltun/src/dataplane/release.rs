//! The thread that carries packets on once their turn has come; see [`super::shaping`].

use std::io;

use taltun_common::drops::DropReason;

use super::clock;
use super::counters::Tally;
use super::local_packets::LocalPackets;
use super::runs::{DatagramRun, DatagramRuns};
use super::shaping::{ARENA, BATCH, HeldPackets, MORE_FOR_IPV6, Slot, Way};
use super::shared::Shared;
use super::tap::{Place, Subject};
use super::transmit::Transmitter;
use super::tun::Tun;
use super::udp::Sender;
use crate::protocol::batch::{Batch, NotSealed, Sealed};
use crate::protocol::ip;
use crate::protocol::messages::DATA_HEADER_LEN;
use crate::protocol::peer::Peer;

/// Runs until the stop signal.
pub(super) fn run(
    tun: &Tun,
    sender: &mut Sender,
    transmitter: &mut Transmitter,
    shared: &Shared,
) -> io::Result<()> {
    let mut arena: Box<[u8]> = Box::default();
    let mut released = Released {
        transmitter,
        slots: Vec::with_capacity(BATCH),
        local: LocalPackets::with_capacity(tun, BATCH),
        runs: DatagramRuns::with_capacity(BATCH),
        held: HeldPackets::default(),
        tally: Tally::default(),
        more: 0,
        tun,
        sender,
        shared,
    };
    while shared.wait_to_release()? {
        if arena.is_empty() {
            // Not before there is a limit.
            arena = vec![0; ARENA].into_boxed_slice();
        }
        released.carry(&mut arena);
    }
    Ok(())
}

/// Packets whose turn it is, and what they are carried on with.
struct Released<'w> {
    transmitter: &'w mut Transmitter,
    slots: Vec<Slot>,
    local: LocalPackets,
    runs: DatagramRuns,
    /// Relayed ones that now wait for their receiver's turn.
    held: HeldPackets,
    tally: Tally,
    /// Bytes of the uplink that the last ones took more than it was thought.
    more: u32,
    tun: &'w Tun,
    sender: &'w mut Sender,
    shared: &'w Shared,
}

impl Released<'_> {
    /// Carries what may go now to its end.
    fn carry(&mut self, arena: &mut [u8]) {
        let inputs = &self.shared.inputs;
        let now = clock::now();
        let mtu = inputs.tunnel.mtu();
        let more = std::mem::take(&mut self.more);
        let slots = &mut self.slots;
        let dropped = inputs.shaper.release(now, arena, slots, mtu, more);
        self.tally.begin(&inputs.counters, now);
        let lost = Subject::Unknown(Place::FromHost);
        self.tally
            .drop_packets(DropReason::Shaped, dropped as usize, lost);
        self.local.begin(self.tun);
        let merge = self.sender.merges();
        let mut batch = inputs.tunnel.batch(now);
        for at in 0..self.slots.len() {
            let slot = self.slots[at];
            let at = slot.start + DATA_HEADER_LEN;
            let (buffer, packet) = (slot.start..slot.end, at..at + slot.len);
            let before = match slot.way {
                Way::Local => Place::ToHost,
                Way::Relay | Way::Out { relayed: true, .. } => Place::Relayed,
                Way::Out { relayed: false, .. } => Place::FromHost,
            };
            // They are sealed where they lie.
            let subject = || Subject::Packet {
                place: before,
                from: sender(&batch, before, &arena[packet.clone()]),
                to: None,
                packet: &arena[packet.clone()],
                rule: None,
            };
            if slot.way != Way::Local {
                self.tally.wait(subject);
            }
            let (sealed, relayed) = match slot.way {
                Way::Local => {
                    self.tally.receive(slot.len, subject);
                    self.local.push(arena, at, slot.len);
                    continue;
                }
                Way::Relay => {
                    let Some(inner) = ip::parse(&arena[packet]) else {
                        let told = Subject::ToldBefore { to: None };
                        self.tally.drop_packet(DropReason::InnerMalformed, told);
                        continue;
                    };
                    (batch.relay(&mut arena[buffer], &inner), true)
                }
                Way::Out { hop_limit, relayed } => {
                    let sealed = batch.release(&mut arena[buffer], slot.len, hop_limit);
                    (sealed, relayed)
                }
            };
            let to = batch.receiver_of(&sealed).map(AsRef::as_ref);
            self.settle(sealed, slot, relayed, to, merge);
        }
        drop(batch);
        self.slots.clear();
        let queues = &self.shared.queues;
        if self.tally.observer.wants_outer() {
            self.tally.observer.leave(arena, &self.runs);
        }
        self.transmitter
            .send(queues, self.sender, arena, &mut self.runs);
        self.local
            .write(arena, self.tun, &inputs.counters, &mut self.tally);
        self.shared.hold(arena, &mut self.held, &mut self.tally);
        inputs.counters.add(&mut self.tally);
        self.shared.wake_controller();
    }

    /// Keeps what was sealed to be sent, or does what is left to do with it.
    fn settle(
        &mut self,
        sealed: Result<Sealed, NotSealed>,
        slot: Slot,
        relayed: bool,
        to: Option<&Peer>,
        merge: bool,
    ) {
        let told = Subject::ToldBefore { to };
        match sealed {
            Ok(sealed) => {
                if relayed {
                    self.tally.relay(slot.len, || told);
                } else {
                    self.tally.send(slot.len, || told);
                }
                if self.tally.observer.wants_outer() {
                    self.tally.observer.is_for(slot.start, to);
                }
                if sealed.endpoint.remote.is_ipv6() {
                    self.more = self.more.saturating_add(MORE_FOR_IPV6);
                }
                self.runs
                    .push(DatagramRun::sealed(slot.start, &sealed), merge);
            }
            Err(NotSealed::Held { peer, .. }) => {
                // It is told again when it goes.
                self.tally.observer.take_back();
                let at = slot.start + DATA_HEADER_LEN;
                self.held.push_relayed(peer, at, slot.len);
            }
            Err(NotSealed::Staged { displaced }) => {
                self.tally.wait(|| told);
                let place = if relayed {
                    Place::Relayed
                } else {
                    Place::FromHost
                };
                let lost = Subject::Packet {
                    place,
                    from: None,
                    to,
                    packet: &[],
                    rule: None,
                };
                self.tally
                    .drop_packets(DropReason::StagedQueueFull, displaced, lost);
            }
            Err(NotSealed::Dropped(reason)) => self.tally.drop_packet(reason, told),
        }
    }
}

/// The peer that a packet came from, if it did come from one.
fn sender<'a>(batch: &'a Batch<'_>, place: Place, packet: &[u8]) -> Option<&'a Peer> {
    if place == Place::FromHost {
        return None;
    }
    let (peer, _) = batch.peer_behind(ip::parse(packet)?.source)?;
    Some(peer)
}
