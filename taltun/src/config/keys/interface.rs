//! The keys of `[interface]` as `declared/interface.rs` has them, and what compares their values.

use super::{ADDRESSES, Key, Kind, Reload, keys};
use crate::config::words::Words;
use crate::config::{Config, FirewallChoice, HostSettings, Mode, Shell};

/// The tunnel's MTU where nothing says it, and no way to an endpoint is known, bytes: what
/// WireGuard takes everywhere. `MTU` has it in words.
pub const ASSUMED_MTU: u16 = 1420;

crate::config::declared::interface::declared! { keys! {} }

/// Compares their settings.
fn compare(old: &Config, new: &Config, same: fn(&HostSettings, &HostSettings) -> bool) -> bool {
    same(&old.host, &new.host)
}

/// Either key gives it.
fn same_key(old: &Config, new: &Config) -> bool {
    old.interface.private_key == new.interface.private_key
}
