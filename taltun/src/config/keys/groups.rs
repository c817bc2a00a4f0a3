//! The key of `[groups]` as `declared/groups.rs` has it.

use super::{Key, Kind, Reload, keys};

crate::config::declared::groups::declared! { keys! {} }
