//! Numbers and times for people.

use crate::report::{BanStatus, whole_seconds};

/// Bytes with a binary unit: `512 B`, `1.2 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // What would round up to 1024.0 is one of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with its thousands set apart: `1,234,567`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 client`, `1,000 clients`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A span of time by its two largest units: `12 s`, `1 h 5 min`.
pub(super) fn span(seconds: u64) -> String {
    let mut parts = units(seconds).into_iter().take(2);
    let first = parts.next().unwrap_or_else(|| "0 s".to_owned());
    match parts.next() {
        Some(second) => format!("{first} {second}"),
        None => first,
    }
}

/// The same in its largest unit, for a column: `12 s`, `3 h`.
pub(super) fn age(seconds: f64) -> String {
    let largest = units(whole_seconds(seconds)).into_iter().next();
    largest.unwrap_or_else(|| "0 s".to_owned())
}

/// What isn't nothing of a span of time, the largest unit first, short.
fn units(seconds: u64) -> Vec<String> {
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")] {
        let amount = rest / size;
        rest %= size;
        if amount > 0 {
            parts.push(format!("{amount} {name}"));
        } else if !parts.is_empty() {
            // Not "1 d 5 s".
            break;
        }
    }
    parts
}

/// How long ago something was: `12 s ago`.
pub(super) fn ago(seconds: f64) -> String {
    match whole_seconds(seconds) {
        0 => "now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// A rate in bits, as limits and lines have it: `2.5 Mbit/s`.
pub(super) fn rate(bytes_per_second: u64) -> String {
    const UNITS: [&str; 5] = ["kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"];
    let bits = bytes_per_second.saturating_mul(8);
    if bits < 1000 {
        return format!("{bits} bit/s");
    }
    let mut value = bits as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// How long a ban lasts.
pub(super) fn until(ban: &BanStatus) -> String {
    let by_hand = match (ban.banned, ban.seconds_left) {
        (false, _) => None,
        (true, None) => Some("until it is unbanned or the tunnel stops".to_owned()),
        (true, Some(left)) => Some(format!("for another {}", span(left))),
    };
    let by_file = ban.configured.then(|| "as the file denies it".to_owned());
    by_hand
        .into_iter()
        .chain(by_file)
        .collect::<Vec<_>>()
        .join(", and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_258_291), "1.2 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts_have_their_thousands_set_apart() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "client"), "1 client");
        assert_eq!(counted(1_000, "client"), "1,000 clients");
        assert_eq!(counted(0, "client"), "0 clients");
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (seconds, whole, column) in [
            (0_u32, "0 s", "0 s"),
            (59, "59 s", "59 s"),
            (60, "1 min", "1 min"),
            (3725, "1 h 2 min", "1 h"),
            (3605, "1 h", "1 h"),
            (90_061, "1 d 1 h", "1 d"),
        ] {
            assert_eq!(span(seconds.into()), whole);
            assert_eq!(age(seconds.into()), column);
        }
        assert_eq!(ago(0.9), "now");
        assert_eq!(ago(61.0), "1 min 1 s ago");
        assert_eq!(ago(f64::NAN), "now");
    }

    #[test]
    fn rates_have_three_digits_at_most() {
        for (bytes, text) in [
            (0, "0 bit/s"),
            (124, "992 bit/s"),
            (125, "1.0 kbit/s"),
            (1_243_000, "9.9 Mbit/s"),
            (1_250_000, "10 Mbit/s"),
            (124_920_000, "999 Mbit/s"),
            (124_990_000, "1.0 Gbit/s"),
        ] {
            assert_eq!(rate(bytes), text);
        }
    }

    #[test]
    fn a_ban_is_told_with_its_end() {
        let mut one = BanStatus {
            net: "10.0.0.3/32".parse().unwrap(),
            layer: Layer::Inner,
            configured: false,
            banned: true,
            seconds_left: Some(100),
            ends_at: None,
            peers: Vec::new(),
            remedy: String::new(),
        };
        assert_eq!(until(&one), "for another 1 min 40 s");
        one.configured = true;
        assert_eq!(
            until(&one),
            "for another 1 min 40 s, and as the file denies it"
        );
        one.seconds_left = None;
        one.configured = false;
        assert_eq!(until(&one), "until it is unbanned or the tunnel stops");
    }
}
