//! The way in by a UDP socket: received, opened, then written to the TUN, or sent on to another
//! peer.

use std::io;
use std::os::fd::AsFd;

use super::inbound_batch::InboundBatch;
use super::shared::Shared;
use super::sys::{ReceiveRing, Received};
use super::transmit::Transmitter;
use super::tun::Tun;
use super::udp::{Sender, Socket};

/// Messages taken from the socket at once. Each may hold up to 64 merged datagrams.
pub(super) const BATCH: usize = 32;
/// Room for a message of any size.
const SLOT: usize = 65_536;
/// Bytes that a batch should have at most, where it depends on us: what is last in it waits until
/// all of it is opened, a fifth of a millisecond at 10 Gbit/s.
const ENOUGH: usize = 256 << 10;
/// Messages of a batch at least, however large they are.
const LEAST: usize = 4;

/// Runs until the stop signal.
pub(super) fn run(
    socket: &Socket,
    tun: &Tun,
    sender: &mut Sender,
    transmitter: &mut Transmitter,
    worker: u32,
    shared: &Shared,
) -> io::Result<()> {
    let mut ring = ReceiveRing::new(BATCH, SLOT);
    let mut work = InboundBatch::new(Some(worker), tun, BATCH);
    if shared.crew.is_some() {
        work = work.shared();
    }
    let mut most = BATCH;
    while shared.wait_readable(socket.as_fd())? {
        loop {
            let (arena, received) = match ring.receive(socket.as_fd(), most) {
                Ok(batch) => batch,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error about an earlier send, or an interruption: neither says
                // anything about what there is to receive.
                Err(_) => continue,
            };
            most = most_after(received);
            work.open(arena, received, tun, sender.merges(), shared);
            work.tell_leaving(arena);
            transmitter.send(&shared.queues, sender, arena, &mut work.relayed);
            work.finish(arena, tun, shared);
            shared.let_others_run();
        }
    }
    Ok(())
}

/// How many messages to take at once after these: the kernel counts messages alone, so the next ones
/// are taken to be as large.
fn most_after(received: &[Received]) -> usize {
    let bytes: usize = received.iter().map(|message| message.len).sum();
    let each = bytes.div_ceil(received.len().max(1)).max(1);
    (ENOUGH / each).clamp(LEAST, BATCH)
}
