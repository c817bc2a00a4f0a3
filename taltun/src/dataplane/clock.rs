//! The clock that the protocol core is told.

use std::time::Duration;

use super::sys;
use crate::protocol::time::Time;

/// Now, on the clock that goes on while the machine sleeps: a session is as dead after
/// three minutes of suspension as after three minutes of anything else.
pub fn now() -> Time {
    Time::from_nanos(sys::boottime_nanos())
}

/// Wall-clock time since the Unix epoch; zero before it.
pub fn wall() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Wall-clock time since the Unix epoch at the moment when [`now`] was zero.
pub fn wall_clock_at_zero() -> Duration {
    wall().saturating_sub(Duration::from_nanos(now().as_nanos()))
}

/// How far the two clocks may part before it isn't the same run of the machine any more.
const MOST_APART: Duration = Duration::from_secs(60);

/// Notices when the two clocks part.
///
/// A clock that is corrected little by little takes the other with it. So they part only when
/// the wall clock is set, or when the machine was stopped, copied or rolled back and the wall
/// clock then set right.
#[derive(Debug)]
pub struct Apart {
    /// Nanoseconds from the one clock to the other.
    distance: i128,
}

impl Apart {
    /// From what the clocks show now.
    pub fn new(wall: Duration, now: Time) -> Self {
        Self {
            distance: distance(wall, now),
        }
    }

    /// Whether they have parted by more than a minute since the start, or since this last
    /// said so.
    pub fn have_parted(&mut self, wall: Duration, now: Time) -> bool {
        let distance = distance(wall, now);
        let parted = distance.abs_diff(self.distance) > MOST_APART.as_nanos();
        if parted {
            self.distance = distance;
        }
        parted
    }
}

fn distance(wall: Duration, now: Time) -> i128 {
    wall.as_nanos().cast_signed() - i128::from(now.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_secs(1_700_000_000);

    fn at(seconds: u64) -> Time {
        Time::START + Duration::from_secs(seconds)
    }

    #[test]
    fn clocks_that_go_on_together_have_not_parted() {
        let mut apart = Apart::new(WALL, at(100));
        for seconds in [0, 1, 3600, 1_000_000] {
            let wall = WALL + Duration::from_secs(seconds);
            assert!(!apart.have_parted(wall, at(100 + seconds)));
        }
        // A leap second and a small correction are no reason.
        assert!(!apart.have_parted(WALL + Duration::from_secs(60), at(100)));
        let earlier = Duration::from_secs(1_700_000_000 - 60);
        assert!(!apart.have_parted(earlier, at(100)));
    }

    #[test]
    fn more_than_a_minute_either_way_is_noticed_once() {
        let mut apart = Apart::new(WALL, at(100));
        let later = WALL + Duration::from_millis(60_001);
        assert!(apart.have_parted(later, at(100)));
        assert!(!apart.have_parted(later, at(100)));
        assert!(apart.have_parted(WALL, at(100)));
        // Before 1970, as on a board without a clock.
        assert!(apart.have_parted(Duration::ZERO, at(101)));
        assert!(!apart.have_parted(Duration::from_secs(1), at(102)));
    }

    /// A machine that is rolled back by an hour has its old uptime and the world's time.
    #[test]
    fn a_machine_that_was_rolled_back_is_noticed() {
        let mut apart = Apart::new(WALL, at(100));
        let later = WALL + Duration::from_secs(3600);
        assert!(!apart.have_parted(later, at(3700)));
        let restored = Duration::from_secs(3600 + 600);
        assert!(apart.have_parted(WALL + restored, at(3700)));
    }
}
