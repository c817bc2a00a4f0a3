//! What a flow is known by: addresses, protocol and ports, as plain integers.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::IpAddr;

use taltun_common::headers::{Ipv4, Ipv6, Tcp, Udp, protocol};
use zerocopy::FromBytes;

use crate::packet::{Ports, flags};

/// Addresses, protocol and ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Source address; of IPv4 the last four bytes.
    pub source: u128,
    /// Destination address, likewise.
    pub destination: u128,
    /// The source port in the upper half, the destination port in the lower.
    pub ports: u32,
    /// The protocol behind IP.
    pub protocol: u8,
    /// Whether it is one of IPv6.
    pub is_v6: bool,
}

impl Tuple {
    /// Of two addresses of one family.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, ports: Ports) -> Self {
        let bits = |address| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self {
            source: bits(source),
            destination: bits(destination),
            ports: joined(ports.source, ports.destination),
            protocol,
            is_v6: source.is_ipv6(),
        }
    }

    /// That of an ordinary packet: a whole TCP segment without SYN, FIN and RST, or a whole UDP
    /// datagram, right behind IP. It neither begins nor ends anything. Most packets are such, and
    /// reading no more of them takes a fifth of the time; `None` for all others.
    #[inline]
    pub fn of_ordinary(packet: &[u8]) -> Option<Self> {
        /// IPv4, and a header of five words.
        const WITHOUT_OPTIONS: u8 = 0x45;
        let (source, destination, protocol, rest, is_v6) = match *packet.first()? {
            WITHOUT_OPTIONS => {
                let (ip, rest) = Ipv4::ref_from_prefix(packet).ok()?;
                if ip.is_fragment() {
                    return None;
                }
                let source = u128::from(u32::from_be_bytes(ip.source));
                let destination = u128::from(u32::from_be_bytes(ip.destination));
                (source, destination, ip.protocol, rest, false)
            }
            first if first >> 4 == 6 => {
                let (ip, rest) = Ipv6::ref_from_prefix(packet).ok()?;
                let source = u128::from_be_bytes(ip.source);
                let destination = u128::from_be_bytes(ip.destination);
                (source, destination, ip.next_header, rest, true)
            }
            _ => return None,
        };
        let ports = match protocol {
            protocol::UDP => {
                let (udp, _) = Udp::ref_from_prefix(rest).ok()?;
                joined(udp.source.get(), udp.destination.get())
            }
            protocol::TCP => {
                let (tcp, _) = Tcp::ref_from_prefix(rest).ok()?;
                if tcp.flags & (flags::SYN | flags::FIN | flags::RST) != 0 {
                    return None;
                }
                joined(tcp.source.get(), tcp.destination.get())
            }
            _ => return None,
        };
        Some(Self {
            source,
            destination,
            ports,
            protocol,
            is_v6,
        })
    }

    /// Whether it goes from the larger end to the smaller.
    #[inline]
    pub fn is_downwards(&self) -> bool {
        let (from, to) = (self.ports >> 16, self.ports & 0xffff);
        (self.source, from) > (self.destination, to)
    }

    /// That of an answer.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self.ports.rotate_left(16),
            ..*self
        }
    }
}

#[inline]
fn joined(source: u16, destination: u16) -> u32 {
    u32::from(source) << 16 | u32::from(destination)
}
