//! Bytes and packets of a peer, both ways.

use std::ops::AddAssign;

use crate::clock::KeptClock;
use crate::date::Day;

/// A peer's public key.
pub type Key = [u8; 32];

/// Messages of a peer, as `wg show` counts them: handshakes and keepalives included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Messages received from it.
    pub rx_packets: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Messages sent to it.
    pub tx_packets: u64,
}

impl Counts {
    /// What came since the counters showed `before`; a counter that went back began anew.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let gained = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Self {
            rx_bytes: gained(self.rx_bytes, before.rx_bytes),
            rx_packets: gained(self.rx_packets, before.rx_packets),
            tx_bytes: gained(self.tx_bytes, before.tx_bytes),
            tx_packets: gained(self.tx_packets, before.tx_packets),
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Bytes of both ways together.
    pub fn bytes(self) -> u64 {
        self.rx_bytes.saturating_add(self.tx_bytes)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.rx_bytes, more.rx_bytes);
        add(&mut self.rx_packets, more.rx_packets);
        add(&mut self.tx_bytes, more.tx_bytes);
        add(&mut self.tx_packets, more.tx_packets);
    }
}

/// What a peer moved since it was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub key: Key,
    /// What it is called, where that isn't known yet.
    pub name: Option<String>,
    /// How much.
    pub counts: Counts,
}

/// What peers moved in about a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The day that it counts for.
    pub day: Day,
    /// What the clock said, if that is to be kept: see [`Clock`](crate::Clock).
    pub clock: Option<KeptClock>,
    /// The day by which old ones are forgotten: see [`Clock::sure_day`](crate::Clock::sure_day).
    pub sure: Day,
    /// The peers.
    pub entries: Vec<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(bytes: u64) -> Counts {
        Counts {
            rx_bytes: bytes,
            rx_packets: 1,
            tx_bytes: bytes.saturating_mul(2),
            tx_packets: 2,
        }
    }

    #[test]
    fn what_was_counted_before_counts_once() {
        let mut sum = Counts::default();
        let mut last = Counts::default();
        // The last one is of a counter that began anew.
        for (shown, gained) in [(counts(10), 10), (counts(15), 5), (counts(15), 0)] {
            let since = shown.since(last);
            assert_eq!(since.rx_bytes, gained);
            sum += since;
            last = shown;
        }
        assert_eq!(
            sum,
            Counts {
                rx_packets: 1,
                tx_packets: 2,
                ..counts(15)
            }
        );
        assert_eq!(counts(3).since(counts(15)).rx_bytes, 3);
        assert!(counts(15).since(counts(15)).is_empty());
        assert_eq!(sum.bytes(), 45);
    }

    #[test]
    fn sums_end_at_the_largest_number() {
        let mut sum = counts(u64::MAX / 2);
        sum += counts(u64::MAX / 2);
        sum += counts(10);
        assert_eq!((sum.rx_bytes, sum.bytes()), (u64::MAX, u64::MAX));
    }
}
