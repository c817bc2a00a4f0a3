//! How long packets stand in the tunnel's process: from being read to being written.
//!
//! It is taken once a batch, so all packets of a batch stood as long as the whole of it took. What waits in a
//! queue of the kernel before it is read isn't in it, nor what waits for a rate or for a handshake.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Classes of durations: a packet is in the first one that it stood no longer than.
pub const CLASSES: usize = 24;

/// A value for each way that packets take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ways<T> {
    /// From this host to a peer.
    pub tun_to_udp: T,
    /// From a peer to this host.
    pub udp_to_tun: T,
    /// From one peer to another.
    pub udp_to_udp: T,
}

/// What was counted of a way since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StandingCounts {
    /// How long all of them stood together.
    pub total_seconds: f64,
    /// Packets by [class](most_seconds).
    pub packets: [u64; CLASSES],
}

/// How long the packets of a way stood in the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stood {
    /// Half of them no longer than this, which is the [most](most_seconds) of their class.
    pub median_seconds: f64,
    /// And 99 of 100 no longer than this.
    pub p99_seconds: f64,
}

/// The class of a duration.
pub fn class(stood: Duration) -> usize {
    let micros = stood.as_nanos().div_ceil(1000).max(1);
    let class = u128::BITS - (micros - 1).leading_zeros();
    (class as usize).min(CLASSES - 1)
}

/// The most seconds of a class: 1 µs, and twice as much for each further one. The last one, 8.4 s, has all that
/// stood longer, too.
pub fn most_seconds(class: usize) -> f64 {
    Duration::from_micros(1 << class).as_secs_f64()
}

impl<T> Ways<T> {
    /// Each with its name, as the JSON and the metrics have it.
    pub fn named(&self) -> [(&'static str, &T); 3] {
        [
            ("tun_to_udp", &self.tun_to_udp),
            ("udp_to_tun", &self.udp_to_tun),
            ("udp_to_udp", &self.udp_to_udp),
        ]
    }

    /// The same of each.
    pub fn map<U>(&self, mut of: impl FnMut(&T) -> U) -> Ways<U> {
        Ways {
            tun_to_udp: of(&self.tun_to_udp),
            udp_to_tun: of(&self.udp_to_tun),
            udp_to_udp: of(&self.udp_to_udp),
        }
    }
}

impl Ways<StandingCounts> {
    /// How long those stood that were counted since `before`.
    pub fn since(&self, before: &Self) -> Ways<Option<Stood>> {
        Ways {
            tun_to_udp: self.tun_to_udp.since(&before.tun_to_udp),
            udp_to_tun: self.udp_to_tun.since(&before.udp_to_tun),
            udp_to_udp: self.udp_to_udp.since(&before.udp_to_udp),
        }
    }
}

impl StandingCounts {
    /// `None` if there were none.
    fn since(&self, before: &Self) -> Option<Stood> {
        let mut packets = self.packets;
        for (now, before) in packets.iter_mut().zip(before.packets) {
            *now = now.saturating_sub(before);
        }
        let all: u64 = packets.iter().sum();
        // The class of the one before which so many of a hundred are.
        let percentile = |of_hundred: u64| {
            let rank = u128::from(all) * u128::from(of_hundred);
            let mut counted = 0;
            let within = packets.iter().position(|count| {
                counted += u128::from(*count) * 100;
                counted >= rank
            });
            most_seconds(within.unwrap_or(CLASSES - 1))
        };
        (all > 0).then(|| Stood {
            median_seconds: percentile(50),
            p99_seconds: percentile(99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_class_that_it_fits_in() {
        for (nanos, at) in [
            (0, 0),
            (1, 0),
            (1000, 0),
            (1001, 1),
            (2000, 1),
            (2001, 2),
            (1_024_000, 10),
            (1_024_001, 11),
            (8_388_608_000, 23),
            (u64::MAX, 23),
        ] {
            let stood = Duration::from_nanos(nanos);
            assert_eq!(class(stood), at, "{stood:?}");
            assert!(at == CLASSES - 1 || stood.as_secs_f64() <= most_seconds(at));
            assert!(at == 0 || stood.as_secs_f64() > most_seconds(at - 1));
        }
    }

    #[test]
    fn percentiles_are_of_those_counted_since() {
        let mut before = StandingCounts::default();
        before.packets[20] = 1000;
        assert_eq!(before.since(&before), None);
        let mut now = before;
        now.packets[4] = 98;
        now.packets[7] = 1;
        now.packets[10] = 1;
        let stood = |median_seconds, p99_seconds| Stood {
            median_seconds,
            p99_seconds,
        };
        assert_eq!(now.since(&before), Some(stood(16e-6, 128e-6)));
        now.packets[10] = 2;
        assert_eq!(now.since(&before), Some(stood(16e-6, 1024e-6)));
    }
}
