//! How long to wait before the next attempt: longer each time, and not all hubs at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// The waits of one thing that fails.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait, by a random number. Between half of a doubling time and all
    /// of it, up to 5 s.
    pub fn next(&mut self, random: u32) -> Duration {
        let longest = (FIRST * 2_u32.saturating_pow(self.failures)).min(LAST);
        self.failures = (self.failures + 1).min(16);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// A random number, or any where the kernel has none: it only spreads attempts.
pub fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40)
            .map(|_| backoff.next(u32::MAX).as_millis())
            .collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[6..], [5000; 34]);
        assert_eq!(backoff.next(0).as_millis(), 2500);
        backoff.reset();
        assert_eq!(backoff.next(0).as_millis(), 50);
    }
}
