//! The hub of the tests: its peers, and addresses on all of its sides.

use std::net::IpAddr;

use ipnet::IpNet;
use taltun_crypto::PublicKey;

use crate::rules::{Owners, Side, World};

pub(super) fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|net| net.parse().unwrap()).collect()
}

/// The key of a peer, by its number.
pub(super) fn number(peer: usize) -> PublicKey {
    PublicKey([peer as u8; 32])
}

/// Each peer's networks, by its number.
#[derive(Debug, Clone)]
pub(super) struct Peers(pub(super) Vec<Vec<IpNet>>);

impl Owners for Peers {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        let owned = self.0.iter().enumerate();
        let nets = owned.flat_map(|(peer, nets)| nets.iter().map(move |net| (peer, net)));
        nets.filter(|(_, net)| net.contains(&address))
            .max_by_key(|(_, net)| net.prefix_len())
            .map(|(peer, _)| number(peer))
    }
}

pub(super) fn peers() -> Peers {
    Peers(vec![
        nets(&["10.0.0.2/32", "fd00::2/128", "192.168.50.0/24"]),
        nets(&["10.0.0.3/32", "fd00::3/128"]),
        nets(&["10.0.0.4/32", "0.0.0.0/0", "::/0"]),
        nets(&["10.0.0.16/28", "192.168.50.64/26"]),
    ])
}

pub(super) fn world(kernel_relays: bool) -> World {
    World {
        hub: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        kernel_relays,
    }
}

/// Where packets come from and go to, with the side that has each.
pub(super) const ADDRESSES: &[(&str, Side)] = &[
    ("10.0.0.2", Side::Peer),
    ("10.0.0.3", Side::Peer),
    ("10.0.0.4", Side::Peer),
    ("10.0.0.17", Side::Peer),
    ("192.168.50.7", Side::Peer),
    ("192.168.50.70", Side::Peer),
    ("203.0.113.9", Side::Peer),
    ("10.0.0.1", Side::Host),
    ("172.16.0.5", Side::Host),
    ("10.0.0.200", Side::Host),
    ("fd00::2", Side::Peer),
    ("fd00::3", Side::Peer),
    ("fd00::9", Side::Peer),
    ("fd00::1", Side::Host),
    ("fd01::5", Side::Host),
    ("224.0.0.251", Side::Host),
    ("255.255.255.255", Side::Host),
    ("ff02::fb", Side::Host),
    ("fe80::7", Side::Host),
];
