//! The flows that rules let start: a table of fixed size, without locks.
//!
//! A flow is known by a keyed hash of its addresses, protocol and ports, so that a slot is two
//! words. Nobody who doesn't know the key can make a packet that passes as another flow's. A flow
//! may be in either of two buckets of one cache line each. Where both are full, the one that was
//! idle longest makes room, connections of TCP last.
//!
//! Threads read and write slots at once. One that takes a slot marks it first, and one that has read a
//! flow's state looks whether the slot is still that flow's. So nobody sees another flow's state as its own;
//! `tests/interleavings` tries each order.

use std::time::Duration;

use siphasher::sip128::SipHasher13;

use crate::rules::{Ends, Side};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::tuple::Tuple;

/// Slots a bucket: a cache line.
const SLOTS: usize = 4;
/// A slot without a flow.
const EMPTY: u64 = 0;
/// A slot whose flow is being written.
const TAKEN: u64 = u64::MAX;
/// Stands for the protocol in the key of fragments: no protocol has this number.
const FRAGMENTS: u16 = 256;

/// A time of the caller's clock, as coarse as flows need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(u32);

impl Ticks {
    const A_SECOND: u32 = 4;

    /// A time since some start, which is the same for all.
    pub fn since_start(time: Duration) -> Self {
        Self((time.as_millis() / u128::from(1000 / Self::A_SECOND)) as u32)
    }

    fn since(self, earlier: Self) -> u32 {
        // A thread may be a batch behind another.
        self.0.saturating_sub(earlier.0)
    }
}

/// Which way a flow's packet goes, and whose it is: equal for both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    fingerprint: u64,
    place: u64,
    /// Whether the packet goes from the larger end to the smaller.
    pub downwards: bool,
}

/// The secret that makes fingerprints and places unpredictable.
#[derive(Debug, Clone, Copy)]
pub struct Secret(SipHasher13);

impl Secret {
    /// Of random numbers.
    pub fn new(numbers: [u64; 2]) -> Self {
        Self(SipHasher13::new_with_keys(numbers[0], numbers[1]))
    }

    /// The key of packets with this tuple, and of those that answer them.
    #[inline]
    pub fn key(&self, tuple: &Tuple) -> Key {
        let downwards = tuple.is_downwards();
        let upwards = if downwards { tuple.reversed() } else { *tuple };
        Key {
            downwards,
            ..self.hash(&upwards, u16::from(tuple.protocol))
        }
    }

    /// The key of a packet's fragments, which share an identification, and go one way.
    pub fn key_of_fragments(&self, tuple: &Tuple, id: u32) -> Key {
        let tuple = Tuple {
            ports: id,
            ..*tuple
        };
        self.hash(&tuple, FRAGMENTS)
    }

    /// At once, as the streaming hasher takes twice as long. The families differ in length, so that
    /// nothing is hashed that is the same in both.
    #[inline]
    fn hash(&self, tuple: &Tuple, kind: u16) -> Key {
        // Written as the hasher reads it: words that are put together in memory are slow to read.
        let (ports, kind) = (tuple.ports.to_le_bytes(), kind.to_le_bytes());
        let hash = if tuple.is_v6 {
            let mut bytes = [0; 38];
            bytes[..16].copy_from_slice(&tuple.source.to_le_bytes());
            bytes[16..32].copy_from_slice(&tuple.destination.to_le_bytes());
            bytes[32..36].copy_from_slice(&ports);
            bytes[36..].copy_from_slice(&kind);
            self.0.hash(&bytes)
        } else {
            let both = (tuple.source as u64) << 32 | tuple.destination as u64;
            let mut bytes = [0; 14];
            bytes[..8].copy_from_slice(&both.to_le_bytes());
            bytes[8..12].copy_from_slice(&ports);
            bytes[12..].copy_from_slice(&kind);
            self.0.hash(&bytes)
        };
        Key {
            fingerprint: hash.h1.clamp(EMPTY + 1, TAKEN - 1),
            place: hash.h2,
            downwards: false,
        }
    }
}

/// What a flow has shown of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// One side has sent, without a connection.
    OneWay,
    /// Both have.
    BothWays,
    /// A query of ICMP: its answer ends it soon.
    Query,
    /// A TCP connection that one side wants.
    Opening,
    /// The other side has answered.
    Answered,
    /// A TCP connection.
    Established,
    /// One of which a side has sent its last byte.
    Closing,
    /// One that was reset.
    Reset,
    /// A packet's fragments.
    Fragments,
}

impl Phase {
    const ALL: [Self; 9] = [
        Self::OneWay,
        Self::BothWays,
        Self::Query,
        Self::Opening,
        Self::Answered,
        Self::Established,
        Self::Closing,
        Self::Reset,
        Self::Fragments,
    ];

    /// How long a flow may be silent. UDP: RFC 4787 asks for two minutes at least; TCP: RFC 5382
    /// asks for two hours and four minutes, and four minutes; ICMP: RFC 5508 asks for a minute.
    pub const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::OneWay => 120,
            Self::BothWays => 300,
            Self::Query => 60,
            Self::Opening | Self::Answered | Self::Closing => 240,
            Self::Established => 7440,
            Self::Reset => 10,
            Self::Fragments => 30,
        })
    }

    /// What the flow has shown once a packet has passed that neither begins nor ends anything.
    #[inline]
    #[must_use]
    pub fn after_ordinary(self, is_starters: bool) -> Self {
        match self {
            Self::Opening if !is_starters => Self::Answered,
            Self::Answered if is_starters => Self::Established,
            Self::OneWay if !is_starters => Self::BothWays,
            same => same,
        }
    }

    fn from_bits(bits: u64) -> Self {
        let at = (bits & 0xff) as usize;
        Self::ALL.get(at).copied().unwrap_or(Self::Reset)
    }

    #[inline]
    fn ticks(self) -> u32 {
        /// Counted once, as each packet asks.
        const TICKS: [u32; Phase::ALL.len()] = {
            let mut ticks = [0; Phase::ALL.len()];
            let mut at = 0;
            while at < ticks.len() {
                ticks[at] = Phase::ALL[at].patience().as_secs() as u32 * Ticks::A_SECOND;
                at += 1;
            }
            ticks
        };
        TICKS[self as usize]
    }
}

/// A flow, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its last packet.
    pub last: Ticks,
    /// Which rule set let it pass.
    pub generation: u16,
    /// What it has shown.
    pub phase: Phase,
    /// Whether who started it is the larger end: see [`Key::downwards`].
    pub started_downwards: bool,
    /// Where its first packet came from and went to.
    pub ends: Ends,
}

impl Flow {
    fn to_bits(self) -> u64 {
        u64::from(self.last.0) << 32
            | u64::from(self.generation) << 16
            | (self.phase as u64) << 8
            | u64::from(self.ends.to == Side::Host) << 2
            | u64::from(self.ends.from == Side::Host) << 1
            | u64::from(self.started_downwards)
    }

    fn from_bits(bits: u64) -> Self {
        let side = |bit: u64| {
            if bits >> bit & 1 == 1 {
                Side::Host
            } else {
                Side::Peer
            }
        };
        Self {
            last: Ticks((bits >> 32) as u32),
            generation: (bits >> 16) as u16,
            phase: Phase::from_bits(bits >> 8),
            started_downwards: bits & 1 == 1,
            ends: Ends {
                from: side(1),
                to: side(2),
            },
        }
    }

    fn is_over(&self, now: Ticks) -> bool {
        now.since(self.last) > self.phase.ticks()
    }
}

/// All flows.
#[derive(Debug)]
pub struct Flows {
    buckets: Box<[Bucket]>,
    /// Flows that had to make room.
    displaced: AtomicU64,
}

/// A flow that was found, to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Found<'f> {
    slot: &'f Slot,
    bits: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

#[derive(Debug, Default)]
struct Slot {
    fingerprint: AtomicU64,
    flow: AtomicU64,
}

impl Bucket {
    /// The slot of a key. All are compared, as a guess which it is would often be wrong.
    #[inline]
    fn slot_of(&self, key: &Key) -> Option<&Slot> {
        let mut found = SLOTS;
        for (at, slot) in self.0.iter().enumerate() {
            if slot.fingerprint.load(Ordering::Acquire) == key.fingerprint {
                found = at;
            }
        }
        self.0.get(found)
    }
}

impl Flows {
    /// Room for about so many, at 16 bytes each.
    pub fn with_capacity(flows: usize) -> Self {
        let buckets = flows.div_ceil(SLOTS).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            displaced: AtomicU64::new(0),
        }
    }

    /// The flow of a key, unless it was silent for too long.
    #[inline]
    pub fn find(&self, key: &Key, now: Ticks) -> Option<Found<'_>> {
        let [first, second] = self.buckets_of(key);
        let slot = first.slot_of(key).or_else(|| second.slot_of(key))?;
        // Another flow may take the slot in between: who sees its state sees that it did.
        let bits = slot.flow.load(Ordering::Acquire);
        let is_its = slot.fingerprint.load(Ordering::Relaxed) == key.fingerprint;
        (is_its && !Flow::from_bits(bits).is_over(now)).then_some(Found { slot, bits })
    }

    /// Takes in a flow, or has it begin anew.
    pub fn insert(&self, key: &Key, flow: Flow) {
        // Other threads may take the slot that was chosen: then another is.
        for _ in 0..2 * SLOTS {
            let (slot, held) = self.slot_for(key, flow.last);
            let take = slot.fingerprint.compare_exchange(
                held,
                TAKEN,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if take.is_err() {
                continue;
            }
            let before = Flow::from_bits(slot.flow.load(Ordering::Relaxed));
            if held != EMPTY && held != key.fingerprint && !before.is_over(flow.last) {
                self.displaced.fetch_add(1, Ordering::Relaxed);
            }
            // Whoever sees this sees that the slot was taken.
            slot.flow.store(flow.to_bits(), Ordering::Release);
            slot.fingerprint.store(key.fingerprint, Ordering::Release);
            return;
        }
    }

    /// Flows that had to make room for others since the start.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// How many flows there are: goes through the whole table.
    pub fn count(&self, now: Ticks) -> usize {
        let slots = self.buckets.iter().flat_map(|bucket| &bucket.0);
        let is_live = |slot: &&Slot| {
            let fingerprint = slot.fingerprint.load(Ordering::Relaxed);
            let flow = Flow::from_bits(slot.flow.load(Ordering::Relaxed));
            fingerprint != EMPTY && fingerprint != TAKEN && !flow.is_over(now)
        };
        slots.filter(is_live).count()
    }

    /// How many there may be.
    pub fn capacity(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// The slot that a new flow is to have, and the fingerprint in it: its own, an empty one, one
    /// whose flow is over, or that of the least loss.
    fn slot_for(&self, key: &Key, now: Ticks) -> (&Slot, u64) {
        let slots = self
            .buckets_of(key)
            .into_iter()
            .flat_map(|bucket| &bucket.0);
        let rank = |(slot, fingerprint): &(&Slot, u64)| {
            let flow = Flow::from_bits(slot.flow.load(Ordering::Relaxed));
            let class = match (*fingerprint, flow.phase) {
                (own, _) if own == key.fingerprint => 0,
                (EMPTY, _) => 1,
                (TAKEN, _) => 5,
                _ if flow.is_over(now) => 2,
                (_, Phase::Established) => 4,
                _ => 3,
            };
            (class, flow.last)
        };
        slots
            .map(|slot| (slot, slot.fingerprint.load(Ordering::Acquire)))
            .min_by_key(rank)
            .expect("a bucket has slots")
    }

    #[inline]
    fn buckets_of(&self, key: &Key) -> [&Bucket; 2] {
        let mask = self.buckets.len() - 1;
        let first = key.place as usize & mask;
        let second = (key.place >> 32) as usize & mask;
        [&self.buckets[first], &self.buckets[second]]
    }
}

impl Found<'_> {
    /// The flow.
    #[inline]
    pub fn flow(&self) -> Flow {
        Flow::from_bits(self.bits)
    }

    /// Makes another of it, unless another thread has done so meanwhile: then that holds.
    #[inline]
    pub fn set(&self, flow: Flow) {
        let bits = flow.to_bits();
        if bits != self.bits {
            let _ = self.slot.flow.compare_exchange(
                self.bits,
                bits,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// Forgets it.
    pub fn remove(&self, key: &Key) {
        let _ = self.slot.fingerprint.compare_exchange(
            key.fingerprint,
            EMPTY,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}
