//! Who sends how much to whom by the relay, counted while somebody looks and no longer: a packet that
//! nobody wants counted costs a look at a flag. One that is counted costs 35 instructions where it is of the
//! same pair as the one before, and 530 where it isn't; to relay 64 bytes takes 3350.
//!
//! Each thread has its own counts, beside those of its [sources](super::relayed_sources), under the
//! same lock. Room for them is taken once; where it is full they begin anew, as who looks wants to know
//! what goes on and not what there was.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pairs of addresses that a thread tells apart.
const MOST: usize = 1024;
/// For so long after a look they are counted.
const LOOKED_AT: Duration = Duration::from_secs(5);

/// What went from one address to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Relayed {
    /// Both together.
    pub fn take_in(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A sender and its receiver.
type Ends = (IpAddr, IpAddr);

/// What a thread counted. The last pair is counted beside the others: packets come in runs, and one of
/// the same pair as the one before costs no look-up.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    others: HashMap<Ends, Relayed>,
    last: Option<(Ends, Relayed)>,
}

impl Pairs {
    /// Counts a packet of so many bytes.
    #[inline]
    pub(super) fn add(&mut self, from: IpAddr, to: IpAddr, bytes: usize) {
        let packet = Relayed {
            packets: 1,
            bytes: bytes as u64,
        };
        match &mut self.last {
            Some((ends, relayed)) if *ends == (from, to) => relayed.take_in(packet),
            _ => self.begin((from, to), packet),
        }
    }

    /// Another pair is the last one from now on.
    fn begin(&mut self, ends: Ends, packet: Relayed) {
        let Some((before, relayed)) = self.last.replace((ends, packet)) else {
            return;
        };
        if self.others.capacity() == 0 {
            self.others.reserve(MOST);
        }
        if self.others.len() >= MOST && !self.others.contains_key(&before) {
            self.others.clear();
        }
        self.others.entry(before).or_default().take_in(relayed);
    }

    /// All of them; the last one may be told in two parts.
    pub(super) fn all(&self) -> impl Iterator<Item = (Ends, Relayed)> {
        let others = self.others.iter();
        let others = others.map(|(ends, relayed)| (*ends, *relayed));
        others.chain(self.last)
    }

    pub(super) fn forget(&mut self) {
        self.others.clear();
        self.last = None;
    }
}

/// Whether somebody looks.
#[derive(Debug, Default)]
pub(super) struct Looking {
    is_on: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Looking {
    /// Whether to count.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Somebody looks now.
    pub(super) fn look(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// Whether nobody has looked for a while, which ends it. True once.
    pub(super) fn ends(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = last.is_some_and(|at| now.saturating_duration_since(at) > LOOKED_AT);
        if is_over {
            *last = None;
            self.is_on.store(false, Ordering::Relaxed);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + last).to_be_bytes())
    }

    #[test]
    fn each_direction_of_a_pair_is_counted_by_itself() {
        let mut pairs = Pairs::default();
        for _ in 0..1000 {
            pairs.add(v4(1), v4(2), 100);
        }
        pairs.add(v4(2), v4(1), 40);
        for _ in 0..2000 {
            pairs.add(v4(1), v4(2), 100);
        }
        let mut all: HashMap<Ends, Relayed> = HashMap::new();
        for (ends, relayed) in pairs.all() {
            all.entry(ends).or_default().take_in(relayed);
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(ends, _)| *ends);
        let relayed = |packets, bytes| Relayed { packets, bytes };
        assert_eq!(
            all,
            [
                ((v4(1), v4(2)), relayed(3000, 300_000)),
                ((v4(2), v4(1)), relayed(1, 40)),
            ]
        );
        pairs.forget();
        assert_eq!(pairs.all().count(), 0);
    }

    #[test]
    fn however_many_there_are_memory_is_bounded() {
        let mut pairs = Pairs::default();
        for number in 0..10_000 {
            pairs.add(v4(number), v4(7), 1);
            assert!(pairs.others.len() <= MOST);
        }
        let room = pairs.others.capacity();
        pairs.add(v4(1), v4(2), 1);
        assert_eq!(pairs.others.capacity(), room);
    }

    #[test]
    fn it_is_counted_while_somebody_looks() {
        let looking = Looking::default();
        let start = Instant::now();
        assert!(!looking.is_on() && !looking.ends(start));
        looking.look(start);
        assert!(looking.is_on() && !looking.ends(start + LOOKED_AT));
        assert!(looking.ends(start + LOOKED_AT * 2) && !looking.is_on());
        assert!(!looking.ends(start + LOOKED_AT * 2));
    }
}
