//! The keys of `[usage]` as `declared/usage.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Usage};

crate::config::declared::usage::declared! { keys! {} }

/// Compares the sections.
fn compare(old: &Config, new: &Config, same: fn(&Usage, &Usage) -> bool) -> bool {
    same(&old.usage, &new.usage)
}
