//! Days of the calendar, in UTC.
//!
//! The two conversions count eras of 400 years, after which the calendar repeats, with years that
//! begin in March, so that the day which not all have is their last.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const DAYS_OF_ERA: u32 = 146_097;
/// From the first of March of the year 0 to the first of January of 1970.
const EPOCH: u32 = 719_468;
const SECONDS: u64 = 86_400;

/// A day, of the years 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(u32);

impl Day {
    /// The last one that there is.
    pub const LAST: Self = Self(2_932_896);

    /// The day that it is, so long after the beginning of 1970.
    pub fn at(since_epoch: Duration) -> Self {
        Self::of_number(since_epoch.as_secs() / SECONDS)
    }

    /// The day with this number, those of 1970 being counted from 0.
    pub fn of_number(number: u64) -> Self {
        u32::try_from(number)
            .map_or(Self::LAST, Self)
            .min(Self::LAST)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The day of a date, if there is such a one.
    pub fn of_date(year: u32, month: u32, day: u32) -> Option<Self> {
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day)
        {
            return None;
        }
        let year = year - u32::from(month <= 2);
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        // Not before the epoch, as the year isn't.
        let found = Self(era * DAYS_OF_ERA + days - EPOCH);
        // A day that this month doesn't have would be one of the next.
        (found.date().1 == month).then_some(found)
    }

    /// Its year, month and day.
    pub fn date(self) -> (u32, u32, u32) {
        let days = self.0 + EPOCH;
        let (era, of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year + era * 400 + u32::from(month <= 2), month, day)
    }

    /// The first day of its month.
    #[must_use]
    pub fn first_of_month(self) -> Self {
        Self(self.0 - (self.date().2 - 1))
    }

    /// The first day of the month after its own.
    #[must_use]
    pub fn first_of_next_month(self) -> Self {
        let (year, month, _) = self.date();
        let next = match month {
            12 => Self::of_date(year + 1, 1, 1),
            month => Self::of_date(year, month + 1, 1),
        };
        next.unwrap_or(Self::LAST)
    }

    /// The last day of its month.
    #[must_use]
    pub fn last_of_month(self) -> Self {
        match self.date() {
            (9999, 12, _) => Self::LAST,
            _ => self.first_of_next_month().before(1),
        }
    }

    /// So many days later.
    #[must_use]
    pub fn after(self, days: u32) -> Self {
        Self(self.0.saturating_add(days)).min(Self::LAST)
    }

    /// So many days earlier, but not before 1970.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Its first moment, so long after the beginning of 1970.
    pub fn start(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * SECONDS)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        f.pad(&format!("{year:04}-{month:02}-{day:02}"))
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a date such as 2026-12-31, found {text:?}");
        let Some([year, month, day]) = numbers(text, '-') else {
            return Err(written_otherwise(text).unwrap_or_else(expected));
        };
        let lengths = [year, month, day].map(str::len);
        let number = |digits: &str| digits.parse::<u32>().unwrap_or(u32::MAX);
        let date = [year, month, day].map(number);
        if lengths != [4, 2, 2] {
            return Err(written_otherwise(text).unwrap_or_else(expected));
        }
        let [year, month, day] = date;
        Self::of_date(year, month, day).ok_or_else(|| {
            if month == 0 || month > 12 {
                return format!("there is no month {month:02}, found {text:?}; it is 01 to 12");
            }
            if year < 1970 {
                return format!("days are those from 1970-01-01 on, found {text:?}");
            }
            let first = Self::of_date(year, month, 1);
            match first.map(Self::last_of_month) {
                Some(last) => format!("there is no {text}: the last day of that month is {last}"),
                None => expected(),
            }
        })
    }
}

/// The three numbers of a text with this character between them.
fn numbers(text: &str, between: char) -> Option<[&str; 3]> {
    let parts: Vec<&str> = text.split(between).collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let parts: [&str; 3] = parts.try_into().ok()?;
    parts.iter().all(is_number).then_some(parts)
}

/// What to write instead of a date in another order, with other characters between its numbers or
/// without all of its digits.
fn written_otherwise(text: &str) -> Option<String> {
    let parts = ['-', '.', '/']
        .into_iter()
        .find_map(|between| numbers(text.trim(), between))?;
    let number = |digits: &str| digits.parse::<u32>().ok();
    let [Some(first), Some(second), Some(third)] = parts.map(number) else {
        return None;
    };
    let meant = match parts.map(str::len) {
        [4, ..] => Day::of_date(first, second, third),
        // In some countries the month comes first; which is meant is told where only one is a date.
        [.., 4] if second > 12 => Day::of_date(third, first, second),
        [.., 4] if first > 12 => Day::of_date(third, second, first),
        _ => None,
    };
    Some(match meant {
        Some(day) => format!("write {day}, the year first; found {text:?}"),
        None => {
            format!("write the year, the month and the day, such as 2026-12-31; found {text:?}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_its_date_and_each_date_its_day() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..=Day::LAST.number() {
            let found = Day(number);
            assert_eq!(found.date(), (year, month, day), "{number}");
            assert_eq!(Day::of_date(year, month, day), Some(found));
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            assert_eq!(Day::of_date(year, month, last + 1), None);
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(year, 10_000);
    }

    #[test]
    fn months_begin_on_their_first() {
        let day: Day = "2028-02-29".parse().unwrap();
        assert_eq!(day.first_of_month().to_string(), "2028-02-01");
        assert_eq!(day.first_of_next_month().to_string(), "2028-03-01");
        assert_eq!(day.last_of_month(), day);
        let day: Day = "2026-12-31".parse().unwrap();
        assert_eq!(day.first_of_month().last_of_month(), day);
        assert_eq!(day.first_of_next_month().to_string(), "2027-01-01");
        assert_eq!(day.after(1).to_string(), "2027-01-01");
        assert_eq!(day.before(31).to_string(), "2026-11-30");
        assert_eq!(day.start(), Duration::from_secs(1_798_675_200));
        assert_eq!(Day::at(day.start() + Duration::from_secs(86_399)), day);
        assert_eq!(Day::at(day.after(1).start()), day.after(1));
        assert_eq!(Day::LAST.to_string(), "9999-12-31");
        assert_eq!(Day::at(Duration::MAX), Day::LAST);
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2026",
            "2026-12",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "26-01-01",
            "1969-12-31",
            "2026-01-01-",
            "2026-01-01T00:00",
            "+026-01-01",
            "2026/01/01",
            "tomorrow",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_told_why_and_what_to_write() {
        let february = "the last day of that month is 2026-02-28";
        for (text, told) in [
            ("2026-02-30", february),
            ("2026-02-00", february),
            ("2028-02-30", "the last day of that month is 2028-02-29"),
            ("9999-12-32", "the last day of that month is 9999-12-31"),
            ("2026-13-01", "there is no month 13"),
            ("2026-00-01", "there is no month 00"),
            ("1969-12-31", "from 1970-01-01 on"),
            ("2026-1-5", "write 2026-01-05"),
            ("2026/12/31", "write 2026-12-31"),
            (" 2026-12-31", "write 2026-12-31"),
            ("31.12.2026", "write 2026-12-31"),
            ("12/31/2026", "write 2026-12-31"),
            // Either of the two may be the month.
            (
                "05/06/2026",
                "write the year, the month and the day, such as",
            ),
            (
                "31-31-2026",
                "write the year, the month and the day, such as",
            ),
            (
                "99999-01-01",
                "write the year, the month and the day, such as",
            ),
            ("10.0.0.1", "such as 2026-12-31"),
            ("99999999999-99-99", "such as 2026-12-31"),
            ("tomorrow", "such as 2026-12-31"),
        ] {
            let error = text.parse::<Day>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
