//! The IP and UDP headers of a datagram of which only the payload, the addresses and the ports
//! are known.
//!
//! A socket gives a datagram without its headers. They are written anew, with what is known
//! and with correct lengths and checksums, so that Wireshark shows the datagram as it was. What isn't
//! known, an IPv4 header's identification, its options and whether it came in fragments, is left out.

use std::net::{IpAddr, SocketAddr};

/// The longest headers that are written: those of IPv6 and UDP.
pub const LONGEST_HEADERS: usize = 48;

/// A datagram's headers, besides its addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub class: u8,
    /// The hop limit.
    pub hop_limit: u8,
}

const UDP: u8 = 17;
const IPV4_HEADER: u16 = 20;
const UDP_HEADER: u16 = 8;

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
    let udp_len = u16::try_from(length)
        .unwrap_or(u16::MAX)
        .saturating_add(UDP_HEADER);
    // A checksum is over all of the payload. Of one that is cut there is none to be known; 0 says
    // in IPv4 that there is none.
    let whole = payload.len() == length;
    let udp = |pseudo: &[&[u8]]| {
        let mut header = [0; UDP_HEADER as usize];
        header[..2].copy_from_slice(&source.port().to_be_bytes());
        header[2..4].copy_from_slice(&destination.port().to_be_bytes());
        header[4..6].copy_from_slice(&udp_len.to_be_bytes());
        if whole {
            let protocol = u16::from(UDP).to_be_bytes();
            let rest = [&protocol[..], &udp_len.to_be_bytes(), &header, payload];
            let sum = match checksum(pseudo.iter().copied().chain(rest)) {
                0 => 0xffff,
                sum => sum,
            };
            header[6..].copy_from_slice(&sum.to_be_bytes());
        }
        header
    };
    if let (IpAddr::V4(from), IpAddr::V4(into)) = (source.ip(), destination.ip()) {
        let (from, into) = (from.octets(), into.octets());
        let mut ip = [0; IPV4_HEADER as usize];
        ip[0] = 0x45;
        ip[1] = header.class;
        ip[2..4].copy_from_slice(&udp_len.saturating_add(IPV4_HEADER).to_be_bytes());
        ip[8] = header.hop_limit;
        ip[9] = UDP;
        ip[12..16].copy_from_slice(&from);
        ip[16..20].copy_from_slice(&into);
        let sum = checksum([&ip[..]]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        to.extend_from_slice(&ip);
        to.extend_from_slice(&udp(&[&from, &into]));
    } else {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let (from, into) = (octets(source.ip()), octets(destination.ip()));
        let mut ip = [0; 40];
        ip[0] = 0x60 | header.class >> 4;
        ip[1] = header.class << 4;
        ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
        ip[6] = UDP;
        ip[7] = header.hop_limit;
        ip[8..24].copy_from_slice(&from);
        ip[24..40].copy_from_slice(&into);
        to.extend_from_slice(&ip);
        to.extend_from_slice(&udp(&[&from, &into]));
    }
    to.extend_from_slice(payload);
}

/// The internet checksum over parts, each of an even length but the last.
fn checksum<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        let (words, rest) = part.as_chunks::<2>();
        for word in words {
            sum = sum.saturating_add(u64::from(u16::from_be_bytes(*word)));
        }
        if let [last] = rest {
            sum = sum.saturating_add(u64::from(u16::from_be_bytes([*last, 0])));
        }
    }
    while let carried @ 1.. = sum >> 16 {
        sum = (sum & 0xffff).saturating_add(carried);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        class: 0x2c,
        hop_limit: 64,
    };

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
        assert_eq!(checksum([&packet[..20]]), 0);
        assert_eq!(
            checksum([&packet[12..20], &[0, 17, 0, 13], &packet[20..]]),
            0
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
            0
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
