//! The keys of `[policy]` as `declared/policy.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::words::Words;
use crate::config::{Action, Config, Policy};

crate::config::declared::policy::declared! { keys! {} }

/// Compares the sections.
fn compare(old: &Config, new: &Config, same: fn(&Policy, &Policy) -> bool) -> bool {
    same(&old.policy, &new.policy)
}
