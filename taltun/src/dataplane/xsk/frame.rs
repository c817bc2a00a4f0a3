//! From a frame to the datagram in it: what the kernel's network stack does for a socket,
//! as a pure function over bytes.
//!
//! The XDP program has looked at the frame before and passes on plain ones only. This looks
//! again, for a frame is copied between the two, and a program may be replaced. What is
//! checked: lengths, and the checksum of an IPv4 header. What isn't: UDP's checksum. On a
//! virtual link it isn't finished yet, and nobody says so; the message itself is
//! authenticated; and what remains, ports and IPv6 addresses, is guarded by the link's own
//! checksum. A peer would be answered at a wrong address until its next packet at worst.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU16;
use std::ops::Range;

use taltun_common::headers::{
    ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, UDP_LEN, Udp, ethertype, protocol,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::dataplane::offload::checksum::Sum;
use crate::protocol::peer::{Endpoint, Local};

/// A UDP datagram in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Where its payload lies in the frame.
    pub payload: Range<usize>,
    /// Who sent it, and to which of our addresses.
    pub from: Endpoint,
    /// Its traffic class.
    pub class: u8,
}

/// The datagram in a frame that came in on this interface; `None` unless it is plain: IPv4
/// without options or IPv6 without extension headers, not a fragment, then UDP, with lengths
/// that agree.
pub fn parse(frame: &[u8], interface: u32) -> Option<Datagram> {
    let (ethernet, packet) = Ethernet::ref_from_prefix(frame).ok()?;
    match ethernet.ethertype {
        ethertype::IPV4 => parse_v4(packet, interface),
        ethertype::IPV6 => parse_v6(packet, interface),
        _ => None,
    }
}

fn parse_v4(packet: &[u8], interface: u32) -> Option<Datagram> {
    let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
    if ip.version_and_length != Ipv4::PLAIN
        || ip.protocol != protocol::UDP
        || ip.is_fragment()
        || !header_adds_up(ip)
    {
        return None;
    }
    let udp = packet.get(IPV4_LEN..usize::from(ip.total_length.get()))?;
    let ([port, local_port], payload) = parse_udp(udp, ETHERNET_LEN + IPV4_LEN)?;
    Some(Datagram {
        payload,
        class: ip.class,
        from: Endpoint {
            remote: SocketAddrV4::new(Ipv4Addr::from(ip.source), port).into(),
            local: Some(Local {
                address: IpAddr::from(ip.destination),
                interface,
            }),
            local_port: NonZeroU16::new(local_port),
        },
    })
}

fn parse_v6(packet: &[u8], interface: u32) -> Option<Datagram> {
    let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
    if ip.version() != 6 || ip.next_header != protocol::UDP {
        return None;
    }
    let length = IPV6_LEN + usize::from(ip.payload_length.get());
    let udp = packet.get(IPV6_LEN..length)?;
    let ([port, local_port], payload) = parse_udp(udp, ETHERNET_LEN + IPV6_LEN)?;
    Some(Datagram {
        payload,
        class: ip.class(),
        from: Endpoint {
            remote: remote_v6(Ipv6Addr::from(ip.source), port, interface),
            local: Some(Local {
                address: IpAddr::from(ip.destination).to_canonical(),
                interface,
            }),
            local_port: NonZeroU16::new(local_port),
        },
    })
}

/// As a socket would say it: a link-local address with its link, a mapped one as IPv4.
fn remote_v6(source: Ipv6Addr, port: u16, interface: u32) -> SocketAddr {
    match source.to_ipv4_mapped() {
        Some(v4) => SocketAddrV4::new(v4, port).into(),
        None if source.is_unicast_link_local() => {
            SocketAddrV6::new(source, port, 0, interface).into()
        }
        None => SocketAddrV6::new(source, port, 0, 0).into(),
    }
}

/// The ports of the sender and ours, and the payload's place in the frame, of a datagram that
/// starts `offset` bytes into it and fills all that IP leaves for it.
fn parse_udp(udp: &[u8], offset: usize) -> Option<([u16; 2], Range<usize>)> {
    let (header, _) = Udp::ref_from_prefix(udp).ok()?;
    (usize::from(header.length.get()) == udp.len()).then(|| {
        let payload = offset.saturating_add(UDP_LEN)..offset.saturating_add(udp.len());
        ([header.source.get(), header.destination.get()], payload)
    })
}

/// Whether the checksum of an IPv4 header is right.
fn header_adds_up(header: &Ipv4) -> bool {
    Sum::default().with(header.as_bytes()).finish() == [0, 0]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame with this payload, from the one to the other.
    pub(in super::super) fn frame(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let length = (UDP_LEN + payload.len()) as u16;
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend(ethertype::IPV4.to_bytes());
                let mut ip = vec![0x45, 0];
                ip.extend((length + 20).to_be_bytes());
                ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                let mut sum: u32 = ip
                    .chunks(2)
                    .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                    .sum();
                sum = (sum & 0xffff) + (sum >> 16);
                sum = (sum & 0xffff) + (sum >> 16);
                ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
                frame.extend(ip);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend(ethertype::IPV6.to_bytes());
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([17, 64]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            _ => panic!("both ends have one family"),
        }
        frame.extend(from.port().to_be_bytes());
        frame.extend(to.port().to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    fn ends() -> [(SocketAddr, SocketAddr); 3] {
        [
            ("192.0.2.7:4000", "192.0.2.1:9000"),
            ("[2001:db8::7]:4000", "[2001:db8::1]:9000"),
            ("[fe80::7%5]:4000", "[fe80::1%5]:9000"),
        ]
        .map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()))
    }

    #[test]
    fn a_plain_frame_is_a_datagram_with_padding_or_without() {
        for (from, to) in ends() {
            for length in [0, 1, 32, 1452] {
                let mut bytes = frame(from, to, &vec![9; length]);
                let whole = bytes.len();
                for padding in [0, 1, 46] {
                    bytes.resize(whole + padding, 0);
                    let datagram = parse(&bytes, 5).unwrap();
                    assert_eq!(datagram.payload, whole - length..whole);
                    assert_eq!(datagram.from.remote, from);
                    let local = datagram.from.local.unwrap();
                    assert_eq!((local.address, local.interface), (to.ip(), 5));
                    let port = datagram.from.local_port.map(NonZeroU16::get);
                    assert_eq!(port, Some(to.port()));
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_no_datagram() {
        for (from, to) in ends() {
            let whole = frame(from, to, &[9; 40]);
            for length in 0..whole.len() {
                assert_eq!(parse(&whole[..length], 5), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn other_protocols_options_fragments_and_wrong_lengths_are_none() {
        let (from, to) = ends()[0];
        let good = frame(from, to, &[9; 40]);
        // A changed byte and one that makes the header's checksum right again.
        let spoil = |changes: &[(usize, u8)]| {
            let mut bytes = good.clone();
            for (at, value) in changes {
                bytes[*at] = *value;
            }
            parse(&bytes, 5)
        };
        assert!(spoil(&[]).is_some());
        assert_eq!(spoil(&[(12, 0x81), (13, 0)]), None, "a VLAN tag");
        assert_eq!(spoil(&[(22, 63)]), None, "a header that doesn't add up");
        assert_eq!(spoil(&[(38, 0), (39, 47)]), None, "UDP shorter than IP");
        assert_eq!(spoil(&[(38, 0), (39, 49)]), None, "UDP longer than IP");
        assert_eq!(
            spoil(&[(38, 0), (39, 7)]),
            None,
            "UDP shorter than its header"
        );
        let (from, to) = ends()[1];
        let mut six = frame(from, to, &[9; 40]);
        six[20] = 0;
        assert_eq!(parse(&six, 5), None, "an extension header");
    }

    #[test]
    fn any_bytes_at_all_are_taken_without_a_panic_and_a_payload_is_within_them() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let mut good = 0;
        for round in 0..200_000 {
            let (from, to) = ends()[round % 3];
            let mut bytes = frame(from, to, &vec![random() as u8; random() % 100]);
            for _ in 0..random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() % (bytes.len() * 2));
            if let Some(datagram) = parse(&bytes, 5) {
                good += 1;
                assert!(datagram.payload.start >= 42);
                assert!(datagram.payload.end <= bytes.len());
                assert!(datagram.payload.start <= datagram.payload.end);
            }
        }
        assert!(good > 1_000);
    }
}
