//! The keys of `[udpgw]` as `declared/udpgw.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, Udpgw};

/// The kernel counts its buffers as a C `int`, twice.
const BUFFER: Kind = Kind::Number(0, i32::MAX as u32 / 2);
/// A hundred years.
const SECONDS: Kind = Kind::Number(0, 3_153_600_000);

crate::config::declared::udpgw::declared! { keys! {} }

/// Compares the sections where both files have one: whether they do is told by itself.
fn compare(old: &Config, new: &Config, same: fn(&Udpgw, &Udpgw) -> bool) -> bool {
    match (&old.udpgw, &new.udpgw) {
        (Some(old), Some(new)) => same(old, new),
        _ => true,
    }
}
