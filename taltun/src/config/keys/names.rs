//! The keys of `[names]` as `declared/names.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Names};

crate::config::declared::names::declared! { keys! {} }

/// Compares the sections where both files have one: whether they do is told by itself.
fn both(old: &Config, new: &Config, same: fn(&Names, &Names) -> bool) -> bool {
    match (&old.names, &new.names) {
        (Some(old), Some(new)) => same(old, new),
        _ => true,
    }
}
