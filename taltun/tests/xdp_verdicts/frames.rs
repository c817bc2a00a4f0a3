//! Builds frames, right ones and ones that are wrong in one chosen way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use taltun_common::address::{Address, pseudo_header_sum};
use taltun_common::wire::{INITIATION_LEN, INITIATION_MAC1, RESPONSE_LEN, RESPONSE_MAC1};

/// The port under guard.
pub const PORT: u16 = 9000;
/// The port that frames come from.
pub const SOURCE_PORT: u16 = 40_000;
/// A receiver index that was given out.
pub const OUR_INDEX: u32 = 0x1234_5678;

/// Where an IP header starts, and UDP's after a plain IPv4 header.
pub const IP: usize = 14;
pub const UDP_V4: usize = IP + 20;
pub const UDP_V6: usize = IP + 40;

/// Our address and somebody else's, of one family.
#[derive(Clone, Copy)]
pub struct Ends {
    pub source: IpAddr,
    pub destination: IpAddr,
}

pub const V4: Ends = Ends {
    source: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
};
pub const V6: Ends = Ends {
    source: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7)),
    destination: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
};

/// A message of this type and length; `index` where that type has its receiver.
pub fn message(kind: u8, length: usize, index: u32) -> Vec<u8> {
    let mut message: Vec<u8> = (0..length).map(|at| at as u8 | 0x40).collect();
    let header = [kind, 0, 0, 0];
    let shown = header.len().min(length);
    message[..shown].copy_from_slice(&header[..shown]);
    let at = match kind {
        2 => 8,
        3 | 4 => 4,
        _ => return message,
    };
    if let Some(place) = message.get_mut(at..at + 4) {
        place.copy_from_slice(&index.to_le_bytes());
    }
    message
}

/// The key of mac1 in messages to us.
pub const MAC1_KEY: [u8; 32] = [0x5a; 32];

/// A handshake message of this type, of its one length and with the right mac1.
pub fn handshake(kind: u8, index: u32) -> Vec<u8> {
    let (length, mac1) = match kind {
        1 => (INITIATION_LEN, INITIATION_MAC1),
        _ => (RESPONSE_LEN, RESPONSE_MAC1),
    };
    let mut message = message(kind, length, index);
    seal(&mut message, mac1);
    message
}

/// Puts the right MAC of what precedes it at `at`.
pub fn seal(message: &mut [u8], at: usize) {
    let mac = taltun::crypto::mac(&MAC1_KEY, &[&message[..at]]);
    message[at..at + mac.len()].copy_from_slice(&mac);
}

/// An Ethernet frame with this UDP payload, to our port, with a finished checksum.
pub fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    udp_to(ends, PORT, payload)
}

/// The same, to this port.
pub fn udp_to(ends: Ends, port: u16, payload: &[u8]) -> Vec<u8> {
    udp_between(ends, SOURCE_PORT, port, payload)
}

/// The same, from a port to a port.
pub fn udp_between(ends: Ends, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02; 12];
    let length = (payload.len() + 8) as u16;
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            frame.extend([0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd]);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([17, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => panic!("both ends have one family"),
    }
    let udp = frame.len();
    frame.extend(from.to_be_bytes());
    frame.extend(to.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    let checksum = finished_checksum(ends, &frame[udp..]);
    frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The same, with the unfinished checksum that merged datagrams have.
pub fn unfinished(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let mut frame = udp(ends, payload);
    let udp = if ends.source.is_ipv4() {
        UDP_V4
    } else {
        UDP_V6
    };
    let sum = pseudo_sum(ends, (payload.len() + 8) as u16);
    frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// This frame with other ports, and no other change: its checksum is for those it had.
pub fn with_ports(mut frame: Vec<u8>, from: u16, to: u16) -> Vec<u8> {
    let udp = if frame[12..14] == [0x08, 0x00] {
        UDP_V4
    } else {
        UDP_V6
    };
    frame[udp..udp + 2].copy_from_slice(&from.to_be_bytes());
    frame[udp + 2..udp + 4].copy_from_slice(&to.to_be_bytes());
    frame
}

/// An address as the maps have it.
pub fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn pseudo_sum(ends: Ends, udp_length: u16) -> u16 {
    pseudo_header_sum(&key(ends.source), &key(ends.destination), udp_length)
}

fn finished_checksum(ends: Ends, datagram: &[u8]) -> u16 {
    let mut sum = u32::from(pseudo_sum(ends, datagram.len() as u16));
    for pair in datagram.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}
