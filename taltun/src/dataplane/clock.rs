//! The clock that the protocol core is told.

use std::time::Duration;

use super::sys;
use crate::protocol::time::Time;

/// Now, on the clock that goes on while the machine sleeps: a session is as dead after
/// three minutes of suspension as after three minutes of anything else.
pub fn now() -> Time {
    Time::from_nanos(sys::boottime_nanos())
}

/// Wall-clock time since the Unix epoch at the moment when [`now`] was zero.
pub fn wall_clock_at_zero() -> Duration {
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    wall.saturating_sub(Duration::from_nanos(now().as_nanos()))
}
