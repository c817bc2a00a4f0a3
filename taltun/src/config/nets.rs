//! A set of networks that tells quickly which of them overlap with another one.
//!
//! Two networks overlap where one contains the other. So those that overlap with a network
//! either lie within it, which is one stretch of the set in order, or contain it, and there
//! are at most as many of these as there are lengths of prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// Networks, each with what is known of it.
#[derive(Debug)]
pub(super) struct Nets<T> {
    nets: BTreeMap<(IpAddr, u8), T>,
    lengths: BTreeSet<u8>,
}

impl<T> Nets<T> {
    /// A value of a network that overlaps with `net`, the widest that contains it if there
    /// is one.
    pub(super) fn overlapping(&self, net: &IpNet) -> Option<&T> {
        self.containing(net).or_else(|| {
            let within = (net.network(), 0)..=(net.broadcast(), u8::MAX);
            self.nets.range(within).next().map(|(_, value)| value)
        })
    }

    /// A value of a network that contains `net`.
    pub(super) fn containing(&self, net: &IpNet) -> Option<&T> {
        let wider = self.lengths.range(..=net.prefix_len());
        wider
            .filter_map(|length| IpNet::new(net.addr(), *length).ok())
            .find_map(|net| self.nets.get(&key(&net)))
    }

    /// Adds a network.
    pub(super) fn insert(&mut self, net: &IpNet, value: T) {
        self.lengths.insert(net.prefix_len());
        self.nets.insert(key(net), value);
    }
}

impl<T> Default for Nets<T> {
    fn default() -> Self {
        Self {
            nets: BTreeMap::new(),
            lengths: BTreeSet::new(),
        }
    }
}

impl FromIterator<IpNet> for Nets<()> {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut set = Self::default();
        for net in nets {
            set.insert(&net, ());
        }
        set
    }
}

fn key(net: &IpNet) -> (IpAddr, u8) {
    (net.network(), net.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the set says is what comparing each with each says.
    #[test]
    fn overlaps_are_found_as_by_comparing_each_with_each() {
        let nets: Vec<IpNet> = [
            "0.0.0.0/1",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "10.1.2.4/31",
            "192.168.0.0/16",
            "192.168.7.9/24",
            "255.255.255.255/32",
            "::/0",
            "fd00::/8",
            "fd00::1/128",
            "fe80::/10",
        ]
        .map(|net| net.parse().unwrap())
        .to_vec();
        for left_out in 0..nets.len() {
            let mut others = nets.clone();
            let net = others.remove(left_out);
            for chosen in 0..1_u32 << others.len() {
                let chosen: Vec<IpNet> = others
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| chosen >> at & 1 == 1)
                    .map(|(_, net)| *net)
                    .collect();
                let set: Nets<()> = chosen.iter().copied().collect();
                let contains = chosen.iter().any(|other| other.contains(&net.trunc()));
                let overlaps = contains || chosen.iter().any(|other| net.contains(&other.trunc()));
                assert_eq!(set.containing(&net).is_some(), contains, "{net} {chosen:?}");
                assert_eq!(
                    set.overlapping(&net).is_some(),
                    overlaps,
                    "{net} {chosen:?}"
                );
            }
        }
    }
}
