//! A token bucket per source, for handshake messages under load (paper §5.3).
//!
//! The limit also holds for a source with a good cookie. Callers pass in the time, and old
//! entries go when the table is full, so it needs no timer.

use std::collections::HashMap;
use std::net::IpAddr;

use taltun_common::bucket::Rate;

use super::time::Time;

/// Handshake messages a second from one source.
pub const RATE: u32 = 20;
/// Handshake messages at once from one source that was quiet.
pub const BURST: u32 = 5;
/// Sources remembered at once.
pub const CAPACITY: usize = 8192;

/// Token buckets by source.
#[derive(Debug)]
pub struct RateLimiter {
    /// When each is full again, in nanoseconds.
    buckets: HashMap<IpAddr, u64>,
    rate: Rate,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new(RATE, BURST)
    }
}

impl RateLimiter {
    /// So many messages a second, at least one, and so many at once.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self {
            buckets: HashMap::new(),
            rate: Rate::with_burst(rate.max(1), burst.max(1)),
        }
    }

    /// Whether one more message from `source` is within its rate. IPv6 sources count by
    /// /64, which is what one host usually owns.
    pub fn allow(&mut self, source: IpAddr, now: Time) -> bool {
        let (source, now) = (bucket_of(source), now.as_nanos());
        if !self.buckets.contains_key(&source) {
            if self.buckets.len() >= CAPACITY {
                // A bucket that is full again is as good as none.
                self.buckets.retain(|_, full_at| *full_at > now);
            }
            if self.buckets.len() >= CAPACITY {
                return false;
            }
        }
        let full_at = self.buckets.entry(source).or_insert(now);
        self.rate.take(full_at, now)
    }
}

fn bucket_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_quiet_source_has_a_burst_and_then_its_rate() {
        let mut limiter = RateLimiter::default();
        let source = "192.0.2.1".parse().unwrap();
        let mut now = Time::START;
        for _ in 0..BURST {
            assert!(limiter.allow(source, now));
        }
        assert!(!limiter.allow(source, now));
        now = now + Duration::from_millis(50);
        assert!(limiter.allow(source, now));
        assert!(!limiter.allow(source, now));
        now = now + Duration::from_secs(3600);
        for _ in 0..BURST {
            assert!(limiter.allow(source, now));
        }
        assert!(!limiter.allow(source, now));
    }

    #[test]
    fn sources_do_not_take_from_each_other_but_a_v6_network_is_one_source() {
        let mut limiter = RateLimiter::default();
        let now = Time::START;
        for _ in 0..BURST {
            assert!(limiter.allow("2001:db8::1".parse().unwrap(), now));
        }
        assert!(!limiter.allow("2001:db8::2".parse().unwrap(), now));
        assert!(limiter.allow("2001:db8:0:1::1".parse().unwrap(), now));
        assert!(limiter.allow("192.0.2.1".parse().unwrap(), now));
    }

    #[test]
    fn more_sources_than_entries_are_refused_until_old_ones_go() {
        let mut limiter = RateLimiter::default();
        let now = Time::START;
        for source in 0..CAPACITY as u32 {
            assert!(limiter.allow(IpAddr::V4(source.into()), now));
        }
        let new: IpAddr = "203.0.113.1".parse().unwrap();
        assert!(!limiter.allow(new, now));
        let token = Duration::from_nanos(limiter.rate.token);
        assert!(!limiter.allow(new, now + token / 2));
        assert!(limiter.allow(new, now + token));
    }
}
