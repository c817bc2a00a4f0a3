//! How many writes a second the store gets, at the most.

use std::time::{Duration, Instant};

/// The times of writes: `burst` at once, and one each `each` after that.
#[derive(Debug, Clone)]
pub struct Pace {
    each: Duration,
    burst: u32,
    /// When all of the burst may be used again.
    full: Option<Instant>,
}

impl Pace {
    /// So many a second, and so many at once.
    pub fn new(a_second: u32, burst: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / a_second.max(1),
            burst: burst.max(1),
            full: None,
        }
    }

    /// How long the next write has to wait. Without a wait, it is counted.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full = self.full.unwrap_or(now).max(now);
        // Of the burst, what isn't there yet is what `full` is ahead.
        let ahead = full.saturating_duration_since(now);
        let room = self.each * (self.burst - 1);
        match ahead.saturating_sub(room) {
            Duration::ZERO => {}
            wait => return Err(wait),
        }
        self.full = Some(full + self.each);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_writes_than_the_burst_and_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(8, 2);
        let mut writes = Vec::new();
        for millis in 0..5000 {
            let now = start + Duration::from_millis(millis);
            while pace.take(now).is_ok() {
                writes.push(millis);
            }
        }
        assert_eq!(writes[..3], [0, 0, 125]);
        for from in 0..4000 {
            let within = writes.iter().filter(|at| (from..from + 1000).contains(*at));
            assert!(within.count() <= 8 + 2);
        }
        assert!(writes.len() >= 40, "{}", writes.len());
        let wait = pace.take(start + Duration::from_millis(4999));
        assert!(wait.is_err_and(|wait| wait <= Duration::from_millis(125)));
    }
}
