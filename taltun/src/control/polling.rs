//! Decides which interfaces' queues are polled by the threads of their AF_XDP lanes.
//!
//! An interrupt for each packet finds it at once; but when many come, each takes a core from
//! the thread that works on those before it. Then the thread had better look itself whenever
//! it has time. While it doesn't, a timer does, which costs latency: so not for a few packets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tracing::{info, warn};

use crate::config::BusyPoll;
use crate::system::{Interrupts, Place};

/// Packets a second of one queue from which on it is polled, and below which it isn't any
/// more. At the first, ten of them come in what the timer may take.
const BUSY: f64 = 50_000.0;
const QUIET: f64 = 20_000.0;

/// Which interfaces are polled, and why others aren't.
pub(super) struct Polling {
    mode: BusyPoll,
    interrupts: Interrupts,
    polled: BTreeSet<u32>,
    /// Those that can't be, and why.
    refused: BTreeMap<u32, String>,
}

impl Polling {
    /// For a tunnel whose files are in `directory`.
    pub(super) fn new(mode: BusyPoll, tunnel: &str, directory: &Path) -> Self {
        Self {
            mode,
            interrupts: Interrupts::of(tunnel, directory),
            polled: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Whether the queues of an interface are to be polled from now on, the busiest of which
    /// had so many packets a second. If so, its interrupts are deferred already.
    pub(super) fn decide(&mut self, place: &Place, rate: f64) -> bool {
        let index = place.index;
        let was = self.polled.contains(&index);
        let polled = wanted(self.mode, was, rate) && !self.refused.contains_key(&index);
        if polled == was {
            return polled;
        }
        if !polled {
            info!(interface = place.name, "AF_XDP: interrupts again");
            self.polled.remove(&index);
            // Its threads stop first; until then they poll in vain.
            self.interrupts.undefer(index);
            return false;
        }
        match self.interrupts.defer(place) {
            Ok(ours) => {
                info!(interface = place.name, ours, "AF_XDP: polled from now on");
                self.polled.insert(index);
                true
            }
            Err(error) => {
                self.refuse(place, format!("can't defer its interrupts: {error}"));
                false
            }
        }
    }

    /// An interface can't be polled after all.
    pub(super) fn refuse(&mut self, place: &Place, reason: String) {
        if self.mode == BusyPoll::On {
            warn!(interface = place.name, reason, "AF_XDP: not polled");
        } else {
            info!(interface = place.name, reason, "AF_XDP: not polled");
        }
        self.polled.remove(&place.index);
        self.interrupts.undefer(place.index);
        self.refused.insert(place.index, reason);
    }

    /// Those that have no lanes any more are as they were.
    pub(super) fn retain(&mut self, has_lanes: impl Fn(u32) -> bool) {
        self.polled.retain(|index| has_lanes(*index));
        self.refused.retain(|index, _| has_lanes(*index));
        self.interrupts.retain(has_lanes);
    }

    /// Why an interface isn't polled that should be.
    pub(super) fn why_not(&self, index: u32) -> Option<&str> {
        self.refused.get(&index).map(String::as_str)
    }
}

/// Whether an interface should be polled that was or wasn't until now.
fn wanted(mode: BusyPoll, was: bool, rate: f64) -> bool {
    match mode {
        BusyPoll::On => true,
        BusyPoll::Off => false,
        BusyPoll::Auto => rate >= if was { QUIET } else { BUSY },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_polls_while_it_is_busy_and_does_not_change_its_mind_at_every_packet() {
        let mut polled = false;
        for (rate, then) in [
            (0.0, false),
            (QUIET, false),
            (BUSY - 1.0, false),
            (BUSY, true),
            (QUIET, true),
            (QUIET - 1.0, false),
            (BUSY - 1.0, false),
        ] {
            polled = wanted(BusyPoll::Auto, polled, rate);
            assert_eq!(polled, then, "{rate}");
        }
        assert!(wanted(BusyPoll::On, false, 0.0));
        assert!(!wanted(BusyPoll::Off, true, BUSY));
    }

    #[test]
    fn what_was_refused_is_asked_for_again_only_with_new_lanes() {
        let dir = tempfile::tempdir().unwrap();
        let mut polling = Polling::new(BusyPoll::On, "t0", dir.path());
        let place = Place {
            name: "no-such-if".into(),
            index: 7,
            address: [2; 6],
        };
        assert!(!polling.decide(&place, 0.0));
        assert!(polling.why_not(7).unwrap().contains("interrupts"));
        assert!(!polling.decide(&place, BUSY));
        polling.retain(|index| index != 7);
        assert_eq!(polling.why_not(7), None);
    }
}
