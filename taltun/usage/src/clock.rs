//! Which day it is, by a clock that may be wrong.
//!
//! A machine without a battery starts in 1970, or when it was last stopped. Would a day be taken
//! from such a clock as it is, then who is past his last day, or over his quota, were let in
//! again until the clock is put right. So days don't go back at once: what the clock showed before
//! stays the least, also after a restart. But a clock that was ahead mustn't spoil that for good:
//! only what a clock showed after it had gone on evenly for [`STEADY`] is kept, and one that goes
//! on evenly for as long behind that is believed, as whoever put it right is. It isn't if it is
//! earlier than what is sure to be past, or than [`EARLIEST`], as those without a battery are.
//!
//! What is forgotten never comes back, so days are forgotten by a clock that has to be surer still. It
//! may be up to [`NEAR`] ahead of what it was sure of before, as by day it always is; one that is
//! further ahead, as after a long rest or a mistake, has to go on evenly for [`SURE`].

use std::time::Duration;

use crate::date::Day;

/// How long a clock has to go on evenly until it is believed.
pub const STEADY: Duration = Duration::from_secs(600);
/// How far ahead of what was sure before a clock may be to be sure at once.
pub const NEAR: Duration = Duration::from_secs(2 * 86_400);
/// How long one that is further ahead has to go on evenly.
pub const SURE: Duration = Duration::from_secs(86_400);
/// No clock is right that shows less: 2026-01-01.
pub const EARLIEST: Duration = Duration::from_secs(20_454 * 86_400);
/// How far behind a clock may be without a word: it is put right by little now and then.
const LITTLE: Duration = Duration::from_secs(60);
/// What an even clock may gain or lose between two looks, as when it is put right by little.
const SLACK: Duration = Duration::from_secs(5);

/// Days that don't go back.
#[derive(Debug, Default)]
pub struct Clock {
    /// The least that it may show.
    floor: Duration,
    /// What is sure to be past.
    sure: Duration,
    /// The first and the last look since when it has gone on evenly: what the clock showed and
    /// what a clock that is never set did.
    even: Option<(Look, Look)>,
}

/// What outlives a restart, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptClock {
    /// The least that it may show.
    pub shown: u64,
    /// What is sure to be past.
    pub sure: u64,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    wall: Duration,
    steady: Duration,
}

impl Clock {
    /// That was kept of it once.
    pub fn remember(&mut self, kept: KeptClock) {
        self.floor = self.floor.max(Duration::from_secs(kept.shown));
        self.sure = self.sure.max(Duration::from_secs(kept.sure));
    }

    /// What the clock shows, and at the same time one that is never set.
    pub fn look(&mut self, wall: Duration, steady: Duration) {
        let now = Look { wall, steady };
        let is_even = |last: Look| {
            let (shown, passed) = (
                wall.checked_sub(last.wall),
                steady.saturating_sub(last.steady),
            );
            shown.is_some_and(|shown| shown.abs_diff(passed) <= SLACK)
        };
        self.even = match self.even {
            Some((first, last)) if is_even(last) => Some((first, now)),
            _ => Some((now, now)),
        };
        let even = self.even.map_or(Duration::ZERO, |(first, last)| {
            last.steady.saturating_sub(first.steady)
        });
        if even >= STEADY {
            self.floor = if self.is_believable(wall) {
                wall
            } else {
                self.floor.max(wall)
            };
            if wall.saturating_sub(self.sure) <= NEAR || even >= SURE {
                self.sure = self.sure.max(wall);
            }
        }
    }

    /// Whether a clock may go back to there.
    fn is_believable(&self, wall: Duration) -> bool {
        wall >= self.sure.max(EARLIEST)
    }

    /// The time that counts.
    pub fn now(&self) -> Duration {
        let shown = self.even.map_or(Duration::ZERO, |(_, last)| last.wall);
        self.floor.max(shown)
    }

    /// The day that counts.
    pub fn day(&self) -> Day {
        Day::at(self.now())
    }

    /// The day by which old ones are forgotten.
    pub fn sure_day(&self) -> Day {
        Day::at(self.sure)
    }

    /// What is to be remembered.
    pub fn kept(&self) -> KeptClock {
        KeptClock {
            shown: self.floor.as_secs(),
            sure: self.sure.as_secs(),
        }
    }

    /// By how much the clock is behind what it showed before.
    pub fn behind(&self) -> Duration {
        self.floor.saturating_sub(self.shown())
    }

    /// Where the day that counts is a later one than the clock shows: that, and what ends it.
    pub fn trouble(&self) -> Option<String> {
        let (shown, counts) = (Day::at(self.shown()), self.day());
        if shown == counts || self.behind() < LITTLE {
            return None;
        }
        let until = if self.is_believable(self.shown()) {
            "until the clock has gone on evenly for 10 minutes"
        } else {
            "until the clock is past that; if that day was wrong, see \"A wrong day\" in the \
             manual's usage.md"
        };
        Some(format!(
            "the clock shows {shown}, but it showed {counts} before: that day counts for usage, \
             quotas and last days, {until}"
        ))
    }

    fn shown(&self) -> Duration {
        self.even.map_or(self.floor, |(_, last)| last.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Looks each second for so long, beginning there.
    fn run(clock: &mut Clock, wall: Duration, steady: &mut Duration, seconds: u64) {
        for second in 0..seconds {
            clock.look(wall + Duration::from_secs(second), *steady);
            *steady += Duration::from_secs(1);
        }
    }

    #[test]
    fn days_do_not_go_back_once_the_clock_was_even() {
        let (mut clock, mut steady) = (Clock::default(), Duration::ZERO);
        run(&mut clock, 100 * DAY, &mut steady, 700);
        assert_eq!(clock.day().number(), 100);
        run(&mut clock, 20 * DAY, &mut steady, 700);
        assert_eq!(clock.day().number(), 100);
        assert!(clock.behind() > 79 * DAY);
        run(&mut clock, 101 * DAY, &mut steady, 1);
        assert_eq!(clock.day().number(), 101);
        // Also after a restart, with a clock that begins in 1970.
        let mut again = Clock::default();
        again.remember(clock.kept());
        again.look(Duration::ZERO, Duration::ZERO);
        assert_eq!(again.day().number(), 100);
    }

    #[test]
    fn a_clock_that_was_a_year_ahead_is_believed_again_once_it_was_even() {
        let true_day = EARLIEST + 332 * DAY;
        let (mut clock, mut steady) = (Clock::default(), Duration::ZERO);
        clock.remember(KeptClock {
            shown: true_day.as_secs() - 86_400,
            sure: true_day.as_secs() - 86_400,
        });
        run(&mut clock, true_day, &mut steady, 700);
        assert_eq!((clock.day(), clock.trouble()), (Day::at(true_day), None));
        run(&mut clock, true_day + 366 * DAY, &mut steady, 1000);
        assert_eq!(clock.day(), Day::at(true_day + 366 * DAY));
        // Right again, and in between after a restart.
        let still = "the clock shows 2026-11-29, but it showed 2027-11-30 before: that day counts \
                     for usage, quotas and last days, until the clock has gone on evenly for 10 \
                     minutes";
        run(&mut clock, true_day + 2 * STEADY, &mut steady, 590);
        assert_eq!(clock.trouble().as_deref(), Some(still));
        let mut again = Clock::default();
        again.remember(clock.kept());
        run(&mut again, true_day + 3 * STEADY, &mut steady, 600);
        assert_eq!(again.day(), Day::at(true_day + 366 * DAY));
        assert_eq!(again.trouble().as_deref(), Some(still));
        run(&mut again, true_day + 4 * STEADY, &mut steady, 1);
        assert_eq!((again.day(), again.trouble()), (Day::at(true_day), None));
        assert_eq!(again.kept().shown, (true_day + 4 * STEADY).as_secs());
    }

    #[test]
    fn a_clock_before_what_is_sure_is_never_believed() {
        let (day, mut steady) = (EARLIEST + 332 * DAY, Duration::ZERO);
        let mut clock = Clock::default();
        clock.remember(KeptClock {
            shown: day.as_secs(),
            sure: day.as_secs(),
        });
        for wall in [
            Duration::ZERO,
            20_000 * DAY,
            EARLIEST + DAY,
            331 * DAY + EARLIEST,
        ] {
            run(&mut clock, wall, &mut steady, 5000);
            assert_eq!(clock.day(), Day::at(day));
            assert!(clock.trouble().unwrap().contains("A wrong day"));
        }
        // Nor one that was never right, where nothing is sure.
        let mut clock = Clock::default();
        clock.remember(KeptClock {
            shown: day.as_secs(),
            sure: 0,
        });
        run(&mut clock, Duration::ZERO, &mut steady, 5000);
        assert_eq!(clock.day(), Day::at(day));
    }

    #[test]
    fn a_clock_that_is_ahead_for_a_moment_spoils_nothing() {
        let (mut clock, mut steady) = (Clock::default(), Duration::ZERO);
        run(&mut clock, 100 * DAY, &mut steady, 700);
        run(&mut clock, 200 * DAY, &mut steady, 500);
        assert_eq!(clock.day().number(), 200);
        run(&mut clock, 100 * DAY + 2 * STEADY, &mut steady, 700);
        assert_eq!(clock.day().number(), 100);
        assert_eq!(clock.behind(), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_put_right_by_little_stays_even() {
        let mut clock = Clock::default();
        for second in 0..=600_u64 {
            // It gains a second in twenty.
            let wall = 100 * DAY + Duration::from_secs(second + second / 20);
            clock.look(wall, Duration::from_secs(second));
        }
        assert!(clock.kept().shown > 100 * 86_400);
    }

    #[test]
    fn nothing_is_forgotten_by_a_clock_that_is_far_ahead_until_it_has_been_so_for_a_day() {
        let mut steady = Duration::ZERO;
        let mut clock = Clock::default();
        clock.remember(KeptClock {
            shown: 100 * 86_400,
            sure: 100 * 86_400,
        });
        // As after each restart, and over midnight.
        run(&mut clock, 101 * DAY, &mut steady, 599);
        assert_eq!(clock.sure_day().number(), 100);
        run(
            &mut clock,
            101 * DAY + Duration::from_secs(599),
            &mut steady,
            2,
        );
        assert_eq!(clock.sure_day().number(), 101);
        run(&mut clock, 102 * DAY, &mut steady, 601);
        assert_eq!(clock.sure_day().number(), 102);
        // A year ahead for hours, and back.
        run(&mut clock, 467 * DAY, &mut steady, 80_000);
        assert_eq!(clock.sure_day().number(), 102);
        run(&mut clock, 103 * DAY, &mut steady, 601);
        assert_eq!(clock.sure_day().number(), 103);
        // After a month of rest, also over a restart.
        let mut again = Clock::default();
        again.remember(clock.kept());
        run(&mut again, 140 * DAY, &mut steady, 86_400);
        assert_eq!(again.sure_day().number(), 103);
        run(&mut again, 141 * DAY, &mut steady, 1);
        assert_eq!(again.sure_day().number(), 141);
        // And it doesn't go back.
        run(&mut again, 20 * DAY, &mut steady, 90_000);
        assert_eq!(again.sure_day().number(), 141);
    }
}
