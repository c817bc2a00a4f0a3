//! What a bad wire does to the datagrams that it carries: decided by a seeded generator, one
//! datagram at a time, without a socket and without a clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::outgoing::Outgoing;
use crate::random::Random;

/// How bad a wire is; the default is a good one. Rates are in datagrams of a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Lost.
    pub loss: u32,
    /// Arrive twice, the copy as much as [`Self::copy_window`] later.
    pub duplication: u32,
    /// Overtaken by up to [`Self::window`] others.
    pub delay: u32,
    /// Arrive with one bit changed.
    pub corruption: u32,
    /// By how many others one that is late is overtaken, at most.
    pub window: u64,
    /// How many others come between the two of a pair, at most.
    pub copy_window: u64,
}

/// What became of the datagrams so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in.
    pub arrived: u64,
    /// Thrown away.
    pub lost: u64,
    /// Copies made.
    pub doubled: u64,
    /// Held back so that others overtook them.
    pub delayed: u64,
    /// Went on, or their copy did, with a bit changed.
    pub corrupted: u64,
    /// Went on, copies included.
    pub sent: u64,
    /// Couldn't be sent.
    pub refused: u64,
}

/// Decides; one for each direction.
#[derive(Debug)]
pub(super) struct Mangler {
    random: Random,
    /// Those that are to leave once so many have come in, soonest first.
    held: BinaryHeap<Reverse<(u64, Vec<u8>)>>,
    scratch: Vec<u8>,
    pub(super) counts: Counts,
}

impl Mangler {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            held: BinaryHeap::new(),
            scratch: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a datagram in. What is to leave now goes to `out`.
    pub(super) fn take(&mut self, datagram: &[u8], faults: &Faults, out: &mut Outgoing) {
        self.counts.arrived += 1;
        self.release(self.counts.arrived, out);
        if self.random.happens(faults.loss) {
            self.counts.lost += 1;
            return;
        }
        let delay = if self.random.happens(faults.delay) {
            self.counts.delayed += 1;
            1 + self.random.below(faults.window.max(1))
        } else {
            0
        };
        self.pass_on(datagram, delay, faults, out);
        if self.random.happens(faults.duplication) {
            self.counts.doubled += 1;
            let after = self.random.below(faults.copy_window + 1);
            self.pass_on(datagram, delay + after, faults, out);
        }
    }

    /// Lets go of all that is held back: nothing comes that could overtake it.
    pub(super) fn release_all(&mut self, out: &mut Outgoing) {
        self.release(u64::MAX, out);
    }

    fn release(&mut self, now: u64, out: &mut Outgoing) {
        while let Some(Reverse((due, _))) = self.held.peek()
            && *due <= now
        {
            if let Some(Reverse((_, datagram))) = self.held.pop() {
                out.push(&datagram);
            }
        }
    }

    fn pass_on(&mut self, datagram: &[u8], delay: u64, faults: &Faults, out: &mut Outgoing) {
        let mut datagram = datagram;
        if !datagram.is_empty() && self.random.happens(faults.corruption) {
            self.counts.corrupted += 1;
            self.scratch.clear();
            self.scratch.extend_from_slice(datagram);
            let bit = self.random.below(datagram.len() as u64 * 8) as usize;
            self.scratch[bit / 8] ^= 1 << (bit % 8);
            datagram = &self.scratch;
        }
        if delay == 0 {
            out.push(datagram);
        } else {
            // One more than are to overtake it: `release` comes before the one that counts.
            let due = self.counts.arrived + delay + 1;
            self.held.push(Reverse((due, datagram.to_vec())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Faults = Faults {
        loss: 10_000,
        duplication: 20_000,
        delay: 50_000,
        corruption: 5_000,
        window: 40,
        copy_window: 300,
    };
    const COUNT: u64 = 100_000;

    /// What comes out when numbered datagrams go in.
    fn carried(seed: u64, faults: Faults) -> (Vec<Vec<u8>>, Counts) {
        let mut mangler = Mangler::new(seed);
        let mut out = Outgoing::default();
        for number in 0..COUNT {
            mangler.take(&content(number), &faults, &mut out);
        }
        mangler.release_all(&mut out);
        let carried = out.messages().flat_map(|(bytes, segment)| {
            let datagrams: Vec<_> = bytes.chunks(segment).map(<[u8]>::to_vec).collect();
            datagrams
        });
        (carried.collect(), mangler.counts)
    }

    /// A number, and the same again, so that one changed bit shows.
    fn content(number: u64) -> Vec<u8> {
        [number.to_le_bytes(), number.to_le_bytes()].concat()
    }

    fn number_of(datagram: &[u8]) -> Option<u64> {
        let (first, second) = datagram.split_at(8);
        (first == second).then(|| u64::from_le_bytes(first.try_into().unwrap()))
    }

    #[test]
    fn a_good_wire_changes_nothing() {
        let (carried, counts) = carried(1, Faults::default());
        assert!(carried.into_iter().eq((0..COUNT).map(content)));
        let expected = Counts {
            arrived: COUNT,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn the_same_seed_does_the_same_and_another_does_not() {
        let same = carried(7, BAD) == carried(7, BAD);
        assert!(same && carried(7, BAD) != carried(8, BAD));
    }

    #[test]
    fn every_datagram_is_accounted_for() {
        let (carried, counts) = carried(3, BAD);
        assert_eq!(
            carried.len() as u64,
            counts.arrived - counts.lost + counts.doubled
        );
        let corrupted = carried.iter().filter(|it| number_of(it).is_none()).count();
        assert_eq!(corrupted as u64, counts.corrupted);
        let mut times = vec![0; COUNT as usize];
        for number in carried.iter().filter_map(|it| number_of(it)) {
            times[number as usize] += 1;
        }
        let twice = times.iter().filter(|times| **times == 2).count() as u64;
        assert!(twice <= counts.doubled && twice + counts.corrupted >= counts.doubled);
        assert!(times.iter().all(|times| *times <= 2));
    }

    #[test]
    fn it_is_as_bad_as_asked_for() {
        let (_, counts) = carried(4, BAD);
        for (got, ppm) in [
            (counts.lost, BAD.loss),
            (counts.doubled, BAD.duplication),
            (counts.delayed, BAD.delay),
            (counts.corrupted, BAD.corruption),
        ] {
            let expected = COUNT * u64::from(ppm) / 1_000_000;
            assert!((expected / 2..=expected * 2).contains(&got), "{counts:?}");
        }
    }

    #[test]
    fn nothing_is_later_than_the_window_allows() {
        let only_late = Faults {
            loss: 0,
            duplication: 0,
            corruption: 0,
            ..BAD
        };
        let (carried, counts) = carried(5, only_late);
        let (mut newest, mut overtaken) = (0, 0);
        for (at, datagram) in carried.iter().enumerate() {
            let number = number_of(datagram).unwrap();
            assert!((at as u64).saturating_sub(number) <= BAD.window);
            overtaken += u64::from(number < newest);
            newest = newest.max(number);
        }
        assert!(overtaken > counts.delayed / 2);
    }
}
