//! The keys of `[audit]` as `declared/audit.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Audit, Config};

crate::config::declared::audit::declared! { keys! {} }

/// Compares the sections.
fn compare(old: &Config, new: &Config, same: fn(&Audit, &Audit) -> bool) -> bool {
    same(&old.audit, &new.audit)
}
