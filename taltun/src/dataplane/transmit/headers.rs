//! The headers before a datagram that leaves past the kernel's network stack: Ethernet, IP
//! and UDP, written into the frame that the datagram lies in.

use std::net::IpAddr;

use taltun_common::headers::{
    ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_LEN, Ipv4, Ipv6, UDP_LEN, Udp, ethertype, protocol,
};
use zerocopy::IntoBytes;

use crate::dataplane::offload::checksum::{Sum, pseudo_header};
use crate::dataplane::runs::DatagramRun;

/// What Linux gives its own datagrams, as hop limit.
const HOP_LIMIT: u8 = 64;

/// What has to be known to send to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the interface it leaves by.
    pub interface: u32,
    /// The link address of that.
    pub own: [u8; 6],
    /// The link address of the next hop.
    pub next: [u8; 6],
    /// Our address.
    pub source: IpAddr,
    /// Bytes of the largest packet that gets there in one piece, from the IP header on.
    pub mtu: usize,
}

/// Bytes from the start of a frame to the payload of a datagram to this address.
pub fn len(remote: &IpAddr) -> usize {
    let ip = match remote {
        IpAddr::V4(_) => IPV4_LEN,
        IpAddr::V6(_) => IPV6_LEN,
    };
    ETHERNET_LEN + ip + UDP_LEN
}

/// Writes the headers of the datagram in `frame[len(remote)..]` before it; false, and nothing
/// written, when it is too large for the way or addresses of two families meet.
///
/// It comes from our `port` and leaves with the run's hop limit, or with the usual one.
pub fn write(frame: &mut [u8], way: &NextHop, port: u16, run: &DatagramRun) -> bool {
    let (remote, class) = (run.endpoint.remote, run.class);
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET_LEN) else {
        return false;
    };
    if packet.len() > way.mtu {
        return false;
    }
    let (kind, udp_at) = match (way.source, remote.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (ethertype::IPV4, IPV4_LEN),
        (IpAddr::V6(_), IpAddr::V6(_)) => (ethertype::IPV6, IPV6_LEN),
        _ => return false,
    };
    let Some((ip, udp)) = packet.split_at_mut_checked(udp_at) else {
        return false;
    };
    let length = udp.len() as u16;
    // Where routers cut it its pieces need a number, for which the end of the cipher's tag is
    // as good as random.
    let number: [u8; 2] = udp.last_chunk().copied().unwrap_or_default();
    let mut header = Udp {
        source: port.into(),
        destination: remote.port().into(),
        length: length.into(),
        checksum: [0; 2],
    };
    let Some(payload) = udp.get(UDP_LEN..) else {
        return false;
    };
    header.checksum = pseudo_header(way.source, remote.ip(), protocol::UDP)
        .with_u16(length)
        .with(header.as_bytes())
        .with(payload)
        .finish_udp();
    let hop_limit = run.hop_limit.unwrap_or(HOP_LIMIT);
    let written = match (way.source, remote.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4 {
                version_and_length: Ipv4::PLAIN,
                class,
                total_length: ((IPV4_LEN + udp.len()) as u16).into(),
                identification: number.into(),
                // Routers may cut it, as what leaves by the socket.
                fragment: 0.into(),
                hop_limit,
                protocol: protocol::UDP,
                checksum: [0; 2],
                source: source.octets(),
                destination: destination.octets(),
            };
            header.checksum = Sum::default().with(header.as_bytes()).finish();
            header.write_to(ip).is_ok()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6 {
            version_class_label: [0x60 | class >> 4, class << 4, 0, 0],
            payload_length: length.into(),
            next_header: protocol::UDP,
            hop_limit,
            source: source.octets(),
            destination: destination.octets(),
        }
        .write_to(ip)
        .is_ok(),
        _ => return false,
    };
    let link = Ethernet {
        destination: way.next,
        source: way.own,
        ethertype: kind,
    };
    written && header.write_to_prefix(udp).is_ok() && link.write_to(ethernet).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::dataplane::xsk::frame;

    /// A datagram to this peer with this hop limit.
    fn run(remote: SocketAddr, hop_limit: Option<u8>) -> DatagramRun {
        DatagramRun {
            hop_limit,
            ..DatagramRun::of_one(0, 0, remote.into())
        }
    }

    fn ways() -> [(NextHop, SocketAddr); 2] {
        [
            ("192.0.2.1", "198.51.100.7:4000"),
            ("2001:db8::1", "[2001:db8:7::7]:4000"),
        ]
        .map(|(source, remote)| {
            let way = NextHop {
                interface: 3,
                own: [1; 6],
                next: [2; 6],
                source: source.parse().unwrap(),
                mtu: 1500,
            };
            (way, remote.parse().unwrap())
        })
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant_and_adds_up() {
        for (way, remote) in ways() {
            for payload in [0, 1, 32, 33, 1452] {
                let start = len(&remote.ip());
                let mut bytes: Vec<u8> = (0..start + payload).map(|at| at as u8).collect();
                let before = bytes[start..].to_vec();
                assert!(write(&mut bytes, &way, 9000, &run(remote, None)));
                assert_eq!(bytes[start..], before);
                assert_eq!(bytes[..12], [[2; 6], [1; 6]].concat());
                let datagram = frame::parse(&bytes, 3).unwrap();
                assert_eq!(datagram.payload, start..bytes.len());
                assert_eq!(datagram.from.remote, SocketAddr::new(way.source, 9000));
                assert_eq!(datagram.from.local.unwrap().address, remote.ip());
                let udp = &bytes[start - UDP_LEN..];
                assert_eq!(udp[2..4], 4000_u16.to_be_bytes());
                // All of it together, the checksum included, is all ones.
                let sum = pseudo_header(way.source, remote.ip(), protocol::UDP)
                    .with_u16(udp.len() as u16)
                    .with(udp)
                    .partial();
                assert_eq!(sum, [0xff; 2]);
                assert_ne!(udp[6..8], [0, 0]);
            }
        }
    }

    #[test]
    fn a_hop_limit_of_its_own_is_written_and_adds_up() {
        for (way, remote) in ways() {
            for (given, written) in [(None, 64), (Some(253), 253)] {
                let mut bytes = vec![7; len(&remote.ip()) + 32];
                assert!(write(&mut bytes, &way, 9000, &run(remote, given)));
                let packet = &bytes[ETHERNET_LEN..];
                assert_eq!(crate::protocol::ip::hop_limit(packet), written);
                assert!(frame::parse(&bytes, 3).is_some());
            }
        }
    }

    /// As the kernel's WireGuard: routers may cut it, and what it says of congestion is read
    /// where it arrives.
    #[test]
    fn it_may_be_cut_and_has_its_traffic_class() {
        for (way, remote) in ways() {
            for class in [0, 1, 2, 0xb8, 0xba, 0xff] {
                let run = DatagramRun {
                    class,
                    ..run(remote, None)
                };
                let mut bytes = vec![7; len(&remote.ip()) + 32];
                let end = bytes.len();
                bytes[end - 2..].copy_from_slice(&[0x12, 0x34]);
                assert!(write(&mut bytes, &way, 9000, &run));
                assert_eq!(frame::parse(&bytes, 3).unwrap().class, class);
                if remote.is_ipv4() {
                    assert_eq!(bytes[18..22], [0x12, 0x34, 0, 0]);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        let (way, remote) = ways()[0];
        let mut bytes = vec![7; 14 + 1501];
        assert!(
            !write(&mut bytes, &way, 9000, &run(remote, None)),
            "larger than the MTU"
        );
        assert!(bytes.iter().all(|byte| *byte == 7));
        let mut bytes = vec![7; 14 + 27];
        assert!(
            !write(&mut bytes, &way, 9000, &run(remote, None)),
            "no room for headers"
        );
        let mut bytes = vec![7; 200];
        assert!(
            !write(&mut bytes, &way, 9000, &run(ways()[1].1, None)),
            "two families"
        );
    }
}
