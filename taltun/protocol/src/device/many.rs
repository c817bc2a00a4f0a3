//! For tests: a device with many peers, each with an address inside and one outside of its own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};

use super::{Device, PeerSettings, Settings};
use crate::randomness::Randomness;
use crate::time::Time;

/// The key of a peer.
pub(super) fn key(number: u32) -> PublicKey {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey(key)
}

/// Its prefix.
pub(super) fn net(number: u32) -> IpNet {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes()).into()
}

/// Its place on the underlay.
pub(super) fn address(number: u32) -> SocketAddr {
    (IpAddr::from((0xcb00_0000 + number).to_be_bytes()), 9000).into()
}

/// All of that.
pub(super) fn settings(number: u32) -> PeerSettings {
    PeerSettings {
        public_key: key(number),
        preshared_key: PresharedKey::default(),
        endpoint: Some(address(number).into()),
        allowed_ips: vec![net(number)],
        persistent_keepalive: None,
    }
}

/// A device with so many peers, of whose making nothing is counted.
pub(super) fn hub(peers: u32) -> Device {
    let mut device = Device::new(Settings {
        private_key: PrivateKey::from_bytes([9; 32]),
        randomness: Randomness::seeded([0; 32]),
        wall_clock_at_zero: Duration::ZERO,
        mtu: 1420,
        local_addresses: Vec::new(),
        relay: true,
    });
    for number in 0..peers {
        device.add_peer(settings(number), Time::START).unwrap();
    }
    device.owned.visited = 0;
    device
}
