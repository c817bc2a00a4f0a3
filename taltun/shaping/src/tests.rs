//! Whole shapers on a virtual clock.

mod crowd;
mod delay;
mod reload;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::{ClassSettings, Direction, Offer, Rate, Released, Shaper};

/// Memory for packets.
const MEMORY: usize = 16 << 20;
/// Most time from one look at the shaper to the next, as of a thread that sleeps in between.
const LATE: u64 = 500;

pub(super) fn mbit(rate: u64) -> Rate {
    Rate::of_bits(rate * 1_000_000).unwrap()
}

pub(super) fn up(key: u32, rate: u64) -> ClassSettings {
    ClassSettings {
        key,
        up: Some(mbit(rate)),
        down: None,
    }
}

pub(super) fn down(key: u32, rate: Option<u64>) -> ClassSettings {
    ClassSettings {
        key,
        up: None,
        down: rate.map(mbit),
    }
}

/// Who sends: packets of one size, at some interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    pub key: u32,
    pub flow: u64,
    pub size: usize,
    /// Microseconds between two packets.
    pub every: u64,
    pub capable: bool,
}

impl Sender {
    /// One that sends at this rate.
    pub fn of(key: u32, flow: u64, size: usize, mbits: u64) -> Self {
        Self {
            key,
            flow,
            size,
            every: (size as u64 * 8 / mbits).max(1),
            capable: false,
        }
    }
}

/// The hash of a flow.
pub(super) fn hash(flow: u64) -> u64 {
    flow.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// What a packet is known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tag {
    pub key: u32,
    pub flow: u64,
    pub number: u64,
    /// Microseconds.
    pub sent: u64,
}

/// What came of a sender.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub bytes: u64,
    pub packets: u64,
    pub marked: u64,
    pub last: Option<u64>,
    /// The longest that a packet waited, microseconds.
    pub longest: u64,
}

/// A shaper, its clock, and what came out of it.
pub(super) struct Lab {
    pub shaper: Shaper<Tag>,
    pub direction: Direction,
    /// Microseconds.
    pub now: u64,
    looks_at: u64,
    random: u64,
    pub outcomes: HashMap<(u32, u64), Outcome>,
    pub offered: u64,
    pub dropped: u64,
}

impl Lab {
    pub fn new(direction: Direction, classes: &[ClassSettings], uplink: Option<Rate>) -> Self {
        let mut shaper = Shaper::new(MEMORY);
        shaper.set(Duration::ZERO, classes, uplink);
        Self {
            shaper,
            direction,
            now: 1_000_000,
            looks_at: 0,
            random: 0x1234_5678_9abc_def1,
            outcomes: HashMap::new(),
            offered: 0,
            dropped: 0,
        }
    }

    pub fn clock(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    pub fn offer(&mut self, sender: &Sender, number: u64) {
        let mut packet = vec![0; sender.size];
        packet[..8].copy_from_slice(&number.to_le_bytes());
        let tag = Tag {
            key: sender.key,
            flow: sender.flow,
            number,
            sent: self.now,
        };
        self.offered += 1;
        let offer = Offer {
            packet: &packet,
            key: sender.key,
            flow: sender.flow,
            cost: sender.size as u32,
            capable: sender.capable,
            tag,
        };
        self.shaper.enqueue(self.clock(), self.direction, offer);
    }

    /// Takes what may go now, as a thread does that wakes when it should, or somewhat later.
    pub fn look(&mut self) -> Vec<Released<Tag>> {
        let mut all = Vec::new();
        let Some(next) = self.shaper.next_release() else {
            return all;
        };
        if next > self.clock() || self.looks_at > self.now {
            return all;
        }
        self.looks_at = self.now + self.random() % LATE;
        let mut to = vec![0; 65_536];
        while let Some(released) = self.shaper.dequeue(self.clock(), self.direction, &mut to) {
            let tag = released.tag;
            assert_eq!(to[..8], tag.number.to_le_bytes());
            assert!(to[8..released.len].iter().all(|byte| *byte == 0));
            to[..released.len].fill(0xee);
            let outcome = self.outcomes.entry((tag.key, tag.flow)).or_default();
            assert!(
                outcome.last.is_none_or(|last| last < tag.number),
                "{tag:?} is late"
            );
            outcome.last = Some(tag.number);
            outcome.bytes += released.len as u64;
            outcome.packets += 1;
            outcome.marked += u64::from(released.marked);
            outcome.longest = outcome.longest.max(self.now - tag.sent);
            all.push(released);
        }
        self.dropped += self.shaper.take_dropped();
        all
    }

    /// Has all of them send for so many seconds.
    pub fn run(&mut self, senders: &[Sender], seconds: u64) {
        let start = self.now;
        let mut numbers: Vec<u64> = vec![start; senders.len()];
        let mut due: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        for (at, sender) in senders.iter().enumerate() {
            due.push(Reverse((start + self.random() % sender.every, at)));
        }
        while self.now < start + seconds * 1_000_000 {
            while let Some(Reverse((time, at))) = due.peek().copied()
                && time <= self.now
            {
                due.pop();
                due.push(Reverse((time + senders[at].every, at)));
                self.offer(&senders[at], numbers[at]);
                // They rise from one run to the next.
                numbers[at] += 1;
            }
            self.look();
            self.now += 20;
        }
    }

    /// Forgets what came out so far.
    pub fn start_over(&mut self) {
        for outcome in self.outcomes.values_mut() {
            *outcome = Outcome {
                last: outcome.last,
                ..Outcome::default()
            };
        }
    }

    pub fn outcome(&self, key: u32, flow: u64) -> Outcome {
        self.outcomes.get(&(key, flow)).cloned().unwrap_or_default()
    }

    /// Bits a second that a peer got, or all of them.
    pub fn rate(&self, key: Option<u32>, seconds: u64) -> f64 {
        let of = |(of, _): &(u32, u64)| key.is_none_or(|key| key == *of);
        let outcomes = self.outcomes.iter().filter(|(key, _)| of(key));
        let bytes: u64 = outcomes.map(|(_, outcome)| outcome.bytes).sum();
        bytes as f64 * 8.0 / seconds as f64
    }
}

/// Whether a rate is what it should be, within so many percent.
#[track_caller]
pub(super) fn assert_close(found: f64, mbits: u64, percent: f64) {
    let wanted = mbits as f64 * 1e6;
    let off = (found / wanted - 1.0).abs() * 100.0;
    assert!(off <= percent, "{found:.0} bit/s, not {wanted:.0}");
}

/// Jain's index: 1 where all have the same.
pub(super) fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}
