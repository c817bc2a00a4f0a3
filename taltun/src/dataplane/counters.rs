//! What the workers count. A thread tallies a batch in plain integers and adds the tally
//! to the shared counters once a batch.

use std::sync::atomic::{AtomicU64, Ordering};

use taltun_common::drops::{DROP_REASONS, DropReason};

use crate::report::{Drops, Traffic};

/// Counters shared by all threads of the data plane and the controller.
#[derive(Debug, Default)]
pub struct Counters {
    drops: [AtomicU64; DROP_REASONS],
    rx: Flow,
    tx: Flow,
    relayed: Flow,
    gso_fallbacks: AtomicU64,
    join_fallbacks: AtomicU64,
    strayed: AtomicU64,
    parallel_batches: AtomicU64,
}

#[derive(Debug, Default)]
struct Flow {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// Packets and bytes of one direction in one batch.
#[derive(Debug, Default, Clone, Copy)]
pub struct FlowTally {
    packets: u64,
    bytes: u64,
}

impl FlowTally {
    /// Counts one packet.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// The counts of one batch.
#[derive(Debug, Default)]
pub struct Tally {
    /// Dropped packets by reason.
    drops: [u64; DROP_REASONS],
    any_drops: bool,
    /// Data that came to another worker than its session's.
    pub strayed: u64,
    /// Whether others shared in the batch.
    pub parallel: bool,
    /// Packets for the TUN.
    pub rx: FlowTally,
    /// Packets from the TUN.
    pub tx: FlowTally,
    /// Packets from peer to peer.
    pub relayed: FlowTally,
}

impl Tally {
    /// Counts a drop.
    pub fn drop_packet(&mut self, reason: DropReason) {
        self.drop_packets(reason, 1);
    }

    /// Counts some drops.
    pub fn drop_packets(&mut self, reason: DropReason, count: usize) {
        self.drops[reason as usize] += count as u64;
        self.any_drops |= count > 0;
    }
}

impl Counters {
    /// Adds a batch's tally and clears it.
    pub fn add(&self, tally: &mut Tally) {
        self.rx.add(tally.rx);
        self.tx.add(tally.tx);
        self.relayed.add(tally.relayed);
        if tally.strayed > 0 {
            self.strayed.fetch_add(tally.strayed, Ordering::Relaxed);
        }
        if tally.parallel {
            self.parallel_batches.fetch_add(1, Ordering::Relaxed);
        }
        if tally.any_drops {
            for (shared, count) in self.drops.iter().zip(tally.drops) {
                if count > 0 {
                    shared.fetch_add(count, Ordering::Relaxed);
                }
            }
        }
        *tally = Tally::default();
    }

    /// Counts one drop outside of any batch.
    pub fn drop_packet(&self, reason: DropReason) {
        self.drop_packets(reason, 1);
    }

    /// Counts some drops outside of any batch.
    pub fn drop_packets(&self, reason: DropReason, count: u64) {
        self.drops[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts that the kernel refused segmentation offload and we did without.
    pub fn gso_fallback(&self) {
        self.gso_fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the kernel refused segmentation offload.
    pub fn gso_fallbacks(&self) -> u64 {
        self.gso_fallbacks.load(Ordering::Relaxed)
    }

    /// Counts that the kernel refused a joined packet and got its parts.
    pub fn join_fallback(&self) {
        self.join_fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the kernel refused a joined packet.
    pub fn join_fallbacks(&self) -> u64 {
        self.join_fallbacks.load(Ordering::Relaxed)
    }

    /// How often data came to another worker than its session's.
    pub fn strayed(&self) -> u64 {
        self.strayed.load(Ordering::Relaxed)
    }

    /// How many batches were sealed or opened by more than one thread.
    pub fn parallel_batches(&self) -> u64 {
        self.parallel_batches.load(Ordering::Relaxed)
    }

    /// Drops so far.
    pub fn drops(&self) -> Drops {
        let counts = self.drops.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        DropReason::ALL.iter().copied().zip(counts).collect()
    }

    /// What was moved so far.
    pub fn traffic(&self) -> Traffic {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            rx_packets: load(&self.rx.packets),
            rx_bytes: load(&self.rx.bytes),
            tx_packets: load(&self.tx.packets),
            tx_bytes: load(&self.tx.bytes),
            relayed_packets: load(&self.relayed.packets),
            relayed_bytes: load(&self.relayed.bytes),
        }
    }
}

impl Flow {
    fn add(&self, tally: FlowTally) {
        if tally.packets > 0 {
            self.packets.fetch_add(tally.packets, Ordering::Relaxed);
            self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
        }
    }
}
