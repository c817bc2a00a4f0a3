//! The time of a change, as the log has it.

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// What the clock shows, in UTC.
pub(super) fn now() -> String {
    let mut text = String::new();
    // A text takes all of it.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
