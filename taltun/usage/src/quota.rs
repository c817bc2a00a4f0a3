//! How much a peer may move in a day or a month.

use std::fmt;
use std::str::FromStr;

use crate::amount;
use crate::date::Day;

/// What a quota is counted over: periods of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to that of the next.
    Month,
}

impl Period {
    /// As the file has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The first day of the period after the one that `day` is in.
    pub fn next(self, day: Day) -> Day {
        match self {
            Self::Day => day.after(1),
            Self::Month => day.first_of_next_month(),
        }
    }
}

/// `100 GB/month`: bytes of both ways together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// So many bytes.
    pub bytes: u64,
    /// In each of these.
    pub period: Period,
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        // No line feed is meant by anybody.
        let Some((amount, period)) = parts.filter(|_| !text.chars().any(char::is_control)) else {
            return Err(format!(
                "expected an amount a day or month such as \"100 GB/month\", found {text:?}"
            ));
        };
        let period = match period.trim() {
            "day" => Period::Day,
            "month" => Period::Month,
            other => {
                let what = match meant(other) {
                    Some(period) => {
                        let written = format!("{}/{}", amount.trim(), period.word());
                        format!("write {written:?}")
                    }
                    None => "a quota is one a day or a month, such as \"100 GB/month\"".to_owned(),
                };
                return Err(format!("there is no period {other:?}; {what}"));
            }
        };
        let bytes = amount::bytes(amount)?;
        Ok(Self { bytes, period })
    }
}

/// What a word for a period means that is none, if that is clear: it begins as one does.
fn meant(word: &str) -> Option<Period> {
    let word = word.to_ascii_lowercase();
    let begins = |with: &[&str]| with.iter().any(|with| word.starts_with(with));
    // "día", "mes", "monthly", but not "minute".
    if begins(&["day", "dai", "dia", "d\u{ed}a"]) || word == "d" {
        return Some(Period::Day);
    }
    begins(&["mo", "mes"]).then_some(Period::Month)
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", amount::exact(self.bytes), self.period.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_an_amount_a_period() {
        let quota: Quota = "100 GB/month".parse().unwrap();
        assert_eq!(
            (quota.bytes, quota.period),
            (100_000_000_000, Period::Month)
        );
        assert_eq!(quota.to_string(), "100 GB/month");
        let quota: Quota = "1.5 GiB / day".parse().unwrap();
        assert_eq!((quota.bytes, quota.period), (3 << 29, Period::Day));
        assert_eq!(quota.to_string(), "1536 MiB/day");
        let day: Day = "2026-12-31".parse().unwrap();
        assert_eq!(Period::Day.next(day), Period::Month.next(day));
    }

    #[test]
    fn what_is_no_quota_is_refused() {
        for (text, told) in [
            ("100 GB", "a day or month"),
            ("100 GB/year", "no period \"year\""),
            ("100 GB/", "no period \"\""),
            ("100 GB/Month", "write \"100 GB/month\""),
            ("100 GB / monht", "write \"100 GB/month\""),
            ("100 GB/mes", "write \"100 GB/month\""),
            ("5 GB/d\u{ed}a", "write \"5 GB/day\""),
            ("5 GB/daily", "write \"5 GB/day\""),
            ("5 GB/minute", "a quota is one a day or a month"),
            ("5 GB/decade", "a quota is one a day or a month"),
            ("100/month", "the unit is missing"),
            ("1 XB/day", "no unit \"XB\""),
            ("/day", "such as"),
            ("1 GB/month\n", "such as"),
        ] {
            let error = text.parse::<Quota>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
