//! Which interfaces' queues are polled by the threads of their AF_XDP lanes, where that is
//! asked for: all whose interrupts can be deferred.
//!
//! A thread that polls its queue does the driver's work itself, when it has time for more,
//! instead of being interrupted by it; and while it sleeps, a timer looks. That isn't the
//! default: with few packets it costs latency and CPU time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tracing::{info, warn};

use crate::system::{Interrupts, Place};

/// Which interfaces are polled, and why others aren't.
pub(super) struct Polling {
    wanted: bool,
    interrupts: Interrupts,
    polled: BTreeSet<u32>,
    /// Those that can't be, and why.
    refused: BTreeMap<u32, String>,
}

impl Polling {
    /// For a tunnel whose files are in `directory`. What a killed process left is undone, be
    /// polling wanted or not.
    pub(super) fn new(wanted: bool, tunnel: &str, directory: &Path) -> Self {
        Self {
            wanted,
            interrupts: Interrupts::of(tunnel, directory),
            polled: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Whether the queues of an interface are to be polled. If so, its interrupts are deferred
    /// by now.
    pub(super) fn begin(&mut self, place: &Place) -> bool {
        let index = place.index;
        if !self.wanted || self.refused.contains_key(&index) {
            return false;
        }
        if self.polled.contains(&index) {
            return true;
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
        warn!(interface = place.name, reason, "AF_XDP: not polled");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_asked_for_again_only_with_new_lanes() {
        let dir = tempfile::tempdir().unwrap();
        let mut polling = Polling::new(true, "t0", dir.path());
        let place = Place {
            name: "no-such-if".into(),
            index: 7,
            address: [2; 6],
        };
        assert!(!polling.begin(&place));
        assert!(polling.why_not(7).unwrap().contains("interrupts"));
        assert!(!polling.begin(&place));
        polling.retain(|index| index != 7);
        assert_eq!(polling.why_not(7), None);
    }
}
