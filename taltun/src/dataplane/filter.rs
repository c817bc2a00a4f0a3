//! Bans, as user space enforces them: the same lists as the eBPF programs have, for when
//! these don't run or didn't see the packet.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use ipnet::IpNet;

use crate::layer::Layer;
use crate::protocol::allowed_ips::AllowedIps;

/// Denied sources, outside and inside of the tunnel; shared with the workers.
#[derive(Debug, Default)]
pub struct Filter {
    lists: RwLock<Lists>,
}

/// The lists, held for reading during a batch.
#[derive(Debug, Default)]
pub struct Lists {
    outer: AllowedIps<()>,
    inner: AllowedIps<()>,
}

impl Filter {
    /// The lists, for a batch.
    pub fn read(&self) -> RwLockReadGuard<'_, Lists> {
        self.lists.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces both lists.
    pub fn set(&self, outer: &[IpNet], inner: &[IpNet]) {
        let lists = Lists {
            outer: collect(outer),
            inner: collect(inner),
        };
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }
}

impl Lists {
    /// Whether what comes from this source is dropped: datagrams outside, packets inside.
    pub fn denies(&self, layer: Layer, source: IpAddr) -> bool {
        let (list, source) = match layer {
            Layer::Outer => (&self.outer, source.to_canonical()),
            Layer::Inner => (&self.inner, source),
        };
        !list.is_empty() && list.lookup(source).is_some()
    }
}

fn collect(nets: &[IpNet]) -> AllowedIps<()> {
    let mut table = AllowedIps::default();
    for net in nets {
        table.insert(net.trunc(), ());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_of_mapped_addresses_is_one_of_ipv4_and_the_other_way_round() {
        let nets =
            |nets: &[&str]| -> Vec<IpNet> { nets.iter().map(|net| net.parse().unwrap()).collect() };
        let filter = Filter::default();
        filter.set(
            &nets(&[
                "::ffff:198.51.100.7/128",
                "::ffff:203.0.113.0/120",
                "192.0.2.0/24",
            ]),
            &nets(&["::ffff:10.0.0.66/128"]),
        );
        let lists = filter.read();
        let denies = |source: &str| lists.denies(Layer::Outer, source.parse().unwrap());
        for denied in [
            "198.51.100.7",
            "::ffff:198.51.100.7",
            "203.0.113.200",
            "192.0.2.9",
            "::ffff:192.0.2.9",
        ] {
            assert!(denies(denied), "{denied}");
        }
        for other in ["198.51.100.8", "203.0.114.1", "2001:db8::1"] {
            assert!(!denies(other), "{other}");
        }
        assert!(lists.denies(Layer::Inner, "10.0.0.66".parse().unwrap()));
    }
}
