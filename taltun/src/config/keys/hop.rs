//! The keys of `[hop]` as `declared/hop.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Hop};

crate::config::declared::hop::declared! { keys! {} }

/// Compares the sections.
fn compare(old: &Config, new: &Config, same: fn(&Hop, &Hop) -> bool) -> bool {
    same(&old.hop, &new.hop)
}
