//! Packets to be made of what the simple judge knows of them.

use std::net::IpAddr;

use taltun_common::headers::protocol;

use crate::packet::Ports;
use crate::rules::Ends;

/// A packet to be made, and what the simple judge knows of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ends: Ends,
    pub(super) what: What,
    /// Options or extension headers before what IP carries.
    pub(super) padded: bool,
    pub(super) fragment: Option<(u16, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Tcp(Ports, u8),
    Udp(Ports),
    Query(u16),
    Answer(u16),
    Other(u8),
    /// An error about UDP that the destination sent to this address.
    ErrorAbout(IpAddr, Ports),
}

impl Made {
    pub(super) fn protocol(&self) -> u8 {
        let icmp = match self.source {
            IpAddr::V4(_) => protocol::ICMP,
            IpAddr::V6(_) => protocol::ICMPV6,
        };
        match self.what {
            What::Tcp(..) => protocol::TCP,
            What::Udp(_) => protocol::UDP,
            What::Query(_) | What::Answer(_) | What::ErrorAbout(..) => icmp,
            What::Other(number) => number,
        }
    }

    pub(super) fn ports(&self) -> Ports {
        match self.what {
            What::Tcp(ports, _) | What::Udp(ports) => ports,
            What::Query(id) | What::Answer(id) => Ports {
                source: id,
                destination: id,
            },
            What::Other(_) | What::ErrorAbout(..) => Ports::default(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let is_v4 = self.source.is_ipv4();
        let icmp = |kinds: (u8, u8), id: u16| {
            let kind = if is_v4 { kinds.0 } else { kinds.1 };
            let [high, low] = id.to_be_bytes();
            vec![kind, 0, 0, 0, high, low, 0, 0]
        };
        let content = match self.what {
            What::Tcp(ports, flags) => {
                let mut tcp = ports_of(ports).to_vec();
                tcp.extend([0; 8]);
                tcp.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
                tcp
            }
            What::Udp(ports) => [ports_of(ports), [0; 4]].concat(),
            What::Query(id) => icmp((8, 128), id),
            What::Answer(id) => icmp((0, 129), id),
            What::Other(_) => vec![0; 4],
            What::ErrorAbout(other, ports) => {
                let about = Self {
                    source: self.destination,
                    destination: other,
                    what: What::Udp(ports),
                    padded: false,
                    fragment: None,
                    ..*self
                };
                [icmp((3, 1), 0), about.bytes()].concat()
            }
        };
        ip(self, &content)
    }
}

pub(super) fn ports_of(ports: Ports) -> [u8; 4] {
    let ([a, b], [c, d]) = (ports.source.to_be_bytes(), ports.destination.to_be_bytes());
    [a, b, c, d]
}

pub(super) fn ip(made: &Made, content: &[u8]) -> Vec<u8> {
    match (made.source, made.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let options = if made.padded { 4 } else { 0 };
            let mut packet = vec![0; 20 + options];
            packet[0] = 0x45 + options as u8 / 4;
            if let Some((id, is_later)) = made.fragment {
                packet[4..6].copy_from_slice(&id.to_be_bytes());
                packet[6] = 0x20;
                packet[7] = if is_later { 185 } else { 0 };
            }
            packet[9] = made.protocol();
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            packet.extend(content);
            let len = packet.len() as u16;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
            if made.padded {
                headers.push((0, vec![0; 8]));
                headers.push((60, vec![0; 8]));
            }
            if let Some((id, is_later)) = made.fragment {
                let [high, low] = id.to_be_bytes();
                let offset = if is_later { 0xb9 } else { 1 };
                headers.push((44, vec![0, 0, 0, offset, 0, 0, high, low]));
            }
            let mut packet = vec![0; 40];
            packet[0] = 0x60;
            let mut at = 6;
            for (number, header) in headers {
                packet[at] = number;
                at = packet.len();
                packet.extend(header);
            }
            packet[at] = made.protocol();
            packet.extend(content);
            let len = packet.len() as u16 - 40;
            packet[4..6].copy_from_slice(&len.to_be_bytes());
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
            packet
        }
        _ => unreachable!("both are of one family"),
    }
}

pub(super) fn answer(made: &Made, what: What) -> Made {
    Made {
        source: made.destination,
        destination: made.source,
        what,
        ..*made
    }
}
