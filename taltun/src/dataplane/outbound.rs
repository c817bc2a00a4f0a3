//! The way out: TUN → seal → UDP.

use std::io;
use std::os::fd::AsFd;

use taltun_common::drops::DropReason;

use super::clock;
use super::counters::Tally;
use super::runs::Runs;
use super::sys::wait_readable;
use super::tun::Tun;
use super::udp::Sender;
use super::worker::Shared;
use crate::protocol::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, PADDING, padded_len};
use crate::protocol::tunnel::NotSealed;

/// Packets taken from the TUN before they are sealed and sent.
const BATCH: usize = 64;
/// Largest packet a TUN can hand over.
const MAX_PACKET: usize = 65_535;
/// Room for one packet of any size, sealed.
const SLOT: usize = MAX_PACKET + PADDING + DATA_OVERHEAD;
/// Packets lie one behind the other, so that equal ones can leave as one run; two slots
/// hold a whole batch of ordinary packets.
const ARENA: usize = 2 * SLOT;

/// A packet from the TUN, and the part of the arena it may become a datagram in.
struct Packet {
    start: usize,
    end: usize,
    len: usize,
}

/// Runs until the stop signal.
pub(super) fn run(tun: &Tun, sender: &mut Sender, shared: &Shared) -> io::Result<()> {
    let mut arena = vec![0; ARENA];
    let mut packets = Vec::with_capacity(BATCH);
    let mut runs = Runs::with_capacity(BATCH);
    let mut tally = Tally::default();
    while wait_readable(tun.as_fd(), &shared.stop)? {
        loop {
            let mtu = shared.tunnel.mtu();
            let drained = read_batch(tun, mtu, &mut arena, &mut packets)?;
            if !packets.is_empty() {
                seal_batch(
                    &mut arena,
                    &packets,
                    &mut runs,
                    sender.merges(),
                    shared,
                    &mut tally,
                );
                sender.send(&arena, &mut runs);
                shared.counters.add(&mut tally);
                shared.wake_controller();
            }
            if drained {
                break;
            }
        }
    }
    Ok(())
}

/// Reads packets one behind the other, each with room for its header before it and for
/// padding and tag behind it; true when the TUN had no more.
fn read_batch(
    tun: &Tun,
    mtu: usize,
    arena: &mut [u8],
    packets: &mut Vec<Packet>,
) -> io::Result<bool> {
    packets.clear();
    let mut start = 0;
    while packets.len() < BATCH && start + SLOT <= arena.len() {
        let at = start + DATA_HEADER_LEN;
        match tun.read(&mut arena[at..at + MAX_PACKET]) {
            Ok(0) => return Ok(true),
            Ok(len) => {
                // The next packet goes where this one's datagram will end, without a gap.
                let end = start + DATA_OVERHEAD + padded_len(len, mtu);
                packets.push(Packet { start, end, len });
                start = end;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn seal_batch(
    arena: &mut [u8],
    packets: &[Packet],
    runs: &mut Runs,
    merge: bool,
    shared: &Shared,
    tally: &mut Tally,
) {
    let mut batch = shared.tunnel.batch(clock::now());
    for packet in packets {
        match batch.seal(&mut arena[packet.start..packet.end], packet.len) {
            Ok(sealed) => {
                tally.tx.add(packet.len);
                runs.push(packet.start, sealed.len, sealed.endpoint, merge);
            }
            Err(NotSealed::Staged { displaced: false }) => {}
            Err(NotSealed::Staged { displaced: true }) => {
                tally.drop_packet(DropReason::StagedQueueFull);
            }
            Err(NotSealed::Dropped(reason)) => tally.drop_packet(reason),
        }
    }
}
