//! The IP and UDP headers of a datagram of which only the payload, the addresses and the ports
//! are known.
//!
//! A socket gives a datagram without its headers. They are written anew, with what is known
//! and with correct lengths and checksums, so that Wireshark shows the datagram as it was. What isn't
//! known, an IPv4 header's identification, its options and whether it came in fragments, is left out.

use std::net::{IpAddr, SocketAddr};

use taltun_common::headers::{IPV4_LEN, Ipv4, Ipv6, UDP_LEN, Udp, protocol};
use zerocopy::IntoBytes as _;

use crate::dataplane::offload::checksum::{Sum, pseudo_header};

/// A datagram's headers, besides its addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub class: u8,
    /// The hop limit.
    pub hop_limit: u8,
}

/// Writes the headers of a datagram and its first bytes to the end of `to`. `payload` is what is
/// captured of it, and `length` how long the payload was. An IPv4 and an IPv6 address, which never
/// are in one packet, make an IPv6 packet with a mapped address.
pub fn write(
    to: &mut Vec<u8>,
    [source, destination]: [SocketAddr; 2],
    header: Header,
    payload: &[u8],
    length: usize,
) {
    let length = length.saturating_add(UDP_LEN);
    let udp_len = u16::try_from(length).unwrap_or(u16::MAX);
    if let (IpAddr::V4(from), IpAddr::V4(into)) = (source.ip(), destination.ip()) {
        let mut ip = Ipv4 {
            version_and_length: Ipv4::PLAIN,
            class: header.class,
            total_length: udp_len.saturating_add(IPV4_LEN as u16).into(),
            identification: 0.into(),
            fragment: 0.into(),
            hop_limit: header.hop_limit,
            protocol: protocol::UDP,
            checksum: [0; 2],
            source: from.octets(),
            destination: into.octets(),
        };
        ip.checksum = Sum::default().with(ip.as_bytes()).finish();
        to.extend_from_slice(ip.as_bytes());
    } else {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let ip = Ipv6 {
            version_class_label: [0x60 | header.class >> 4, header.class << 4, 0, 0],
            payload_length: udp_len.into(),
            next_header: protocol::UDP,
            hop_limit: header.hop_limit,
            source: octets(source.ip()),
            destination: octets(destination.ip()),
        };
        to.extend_from_slice(ip.as_bytes());
    }
    let mut udp = Udp {
        source: source.port().into(),
        destination: destination.port().into(),
        length: udp_len.into(),
        checksum: [0; 2],
    };
    // A checksum is over all of the payload. Of one that is cut there is none to be known; 0 says
    // in IPv4 that there is none.
    if payload.len().saturating_add(UDP_LEN) == length {
        let sum = pseudo_header(source.ip(), destination.ip(), protocol::UDP).with_u16(udp_len);
        udp.checksum = sum.with(udp.as_bytes()).with(payload).finish_udp();
    }
    to.extend_from_slice(udp.as_bytes());
    to.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        class: 0x2c,
        hop_limit: 64,
    };

    fn checksum<const N: usize>(parts: [&[u8]; N]) -> [u8; 2] {
        let sum = parts.into_iter().fold(Sum::default(), Sum::with);
        sum.finish()
    }

    fn written(source: &str, destination: &str, payload: &[u8], length: usize) -> Vec<u8> {
        let ends = [source.parse().unwrap(), destination.parse().unwrap()];
        let mut packet = vec![7];
        write(&mut packet, ends, HEADER, payload, length);
        assert_eq!(packet.remove(0), 7, "it is added at the end");
        packet
    }

    #[test]
    fn ipv4_headers_have_lengths_and_checksums() {
        let packet = written("192.0.2.1:51820", "198.51.100.7:443", b"hello", 5);
        assert_eq!(packet.len(), 20 + 8 + 5);
        assert_eq!(packet[..2], [0x45, 0x2c]);
        assert_eq!(packet[2..4], 33_u16.to_be_bytes());
        assert_eq!(packet[8..10], [64, 17]);
        assert_eq!(packet[12..16], [192, 0, 2, 1]);
        assert_eq!(packet[16..20], [198, 51, 100, 7]);
        assert_eq!(packet[20..22], 51820_u16.to_be_bytes());
        assert_eq!(packet[22..24], 443_u16.to_be_bytes());
        assert_eq!(packet[24..26], 13_u16.to_be_bytes());
        assert_eq!(&packet[28..], b"hello");
        // A sum over what has its checksum in it is 0.
        assert_eq!(checksum([&packet[..20]]), [0, 0]);
        assert_eq!(
            checksum([&packet[12..20], &[0, 17, 0, 13], &packet[20..]]),
            [0, 0]
        );
    }

    #[test]
    fn ipv6_headers_have_a_checksum_over_the_pseudo_header() {
        let packet = written("[2001:db8::1]:1", "[2001:db8::2]:2", b"abc", 3);
        assert_eq!(packet.len(), 40 + 8 + 3);
        assert_eq!(packet[..2], [0x62, 0xc0]);
        assert_eq!(packet[4..8], [0, 11, 17, 64]);
        assert_eq!(
            checksum([&packet[8..40], &[0, 17, 0, 11], &packet[40..]]),
            [0, 0]
        );
    }

    #[test]
    fn a_payload_that_is_cut_keeps_its_length_and_has_no_checksum() {
        let packet = written("192.0.2.1:1", "192.0.2.2:2", b"abc", 1000);
        assert_eq!(packet[2..4], 1028_u16.to_be_bytes());
        assert_eq!(packet[24..28], [0x03, 0xf0, 0, 0]);
        assert_eq!(packet.len(), 31);
    }

    #[test]
    fn a_checksum_of_0_is_written_as_its_other_form() {
        // A sum of 0xffff has the complement 0, which says in IPv4 that there is none.
        for last in 0..=u16::MAX {
            let packet = written("0.0.0.0:0", "0.0.0.0:0", &last.to_be_bytes(), 2);
            assert_ne!(packet[26..28], [0, 0]);
        }
    }
}
