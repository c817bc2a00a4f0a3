//! What was moved, and how much of it a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drops::Drops;

/// Packets and bytes of inner traffic that the workers moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets opened and written to the TUN.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets read from the TUN and sealed.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets relayed from one peer to another.
    pub relayed_packets: u64,
    /// Their bytes.
    pub relayed_bytes: u64,
}

/// What the counters gained a second, over the last whole second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Over how many seconds: one, but for a machine that was stopped or overloaded.
    pub over_seconds: f64,
    /// Of `traffic`, a second.
    pub traffic: Traffic,
    /// Of `drops`, a second.
    pub drops: Drops,
}

/// What a peer's bytes gained a second, handshakes and keepalives included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRates {
    /// Bytes received from it, a second.
    pub rx_bytes: u64,
    /// Bytes sent to it, a second.
    pub tx_bytes: u64,
}

impl Rates {
    /// What was gained a second between two looks, `over` apart.
    pub fn between(before: (Traffic, Drops), now: (Traffic, Drops), over: Duration) -> Self {
        let rate = |before, now| per_second(before, now, over);
        let (old, new) = (before.0, now.0);
        Self {
            over_seconds: over.as_secs_f64(),
            traffic: Traffic {
                rx_packets: rate(old.rx_packets, new.rx_packets),
                rx_bytes: rate(old.rx_bytes, new.rx_bytes),
                tx_packets: rate(old.tx_packets, new.tx_packets),
                tx_bytes: rate(old.tx_bytes, new.tx_bytes),
                relayed_packets: rate(old.relayed_packets, new.relayed_packets),
                relayed_bytes: rate(old.relayed_bytes, new.relayed_bytes),
            },
            drops: now
                .1
                .iter()
                .map(|(reason, count)| (reason, rate(before.1[reason], count)))
                .collect(),
        }
    }
}

/// What a counter gained a second, rounded up: what isn't nothing doesn't look like it. One that
/// has become smaller has begun anew.
pub fn per_second(before: u64, now: u64, over: Duration) -> u64 {
    let gained = now.checked_sub(before).unwrap_or(now);
    // Exact to a thousandth of a second, which is more than anybody reads.
    let milliseconds = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
    gained.saturating_mul(1000).div_ceil(milliseconds)
}

/// Whole seconds are all that anybody reads; the fraction is for programs. None for what is no duration.
pub fn whole_seconds(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(0, |span| span.as_secs())
}

#[cfg(test)]
mod tests {
    use taltun_common::drops::DropReason;

    use super::*;

    #[test]
    fn rates_are_what_was_gained_over_the_time_that_it_took() {
        let look = |rx_packets, mac1| {
            let traffic = Traffic {
                rx_packets,
                ..Traffic::default()
            };
            let drops: Drops = [(DropReason::Mac1, mac1)].into_iter().collect();
            (traffic, drops)
        };
        let rates = Rates::between(look(100, 7), look(300, 8), Duration::from_secs(2));
        assert_eq!(rates.traffic.rx_packets, 100);
        assert_eq!(rates.traffic.tx_packets, 0);
        assert_eq!(rates.drops[DropReason::Mac1], 1);
        assert!((rates.over_seconds - 2.0).abs() < 1e-9);
        assert_eq!(per_second(500, 30, Duration::from_secs(1)), 30);
        assert_eq!(per_second(0, 5, Duration::ZERO), 5000);
    }
}
