//! The keys of `[dataplane]` as `declared/dataplane.rs` has them.

use super::{Key, Kind, Reload, keys};
use crate::config::words::Words;
use crate::config::{Config, Dataplane, Priority};

crate::config::declared::dataplane::declared! { keys! {} }

/// Compares their settings.
fn compare(old: &Config, new: &Config, same: fn(&Dataplane, &Dataplane) -> bool) -> bool {
    same(&old.dataplane, &new.dataplane)
}
