//! Packets of a batch that are for this host: written to the TUN, those of one flow together.

use std::io::IoSlice;

use taltun_common::drops::DropReason;

use super::counters::{Counters, Tally};
use super::offload::coalesce::{Coalescer, Join, MAX_PARTS};
use super::offload::vnet::{DATA_VALID, VnetHeader};
use super::tap::{Place, Subject};
use super::tun::Tun;

/// Packets that lie in an arena until they are written.
pub(super) struct LocalPackets {
    packets: Coalescer,
    join: Join,
}

impl LocalPackets {
    /// Room for so many.
    pub(super) fn with_capacity(tun: &Tun, capacity: usize) -> Self {
        Self {
            packets: Coalescer::with_capacity(capacity),
            join: tun.joins(),
        }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, tun: &Tun) {
        self.join = tun.joins();
    }

    /// Takes the packet of `len` bytes at `start` in the arena.
    pub(super) fn push(&mut self, arena: &[u8], start: usize, len: usize) {
        self.packets.push(arena, start, len, self.join);
    }

    /// Writes them all to the TUN.
    pub(super) fn write(
        &mut self,
        arena: &mut [u8],
        tun: &Tun,
        counters: &Counters,
        tally: &mut Tally,
    ) {
        for at in 0..self.packets.len() {
            let joined = self.packets.join(at, arena);
            let header = joined.header.encode(joined.v6);
            let mut pieces = [IoSlice::new(&[]); 1 + MAX_PARTS];
            pieces[0] = IoSlice::new(&header);
            let mut count = 1;
            for (start, len) in self.packets.pieces(&joined) {
                pieces[count] = IoSlice::new(&arena[start..start + len]);
                count += 1;
            }
            let error = match tun.write(&pieces[..count]) {
                Ok(()) if joined.packets == 1 => continue,
                Ok(()) => {
                    tun.joined();
                    continue;
                }
                Err(error) => error,
            };
            if joined.packets == 1 {
                if let Some((start, len)) = self.packets.packets(&joined).next() {
                    let packet = &arena[start..start + len];
                    tally.drop_packet(DropReason::TunWrite, refused(packet));
                }
                continue;
            }
            // One by one: a kernel may not take joined packets after all.
            counters.join_fallback();
            let mut all_taken = true;
            let plain = VnetHeader {
                flags: DATA_VALID,
                ..VnetHeader::default()
            }
            .encode(joined.v6);
            self.packets.restore(&joined, arena);
            for (start, len) in self.packets.packets(&joined) {
                let packet = &arena[start..start + len];
                let pieces = [IoSlice::new(&plain), IoSlice::new(packet)];
                if tun.write(&pieces).is_err() {
                    tally.drop_packet(DropReason::TunWrite, refused(packet));
                    all_taken = false;
                }
            }
            if all_taken && tun.refused_joined(&error) {
                tracing::warn!("the TUN takes no joined packets: {error}; going on without");
            }
        }
        self.packets.clear();
    }
}

/// A packet that the TUN refused, as it is told.
fn refused(packet: &[u8]) -> Subject<'_> {
    Subject::Packet {
        place: Place::ToHost,
        from: None,
        to: None,
        packet,
        rule: None,
    }
}
