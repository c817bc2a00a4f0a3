//! One address for each kind that networks tell apart.
//!
//! Networks cut the line of all addresses into stretches. All of a stretch are in the same networks,
//! so that its first is an example of them all; and what a stretch begins with is the first address
//! of a network, or the one behind its last.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use taltun_protocol::allowed_ips::canonical;

/// The first address of each stretch.
pub(crate) fn stretches(nets: impl IntoIterator<Item = IpNet>) -> BTreeSet<IpAddr> {
    // The first behind ::ffff:0:0/96, whose addresses stand for those of IPv4.
    let behind_mapped = 1 << 48;
    let mut firsts = BTreeSet::from([
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::from_bits(behind_mapped)),
    ]);
    for net in nets.into_iter().map(canonical) {
        let behind = match net.broadcast() {
            IpAddr::V4(last) => {
                let behind = last.to_bits().checked_add(1);
                behind.map(|bits| Ipv4Addr::from_bits(bits).into())
            }
            IpAddr::V6(last) => {
                let behind = last.to_bits().checked_add(1);
                behind.map(|bits| Ipv6Addr::from_bits(bits).into())
            }
        };
        let both = [Some(net.network()), behind].into_iter().flatten();
        firsts.extend(both.map(|address| address.to_canonical()));
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_begins_with_a_network_or_behind_one() {
        let nets = ["10.0.0.0/24", "10.0.0.0/26", "10.0.0.192/26", "240.0.0.0/4"];
        let nets = nets
            .into_iter()
            .chain(["fd00::/127", "::ffff:10.0.0.64/128"]);
        let firsts = stretches(nets.map(|net| net.parse().unwrap()));
        let firsts: Vec<String> = firsts.iter().map(IpAddr::to_string).collect();
        let v4 = [
            "0.0.0.0",
            "10.0.0.0",
            "10.0.0.64",
            "10.0.0.65",
            "10.0.0.192",
            "10.0.1.0",
            "240.0.0.0",
        ];
        assert_eq!(firsts[..7], v4);
        assert_eq!(firsts[7..], ["::", "::1:0:0:0", "fd00::", "fd00::2"]);
    }
}
