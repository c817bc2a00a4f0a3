//! Numbers and times as people of both languages write them.

use super::words::Language;

/// Bytes with a binary unit: `512 B`, `1.2 MiB`.
pub(super) fn bytes(count: u64, language: Language) -> String {
    scaled(
        count,
        1024.0,
        ["B", "KiB", "MiB", "GiB", "TiB", "PiB"],
        language,
    )
}

/// Bytes a second, told as bits: `1.2 Mbit/s`.
pub(super) fn rate(bytes: u64, language: Language) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"];
    scaled(bytes.saturating_mul(8), 1000.0, units, language)
}

fn scaled(count: u64, step: f64, units: [&str; 6], language: Language) -> String {
    let mut value = count as f64;
    let mut rest = units.as_slice();
    // What would round up to the next unit is one of that.
    while let [_, larger @ ..] = rest
        && !larger.is_empty()
        && value >= step - 0.05
    {
        value /= step;
        rest = larger;
    }
    let unit = rest.first().copied().unwrap_or_default();
    if rest.len() == units.len() || value >= 99.95 {
        format!("{value:.0}\u{a0}{unit}")
    } else {
        let number = format!("{value:.1}");
        format!("{}\u{a0}{unit}", language.decimal(&number))
    }
}

/// A count with its thousands set apart: `1,234,567`.
pub(super) fn count(count: u64, language: Language) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().saturating_sub(place).is_multiple_of(3) {
            out.push(language.thousands());
        }
        out.push(digit);
    }
    out
}

/// A span of time by its two largest units: `12 s`, `1 h 5 min`, `3 d 2 h`.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3600);
    let (minutes, rest) = (seconds % 3600 / 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}\u{a0}s"),
        (0, 0, _) if minutes < 10 && rest > 0 => format!("{minutes}\u{a0}min {rest}\u{a0}s"),
        (0, 0, _) => format!("{minutes}\u{a0}min"),
        (0, _, 0) => format!("{hours}\u{a0}h"),
        (0, ..) => format!("{hours}\u{a0}h {minutes}\u{a0}min"),
        (_, 0, _) => format!("{days}\u{a0}d"),
        _ => format!("{days}\u{a0}d {hours}\u{a0}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::Language::{English, Spanish};
    use super::*;

    #[test]
    fn numbers_have_the_marks_of_their_language() {
        let plain = |text: String| text.replace('\u{a0}', " ");
        assert_eq!(plain(bytes(0, English)), "0 B");
        assert_eq!(plain(bytes(1023, English)), "1023 B");
        assert_eq!(plain(bytes(1_258_291, English)), "1.2 MiB");
        assert_eq!(plain(bytes(1_258_291, Spanish)), "1,2 MiB");
        assert_eq!(plain(bytes(200 << 20, English)), "200 MiB");
        assert_eq!(plain(bytes(u64::MAX, English)), "16384 PiB");
        assert_eq!(plain(rate(125, English)), "1.0 kbit/s");
        assert_eq!(plain(rate(1_500_000, Spanish)), "12,0 Mbit/s");
        assert_eq!(count(1_234_567, English), "1,234,567");
        assert_eq!(count(1_234_567, Spanish), "1\u{202f}234\u{202f}567");
        assert_eq!(count(999, English), "999");
    }

    #[test]
    fn spans_have_two_units_at_the_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (65, "1 min 5 s"),
            (3599, "59 min"),
            (3600, "1 h"),
            (3660, "1 h 1 min"),
            (86_400, "1 d"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds).replace('\u{a0}', " "), text);
        }
    }
}
