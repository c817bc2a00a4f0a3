//! Token buckets, each of one number: when it will be full again.
//!
//! A bucket that is full at time `t` lacks, at an earlier time, as many tokens as flow in
//! until `t`. So there is nothing to refill; an entry whose time has passed says the same
//! as no entry; and one 64-bit word holds a bucket, which processors write in one piece.
//!
//! Looking and taking are two steps, so that a worthless message takes no token: a bucket
//! belongs to a source address, and anybody can forge one.

/// How fast tokens flow in, and how many a bucket holds. All zero: there is no limit.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for one token.
    pub token: u64,
    /// Nanoseconds for a whole bucket.
    pub bucket: u64,
}

/// Tokens a bucket holds at least, however slowly they flow in: a peer that tries again,
/// and a few behind one address, are no flood.
pub const LEAST_BURST: u64 = 5;

impl Rate {
    /// `tokens` a second, of which a bucket holds `burst`.
    #[must_use]
    pub const fn with_burst(tokens: u32, burst: u32) -> Self {
        let token = 1_000_000_000 / tokens as u64;
        Self {
            token,
            bucket: token * burst as u64,
        }
    }

    /// `tokens` a second; a bucket holds those of one second, at least [`LEAST_BURST`].
    #[must_use]
    pub const fn per_second(tokens: u32) -> Self {
        if tokens == 0 {
            return Self {
                token: 0,
                bucket: 0,
            };
        }
        let token = 1_000_000_000 / tokens as u64;
        let burst = if (tokens as u64) < LEAST_BURST {
            LEAST_BURST
        } else {
            tokens as u64
        };
        Self {
            token,
            bucket: token * burst,
        }
    }

    /// Whether a bucket that is full at `full_at` holds a token at `now`.
    #[inline(always)]
    #[must_use]
    pub const fn allows(&self, full_at: u64, now: u64) -> bool {
        full_at.saturating_sub(now) + self.token <= self.bucket
    }

    /// Takes a token at `now` out of the bucket that is full at `full_at`, if it holds one.
    #[inline(always)]
    #[must_use]
    pub const fn take(&self, full_at: &mut u64, now: u64) -> bool {
        let allowed = self.allows(*full_at, now);
        if allowed {
            *full_at = self.taken(*full_at, now);
        }
        allowed
    }

    /// When the bucket is full after a token is taken at `now`.
    #[inline(always)]
    #[must_use]
    pub const fn taken(&self, full_at: u64, now: u64) -> u64 {
        (if full_at > now { full_at } else { now }) + self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_full_bucket_gives_a_burst_and_then_the_rate() {
        let rate = Rate::per_second(20);
        let mut full_at = 0;
        let now = 77 * SECOND;
        assert_eq!(
            (0..100).filter(|_| rate.take(&mut full_at, now)).count(),
            20
        );
        assert!(!rate.take(&mut full_at, now + SECOND / 20 - 1));
        assert!(rate.take(&mut full_at, now + SECOND / 20));
        assert!(!rate.take(&mut full_at, now + SECOND / 20));
        // However long it waits, it holds no more.
        let later = now + 3600 * SECOND;
        assert_eq!(
            (0..100).filter(|_| rate.take(&mut full_at, later)).count(),
            20
        );
    }

    #[test]
    fn a_slow_rate_still_has_a_burst() {
        let rate = Rate::per_second(1);
        let mut full_at = 0;
        assert_eq!((0..9).filter(|_| rate.take(&mut full_at, 1)).count(), 5);
        assert!(rate.take(&mut full_at, 1 + SECOND));
    }

    #[test]
    fn looking_takes_nothing() {
        let rate = Rate::per_second(1);
        for _ in 0..100 {
            assert!(rate.allows(0, SECOND));
        }
    }
}
