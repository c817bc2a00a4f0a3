//! Packets inside the tunnel: who sends them to whom and how long they are, by RFC 791 and RFC 8200
//! byte by byte; and a hop less changes the hop limit and the checksum alone.

use std::net::IpAddr;

use taltun_protocol::ip;

use crate::checksums::checksum;

/// Source, destination and length as the pictures in the RFCs have them.
fn naive(packet: &[u8]) -> Option<(IpAddr, IpAddr, usize)> {
    let address = |at: usize, len: usize| -> IpAddr {
        let bytes = &packet[at..at + len];
        match len {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
        }
    };
    let word = |at: usize| usize::from(packet[at]) * 256 + usize::from(packet[at + 1]);
    let version = packet.first()? / 16;
    let (source, destination, len) = match version {
        4 if packet.len() >= 20 && word(2) >= 20 => (address(12, 4), address(16, 4), word(2)),
        6 if packet.len() >= 40 => (address(8, 16), address(24, 16), 40 + word(4)),
        _ => return None,
    };
    (len <= packet.len()).then_some((source, destination, len))
}

/// Where UDP begins: behind IPv4's options, or an IPv6 fragment's header; not in what comes later.
fn naive_udp(packet: &[u8]) -> Option<usize> {
    let at = if packet[0] / 16 == 4 {
        let offset = (usize::from(packet[6]) * 256 + usize::from(packet[7])) % 8192;
        let header = usize::from(packet[0] % 16) * 4;
        (packet[9] == 17 && offset == 0).then_some(header)?
    } else if packet[6] == 44 {
        let fragment = packet.get(40..48)?;
        let offset = (usize::from(fragment[2]) * 256 + usize::from(fragment[3])) / 8;
        (fragment[0] == 17 && offset == 0).then_some(48)?
    } else {
        (packet[6] == 17).then_some(40)?
    };
    (packet.len() >= at + 8).then_some(at)
}

pub(crate) fn run(packet: &[u8]) {
    let parsed = ip::parse(packet);
    let found = parsed.map(|it| (it.source, it.destination, it.len));
    assert_eq!(found, naive(packet));
    let Some(inner) = parsed else { return };
    let at = naive_udp(packet);
    let ports = at.map(|at| {
        let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        (port(at), port(at + 2))
    });
    assert_eq!(ip::udp_ports(packet), ports);
    if let Some(at) = at {
        assert_eq!(ip::udp_payload(packet), Some(&packet[at + 8..]));
    }
    let least = ip::least_prefix(inner.source);
    assert!(matches!(least, 0 | 10 | 96));
    hop(packet);
}

/// A hop less: as if the header had been written anew.
fn hop(packet: &[u8]) {
    let v4 = packet[0] / 16 == 4;
    let at = if v4 { 8 } else { 7 };
    assert_eq!(ip::hop_limit(packet), packet[at]);
    let mut after = packet.to_vec();
    let passes = ip::take_hop(&mut after);
    assert_eq!(passes, packet[at] > 1);
    if !passes {
        assert_eq!(after, packet, "what goes no further stays as it is");
        return;
    }
    let mut expected = packet.to_vec();
    expected[at] -= 1;
    if v4 {
        // What was wrong stays as wrong as it was: somebody else is to find out.
        let wrong = |packet: &[u8]| checksum(&packet[..20], 0);
        assert_eq!(is_zero(wrong(packet)), is_zero(wrong(&after)));
        expected[10..12].copy_from_slice(&after[10..12]);
    }
    assert_eq!(after, expected);
}

/// Both zeros of ones' complement are one.
fn is_zero(sum: u16) -> bool {
    matches!(sum, 0 | 0xffff)
}
