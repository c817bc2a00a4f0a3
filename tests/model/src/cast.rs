//! Who takes part: a hub, three spokes, and a stranger that knows the hub's public key and isn't known
//! to it. Each has a few key pairs, one after the other.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use ipnet::IpNet;
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};
use taltun_protocol::device::Place;

/// The hub.
pub(crate) const HUB: usize = 0;
/// The spokes.
pub(crate) const SPOKES: std::ops::Range<usize> = 1..4;
/// Who knows the hub's public key and isn't its peer.
pub(crate) const STRANGER: usize = 4;
/// All of them.
pub(crate) const ALL: usize = 5;
/// Key pairs that each has.
pub(crate) const GENERATIONS: u8 = 4;
/// The first and the last port that the hub is reached at.
pub(crate) const HUB_PORTS: (u16, u16) = (9000, 9007);
/// Networks that move from one spoke to another.
pub(crate) const MOVABLE: [&str; 4] =
    ["10.9.0.0/24", "10.9.0.128/25", "10.9.0.200/32", "fd09::/64"];

static PUBLIC: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    (0..ALL)
        .flat_map(|who| (0..GENERATIONS).map(move |generation| private(who, generation)))
        .map(|key| key.public_key())
        .collect()
});

pub(crate) fn private(who: usize, generation: u8) -> PrivateKey {
    PrivateKey::from_bytes([(who as u8 + 1) * 16 + generation; 32])
}

pub(crate) fn public(who: usize, generation: u8) -> &'static PublicKey {
    &PUBLIC[who * usize::from(GENERATIONS) + usize::from(generation)]
}

/// Whose key that is, whichever of its keys.
pub(crate) fn owner(key: &PublicKey) -> Option<usize> {
    let at = PUBLIC.iter().position(|known| known == key)?;
    Some(at / usize::from(GENERATIONS))
}

pub(crate) fn preshared(number: u8) -> PresharedKey {
    PresharedKey([number; 32])
}

/// The inner address of one of them, of IPv4 or IPv6.
pub(crate) fn inner(who: usize, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, who as u16 + 1])
    } else {
        IpAddr::from([10, 0, 0, who as u8 + 1])
    }
}

/// The networks of one address that everybody has.
pub(crate) fn own_nets(who: usize) -> Vec<IpNet> {
    vec![inner(who, false).into(), inner(who, true).into()]
}

/// What spokes expect behind the hub: all inner addresses.
pub(crate) fn behind_hub() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/12"]
        .map(|net| net.parse().expect("it is a network"))
        .to_vec()
}

/// Where a spoke is, at one of several addresses and ports.
pub(crate) fn spoke_address(who: usize, place: u8) -> SocketAddr {
    let port = 40_000 + u16::from(place & 1);
    SocketAddr::from(([198, 51, 100 + (place >> 1 & 1), who as u8], port))
}

/// The hub's two addresses, with the first of their ports.
pub(crate) fn hub_address(at: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, at as u8 + 1], HUB_PORTS.0))
}

/// One of the hub's addresses with all ports.
pub(crate) fn hub_place(at: usize) -> Place {
    Place::new(hub_address(at), HUB_PORTS.1)
}

/// Whether the hub is reached there.
pub(crate) fn is_hub(to: SocketAddr) -> bool {
    let at_hub = [0, 1].iter().any(|at| hub_address(*at).ip() == to.ip());
    at_hub && (HUB_PORTS.0..=HUB_PORTS.1).contains(&to.port())
}
