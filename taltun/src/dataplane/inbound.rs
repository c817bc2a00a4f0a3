//! The way in by a UDP socket: received, opened, then written to the TUN, or sent on to another
//! peer.

use std::io;
use std::os::fd::AsFd;

use super::inbound_batch::InboundBatch;
use super::shared::Shared;
use super::sys::ReceiveRing;
use super::transmit::Transmitter;
use super::tun::Tun;
use super::udp::{Sender, Socket};

/// Messages taken from the socket at once. Each may hold up to 64 merged datagrams.
pub(super) const BATCH: usize = 32;
/// Room for a message of any size.
const SLOT: usize = 65_536;

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
            work.tell_leaving(arena);
            transmitter.send(&shared.queues, sender, arena, &mut work.relayed);
            work.finish(arena, tun, shared);
            shared.let_others_run();
        }
    }
    Ok(())
}
