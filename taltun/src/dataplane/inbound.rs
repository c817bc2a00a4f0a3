//! The way in: UDP → open → TUN, or → seal → UDP for a packet between two peers.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;

use taltun_common::drops::DropReason;
use taltun_common::steering::worker_of;

use super::clock;
use super::counters::{Counters, Tally};
use super::filter::Lists;
use super::offload::coalesce::{Coalescer, Join, MAX_PARTS};
use super::offload::vnet::{DATA_VALID, VnetHeader};
use super::runs::Runs;
use super::sys::{ReceiveRing, Received};
use super::tun::Tun;
use super::udp::{Sender, Socket};
use super::worker::{Handshake, Shared};
use crate::protocol::messages::{DATA_HEADER_LEN, Message};
use crate::protocol::peer::Endpoint;
use crate::protocol::time::Time;
use crate::protocol::tunnel::{Batch, NotSealed, Opened};

/// Messages taken from the socket at once. Each may hold up to 64 merged datagrams.
const BATCH: usize = 32;
/// Room for a message of any size.
const SLOT: usize = 65_536;

/// Runs until the stop signal.
pub(super) fn run(
    socket: &Socket,
    tun: &Tun,
    sender: &mut Sender,
    worker: u32,
    shared: &Shared,
) -> io::Result<()> {
    let mut ring = ReceiveRing::new(BATCH, SLOT);
    let mut work = Work::new(Some(worker), tun, BATCH);
    while shared.wait_readable(socket.as_fd())? {
        loop {
            let (arena, received) = match ring.receive(socket.as_fd()) {
                Ok(batch) => batch,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error about an earlier send, or an interruption: neither says
                // anything about what there is to receive.
                Err(_) => continue,
            };
            work.open(arena, received, tun, sender.merges(), shared);
            sender.send(arena, &mut work.relayed);
            work.finish(arena, tun, shared);
        }
    }
    Ok(())
}

/// What a batch leaves to do once all of it is opened. Where its messages came from, a UDP
/// socket or an AF_XDP one, makes no difference here.
pub(super) struct Work {
    /// Whose work it is, where it is steered to workers.
    worker: Option<u32>,
    local: Coalescer,
    join: Join,
    /// What is to be sent on to other peers.
    pub(super) relayed: Runs,
    tally: Tally,
}

impl Work {
    /// For batches of so many messages, which are this worker's if they are steered.
    pub(super) fn new(worker: Option<u32>, tun: &Tun, messages: usize) -> Self {
        Self {
            worker,
            local: Coalescer::with_capacity(messages * super::runs::MAX_SEGMENTS),
            join: tun.joins(),
            relayed: Runs::with_capacity(messages),
            tally: Tally::default(),
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
        self.join = tun.joins();
        let filter = shared.filter.read();
        let now = clock::now();
        let mut batch = shared.tunnel.batch(now);
        for message in received {
            if message.truncated {
                self.tally.drop_packet(DropReason::Oversized);
                continue;
            }
            for place in message.datagrams() {
                self.handle(
                    arena,
                    place,
                    message.from,
                    &mut batch,
                    &filter,
                    merge,
                    now,
                    shared,
                );
            }
        }
    }

    /// Handles the datagram at `place` in the arena.
    #[allow(
        clippy::too_many_arguments,
        reason = "what a datagram needs from its batch; a struct of borrows would only rename them"
    )]
    fn handle(
        &mut self,
        arena: &mut [u8],
        place: Range<usize>,
        from: Endpoint,
        batch: &mut Batch<'_>,
        filter: &Lists,
        merge: bool,
        now: Time,
        shared: &Shared,
    ) {
        let start = place.start;
        let datagram = &mut arena[place];
        if filter.denies(from.remote.ip()) {
            return self.tally.drop_packet(DropReason::Denied);
        }
        let (receiver, counter) = match Message::parse(datagram) {
            Ok(Message::Data { receiver, counter }) => (receiver, counter),
            Ok(message) => {
                let source = from.remote.ip();
                if let Err(reason) = shared.gate.admit(&message, datagram, source, now) {
                    return self.tally.drop_packet(reason);
                }
                if !shared.hand_over(Handshake::new(datagram, from)) {
                    self.tally.drop_packet(DropReason::HandshakeQueueFull);
                }
                return;
            }
            Err(_) => return self.tally.drop_packet(DropReason::Shape),
        };
        let opened = batch.open(receiver, counter, datagram, from);
        if opened.is_ok()
            && self.worker.is_some()
            && worker_of(receiver, shared.workers) != self.worker
        {
            self.tally.strayed += 1;
        }
        let inner = match opened {
            Ok(Opened::Keepalive) => return,
            Ok(Opened::Local(inner)) if filter.denies_inner(inner.source) => {
                return self.tally.drop_packet(DropReason::InnerDenied);
            }
            Ok(Opened::Relay(inner)) if filter.denies_inner(inner.source) => {
                return self.tally.drop_packet(DropReason::InnerDenied);
            }
            Ok(Opened::Local(inner)) => {
                self.tally.rx.add(inner.len);
                let at = start + DATA_HEADER_LEN;
                return self.local.push(arena, at, inner.len, self.join);
            }
            Ok(Opened::Relay(inner)) => inner,
            Err(reason) => return self.tally.drop_packet(reason),
        };
        match batch.relay(datagram, &inner) {
            Ok(sealed) => {
                self.tally.relayed.add(inner.len);
                self.relayed.push(start, sealed.len, sealed.endpoint, merge);
            }
            Err(NotSealed::Staged { displaced: false }) => {}
            Err(NotSealed::Staged { displaced: true }) => {
                self.tally.drop_packet(DropReason::StagedQueueFull);
            }
            Err(NotSealed::Dropped(reason)) => self.tally.drop_packet(reason),
        }
    }

    /// Counts a message that was no message.
    pub(super) fn drop_packet(&mut self, reason: DropReason) {
        self.tally.drop_packet(reason);
    }

    /// Does what is left once the batch's packets for other peers are on their way.
    pub(super) fn finish(&mut self, arena: &mut [u8], tun: &Tun, shared: &Shared) {
        self.write(arena, tun, &shared.counters);
        shared.counters.add(&mut self.tally);
        shared.wake_controller();
    }

    /// Writes the packets that are for us to the TUN, those of one flow together.
    fn write(&mut self, arena: &mut [u8], tun: &Tun, counters: &Counters) {
        for at in 0..self.local.len() {
            let joined = self.local.join(at, arena);
            let header = joined.header.encode(joined.v6);
            let mut pieces = [IoSlice::new(&[]); 1 + MAX_PARTS];
            pieces[0] = IoSlice::new(&header);
            let mut count = 1;
            for (start, len) in self.local.pieces(&joined) {
                pieces[count] = IoSlice::new(&arena[start..start + len]);
                count += 1;
            }
            if tun.write(&pieces[..count]).is_ok() {
                continue;
            }
            if joined.packets == 1 {
                self.tally.drop_packet(DropReason::TunWrite);
                continue;
            }
            // A kernel that doesn't take joined packets after all: one by one, from now on.
            tun.stop_joining();
            counters.join_fallback();
            let plain = VnetHeader {
                flags: DATA_VALID,
                ..VnetHeader::default()
            }
            .encode(joined.v6);
            self.local.restore(&joined, arena);
            for (start, len) in self.local.packets(&joined) {
                let packet = &arena[start..start + len];
                let pieces = [IoSlice::new(&plain), IoSlice::new(packet)];
                if tun.write(&pieces).is_err() {
                    self.tally.drop_packet(DropReason::TunWrite);
                }
            }
        }
        self.local.clear();
    }
}
