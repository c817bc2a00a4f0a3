//! The keys of `[web]` as `declared/web.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Web};

crate::config::declared::web::declared! { keys! {} }

/// Compares the sections where both files have one: whether they do is told by itself.
fn compare(old: &Config, new: &Config, same: fn(&Web, &Web) -> bool) -> bool {
    match (&old.web, &new.web) {
        (Some(old), Some(new)) => same(old, new),
        _ => true,
    }
}
