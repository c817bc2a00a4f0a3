//! The way in: UDP → open → TUN, or → seal → UDP for a packet between two peers.

use std::io;
use std::os::fd::AsFd;

use taltun_common::drops::DropReason;

use super::clock;
use super::counters::Tally;
use super::filter::Lists;
use super::runs::Runs;
use super::sys::{ReceiveRing, wait_readable};
use super::tun::Tun;
use super::udp::{Sender, Socket};
use super::worker::{Handshake, Shared};
use crate::protocol::messages::{DATA_HEADER_LEN, Message};
use crate::protocol::peer::Endpoint;
use crate::protocol::tunnel::{Batch, NotSealed, Opened};

/// Messages taken from the socket at once. Each may hold up to 64 merged datagrams.
const BATCH: usize = 32;
/// Room for a message of any size.
const SLOT: usize = 65_536;

/// Where an opened packet lies in the arena.
struct Packet {
    start: usize,
    len: usize,
}

/// Runs until the stop signal.
pub(super) fn run(
    socket: &Socket,
    tun: &Tun,
    sender: &mut Sender,
    shared: &Shared,
) -> io::Result<()> {
    let mut ring = ReceiveRing::new(BATCH, SLOT);
    let mut work = Work {
        local: Vec::with_capacity(BATCH * super::runs::MAX_SEGMENTS),
        relayed: Runs::with_capacity(BATCH),
        tally: Tally::default(),
    };
    while wait_readable(socket.as_fd(), &shared.stop)? {
        loop {
            let (arena, received) = match ring.receive(socket.as_fd()) {
                Ok(batch) => batch,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error about an earlier send, or an interruption: neither says
                // anything about what there is to receive.
                Err(_) => continue,
            };
            {
                let filter = shared.filter.read();
                let mut batch = shared.tunnel.batch(clock::now());
                for message in received {
                    if message.truncated {
                        work.tally.drop_packet(DropReason::Oversized);
                        continue;
                    }
                    let end = message.start + message.len;
                    let mut start = message.start;
                    loop {
                        let stop = end.min(start + message.segment);
                        let datagram = &mut arena[start..stop];
                        work.handle(
                            datagram,
                            start,
                            message.from,
                            &mut batch,
                            &filter,
                            sender.merges(),
                            shared,
                        );
                        start = stop;
                        if start >= end {
                            break;
                        }
                    }
                }
            }
            sender.send(arena, &mut work.relayed);
            work.write(arena, tun);
            shared.counters.add(&mut work.tally);
            shared.wake_controller();
        }
    }
    Ok(())
}

/// What a batch leaves to do once all of it is opened.
struct Work {
    local: Vec<Packet>,
    relayed: Runs,
    tally: Tally,
}

impl Work {
    /// Handles one datagram, which lies at `start` in the arena.
    #[allow(
        clippy::too_many_arguments,
        reason = "what a datagram needs from its batch; a struct of borrows would only rename them"
    )]
    fn handle(
        &mut self,
        datagram: &mut [u8],
        start: usize,
        from: Endpoint,
        batch: &mut Batch<'_>,
        filter: &Lists,
        merge: bool,
        shared: &Shared,
    ) {
        if filter.denies(from.remote.ip()) {
            return self.tally.drop_packet(DropReason::Denied);
        }
        let (receiver, counter) = match Message::parse(datagram) {
            Ok(Message::Data { receiver, counter }) => (receiver, counter),
            Ok(_) => {
                if !shared.hand_over(Handshake::new(datagram, from)) {
                    self.tally.drop_packet(DropReason::HandshakeQueueFull);
                }
                return;
            }
            Err(_) => return self.tally.drop_packet(DropReason::Shape),
        };
        let inner = match batch.open(receiver, counter, datagram, from) {
            Ok(Opened::Keepalive) => return,
            Ok(Opened::Local(inner)) if filter.denies_inner(inner.source) => {
                return self.tally.drop_packet(DropReason::InnerDenied);
            }
            Ok(Opened::Relay(inner)) if filter.denies_inner(inner.source) => {
                return self.tally.drop_packet(DropReason::InnerDenied);
            }
            Ok(Opened::Local(inner)) => {
                self.tally.rx.add(inner.len);
                self.local.push(Packet {
                    start: start + DATA_HEADER_LEN,
                    len: inner.len,
                });
                return;
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

    /// Writes the packets that are for us to the TUN, in the order they came.
    fn write(&mut self, arena: &[u8], tun: &Tun) {
        for packet in self.local.drain(..) {
            if tun
                .write(&arena[packet.start..packet.start + packet.len])
                .is_err()
            {
                self.tally.drop_packet(DropReason::TunWrite);
            }
        }
    }
}
