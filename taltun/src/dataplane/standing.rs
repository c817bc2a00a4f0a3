//! Counts how long packets stand between being read and being written, as [`crate::report::Ways`] says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::report::{CLASSES, StandingCounts, Ways, class};

/// The counters of each way.
pub(super) type Standing = Ways<Counts>;

/// Those of one way.
#[derive(Debug, Default)]
pub(super) struct Counts {
    nanos: AtomicU64,
    packets: [AtomicU64; CLASSES],
}

impl Counts {
    /// So many packets stood so long.
    pub(super) fn add(&self, packets: u64, stood: Duration) {
        if packets == 0 {
            return;
        }
        let nanos = u64::try_from(stood.as_nanos()).unwrap_or(u64::MAX);
        self.nanos
            .fetch_add(nanos.saturating_mul(packets), Ordering::Relaxed);
        self.packets[class(stood)].fetch_add(packets, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(super) fn counted(&self) -> StandingCounts {
        StandingCounts {
            total_seconds: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64(),
            packets: std::array::from_fn(|class| self.packets[class].load(Ordering::Relaxed)),
        }
    }
}
