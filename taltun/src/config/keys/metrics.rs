//! The keys of `[metrics]` as `declared/metrics.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Metrics};

crate::config::declared::metrics::declared! { keys! {} }

/// Compares the sections where both files have one: whether they do is told by itself.
fn compare(old: &Config, new: &Config, same: fn(&Metrics, &Metrics) -> bool) -> bool {
    match (&old.metrics, &new.metrics) {
        (Some(old), Some(new)) => same(old, new),
        _ => true,
    }
}
