//! The keys of `[[forward]]` as `declared/forward.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Forward, ForwardSource, Words};

crate::config::declared::forward::declared! { keys! {} }

/// Compares them one by one, in the order of the files.
fn each(old: &Config, new: &Config, same: fn(&Forward, &Forward) -> bool) -> bool {
    let (old, new) = (&old.forwards, &new.forwards);
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new))
}
