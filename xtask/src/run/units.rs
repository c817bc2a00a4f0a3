//! Numbers as people read them.

use std::time::Duration;

/// Bytes: `2.6 GiB`.
pub fn bytes(count: u64) -> String {
    scaled(count as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Bits a second: `1.69 Gbit/s`, in five digits at the most.
pub fn rate(bits: f64) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    let (value, unit) = scale(bits, 1000.0, &units);
    match unit {
        "Gbit/s" | "Tbit/s" => format!("{value:.2} {unit}"),
        "Mbit/s" if value < 9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A number with its thousands apart: `76,340`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same in five digits at the most: `76,340`, `1.6 M`.
pub fn short_count(number: u64) -> String {
    if number < 100_000 {
        return count(number);
    }
    let (value, unit) = scale(number as f64, 1000.0, &["", "k", "M", "G", "T"]);
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// So many of something: `1 packet`, `2 packets`.
pub fn counted(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {what}{ending}", count(number))
}

/// A time of which fractions matter: `171 µs`, `4.2 ms`, `3.4 s`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.000_999_5 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 0.009_95 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 0.999_5 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else {
        clock(time)
    }
}

/// A time that goes on: `42 s`, `3 min 20 s`, `1 h 5 min`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

/// One decimal, but of the smallest unit.
fn scaled(value: f64, step: f64, units: &[&'static str]) -> String {
    let (value, unit) = scale(value, step, units);
    if unit == units[0] {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

fn scale(mut value: f64, step: f64, units: &[&'static str]) -> (f64, &'static str) {
    let mut units = units.iter().copied().peekable();
    let mut unit = units.next().unwrap_or_default();
    // What would be rounded to 1000 or more belongs to the next unit.
    while value >= 999.5 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / step, next);
    }
    (value, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_suits_them() {
        for (number, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (1023 << 20, "1.0 GiB"),
            (2_782_461_952, "2.6 GiB"),
            (7 << 50, "7168.0 TiB"),
        ] {
            assert_eq!(bytes(number), shown);
        }
    }

    #[test]
    fn rates_have_as_many_digits_as_they_need() {
        for (bits, shown) in [
            (0.0, "0 bit/s"),
            (3200.0, "3 kbit/s"),
            (4_560_000.0, "4.6 Mbit/s"),
            (87_400_000.0, "87 Mbit/s"),
            (999_600_000.0, "1.00 Gbit/s"),
            (1_690_000_000.0, "1.69 Gbit/s"),
        ] {
            assert_eq!(rate(bits), shown);
        }
    }

    #[test]
    fn one_is_one_and_thousands_are_apart() {
        assert_eq!(counted(1, "packet"), "1 packet");
        assert_eq!(counted(0, "packet"), "0 packets");
        assert_eq!(counted(76_340, "packet"), "76,340 packets");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(short_count(76_340), "76,340");
        assert_eq!(short_count(349_151), "349 k");
        assert_eq!(short_count(1_643_862), "1.6 M");
    }

    #[test]
    fn times_are_shown_in_the_unit_that_suits_them() {
        for (micros, shown) in [
            (0, "0 µs"),
            (171, "171 µs"),
            (999, "999 µs"),
            (1000, "1.0 ms"),
            (4210, "4.2 ms"),
            (87_600, "88 ms"),
            (999_900, "1.0 s"),
            (3_400_000, "3.4 s"),
            (42_000_000, "42 s"),
            (200_000_000, "3 min 20 s"),
            (3_900_000_000, "1 h 5 min"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), shown);
        }
    }
}
