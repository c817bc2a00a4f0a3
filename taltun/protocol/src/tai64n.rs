//! TAI64N timestamps: twelve bytes that only grow, so that a recorded initiation can't be
//! played again (paper §5.1).
//!
//! As in other implementations, the nanoseconds are rounded down, which leaves their lowest 24
//! bits. The upper eight of these count timestamps of one clock reading. The lower sixteen are zero,
//! or a mark, which tells the responder that we understand
//! [control messages](super::control_message). They are encrypted as the rest of the timestamp, so
//! nobody but the responder sees the mark.

use std::time::Duration;

/// Label of TAI64 for the Unix epoch, ten leap seconds included as customary.
const TAI64_UNIX_EPOCH: u64 = 0x4000_0000_0000_000a;
/// Nanoseconds are rounded down to this, so that the timestamp tells little of our clock:
/// 2^24 ns (16.8 ms), just below the 20 ms that two initiations must be apart.
const GRANULARITY: u32 = 1 << 24;
const NANOS_PER_SEC: u32 = 1_000_000_000;
/// From one timestamp to the next of the same clock reading: above the mark.
const STEP: u32 = 1 << 16;
/// In the bits below [`STEP`]: the initiator understands control messages. An implementation
/// that doesn't round has these bits by chance once in 65,536 handshakes, and drops the message
/// that it gets then.
const MARK: u32 = 0x746c;

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

    /// The next one that can be told from it, marked or not.
    #[must_use]
    pub fn next(self) -> Self {
        let nanos = self.nanos() & !(STEP - 1);
        // The mark must not make it a second.
        if nanos <= NANOS_PER_SEC - 2 * STEP {
            return self.with_nanos(nanos + STEP);
        }
        let mut out = [0; 12];
        out[..8].copy_from_slice(&self.seconds().saturating_add(1).to_be_bytes());
        Self(out)
    }

    /// The same, with the mark.
    #[must_use]
    pub fn marked(self) -> Self {
        self.with_nanos(self.nanos() & !(STEP - 1) | MARK)
    }

    /// Whether it has the mark.
    pub fn is_marked(self) -> bool {
        self.nanos() % STEP == MARK
    }

    /// By how much it is before another one, in whole seconds; zero if it isn't.
    pub fn behind(self, other: Self) -> Duration {
        Duration::from_secs(other.seconds().saturating_sub(self.seconds()))
    }

    fn seconds(self) -> u64 {
        let seconds = self.0.first_chunk();
        seconds.map_or(0, |seconds| u64::from_be_bytes(*seconds))
    }

    fn nanos(self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    fn with_nanos(self, nanos: u32) -> Self {
        let mut out = self.0;
        out[8..].copy_from_slice(&nanos.to_be_bytes());
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
    fn the_next_one_is_later_with_the_mark_and_without_and_is_a_time() {
        let mut at = Tai64n::from_unix(Duration::from_millis(1_700_000_000_900));
        let start = at;
        for _ in 0..20_000 {
            let next = at.next();
            for (earlier, later) in [(at, next), (at.marked(), next), (at, next.marked())] {
                assert!(earlier < later, "{earlier:?} {later:?}");
            }
            assert!(next.marked().nanos() < NANOS_PER_SEC);
            assert_eq!(at.marked().next(), next, "the mark isn't counted");
            at = next;
        }
        // A second has more than 15,000 of them.
        let seconds = |at: Tai64n| u64::from_be_bytes(*at.0.first_chunk().unwrap());
        assert_eq!(seconds(at) - seconds(start), 2);
        assert!(Tai64n::default() < Tai64n::default().next());
    }

    #[test]
    fn a_mark_is_seen_and_no_clock_makes_one() {
        for millis in 0..5000 {
            let at = Tai64n::from_unix(Duration::from_millis(1_700_000_000_000 + millis));
            assert!(!at.is_marked() && !at.next().is_marked());
            assert!(at.marked().is_marked());
            assert!(at.marked().nanos() < NANOS_PER_SEC);
            assert!(!at.marked().next().is_marked());
        }
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
