//! What is done with a batch of messages that were received, whether by a UDP socket or by an
//! AF_XDP one: open → TUN, or → seal for a packet between two peers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use taltun_common::drops::DropReason;
use taltun_common::steering::worker_of;
use taltun_policy::{Ends, Side};

use super::clock;
use super::counters::Tally;
use super::crew::{Crew, carry};
use super::filter::Lists;
use super::local_packets::LocalPackets;
use super::relayed_sources::{Table, lock};
use super::rules::BatchRules;
use super::runs::{DatagramRun, DatagramRuns};
use super::shaping::HeldPackets;
use super::shared::{Handshake, Shared};
use super::sys::Received;
use super::tap::{Fate, Place, RuleRef, Subject};
use super::tun::Tun;
use crate::crypto::aead::is_worth_batch;
use crate::layer::Layer;
use crate::protocol::batch::{Batch, NotSealed, Opened, Sealed};
use crate::protocol::ecn;
use crate::protocol::ip::{self, Inner};
use crate::protocol::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, Message};
use crate::protocol::peer::{Endpoint, Peer};
use crate::protocol::plan::CipherPlan;
use crate::protocol::time::Time;

/// What a batch leaves to do once all of it is opened.
pub(super) struct InboundBatch {
    /// Whose work it is, where it is steered to workers.
    worker: Option<u32>,
    local: LocalPackets,
    /// What is to be sent on to other peers.
    pub(super) relayed: DatagramRuns,
    /// What has to wait for its turn.
    held: HeldPackets,
    /// The cipher work of a batch that is done together.
    plans: Plans,
    /// Whether the crew may share in that of a large one.
    crew_helps: bool,
    tally: Tally,
    /// Whose packets never come to TC, once there was a batch.
    sources: Option<Arc<Mutex<Table>>>,
}

/// What of a batch is to be opened, and what of that is to be sealed again.
#[derive(Default)]
struct Plans {
    open: CipherPlan,
    relay: CipherPlan,
}

/// What a batch is handled with.
struct Round<'a> {
    batch: Batch<'a>,
    filter: &'a Lists,
    rules: Option<BatchRules<'a>>,
    shared: &'a Shared,
    sources: &'a Mutex<Table>,
    /// The same, from the first packet to relay on.
    locked: Option<MutexGuard<'a, Table>>,
    /// Whether somebody wants to know who sends to whom.
    counts_pairs: bool,
    /// Whether equal neighbours leave as one.
    merge: bool,
    now: Time,
}

impl Round<'_> {
    /// Whether rules let a packet pass that was opened.
    #[inline]
    fn judge(&mut self, packet: &[u8], to: Side) -> Result<(), DropReason> {
        let Some(rules) = &mut self.rules else {
            return Ok(());
        };
        let ends = Ends {
            from: Side::Peer,
            to,
        };
        rules.judge(packet, ends, &self.batch)
    }

    /// The rule that decided the last packet, where one did.
    fn take_rule(&mut self) -> Option<RuleRef> {
        self.rules.as_mut()?.take_rule()
    }

    /// Counts the source of a packet that never comes to TC, which counts the others'.
    #[inline]
    fn count_unseen(&mut self, inner: &Inner) {
        let sources = self.sources;
        let table = self.locked.get_or_insert_with(|| lock(sources));
        table.add(inner.source, inner.len);
    }

    /// Counts a packet that goes from one peer to another.
    #[cold]
    fn count_pair(&mut self, inner: &Inner) {
        let sources = self.sources;
        let table = self.locked.get_or_insert_with(|| lock(sources));
        table.add_pair(inner.source, inner.destination, inner.len);
    }
}

impl InboundBatch {
    /// For batches of so many messages, which are this worker's if they are steered.
    pub(super) fn new(worker: Option<u32>, tun: &Tun, messages: usize) -> Self {
        Self {
            worker,
            local: LocalPackets::with_capacity(tun, messages * super::runs::MAX_SEGMENTS),
            relayed: DatagramRuns::with_capacity(messages),
            held: HeldPackets::default(),
            plans: Plans {
                open: CipherPlan::with_capacity(messages * super::runs::MAX_SEGMENTS),
                relay: CipherPlan::with_capacity(messages * super::runs::MAX_SEGMENTS),
            },
            crew_helps: false,
            tally: Tally::default(),
            sources: None,
        }
    }

    /// The same, sharing large batches with the crew.
    pub(super) fn shared(self) -> Self {
        Self {
            crew_helps: true,
            ..self
        }
    }

    /// Opens what was received, and leaves what is to be sent and written.
    pub(super) fn open(
        &mut self,
        arena: &mut [u8],
        received: &[Received],
        tun: &Tun,
        merge: bool,
        shared: &Shared,
    ) {
        self.local.begin(tun);
        let now = clock::now();
        self.tally.begin(&shared.inputs.counters, now);
        let rules = shared.inputs.rules.read();
        let sources = self
            .sources
            .get_or_insert_with(|| shared.inputs.relayed_sources.table())
            .clone();
        let mut round = Round {
            filter: &shared.inputs.filter.read(),
            rules: shared.inputs.rules.batch(rules.as_deref(), now),
            batch: shared.inputs.tunnel.batch(now),
            shared,
            sources: &sources,
            locked: None,
            counts_pairs: shared.inputs.relayed_sources.counts_pairs(),
            merge,
            now,
        };
        let bytes = received.iter().map(|message| message.len).sum();
        let datagrams = received.iter().map(Received::count).sum();
        let crew = shared.crew.as_ref().filter(|_| self.crew_helps);
        let crew = crew.filter(|crew| crew.shares(bytes));
        if crew.is_some() || is_worth_batch(datagrams, bytes) || self.tally.observer.is_on() {
            let mut plans = std::mem::take(&mut self.plans);
            self.open_together(arena, received, &mut round, &mut plans, crew);
            self.plans = plans;
        } else {
            self.open_alone(arena, received, &mut round);
        }
    }

    /// Takes one datagram after the other from end to end.
    fn open_alone(&mut self, arena: &mut [u8], received: &[Received], round: &mut Round<'_>) {
        for message in received {
            if self.is_cut(arena, message) {
                continue;
            }
            for place in message.datagrams() {
                let start = place.start;
                let datagram = &mut arena[place.clone()];
                let Some((receiver, counter)) = self.admit(datagram, message.from, round) else {
                    continue;
                };
                let opened = round.batch.open(receiver, counter, datagram, message.from);
                if opened == Err(DropReason::UnknownIndex) && self.pass_on(&place, message, round) {
                    continue;
                }
                let settled = self.settle(opened, receiver, arena, &place, message, round);
                let Some((inner, rule)) = settled else {
                    continue;
                };
                let sealed = round.batch.relay(&mut arena[place], &inner);
                self.settle_relay(sealed, arena, start, inner.len, rule, round);
            }
        }
    }

    /// Takes all datagrams one step further at a time. Those steps that are the cipher's do
    /// several at once, and the crew may share in them.
    fn open_together(
        &mut self,
        arena: &mut [u8],
        received: &[Received],
        round: &mut Round<'_>,
        plans: &mut Plans,
        crew: Option<&Crew>,
    ) {
        for (origin, message) in received.iter().enumerate() {
            if self.is_cut(arena, message) {
                continue;
            }
            for place in message.datagrams() {
                let datagram = &arena[place.clone()];
                let Some((receiver, counter)) = self.admit(datagram, message.from, round) else {
                    continue;
                };
                let plan = &mut plans.open;
                let origin = origin as u32;
                let planned = round
                    .batch
                    .plan_open(plan, receiver, counter, place.clone(), origin);
                if planned == Err(DropReason::UnknownIndex) && self.pass_on(&place, message, round)
                {
                    continue;
                }
                if let Err(reason) = planned {
                    let subject = Subject::Arrived {
                        from: message.from,
                        datagram,
                        peer: round.batch.peer_of(receiver).map(AsRef::as_ref),
                    };
                    self.tally.drop_packet(reason, subject);
                } else if self.tally.observer.wants_outer() {
                    let observer = &mut self.tally.observer;
                    observer.arrived(place.start, datagram, message.from);
                }
            }
        }
        self.tally.shared(carry(crew, plans.open.work(arena)));
        for planned in plans.open.opened() {
            let message = &received[planned.origin as usize];
            let opened = round.batch.accept(&planned, arena, message.from);
            let (place, receiver) = (planned.place, planned.receiver);
            let settled = self.settle(opened, receiver, arena, &place, message, round);
            let Some((inner, rule)) = settled else {
                continue;
            };
            let (plan, start) = (&mut plans.relay, place.start);
            let sealed = round.batch.plan_relay(plan, arena, place, &inner);
            self.settle_relay(sealed, arena, start, inner.len, rule, round);
        }
        self.tally.shared(carry(crew, plans.relay.work(arena)));
        plans.open.clear();
        plans.relay.clear();
    }

    /// Sends data of another hub's session on to that hub, if it gives its peers up to us; else false.
    #[cold]
    fn pass_on(&mut self, place: &Range<usize>, message: &Received, round: &Round<'_>) -> bool {
        let Some(hub) = round.batch.misrouted(message.from) else {
            return false;
        };
        let run = DatagramRun::of_one(place.start, place.len(), hub);
        self.relayed.push(run, round.merge);
        true
    }

    /// Whether the kernel had to cut a message, which is lost then.
    fn is_cut(&mut self, arena: &[u8], message: &Received) -> bool {
        if message.truncated {
            let subject = Subject::Arrived {
                from: message.from,
                datagram: &arena[message.start..message.start + message.len],
                peer: None,
            };
            self.tally.drop_packet(DropReason::Oversized, subject);
        }
        message.truncated
    }

    /// Lets data through, of which it gives the receiver and the counter; hands over
    /// handshake messages.
    fn admit(&mut self, datagram: &[u8], from: Endpoint, round: &Round<'_>) -> Option<(u32, u64)> {
        let source = from.remote.ip();
        let subject = Subject::Arrived {
            from,
            datagram,
            peer: None,
        };
        if round.filter.denies(Layer::Outer, source) {
            self.tally.drop_packet(DropReason::Denied, subject);
            return None;
        }
        let shared = round.shared;
        match Message::parse(datagram) {
            Ok(Message::Data { receiver, counter }) => return Some((receiver, counter)),
            Ok(message) => {
                let proof = round.batch.vet(&message, datagram, from.remote);
                let admitted = proof
                    .and_then(|proof| shared.inputs.gate.admit(&message, proof, source, round.now));
                if let Err(reason) = admitted {
                    self.tally.drop_packet(reason, subject);
                    if reason == DropReason::Mac1 {
                        shared.inputs.gate.note_misled(source);
                    }
                } else if !shared.hand_over(Handshake::new(datagram, from)) {
                    self.tally
                        .drop_packet(DropReason::HandshakeQueueFull, subject);
                }
            }
            Err(_) => self.tally.drop_packet(DropReason::Shape, subject),
        }
        None
    }

    /// Keeps what was opened at `place` in the arena for the TUN, or gives it back to be
    /// relayed, with the rule that lets it start.
    fn settle(
        &mut self,
        opened: Result<Opened, DropReason>,
        receiver: u32,
        arena: &mut [u8],
        place: &Range<usize>,
        message: &Received,
        round: &mut Round<'_>,
    ) -> Option<(Inner, Option<RuleRef>)> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                let datagram = &arena[place.clone()];
                self.drop_unaccepted(reason, receiver, datagram, place.start, message, round);
                return None;
            }
        };
        if self.worker.is_some() && worker_of(receiver, round.shared.workers) != self.worker {
            self.tally.stray();
        }
        let at = place.start + DATA_HEADER_LEN;
        if let Opened::Local(inner) | Opened::Relay(inner) = &opened {
            ecn::take_in(&mut arena[at..at + inner.len], message.ecn);
        }
        if self.tally.observer.wants_outer() {
            let is_packet = matches!(opened, Opened::Local(_) | Opened::Relay(_));
            let from = round.batch.sender().map(AsRef::as_ref);
            let observer = &mut self.tally.observer;
            observer.settle(place.start, Fate::Passed, from, is_packet);
        }
        let (inner, to) = match opened {
            Opened::Keepalive | Opened::Control => return None,
            Opened::Local(inner) => (inner, Side::Host),
            Opened::Relay(inner) => (inner, Side::Peer),
        };
        let dropped = if round.filter.denies(Layer::Inner, inner.source) {
            Some(DropReason::InnerDenied)
        } else {
            round.judge(&arena[at..at + inner.len], to).err()
        };
        if to == Side::Peer || dropped.is_some() {
            round.count_unseen(&inner);
        }
        if round.counts_pairs && to == Side::Peer && dropped.is_none() {
            round.count_pair(&inner);
        }
        let rule = if self.tally.observer.is_on() {
            round.take_rule()
        } else {
            None
        };
        if let Some(reason) = dropped {
            let packet = &arena[at..at + inner.len];
            // Nobody was looked for yet.
            let receiver = match to {
                Side::Peer if self.tally.observer.is_on() => {
                    round.batch.peer_behind(inner.destination)
                }
                _ => None,
            };
            let receiver = receiver.map(|(peer, _)| &**peer);
            let subject = opened_packet(packet, to, receiver, rule, round);
            if self.tally.observer.wants_outer() {
                self.tally.observer.amend_settled(Fate::Dropped(reason));
            }
            self.tally.drop_packet(reason, subject);
            return None;
        }
        if let Some(peer) = round.batch.held_sender() {
            let relay = to == Side::Peer;
            self.held.push_from(peer, at, inner.len, relay);
            return None;
        }
        if to == Side::Peer {
            return Some((inner, rule));
        }
        let packet = &arena[at..at + inner.len];
        let subject = || opened_packet(packet, to, None, rule, round);
        self.tally.receive(inner.len, subject);
        self.local.push(arena, at, inner.len);
        None
    }

    /// Counts a data message that isn't taken in.
    #[cold]
    fn drop_unaccepted(
        &mut self,
        reason: DropReason,
        receiver: u32,
        datagram: &[u8],
        start: usize,
        message: &Received,
        round: &Round<'_>,
    ) {
        if !self.tally.observer.is_on() {
            return self
                .tally
                .drop_packet(reason, Subject::Unknown(Place::Arrived));
        }
        let peer = round.batch.peer_of(receiver).map(AsRef::as_ref);
        // Only of these there is a packet.
        let is_packet = matches!(reason, DropReason::InnerMalformed | DropReason::InnerSource);
        let observer = &mut self.tally.observer;
        let is_told = observer.settle(start, Fate::Dropped(reason), peer, is_packet);
        let subject = if is_packet {
            let end = datagram.len() - (DATA_OVERHEAD - DATA_HEADER_LEN);
            let padded = &datagram[DATA_HEADER_LEN..end];
            let len = ip::parse(padded).map_or(padded.len(), |inner| inner.len);
            Subject::Packet {
                place: Place::ToHost,
                from: peer,
                to: None,
                packet: &padded[..len],
                rule: None,
            }
        } else if is_told {
            Subject::Told
        } else {
            Subject::Arrived {
                from: message.from,
                datagram,
                peer,
            }
        };
        self.tally.drop_packet(reason, subject);
    }

    /// Keeps what was sealed again at `start` in the arena to be sent.
    fn settle_relay(
        &mut self,
        sealed: Result<Sealed, NotSealed>,
        arena: &[u8],
        start: usize,
        packet_len: usize,
        rule: Option<RuleRef>,
        round: &Round<'_>,
    ) {
        let at = start + DATA_HEADER_LEN;
        let subject = || Subject::Packet {
            place: Place::Relayed,
            from: round.batch.sender().map(AsRef::as_ref),
            to: round.batch.receiver_of(&sealed).map(AsRef::as_ref),
            packet: &arena[at..at + packet_len],
            rule,
        };
        match &sealed {
            Ok(to_send) => {
                self.tally.relay(packet_len, subject);
                if self.tally.observer.wants_outer() {
                    let to = round.batch.receiver_of(&sealed).map(AsRef::as_ref);
                    self.tally.observer.is_for(start, to);
                }
                self.relayed
                    .push(DatagramRun::sealed(start, to_send), round.merge);
            }
            Err(NotSealed::Staged { displaced }) => {
                let lost = subject().displaced_by();
                self.tally.wait(subject);
                self.tally
                    .drop_packets(DropReason::StagedQueueFull, *displaced, lost);
            }
            Err(NotSealed::Held { peer, .. }) => {
                self.held.push_relayed(*peer, at, packet_len);
            }
            Err(NotSealed::Dropped(reason)) => self.tally.drop_packet(*reason, subject()),
        }
    }

    /// Counts a frame that holds no message.
    pub(super) fn drop_frame(&mut self, reason: DropReason) {
        self.tally
            .drop_packet(reason, Subject::Unknown(Place::Arrived));
    }

    /// What is to be sent on is about to leave.
    pub(super) fn tell_leaving(&mut self, arena: &[u8]) {
        if self.tally.observer.wants_outer() {
            self.tally.observer.leave(arena, &self.relayed);
        }
    }

    /// Does what is left once the batch's packets for other peers are on their way.
    pub(super) fn finish(&mut self, arena: &mut [u8], tun: &Tun, shared: &Shared) {
        let counters = &shared.inputs.counters;
        self.local.write(arena, tun, counters, &mut self.tally);
        shared.hold(arena, &mut self.held, &mut self.tally);
        shared.inputs.counters.add(&mut self.tally);
        shared.wake_controller();
    }
}

/// A packet that was opened last in a batch, as it is told.
fn opened_packet<'a>(
    packet: &'a [u8],
    to: Side,
    receiver: Option<&'a Peer>,
    rule: Option<RuleRef>,
    round: &'a Round<'_>,
) -> Subject<'a> {
    Subject::Packet {
        place: match to {
            Side::Peer => Place::Relayed,
            Side::Host => Place::ToHost,
        },
        from: round.batch.sender().map(AsRef::as_ref),
        to: receiver,
        packet,
        rule,
    }
}
