//! TAI64N timestamps: twelve bytes that only grow, so that a recorded initiation can't be
//! played again (paper §5.1).

use std::time::Duration;

/// Label of TAI64 for the Unix epoch, ten leap seconds included as customary.
const TAI64_UNIX_EPOCH: u64 = 0x4000_0000_0000_000a;
/// Nanoseconds are rounded down to this, so that the timestamp tells little of our clock:
/// 2^24 ns (16.8 ms), just below the 20 ms that two initiations must be apart.
const GRANULARITY: u32 = 1 << 24;
const NANOS_PER_SEC: u32 = 1_000_000_000;

/// A timestamp; compares as bytes, big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tai64n(pub [u8; 12]);

impl Tai64n {
    /// The timestamp of a wall-clock time, given as time since the Unix epoch.
    pub fn from_unix(since_epoch: Duration) -> Self {
        let nanos = since_epoch.subsec_nanos();
        let mut out = [0; 12];
        out[..8].copy_from_slice(&(TAI64_UNIX_EPOCH + since_epoch.as_secs()).to_be_bytes());
        out[8..].copy_from_slice(&(nanos - nanos % GRANULARITY).to_be_bytes());
        Self(out)
    }

    /// The next one, a nanosecond later.
    #[must_use]
    pub fn next(self) -> Self {
        let [.., a, b, c, d] = self.0;
        let nanos = u32::from_be_bytes([a, b, c, d]) + 1;
        if nanos < NANOS_PER_SEC {
            let mut out = self.0;
            out[8..].copy_from_slice(&nanos.to_be_bytes());
            return Self(out);
        }
        let mut out = [0; 12];
        let seconds = self
            .0
            .first_chunk()
            .map_or(0, |seconds| u64::from_be_bytes(*seconds));
        out[..8].copy_from_slice(&seconds.saturating_add(1).to_be_bytes());
        Self(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_times_compare_greater() {
        let times = [
            Duration::ZERO,
            Duration::from_millis(20),
            Duration::from_millis(999),
            Duration::from_secs(1),
            Duration::from_secs(1 << 40),
        ];
        for pair in times.windows(2) {
            assert!(Tai64n::from_unix(pair[0]) < Tai64n::from_unix(pair[1]));
        }
    }

    #[test]
    fn the_next_one_is_later_by_as_little_as_there_is() {
        let mut at = Tai64n::from_unix(Duration::from_secs(1_700_000_000));
        at.0[8..].copy_from_slice(&999_999_998_u32.to_be_bytes());
        assert_eq!(at.next().0[8..], 999_999_999_u32.to_be_bytes());
        let after = Tai64n::from_unix(Duration::from_secs(1_700_000_001));
        assert_eq!(at.next().next(), after);
        assert!(Tai64n::default() < Tai64n::default().next());
    }

    #[test]
    fn the_low_bits_of_the_clock_stay_private() {
        let base = Duration::from_secs(1_700_000_000);
        assert_eq!(
            Tai64n::from_unix(base),
            Tai64n::from_unix(base + Duration::from_millis(16))
        );
    }
}
