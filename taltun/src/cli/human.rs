//! Numbers and times for people.

use crate::report::BanStatus;

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

/// A span of time by its two largest units: `12 seconds`, `1 hour, 5 minutes`.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in UNITS {
        let amount = rest / size;
        rest %= size;
        if amount > 0 && parts.len() < 2 {
            parts.push(format!(
                "{amount} {name}{}",
                if amount == 1 { "" } else { "s" }
            ));
        }
    }
    if parts.is_empty() {
        return "0 seconds".into();
    }
    parts.join(", ")
}

/// How long a ban lasts.
pub(super) fn until(ban: &BanStatus) -> String {
    let by_hand = match (ban.banned, ban.seconds_left) {
        (false, _) => None,
        (true, None) => Some("until it is unbanned".to_owned()),
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
        assert_eq!(span(0), "0 seconds");
        assert_eq!(span(1), "1 second");
        assert_eq!(span(125), "2 minutes, 5 seconds");
        assert_eq!(span(3600), "1 hour");
        assert_eq!(span(90_061), "1 day, 1 hour");
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
        assert_eq!(until(&one), "for another 1 minute, 40 seconds");
        one.configured = true;
        assert_eq!(
            until(&one),
            "for another 1 minute, 40 seconds, and as the file denies it"
        );
        one.seconds_left = None;
        one.configured = false;
        assert_eq!(until(&one), "until it is unbanned");
    }
}
