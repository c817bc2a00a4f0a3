//! The keys of `[peers]` as `declared/peers.rs` has them, and what compares their values.

use super::{ADDRESSES, Key, Kind, Reload, keys};
use crate::config::{Config, Dscp, Peer, Words};

crate::config::declared::peers::declared! { keys! {} }

fn same_endpoints(old: &Config, new: &Config) -> bool {
    each(old, new, |old, new| {
        old.endpoint == new.endpoint && old.endpoints == new.endpoints
    })
}

/// Compares the peers one by one, in the order of the files.
fn each(old: &Config, new: &Config, same: fn(&Peer, &Peer) -> bool) -> bool {
    old.peers.len() == new.peers.len()
        && old
            .peers
            .iter()
            .zip(&new.peers)
            .all(|(old, new)| same(old, new))
}
