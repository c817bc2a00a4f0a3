//! Addresses and networks as the maps have them: see [`taltun_common::address`].

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;

use taltun_common::address::{Address, V4_MAPPED_BITS};
use taltun_common::maps::family;

/// An address as the maps have it.
pub(super) fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// A network as the lists have it, and which family it speaks of.
pub(super) fn prefix(net: IpNet) -> (Key<Address>, u8) {
    let address = net.network();
    let bits = u32::from(net.prefix_len());
    let (bits, meant) = match address {
        IpAddr::V4(_) => (V4_MAPPED_BITS + bits, family::V4),
        IpAddr::V6(v6) if bits >= V4_MAPPED_BITS && v6.to_ipv4_mapped().is_some() => {
            (bits, family::V4)
        }
        IpAddr::V6(_) => (bits, family::V6),
    };
    (Key::new(bits, key(address)), meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(net: &str) -> (u32, Address, u8) {
        let (key, meant) = prefix(net.parse().unwrap());
        (key.prefix_len(), key.data(), meant)
    }

    #[test]
    fn a_v4_network_is_a_longer_prefix() {
        let mapped = "::ffff:198.51.100.0".parse::<std::net::Ipv6Addr>().unwrap();
        let expected = (96 + 24, mapped.octets(), family::V4);
        assert_eq!(parts("198.51.100.0/24"), expected);
        // Host bits don't matter, nor which way the network is written.
        assert_eq!(parts("198.51.100.77/24"), expected);
        assert_eq!(parts("::ffff:198.51.100.0/120"), expected);
    }

    #[test]
    fn a_v6_network_that_covers_v4_does_not_mean_v4() {
        assert_eq!(parts("::/0"), (0, [0; 16], family::V6));
        assert_eq!(parts("0.0.0.0/0").2, family::V4);
    }
}
