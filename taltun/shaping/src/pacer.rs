//! When the next packet may go, at a rate.

use crate::rate::Rate;

/// How much time of a late caller is made up for while packets wait, nanoseconds.
const MOST_LATE: u64 = 50_000_000;
/// How much time an idle class may make up for: what a caller that is asked once in a while, or
/// a sender that stops for a moment, would lose otherwise.
const MOST_SAVED: u64 = 5_000_000;

/// Keeps a rate, or none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pacer {
    rate: Option<Rate>,
    next: u64,
}

impl Pacer {
    /// When a packet may go.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Goes on at another rate: whatever the last packet took at the old one, the next waits no
    /// longer than `bytes` take at this one.
    pub(crate) fn set_rate(&mut self, rate: Option<Rate>, now: u64, bytes: u32) {
        self.rate = rate;
        let longest = rate.map_or(0, |rate| rate.nanos(bytes));
        self.next = self.next.min(now.saturating_add(longest));
    }

    /// Packets wait again after there were none.
    pub(crate) fn resume(&mut self, now: u64) {
        self.next = self.next.max(now.saturating_sub(MOST_SAVED));
    }

    /// A packet went.
    pub(crate) fn spend(&mut self, now: u64, bytes: u32) {
        if let Some(rate) = self.rate {
            let from = self.next.max(now.saturating_sub(MOST_LATE));
            self.next = from.saturating_add(rate.nanos(bytes));
        }
    }
}
