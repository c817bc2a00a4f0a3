//! The keys of `[[rules]]` as `declared/rules.rs` has them, and what compares their values.

use taltun_policy::Rule;

use super::{Key, Kind, Reload, keys};
use crate::config::Config;

crate::config::declared::rules::declared! { keys! {} }

fn same_services(old: &Rule, new: &Rule) -> bool {
    old.services == new.services && old.action == new.action
}

/// Compares the rules one by one, in the order of the files.
fn each(old: &Config, new: &Config, same: fn(&Rule, &Rule) -> bool) -> bool {
    let (old, new) = (&old.policy.rules, &new.policy.rules);
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new))
}
