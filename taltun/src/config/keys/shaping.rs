//! The keys of `[shaping]` as `declared/shaping.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Shaping};

crate::config::declared::shaping::declared! { keys! {} }

/// Compares the sections.
fn compare(old: &Config, new: &Config, same: fn(&Shaping, &Shaping) -> bool) -> bool {
    same(&old.shaping, &new.shaping)
}
