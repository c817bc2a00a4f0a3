//! A rate of bits.

use std::fmt;
use std::num::NonZeroU64;

const NANOS: u64 = 1_000_000_000;

/// How many bits a second may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// The units of a rate, the largest first, with their bits a second.
    pub const UNITS: [(&'static str, u64); 4] = [
        ("Gbit/s", 1_000_000_000),
        ("Mbit/s", 1_000_000),
        ("kbit/s", 1_000),
        ("bit/s", 1),
    ];

    /// So many bits a second; `None` for none.
    pub const fn of_bits(bits_a_second: u64) -> Option<Self> {
        match NonZeroU64::new(bits_a_second) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// Bits a second.
    pub const fn bits(self) -> u64 {
        self.0.get()
    }

    /// How many bytes go in so many nanoseconds.
    pub(crate) fn bytes_in(self, nanos: u64) -> u64 {
        let bits = u128::from(self.bits()).saturating_mul(nanos.into());
        let bytes = bits.checked_div(8 * u128::from(NANOS)).unwrap_or_default();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// How many nanoseconds so many bytes take, of which 2^31 fit.
    pub(crate) fn nanos(self, bytes: u32) -> u64 {
        let bits = u64::from(bytes).saturating_mul(8);
        bits.saturating_mul(NANOS)
            .checked_div(self.bits())
            .unwrap_or_default()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit in which it has three digits behind the point at the most.
        let bits = self.bits();
        let fits =
            |(_, unit): &&(&str, u64)| bits >= *unit && bits.is_multiple_of((*unit / 1000).max(1));
        let (name, unit) = Self::UNITS.iter().find(fits).unwrap_or(&("bit/s", 1));
        let whole = bits.checked_div(*unit).unwrap_or_default();
        let rest = bits.checked_rem(*unit).unwrap_or_default();
        if rest == 0 {
            return write!(f, "{whole} {name}");
        }
        let thousandths = rest
            .saturating_mul(1000)
            .checked_div(*unit)
            .unwrap_or_default();
        let digits = format!("{thousandths:03}");
        write!(f, "{whole}.{} {name}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_as_it_is_written() {
        for (bits, text) in [
            (64_000, "64 kbit/s"),
            (1_500_000, "1.5 Mbit/s"),
            (20_000_000, "20 Mbit/s"),
            (999_999, "999.999 kbit/s"),
            (1_000_000_000, "1 Gbit/s"),
            (2_050_000_000, "2.05 Gbit/s"),
            (1_000_001, "1000.001 kbit/s"),
            (7, "7 bit/s"),
        ] {
            assert_eq!(Rate::of_bits(bits).unwrap().to_string(), text);
        }
        assert_eq!(Rate::of_bits(0), None);
    }

    #[test]
    fn bytes_and_time_agree() {
        let rate = Rate::of_bits(8_000_000).unwrap();
        assert_eq!(rate.nanos(1000), 1_000_000);
        assert_eq!(rate.bytes_in(1_000_000), 1000);
        let fast = Rate::of_bits(100_000_000_000).unwrap();
        assert_eq!(fast.nanos(65_535), 5_242);
        assert_eq!(Rate::of_bits(1).unwrap().nanos(65_535), 524_280_000_000_000);
    }
}
