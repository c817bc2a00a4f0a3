//! The keys of `[fleet]` as `declared/fleet.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Fleet};

crate::config::declared::fleet::declared! { keys! {} }

/// Compares the sections where both files have one: whether they do is told by itself.
fn both(old: &Config, new: &Config, same: fn(&Fleet, &Fleet) -> bool) -> bool {
    match (&old.fleet, &new.fleet) {
        (Some(old), Some(new)) => same(old, new),
        _ => true,
    }
}
