//! Since when usage is asked for.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use taltun_usage::Day;
use taltun_usage::book::Span;

/// Since when usage is told: `30d`, which are the last 30 days with today's, or a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Since {
    /// So many days, at least one.
    Days(u32),
    /// From that day on.
    Date(Day),
}

/// The most days that can be asked for: a hundred years.
const MOST_DAYS: u32 = 36_500;

impl Since {
    /// Which days these are, if today is that one.
    pub(super) fn span(self, today: Day) -> Result<Span, String> {
        let first = match self {
            Self::Days(days) => today.before(days.saturating_sub(1)),
            Self::Date(day) => day,
        };
        if first > today {
            return Err(format!(
                "--since {first} is in the future: today is {today} (UTC); give a day up to that"
            ));
        }
        Ok(Span { first, last: today })
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
        if let Some(days) = days.filter(|days| (1..=MOST_DAYS).contains(days)) {
            return Ok(Self::Days(days));
        }
        text.parse().map(Self::Date).map_err(|reason: String| {
            let days = format!("expected days such as 30d (1d, which is today, to {MOST_DAYS}d)");
            if text.contains(['-', '.', '/']) {
                format!("{days} or a date: {reason}")
            } else {
                format!("{days} or a date such as 2026-12-31")
            }
        })
    }
}

impl TryFrom<String> for Since {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Since> for String {
    fn from(since: Since) -> Self {
        match since {
            Since::Days(days) => format!("{days}d"),
            Since::Date(day) => day.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_days_or_a_date() {
        let today: Day = "2026-11-29".parse().unwrap();
        for (text, first) in [
            ("1d", "2026-11-29"),
            ("30d", "2026-10-31"),
            ("2026-01-02", "2026-01-02"),
        ] {
            let since: Since = text.parse().unwrap();
            assert_eq!(since.span(today).unwrap().first.to_string(), first);
            assert_eq!(String::from(since), text);
        }
        let future: Since = "2026-11-30".parse().unwrap();
        let error = future.span(today).unwrap_err();
        assert!(
            error.contains("is in the future: today is 2026-11-29"),
            "{error}"
        );
        for text in [
            "",
            "0d",
            "d",
            "30",
            "36501d",
            "-1d",
            "2026-02-30",
            "yesterday",
        ] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
