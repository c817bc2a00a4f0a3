//! What each peer moved today and in this month, in memory, for quotas.

use std::collections::HashMap;

use crate::counts::Key;
use crate::date::Day;
use crate::quota::Period;

/// Sums of the day and the month that a day is in.
#[derive(Debug, Default)]
pub struct Totals {
    day: Day,
    sums: HashMap<Key, Sums>,
    /// Whether what was kept of this month is still to come.
    awaited: bool,
}

/// Bytes of both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of the day.
    pub day: u64,
    /// Of the month, up to this day.
    pub month: u64,
}

impl Totals {
    /// From now on it is this day. Returns whether what was kept of its month has to be asked
    /// for, to be [taken in](Self::take_in).
    pub fn turn_to(&mut self, day: Day) -> bool {
        if day == self.day {
            return false;
        }
        let same_month = day.first_of_month() == self.day.first_of_month();
        if same_month && day > self.day && !self.awaited {
            for sums in self.sums.values_mut() {
                sums.day = 0;
            }
            self.day = day;
            return false;
        }
        // Another month, or a clock that was ahead: something may be known of that already.
        self.day = day;
        self.sums.clear();
        self.awaited = true;
        true
    }

    /// Whether it isn't known yet what was moved before in this month.
    pub fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// What was kept isn't coming: what is known is all.
    pub fn do_without(&mut self) {
        self.awaited = false;
    }

    /// What was kept, if it is that of `day` that was asked for.
    pub fn take_in(&mut self, day: Day, kept: impl IntoIterator<Item = (Key, Sums)>) {
        if day != self.day || !self.awaited {
            return;
        }
        self.awaited = false;
        for (key, kept) in kept {
            let sums = self.sums.entry(key).or_default();
            sums.day = sums.day.saturating_add(kept.day);
            sums.month = sums.month.saturating_add(kept.month);
        }
    }

    /// A peer moved so many bytes more.
    pub fn add(&mut self, key: Key, bytes: u64) {
        let sums = self.sums.entry(key).or_default();
        sums.day = sums.day.saturating_add(bytes);
        sums.month = sums.month.saturating_add(bytes);
    }

    /// What a peer moved in the period that it is now.
    pub fn of(&self, key: &Key, period: Period) -> u64 {
        let sums = self.sums.get(key).copied().unwrap_or_default();
        match period {
            Period::Day => sums.day,
            Period::Month => sums.month,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: Key = [1; 32];

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn sums(totals: &Totals) -> (u64, u64) {
        (totals.of(&ANA, Period::Day), totals.of(&ANA, Period::Month))
    }

    #[test]
    fn a_day_and_a_month_begin_from_nothing() {
        let mut totals = Totals::default();
        assert!(totals.turn_to(day("2026-11-29")));
        totals.add(ANA, 5);
        let kept = [(
            ANA,
            Sums {
                day: 10,
                month: 100,
            },
        )];
        totals.take_in(day("2026-11-29"), kept);
        assert_eq!(sums(&totals), (15, 105));
        // Once only, and only for the day that was asked for.
        totals.take_in(day("2026-11-29"), kept);
        assert!(!totals.turn_to(day("2026-11-30")));
        assert_eq!(sums(&totals), (0, 105));
        totals.add(ANA, 1);
        assert_eq!(sums(&totals), (1, 106));
        assert!(totals.turn_to(day("2026-12-01")));
        totals.take_in(day("2026-11-30"), kept);
        assert!(totals.is_awaited());
        totals.take_in(day("2026-12-01"), []);
        assert_eq!(sums(&totals), (0, 0));
    }

    #[test]
    fn a_clock_that_goes_back_asks_for_what_was_counted_then() {
        let mut totals = Totals::default();
        totals.turn_to(day("2026-11-29"));
        totals.take_in(day("2026-11-29"), []);
        totals.add(ANA, 7);
        assert!(totals.turn_to(day("2026-12-29")));
        totals.take_in(day("2026-12-29"), []);
        assert!(totals.turn_to(day("2026-11-29")));
        totals.take_in(day("2026-11-29"), [(ANA, Sums { day: 7, month: 7 })]);
        assert_eq!(sums(&totals), (7, 7));
    }
}
