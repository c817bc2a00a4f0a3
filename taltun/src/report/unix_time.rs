//! A time of the wall clock. In JSON it is seconds since 1970, with milliseconds as their
//! fraction: what shells and databases count with, without a time zone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct UnixTime(u64);

impl UnixTime {
    /// So long after the epoch.
    pub fn at(since_epoch: Duration) -> Self {
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// In seconds since the epoch.
    pub fn seconds(self) -> f64 {
        self.into()
    }
}

impl From<f64> for UnixTime {
    fn from(seconds: f64) -> Self {
        // Half a millisecond more, as what follows is cut off.
        let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self::at(time.saturating_add(Duration::from_micros(500)))
    }
}

impl From<UnixTime> for f64 {
    fn from(time: UnixTime) -> Self {
        time.0 as Self / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seconds_with_milliseconds() {
        let time = UnixTime::at(Duration::new(1_795_909_552, 123_456_789));
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "1795909552.123");
        assert_eq!(serde_json::from_str::<UnixTime>(&json).unwrap(), time);
        assert_eq!(
            serde_json::from_str::<UnixTime>("-1").unwrap(),
            UnixTime::default()
        );
    }
}
