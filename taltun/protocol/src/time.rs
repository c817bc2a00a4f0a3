//! Points on the caller's monotonic clock.

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since an origin that the caller chose, never zero.
///
/// The protocol core compares and adds these and never asks a clock, so a test can let
/// three minutes pass in no time. It is a plain integer so that workers can keep points in
/// time in atomics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The earliest point there is.
    pub const START: Self = Self(1);

    /// The point `nanos` after the origin; zero counts as one, so that zero is free to mean
    /// "never" where a time is kept in an atomic.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(if nanos == 0 { 1 } else { nanos })
    }

    /// Nanoseconds since the origin.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it isn't after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}
