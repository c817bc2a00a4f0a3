//! Cuts what the kernel left whole: a 64 KB piece of a TCP stream, or a burst of UDP
//! datagrams, into packets that each can go their own way.

use std::net::IpAddr;

use taltun_common::headers::protocol::{TCP, UDP};
use taltun_common::headers::{IPV6_LEN, UDP_LEN};

use super::checksum::{Sum, pseudo_header};
use super::vnet::{Gso, NEEDS_CSUM, VnetHeader};
use crate::protocol::ip;

const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The header and the packet don't fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet that contradicts its segmentation header")]
pub struct Contradiction;

/// The packets that one read from the TUN holds.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    plan: Segmentation,
    /// Payload bytes that are already cut off.
    done: usize,
    /// How many packets were cut off.
    index: u16,
}

#[derive(Debug, Clone, Copy)]
enum Segmentation {
    /// One packet as it is.
    Whole,
    /// One packet whose checksum is ours to finish.
    Checksum { start: usize, offset: usize },
    /// Many packets.
    Cut {
        transport: Gso,
        /// Where the transport header starts.
        transport_at: usize,
        /// Where the payload starts.
        payload_at: usize,
        /// Payload bytes of a segment.
        size: usize,
        /// Pseudo-header without the length.
        pseudo: Sum,
    },
}

impl<'a> Segments<'a> {
    /// Looks at what is to be cut.
    pub fn new(header: &VnetHeader, packet: &'a [u8]) -> Result<Self, Contradiction> {
        let start = usize::from(header.csum_start);
        let offset = usize::from(header.csum_offset);
        let plan = match header.gso {
            Gso::None if header.flags & NEEDS_CSUM == 0 => Segmentation::Whole,
            Gso::None if start + offset + 2 <= packet.len() => {
                Segmentation::Checksum { start, offset }
            }
            Gso::None => return Err(Contradiction),
            transport => segmentation(header, transport, packet)?,
        };
        Ok(Self {
            packet,
            plan,
            done: 0,
            index: 0,
        })
    }

    /// Bytes of the next packet; `None` when there is none.
    pub fn next_len(&self) -> Option<usize> {
        match self.plan {
            Segmentation::Whole | Segmentation::Checksum { .. } => {
                (self.index == 0).then_some(self.packet.len())
            }
            Segmentation::Cut {
                payload_at, size, ..
            } => {
                let rest = self.packet.len() - payload_at - self.done;
                let first_of_nothing = rest == 0 && self.index == 0;
                (rest > 0 || first_of_nothing).then(|| payload_at + rest.min(size))
            }
        }
    }

    /// Writes the next packet, whose length [`Self::next_len`] told, into `out`.
    ///
    /// # Panics
    /// When there is no next packet or `out` is of another length.
    pub fn write_next(&mut self, out: &mut [u8]) {
        match self.plan {
            Segmentation::Whole => out.copy_from_slice(self.packet),
            Segmentation::Checksum { start, offset } => {
                out.copy_from_slice(self.packet);
                // The field holds the sum of the pseudo-header, so it takes part.
                let sum = Sum::default().with(&out[start..]);
                let checksum = if offset == UDP_CHECKSUM_AT {
                    sum.finish_udp()
                } else {
                    sum.finish()
                };
                out[start + offset..start + offset + 2].copy_from_slice(&checksum);
            }
            Segmentation::Cut {
                transport,
                transport_at,
                payload_at,
                size,
                pseudo,
            } => {
                let len = out.len() - payload_at;
                let from = payload_at + self.done;
                out[..payload_at].copy_from_slice(&self.packet[..payload_at]);
                out[payload_at..].copy_from_slice(&self.packet[from..from + len]);
                let last = from + len == self.packet.len();
                fix_ip_header(out, transport_at, self.index);
                if transport == Gso::Tcp {
                    fix_tcp_header(out, transport_at, self.done, self.index == 0, last, pseudo);
                } else {
                    fix_udp_header(out, transport_at, pseudo);
                }
                self.done += len.min(size);
            }
        }
        self.index = self.index.wrapping_add(1);
    }
}

fn segmentation(
    header: &VnetHeader,
    transport: Gso,
    packet: &[u8],
) -> Result<Segmentation, Contradiction> {
    let inner = ip::parse(packet).ok_or(Contradiction)?;
    let transport_at = usize::from(header.csum_start);
    let least = match inner.source {
        IpAddr::V4(_) => usize::from(packet[0] & 0x0f) * 4,
        IpAddr::V6(_) => IPV6_LEN,
    };
    if transport_at < least || header.gso_size == 0 {
        return Err(Contradiction);
    }
    let (transport_len, protocol, checksum_at) = if transport == Gso::Tcp {
        let offset = packet.get(transport_at + 12).ok_or(Contradiction)? >> 4;
        if offset < 5 {
            return Err(Contradiction);
        }
        (usize::from(offset) * 4, TCP, TCP_CHECKSUM_AT)
    } else {
        (UDP_LEN, UDP, UDP_CHECKSUM_AT)
    };
    let payload_at = transport_at + transport_len;
    if payload_at > packet.len() || usize::from(header.csum_offset) != checksum_at {
        return Err(Contradiction);
    }
    Ok(Segmentation::Cut {
        transport,
        transport_at,
        payload_at,
        size: usize::from(header.gso_size),
        pseudo: pseudo_header(inner.source, inner.destination, protocol),
    })
}

fn fix_ip_header(packet: &mut [u8], transport_at: usize, index: u16) {
    let len = packet.len();
    if packet[0] >> 4 == 6 {
        packet[4..6].copy_from_slice(&((len - IPV6_LEN) as u16).to_be_bytes());
        return;
    }
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[10..12].fill(0);
    let checksum = Sum::default().with(&packet[..transport_at]).finish();
    packet[10..12].copy_from_slice(&checksum);
}

fn fix_tcp_header(packet: &mut [u8], at: usize, done: usize, first: bool, last: bool, pseudo: Sum) {
    let mut sequence = [0; 4];
    sequence.copy_from_slice(&packet[at + 4..at + 8]);
    let sequence = u32::from_be_bytes(sequence).wrapping_add(done as u32);
    packet[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
    // The end of the stream and the push belong to the last byte, the answer to a
    // congestion mark to the first (RFC 3168 §6.1.2).
    if !last {
        packet[at + 13] &= !(FIN | PSH);
    }
    if !first {
        packet[at + 13] &= !CWR;
    }
    let field = at + TCP_CHECKSUM_AT;
    packet[field..field + 2].fill(0);
    let len = (packet.len() - at) as u16;
    let checksum = pseudo.with_u16(len).with(&packet[at..]).finish();
    packet[field..field + 2].copy_from_slice(&checksum);
}

fn fix_udp_header(packet: &mut [u8], at: usize, pseudo: Sum) {
    let len = (packet.len() - at) as u16;
    packet[at + 4..at + 6].copy_from_slice(&len.to_be_bytes());
    let field = at + UDP_CHECKSUM_AT;
    packet[field..field + 2].fill(0);
    let checksum = pseudo.with_u16(len).with(&packet[at..]).finish_udp();
    packet[field..field + 2].copy_from_slice(&checksum);
}
