//! What the workers count. A thread tallies a batch in plain integers and adds the tally
//! to the shared counters once a batch. Whoever counts a drop says what was dropped, for those who
//! watch; see [`super::tap`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use taltun_common::drops::{DROP_REASONS, DropReason};

use super::clock;
use super::standing::Standing;
use super::tap::{Fate, Observer, Subject, Taps};
use crate::protocol::time::Time;
use crate::report::{Drops, StandingCounts, Traffic, Ways};

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
    standing: Standing,
    taps: Arc<Taps>,
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

/// The counts of one batch, and what is told of it to those who watch.
#[derive(Debug, Default)]
pub struct Tally {
    /// What this thread's batches are told to.
    pub observer: Observer,
    /// When the first packet of the batch was read; `None` outside of batches.
    began: Option<Time>,
    counts: Counts,
}

/// The counts of one batch.
#[derive(Debug, Default)]
struct Counts {
    /// Dropped packets by reason.
    drops: [u64; DROP_REASONS],
    any_drops: bool,
    strayed: u64,
    parallel: bool,
    rx: FlowTally,
    tx: FlowTally,
    relayed: FlowTally,
}

impl Tally {
    /// A batch begins, whose first packet was read at this time.
    #[inline]
    pub(super) fn begin(&mut self, counters: &Counters, now: Time) {
        self.began = Some(now);
        self.observer.begin(&counters.taps, now);
    }

    /// Counts a drop.
    pub fn drop_packet(&mut self, reason: DropReason, subject: Subject<'_>) {
        self.drop_packets(reason, 1, subject);
    }

    /// Counts some drops.
    pub fn drop_packets(&mut self, reason: DropReason, count: usize, subject: Subject<'_>) {
        self.counts.drops[reason as usize] += count as u64;
        self.counts.any_drops |= count > 0;
        if self.observer.is_on() && count > 0 {
            let fate = Fate::Dropped(reason);
            self.observer.told(fate, subject, count as u64);
        }
    }

    /// Counts data that came to another worker than its session's.
    pub fn stray(&mut self) {
        self.counts.strayed += 1;
    }

    /// Others shared in the batch, or not.
    pub fn shared(&mut self, parallel: bool) {
        self.counts.parallel |= parallel;
    }

    /// Counts a packet for the TUN.
    #[inline]
    pub fn receive<'a>(&mut self, bytes: usize, subject: impl FnOnce() -> Subject<'a>) {
        self.counts.rx.add(bytes);
        self.pass(subject);
    }

    /// Counts a packet from the TUN.
    #[inline]
    pub fn send<'a>(&mut self, bytes: usize, subject: impl FnOnce() -> Subject<'a>) {
        self.counts.tx.add(bytes);
        self.pass(subject);
    }

    /// Counts a packet from peer to peer.
    #[inline]
    pub fn relay<'a>(&mut self, bytes: usize, subject: impl FnOnce() -> Subject<'a>) {
        self.counts.relayed.add(bytes);
        self.pass(subject);
    }

    /// A packet waits for a session.
    pub(super) fn wait<'a>(&mut self, subject: impl FnOnce() -> Subject<'a>) {
        if self.observer.is_on() {
            self.observer.told(Fate::Waits, subject(), 1);
        }
    }

    #[inline]
    fn pass<'a>(&mut self, subject: impl FnOnce() -> Subject<'a>) {
        if self.observer.is_on() {
            self.observer.told(Fate::Passed, subject(), 1);
        }
    }
}

impl Counters {
    /// Adds the tally of a batch whose packets are written, and clears it.
    pub fn add(&self, tally: &mut Tally) {
        tally.observer.end();
        let began = tally.began.take();
        let tally = &mut tally.counts;
        let has_moved = tally.rx.packets | tally.tx.packets | tally.relayed.packets > 0;
        if let Some(began) = began.filter(|_| has_moved) {
            let stood = clock::now().since(began);
            self.standing.udp_to_tun.add(tally.rx.packets, stood);
            self.standing.tun_to_udp.add(tally.tx.packets, stood);
            self.standing.udp_to_udp.add(tally.relayed.packets, stood);
        }
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
        *tally = Counts::default();
    }

    /// Counts one drop outside of any batch.
    pub fn drop_packet(&self, reason: DropReason, subject: Subject<'_>) {
        self.drop_packets(reason, 1, subject);
    }

    /// Counts some drops outside of any batch.
    pub fn drop_packets(&self, reason: DropReason, count: u64, subject: Subject<'_>) {
        self.drops[reason as usize].fetch_add(count, Ordering::Relaxed);
        if self.taps.are_on() && count > 0 {
            let fate = Fate::Dropped(reason);
            self.taps.tell_of(clock::now(), fate, subject, count);
        }
    }

    /// Who watches what is counted.
    pub fn taps(&self) -> &Arc<Taps> {
        &self.taps
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

    /// How long packets stood so far.
    pub fn standing(&self) -> Ways<StandingCounts> {
        self.standing.map(super::standing::Counts::counted)
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
