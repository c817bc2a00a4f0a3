//! What the tunnel needs of an inner packet: source, destination and length.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::IpAddr;

use taltun_common::headers::{
    IPV4_LEN, IPV6_FRAGMENT_LEN, IPV6_LEN, Ipv4, Ipv6, Ipv6Fragment, UDP_LEN, Udp, protocol,
};
use zerocopy::FromBytes;

/// Addresses and true length of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Bytes of the packet by its own header: what comes behind is padding.
    pub len: usize,
}

/// Reads the header of an IPv4 or IPv6 packet; `None` when it isn't one or claims more
/// bytes than there are.
pub fn parse(packet: &[u8]) -> Option<Inner> {
    let (inner, least) = match packet.first()? >> 4 {
        4 => {
            let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
            let inner = Inner {
                source: IpAddr::from(header.source),
                destination: IpAddr::from(header.destination),
                len: usize::from(header.total_length.get()),
            };
            (inner, IPV4_LEN)
        }
        6 => {
            let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
            let inner = Inner {
                source: IpAddr::from(header.source),
                destination: IpAddr::from(header.destination),
                len: IPV6_LEN + usize::from(header.payload_length.get()),
            };
            (inner, IPV6_LEN)
        }
        _ => return None,
    };
    (inner.len >= least && inner.len <= packet.len()).then_some(inner)
}

/// Source and destination port of a UDP packet that [`parse`] accepted; `None` for anything
/// else, such as a later fragment, or one with other IPv6 extension headers.
pub fn udp_ports(packet: &[u8]) -> Option<(u16, u16)> {
    let (header, _) = Udp::ref_from_prefix(packet.get(udp_header_at(packet)?..)?).ok()?;
    Some((header.source.get(), header.destination.get()))
}

/// What a UDP packet that [`parse`] accepted carries, which may be cut short by
/// fragmentation; `None` as for [`udp_ports`].
pub fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    packet.get(udp_header_at(packet)?..)?.get(UDP_LEN..)
}

/// Whether no host sends from this address: it is multicast, broadcast, unspecified or loopback, as
/// the kernel sees it (`ip_route_input`, `ipv6_rcv`). IPv4 in its
/// mapped form isn't IPv4 there.
pub fn is_no_hosts(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => {
            matches!(source.octets(), [0 | 127 | 224..=239, ..]) || source.is_broadcast()
        }
        IpAddr::V6(source) => {
            source.is_multicast()
                || source.is_loopback()
                || source.is_unspecified()
                || source.to_ipv4_mapped().is_some()
        }
    }
}

/// The least prefix length that gives a peer this address. A default route, or half of one,
/// doesn't cover link-local IPv6 addresses, which no router forwards, or IPv4-compatible ones
/// (`::/96`), which nobody uses any more. These need an allowed prefix of their own.
///
/// IPv4 is as in the kernel: routers on the Internet do answer from 169.254.0.0/16 and 240.0.0.0/4,
/// and their messages about packets that are too large are needed.
pub fn least_prefix(source: IpAddr) -> u8 {
    match source {
        IpAddr::V6(source) if source.is_unicast_link_local() => 10,
        IpAddr::V6(source) if source.octets().first_chunk() == Some(&[0_u8; 12]) => 96,
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    }
}

/// How many hops a packet that [`parse`] accepted has left.
pub fn hop_limit(packet: &[u8]) -> u8 {
    match packet {
        [first, _, _, _, _, _, _, _, limit, ..] if first >> 4 == 4 => *limit,
        [_, _, _, _, _, _, _, limit, ..] => *limit,
        _ => 0,
    }
}

/// Where the UDP header is, if there is one.
fn udp_header_at(packet: &[u8]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 => {
            let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
            let is_it = header.protocol == protocol::UDP && !header.is_later_fragment();
            is_it.then(|| header.header_len())
        }
        6 => {
            let (header, rest) = Ipv6::ref_from_prefix(packet).ok()?;
            match header.next_header {
                protocol::UDP => Some(IPV6_LEN),
                protocol::IPV6_FRAGMENT => {
                    let (fragment, _) = Ipv6Fragment::ref_from_prefix(rest).ok()?;
                    let is_it = fragment.next_header == protocol::UDP && !fragment.is_later();
                    is_it.then_some(IPV6_LEN + IPV6_FRAGMENT_LEN)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Takes one hop off a packet that [`parse`] accepted; false when none is left. Keeps the
/// IPv4 header checksum right by RFC 1624.
pub fn take_hop(packet: &mut [u8]) -> bool {
    match packet {
        [first, _, _, _, _, _, _, limit, ..] if *first >> 4 == 6 => spend(limit),
        [_, _, _, _, _, _, _, _, limit, _, high, low, ..] => {
            // HC' = ~(~HC + ~m + m'), and m' = m - 0x0100 in the word that starts with the TTL.
            let checksum = u16::from_be_bytes([*high, *low]);
            let (sum, carry) = checksum.overflowing_add(0x0100);
            if !spend(limit) {
                return false;
            }
            [*high, *low] = sum.wrapping_add(u16::from(carry)).to_be_bytes();
            true
        }
        _ => false,
    }
}

/// Takes one off a hop limit; false when none is left.
#[inline]
fn spend(limit: &mut u8) -> bool {
    let left = limit.saturating_sub(1);
    if left > 0 {
        *limit = left;
    }
    left > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ttl: u8, id: u16) -> Vec<u8> {
        let mut packet = vec![
            0x45, 0, 0, 28, 0, 0, 0, 0, 0, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[8] = ttl;
        packet.extend([0; 8]);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn checksum(header: &[u8]) -> u16 {
        let mut sum: u32 = header
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn packets_are_cut_to_the_length_their_header_tells() {
        let mut packet = v4(64, 1);
        packet.extend([0; 20]);
        let inner = parse(&packet).unwrap();
        assert_eq!(inner.len, 28);
        assert_eq!(inner.source, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(inner.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_header_that_claims_more_or_less_than_there_is_is_refused() {
        let mut packet = v4(64, 1);
        assert!(parse(&packet).is_some());
        packet[3] = 29;
        assert!(parse(&packet).is_none());
        packet[3] = 19;
        assert!(parse(&packet).is_none());
    }

    #[test]
    fn groups_everybody_nobody_and_the_host_itself_are_no_hosts() {
        for source in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "ff0e::1",
            "::ffff:10.0.0.2",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_no_hosts(source.parse().unwrap()), "{source}");
        }
        for source in [
            "1.0.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "223.255.255.255",
            "240.0.0.1",
            "255.255.255.254",
            "::2",
            "fe80::1",
            "fd00::1",
            "::fffe:10.0.0.2",
            "2001:db8::1",
        ] {
            assert!(!is_no_hosts(source.parse().unwrap()), "{source}");
        }
    }

    #[test]
    fn some_addresses_are_a_peers_by_their_own_prefix_only() {
        for (source, least) in [
            ("fe80::1", 10),
            ("febf:ffff::1", 10),
            ("fec0::1", 0),
            ("::10.4.0.1", 96),
            ("::2", 96),
            ("::1:10.4.0.1", 0),
            ("2001:db8::1", 0),
            ("169.254.1.1", 0),
            ("240.0.0.1", 0),
        ] {
            assert_eq!(least_prefix(source.parse().unwrap()), least, "{source}");
        }
    }

    #[test]
    fn garbage_of_any_length_is_refused_or_fits() {
        for len in 0..64 {
            for first in 0..=255 {
                let packet = vec![first; len];
                if let Some(inner) = parse(&packet) {
                    assert!(inner.len <= len);
                }
            }
        }
    }

    #[test]
    fn ports_are_those_of_udp_and_not_of_a_later_fragment() {
        let mut packet = v4(64, 1);
        packet.resize(28, 0);
        packet[20..24].copy_from_slice(&[0x12, 0x34, 0xca, 0x6c]);
        assert_eq!(udp_ports(&packet), Some((0x1234, 51820)));
        packet[7] = 1;
        assert_eq!(udp_ports(&packet), None);
        packet[7] = 0;
        packet[9] = 6;
        assert_eq!(udp_ports(&packet), None);
        let mut packet = vec![0; 48];
        packet[0] = 0x60;
        packet[6] = 17;
        packet[40..44].copy_from_slice(&[0, 1, 0, 2]);
        assert_eq!(udp_ports(&packet), Some((1, 2)));
        assert_eq!(udp_ports(&packet[..47]), None);
    }

    #[test]
    fn a_hop_less_leaves_a_right_checksum() {
        for id in 0..=u16::MAX {
            let mut packet = v4((id % 254) as u8 + 2, id);
            assert!(take_hop(&mut packet));
            assert_eq!(checksum(&packet[..20]), 0, "id {id}");
        }
    }

    #[test]
    fn the_last_hop_is_not_taken() {
        let mut packet = v4(1, 1);
        assert!(!take_hop(&mut packet));
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[7] = 1;
        assert!(!take_hop(&mut packet));
        packet[7] = 2;
        assert!(take_hop(&mut packet));
        assert_eq!(packet[7], 1);
    }
}
