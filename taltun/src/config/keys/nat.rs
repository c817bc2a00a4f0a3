//! The keys of `[nat]` as `declared/nat.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};

crate::config::declared::nat::declared! { keys! {} }
