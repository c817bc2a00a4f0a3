//! The counters of what is sent on a session: each is given out once, by however many threads.

use crate::sync::atomic::{AtomicU64, Ordering};

/// How many counters were given out, and how many may be.
#[derive(Debug)]
pub(super) struct SendCounter {
    next: AtomicU64,
    limit: u64,
}

impl SendCounter {
    /// A counter that ends before `limit`.
    pub(super) fn with_limit(limit: u64) -> Self {
        Self {
            next: AtomicU64::new(0),
            limit,
        }
    }

    /// Takes the next `count` counters; `None` once there are no more.
    pub(super) fn reserve(&self, count: u64) -> Option<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        if first
            .checked_add(count)
            .is_some_and(|end| end <= self.limit)
        {
            return Some(first);
        }
        // Never let the counter wrap, however often a dead session is asked.
        self.next.store(self.limit, Ordering::Relaxed);
        None
    }

    /// How many were given out.
    pub(super) fn used(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Pretends that so many were, for tests of the limits.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn set_used(&self, used: u64) {
        self.next.store(used, Ordering::Relaxed);
    }
}
