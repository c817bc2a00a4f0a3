//! A steady rate for a thread that sends: how much is due since it last asked.

use std::time::{Duration, Instant};

/// The time between two looks.
pub(super) const TICK: Duration = Duration::from_micros(250);
/// Behind by more than this, nobody catches up.
const MOST_BEHIND: Duration = Duration::from_millis(5);

/// A rate since a start.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    rate: u32,
    due_since_start: u64,
}

impl Pace {
    /// So many a second from now on.
    pub(super) fn start(rate: u32) -> Self {
        Self {
            start: Instant::now(),
            rate,
            due_since_start: 0,
        }
    }

    /// The time since the start.
    pub(super) fn time(&self) -> Duration {
        self.start.elapsed()
    }

    /// How many are due at this time since the start, and weren't before.
    pub(super) fn due(&mut self, time: Duration) -> usize {
        let due = self.within(time) - self.due_since_start;
        self.due_since_start += due;
        due.min(self.within(MOST_BEHIND)) as usize
    }

    fn within(&self, time: Duration) -> u64 {
        (time.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_adds_up_and_a_pause_isnt_caught_up_with() {
        let mut pace = Pace::start(10_000);
        let ms = Duration::from_millis;
        assert_eq!(pace.due(ms(1)), 10);
        assert_eq!(pace.due(ms(1)), 0);
        assert_eq!(pace.due(ms(3)), 20);
        assert_eq!(pace.due(ms(1000)), 50);
        assert_eq!(pace.due(ms(1001)), 10);
    }
}
