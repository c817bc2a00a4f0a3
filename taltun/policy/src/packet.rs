//! What rules ask of a packet: addresses, protocol, ports, and whether it starts something.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::IpAddr;

use taltun_common::headers::{
    ICMP_LEN, IPV6_LEN, Icmp, Ipv4, Ipv6, Ipv6Fragment, Tcp, Udp, protocol,
};
use zerocopy::FromBytes;

/// IPv6 extension headers that a packet may have. Nobody sends more than a few.
const MAX_EXTENSIONS: usize = 8;

/// A packet, as rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The protocol behind IP and its extension headers.
    pub protocol: u8,
    /// What that protocol says.
    pub content: Content,
    /// The identification that it shares with the other fragments, if it is one.
    pub fragment: Option<u32>,
}

/// What the protocol behind IP says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A TCP segment.
    Tcp {
        /// Its ports.
        ports: Ports,
        /// Its flags, see [`flags`].
        flags: u8,
    },
    /// A UDP datagram.
    Udp(Ports),
    /// An ICMP message that asks, and whose answer has the same identifier.
    Query(u16),
    /// The answer to such a message.
    Answer(u16),
    /// An ICMP error, about a packet whose headers it quotes.
    Error(Quoted),
    /// Any other packet.
    Other,
    /// A fragment that isn't its packet's first: what is above IP is in that.
    LaterFragment,
}

/// Source and destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// The packet that an ICMP error is about, as its sender sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The protocol behind IP.
    pub protocol: u8,
    /// Its ports; an ICMP query has its identifier in both.
    pub ports: Ports,
}

/// Flags of TCP (RFC 9293).
pub mod flags {
    /// No more data.
    pub const FIN: u8 = 1;
    /// The first segment.
    pub const SYN: u8 = 2;
    /// The connection is no more.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

impl Packet {
    /// Reads a packet; `None` where it lies about its length, or lacks the header that rules are
    /// about.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (headers, rest) = Headers::parse(packet)?;
        let content = match headers.fragment {
            Some((_, true)) => Content::LaterFragment,
            _ => content(headers.protocol, rest, headers.source.is_ipv4())?,
        };
        Some(Self {
            source: headers.source,
            destination: headers.destination,
            protocol: headers.protocol,
            content,
            fragment: headers.fragment.map(|(id, _)| id),
        })
    }
}

/// What IP says of a packet.
struct Headers {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Its identification, and whether it isn't the first.
    fragment: Option<(u32, bool)>,
}

impl Headers {
    /// The headers of IP and what is behind them, as far as there is something.
    fn parse(packet: &[u8]) -> Option<(Self, &[u8])> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
        let rest = packet.get(header.header_len()..)?;
        if header.header_len() < size_of::<Ipv4>() {
            return None;
        }
        let id = u32::from(header.identification.get());
        let fragment = header
            .is_fragment()
            .then(|| (id, header.is_later_fragment()));
        let headers = Self {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol,
            fragment,
        };
        Some((headers, rest))
    }

    fn parse_v6(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
        let mut headers = Self {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.next_header,
            fragment: None,
        };
        let mut rest = packet.get(IPV6_LEN..)?;
        let mut left = MAX_EXTENSIONS;
        while extension::ALL.contains(&headers.protocol) {
            left = left.checked_sub(1)?;
            let len = match headers.protocol {
                protocol::IPV6_FRAGMENT => {
                    let (fragment, behind) = Ipv6Fragment::ref_from_prefix(rest).ok()?;
                    headers.protocol = fragment.next_header;
                    // A fragment of which there is but one is none (RFC 6946).
                    let is_one = fragment.offset.get() & 0xfff9 != 0;
                    if is_one {
                        headers.fragment =
                            Some((fragment.identification.get(), fragment.is_later()));
                    }
                    rest = behind;
                    if fragment.is_later() {
                        return Some((headers, rest));
                    }
                    continue;
                }
                extension::AUTHENTICATION => {
                    usize::from(*rest.get(1)?).checked_add(2)?.checked_mul(4)?
                }
                _ => usize::from(*rest.get(1)?).checked_add(1)?.checked_mul(8)?,
            };
            headers.protocol = *rest.first()?;
            rest = rest.get(len..)?;
        }
        Some((headers, rest))
    }
}

/// Extension headers of IPv6 (RFC 8200, 4302, 6275, 7401, 5533).
mod extension {
    use super::protocol::{IPV6_DESTINATION, IPV6_FRAGMENT, IPV6_HOP_BY_HOP, IPV6_ROUTING};

    pub(super) const AUTHENTICATION: u8 = 51;
    const MOBILITY: u8 = 135;
    const HIP: u8 = 139;
    const SHIM6: u8 = 140;

    /// All but that of authentication and that of fragments have their length in the second byte, in units of eight bytes
    /// beside the first.
    pub(super) const ALL: [u8; 8] = [
        IPV6_HOP_BY_HOP,
        IPV6_ROUTING,
        IPV6_FRAGMENT,
        AUTHENTICATION,
        IPV6_DESTINATION,
        MOBILITY,
        HIP,
        SHIM6,
    ];
}

/// What `bytes` of `protocol` say.
fn content(protocol: u8, bytes: &[u8], is_v4: bool) -> Option<Content> {
    Some(match protocol {
        protocol::TCP => {
            let (tcp, _) = Tcp::ref_from_prefix(bytes).ok()?;
            Content::Tcp {
                ports: Ports {
                    source: tcp.source.get(),
                    destination: tcp.destination.get(),
                },
                flags: tcp.flags,
            }
        }
        protocol::UDP => {
            let (udp, _) = Udp::ref_from_prefix(bytes).ok()?;
            Content::Udp(Ports {
                source: udp.source.get(),
                destination: udp.destination.get(),
            })
        }
        protocol::ICMP if is_v4 => icmp(bytes, &icmp_v4::TABLE)?,
        protocol::ICMPV6 if !is_v4 => icmp(bytes, &icmp_v6::TABLE)?,
        _ => Content::Other,
    })
}

/// Which types of ICMP ask, answer and tell of errors.
struct IcmpTable {
    /// Types that ask, each with that of its answer.
    queries: &'static [(u8, u8)],
    errors: &'static [u8],
}

mod icmp_v4 {
    /// Echo, timestamp, information and address mask (RFC 792, 950); unreachable, source quench,
    /// time exceeded and parameter problem.
    pub(super) const TABLE: super::IcmpTable = super::IcmpTable {
        queries: &[(8, 0), (13, 14), (15, 16), (17, 18)],
        errors: &[3, 4, 11, 12],
    };
}

mod icmp_v6 {
    /// Echo; unreachable, too big, time exceeded and parameter problem (RFC 4443).
    pub(super) const TABLE: super::IcmpTable = super::IcmpTable {
        queries: &[(128, 129)],
        errors: &[1, 2, 3, 4],
    };
}

fn icmp(bytes: &[u8], table: &IcmpTable) -> Option<Content> {
    let (header, quoted) = Icmp::ref_from_prefix(bytes).ok()?;
    let [high, low, ..] = header.rest;
    let identifier = u16::from_be_bytes([high, low]);
    for (query, answer) in table.queries {
        if header.kind == *query {
            return Some(Content::Query(identifier));
        }
        if header.kind == *answer {
            return Some(Content::Answer(identifier));
        }
    }
    let is_error = table.errors.contains(&header.kind);
    Some(match is_error.then(|| Quoted::parse(quoted)).flatten() {
        Some(quoted) => Content::Error(quoted),
        None => Content::Other,
    })
}

impl Quoted {
    /// Reads what an error quotes: headers, and of what is behind them at least eight bytes.
    fn parse(packet: &[u8]) -> Option<Self> {
        let (headers, rest) = Headers::parse(packet)?;
        if headers.fragment.is_some_and(|(_, is_later)| is_later) {
            return None;
        }
        let start = rest.first_chunk::<ICMP_LEN>()?;
        let ports = match headers.protocol {
            protocol::TCP | protocol::UDP => {
                let [a, b, c, d, ..] = *start;
                Ports {
                    source: u16::from_be_bytes([a, b]),
                    destination: u16::from_be_bytes([c, d]),
                }
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let [_, _, _, _, a, b, ..] = *start;
                let identifier = u16::from_be_bytes([a, b]);
                Ports {
                    source: identifier,
                    destination: identifier,
                }
            }
            _ => Ports::default(),
        };
        Some(Self {
            source: headers.source,
            destination: headers.destination,
            protocol: headers.protocol,
            ports,
        })
    }
}
