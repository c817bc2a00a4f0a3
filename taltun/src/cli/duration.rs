//! Durations as people write them: `90s`, `10m`, `1h30m`, `2d`.

use std::str::FromStr;

/// A time to wait, at least one second and at most a hundred years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duration {
    /// Its length, seconds.
    pub(super) seconds: u64,
}

/// A hundred years, seconds.
const LONGEST: u64 = 100 * 365 * 24 * 3600;
const TOO_LONG: &str = "expected at most 36500d, a hundred years";

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match parse(text) {
            Some(0) => Err("expected at least 1s".into()),
            Some(seconds) if seconds <= LONGEST => Ok(Self { seconds }),
            Some(_) => Err(TOO_LONG.into()),
            None if is_number => Err(format!(
                "the unit is missing: {text}s, {text}m, {text}h or {text}d"
            )),
            None => Err("expected a duration such as 90s, 10m, 1h30m or 2d".into()),
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    // Each unit once, the larger before the smaller.
    let mut largest = u64::MAX;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let shifted = number.unwrap_or(0).checked_mul(10)?;
            number = Some(shifted.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match c {
            'd' => 24 * 3600,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if unit >= largest {
            return None;
        }
        largest = unit;
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    // A number without a unit could mean anything.
    number.is_none().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, seconds) in [
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1d1h1m1s", 90_061),
        ] {
            assert_eq!(text.parse(), Ok(Duration { seconds }), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "10",
            "m",
            "10x",
            "1m1h",
            "1m1m",
            "0s",
            "-1s",
            "1.5h",
            "10 m",
            "1h30",
            "99999999999999999999s",
            "9999999999999d",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
