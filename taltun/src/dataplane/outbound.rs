//! The way out: TUN → cut → seal → UDP.

use std::io;
use std::os::fd::AsFd;

use taltun_common::drops::DropReason;
use taltun_policy::{Ends, Side};

use super::clock;
use super::counters::Tally;
use super::crew::carry;
use super::offload::split::Segments;
use super::offload::vnet::{VNET_HEADER_LEN, VnetHeader};
use super::runs::{DatagramRun, DatagramRuns};
use super::shaping::HeldPackets;
use super::shared::Shared;
use super::sparse::SparseQueue;
use super::tap::{Place, RuleRef, Subject};
use super::transmit::Transmitter;
use super::tun::Tun;
use super::udp::Sender;
use super::unreachable::Unreachable;
use crate::crypto::aead::is_worth_batch;
use crate::os::monotonic;
use crate::protocol::batch::NotSealed;
use crate::protocol::ip;
use crate::protocol::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, PADDING, padded_len};
use crate::protocol::peer::Peer;
use crate::protocol::plan::CipherPlan;
use crate::protocol::time::Time;

/// Packets that are sealed and sent together.
pub(super) const BATCH: usize = 128;
/// Bytes from which on a batch is sent without asking the TUN for more. About what one
/// read of a busy stream brings: more would only wait, and leave the cache.
const FULL: usize = 60 << 10;
/// Largest packet, or piece of a stream, a TUN can hand over.
const MAX_READ: usize = VNET_HEADER_LEN + 65_535;
/// Room for one packet of any size, sealed.
const SLOT: usize = 65_535 + PADDING + DATA_OVERHEAD;

/// Where packets from the TUN come from and go to.
const FROM_THE_HOST: Ends = Ends {
    from: Side::Host,
    to: Side::Peer,
};

/// A packet from the TUN, and the part of the arena it may become a datagram in.
struct Packet {
    start: usize,
    end: usize,
    len: usize,
}

/// By what datagrams leave. It opens descriptors, so it is made by who may.
pub(super) type Way = (Sender, Transmitter);

/// Runs until the stop signal.
pub(super) fn run(
    tun: &Tun,
    sparse: Option<(SparseQueue, Way)>,
    way: Way,
    shared: &Shared,
) -> io::Result<()> {
    let mut bulk = Outbound::new(way, tun, shared);
    let mut buffer = vec![0; MAX_READ];
    let mut sparse = sparse.map(|(queue, way)| Sparse {
        queue,
        buffer: vec![0; MAX_READ],
        batch: Outbound::new(way, tun, shared),
    });
    // First what an earlier thread may have left there.
    let mut has_bulk = true;
    loop {
        if has_bulk {
            carry_both(&mut bulk, &mut buffer, &mut sparse, shared)?;
        } else {
            carry_sparse(&mut sparse)?;
        }
        let second = sparse.as_ref().map(|it| it.queue.as_fd());
        let Some(readable) = shared.wait_for_either(tun.as_fd(), second)? else {
            return Ok(());
        };
        has_bulk = readable.first;
    }
}

/// Takes all that is in either queue, batch by batch, and sends it.
fn carry_both(
    bulk: &mut Outbound<'_>,
    buffer: &mut [u8],
    sparse: &mut Option<Sparse<'_>>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let began = monotonic();
        let is_empty = bulk.fill(buffer, sparse)?;
        bulk.send_after(sparse)?;
        if is_empty {
            if let Some(sparse) = sparse {
                sparse.queue.has_drained_bulk(began);
            }
            return Ok(());
        }
        shared.let_others_run();
    }
}

/// What doesn't wait behind bulk; see [`taltun_common::sparse`].
struct Sparse<'w> {
    queue: SparseQueue,
    buffer: Vec<u8>,
    batch: Outbound<'w>,
}

/// Takes all that is in the sparse queue, and sends it.
fn carry_sparse(sparse: &mut Option<Sparse<'_>>) -> io::Result<()> {
    let Some(Sparse {
        queue,
        buffer,
        batch,
    }) = sparse
    else {
        return Ok(());
    };
    loop {
        match queue.read(buffer) {
            Ok(len) => batch.take(&buffer[..len], &mut None)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    batch.send();
    Ok(())
}

/// Packets on their way out. They lie one behind the other in the arena, each with room for
/// its header before it and for padding and tag behind it, so that they can be sealed where
/// they are and equal ones leave as one run.
struct Outbound<'w> {
    sender: Sender,
    transmitter: Transmitter,
    shared: &'w Shared,
    arena: Box<[u8]>,
    filled: usize,
    packets: Vec<Packet>,
    /// When the first of them was read.
    began: Time,
    /// The cipher work of a batch that is done together.
    plan: CipherPlan,
    runs: DatagramRuns,
    /// What has to wait for its turn.
    held: HeldPackets,
    tally: Tally,
    unreachable: Unreachable,
    tun: &'w Tun,
}

impl<'w> Outbound<'w> {
    fn new((sender, transmitter): Way, tun: &'w Tun, shared: &'w Shared) -> Self {
        Self {
            sender,
            transmitter,
            shared,
            arena: vec![0; FULL + SLOT].into_boxed_slice(),
            filled: 0,
            packets: Vec::with_capacity(BATCH),
            began: Time::START,
            plan: CipherPlan::with_capacity(BATCH),
            runs: DatagramRuns::with_capacity(BATCH),
            held: HeldPackets::default(),
            tally: Tally::default(),
            unreachable: Unreachable::default(),
            tun,
        }
    }

    /// Reads until the batch is full or the TUN's queue empty; true when it is empty.
    fn fill(&mut self, buffer: &mut [u8], sparse: &mut Option<Sparse<'_>>) -> io::Result<bool> {
        while self.filled < FULL {
            match self.tun.read(buffer) {
                Ok(len) => self.take(&buffer[..len], sparse)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Cuts what one read brought into packets, sending whenever the arena is full.
    fn take(&mut self, read: &[u8], sparse: &mut Option<Sparse<'_>>) -> io::Result<()> {
        let Some((header, packet)) = read.split_first_chunk::<VNET_HEADER_LEN>() else {
            self.drop_read(read);
            return Ok(());
        };
        let segments = VnetHeader::decode(header)
            .ok()
            .and_then(|header| Segments::new(&header, packet).ok());
        let Some(mut segments) = segments else {
            self.drop_read(packet);
            return Ok(());
        };
        let mtu = self.shared.inputs.tunnel.mtu();
        while let Some(len) = segments.next_len() {
            let room = DATA_OVERHEAD + padded_len(len, mtu);
            if self.filled + room > self.arena.len() || self.packets.len() == BATCH {
                self.send_after(sparse)?;
            }
            if self.packets.is_empty() {
                self.began = clock::now();
            }
            let start = self.filled;
            let at = start + DATA_HEADER_LEN;
            segments.write_next(&mut self.arena[at..at + len]);
            self.filled = start + room;
            self.packets.push(Packet {
                start,
                end: self.filled,
                len,
            });
        }
        Ok(())
    }

    /// Sends what there is, after what is in the sparse queue by now: packets of the same flows that
    /// were there before these are.
    fn send_after(&mut self, sparse: &mut Option<Sparse<'_>>) -> io::Result<()> {
        carry_sparse(sparse)?;
        self.send();
        Ok(())
    }

    /// Counts what can't be cut into packets.
    fn drop_read(&mut self, packet: &[u8]) {
        let subject = from_host(packet, None, None);
        self.tally.drop_packet(DropReason::InnerMalformed, subject);
    }

    /// Seals and sends what there is.
    fn send(&mut self) {
        if !self.packets.is_empty() {
            self.seal();
            if self.tally.observer.wants_outer() {
                self.tally.observer.leave(&self.arena, &self.runs);
            }
            self.transmitter.send(
                &self.shared.queues,
                &mut self.sender,
                &self.arena,
                &mut self.runs,
            );
            self.shared
                .hold(&self.arena, &mut self.held, &mut self.tally);
            self.packets.clear();
            self.filled = 0;
        }
        self.shared.inputs.counters.add(&mut self.tally);
        self.shared.wake_controller();
    }

    fn seal(&mut self) {
        let merge = self.sender.merges();
        // Some microseconds ago, which is now for whatever goes by the clock.
        let now = self.began;
        let crew = self.shared.crew.as_ref();
        let crew = crew.filter(|crew| crew.shares(self.filled));
        self.tally.begin(&self.shared.inputs.counters, now);
        let on = self.tally.observer.is_on();
        let together = crew.is_some() || is_worth_batch(self.packets.len(), self.filled) || on;
        let rules = self.shared.inputs.rules.read();
        let mut rules = self.shared.inputs.rules.batch(rules.as_deref(), now);
        let mut batch = self.shared.inputs.tunnel.batch(now);
        for packet in &self.packets {
            let place = packet.start..packet.end;
            let mut rule = None;
            if let Some(rules) = &mut rules {
                let at = packet.start + DATA_HEADER_LEN;
                let inner = &self.arena[at..at + packet.len];
                let judged = rules.judge(inner, FROM_THE_HOST, &batch);
                rule = if on { rules.take_rule() } else { None };
                if let Err(reason) = judged {
                    // Nobody was looked for yet.
                    let to = if on {
                        ip::parse(inner).and_then(|it| batch.peer_behind(it.destination))
                    } else {
                        None
                    };
                    let to = to.map(|(peer, _)| &**peer);
                    let subject = from_host(inner, to, rule);
                    self.tally.drop_packet(reason, subject);
                    continue;
                }
            }
            let sealed = if together {
                batch.plan_seal(&mut self.plan, &self.arena, place, packet.len)
            } else {
                batch.seal(&mut self.arena[place], packet.len)
            };
            let at = packet.start + DATA_HEADER_LEN;
            let inner = &self.arena[at..at + packet.len];
            let to = || batch.receiver_of(&sealed).map(AsRef::as_ref);
            let subject = || from_host(inner, to(), rule);
            match &sealed {
                Ok(to_send) => {
                    self.tally.send(packet.len, subject);
                    if self.tally.observer.wants_outer() {
                        self.tally.observer.is_for(packet.start, to());
                    }
                    self.runs
                        .push(DatagramRun::sealed(packet.start, to_send), merge);
                }
                Err(NotSealed::Staged { displaced }) => {
                    let lost = subject().displaced_by();
                    self.tally.wait(subject);
                    self.tally
                        .drop_packets(DropReason::StagedQueueFull, *displaced, lost);
                }
                Err(NotSealed::Held { peer, hop_limit }) => {
                    self.held.push_outbound(*peer, at, packet.len, *hop_limit);
                }
                Err(NotSealed::Dropped(reason)) => {
                    self.tally.drop_packet(*reason, subject());
                    if matches!(reason, DropReason::NoPeer | DropReason::NoEndpoint) {
                        self.unreachable.tell(inner, now, self.tun);
                    }
                }
            }
        }
        drop(batch);
        if together {
            let parallel = carry(crew, self.plan.work(&mut self.arena));
            self.tally.shared(parallel);
            self.plan.clear();
        }
    }
}

/// A packet from the TUN, as it is told.
fn from_host<'a>(packet: &'a [u8], to: Option<&'a Peer>, rule: Option<RuleRef>) -> Subject<'a> {
    Subject::Packet {
        place: Place::FromHost,
        from: None,
        to,
        packet,
        rule,
    }
}
