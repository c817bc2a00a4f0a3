//! Protocol headers as typed views of a packet's bytes. Numbers are in network byte order
//! (RFC 791, 8200, 768, 9293, 792, 4443).

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an Ethernet header without a VLAN tag.
pub const ETHERNET_LEN: usize = size_of::<Ethernet>();
/// Bytes that a VLAN tag adds to it.
pub const VLAN_TAG_LEN: usize = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = size_of::<Ipv4>();
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_LEN: usize = size_of::<Ipv6>();
/// Bytes of the extension header of an IPv6 fragment.
pub const IPV6_FRAGMENT_LEN: usize = size_of::<Ipv6Fragment>();
/// Bytes of a UDP header.
pub const UDP_LEN: usize = size_of::<Udp>();
/// Bytes of a TCP header without options.
pub const TCP_LEN: usize = size_of::<Tcp>();
/// Bytes of an ICMP header, of IPv4 and IPv6.
pub const ICMP_LEN: usize = size_of::<Icmp>();

/// Types of Ethernet frames.
pub mod ethertype {
    use super::U16;

    /// IPv4.
    pub const IPV4: U16 = U16::new(0x0800);
    /// IPv6.
    pub const IPV6: U16 = U16::new(0x86dd);
}

/// Protocol numbers of IP.
pub mod protocol {
    /// ICMP of IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// The extension header of options for each hop.
    pub const IPV6_HOP_BY_HOP: u8 = 0;
    /// The extension header of a route.
    pub const IPV6_ROUTING: u8 = 43;
    /// The extension header of an IPv6 fragment.
    pub const IPV6_FRAGMENT: u8 = 44;
    /// The extension header of options for the destination.
    pub const IPV6_DESTINATION: u8 = 60;
    /// ICMP of IPv6.
    pub const ICMPV6: u8 = 58;
}

/// An Ethernet header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// Destination link address.
    pub destination: [u8; 6],
    /// Source link address.
    pub source: [u8; 6],
    /// See [`ethertype`].
    pub ethertype: U16,
}

/// An IPv4 header, up to its options.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// The version, 4, and the header's length in words of four bytes.
    pub version_and_length: u8,
    /// The traffic class, whose lowest two bits are ECN.
    pub class: u8,
    /// Bytes of the packet, this header included.
    pub total_length: U16,
    /// Identification, the same in all fragments of a packet.
    pub identification: U16,
    /// Three flags and the fragment offset, in units of eight bytes.
    pub fragment: U16,
    /// Hop limit.
    pub hop_limit: u8,
    /// See [`protocol`].
    pub protocol: u8,
    /// Checksum over the header.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Ipv4 {
    /// Version 4, and a header without options.
    pub const PLAIN: u8 = 0x45;

    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    const OFFSET: u16 = 0x1fff;

    /// Bytes of the header, options included, by its own length field.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        ((self.version_and_length & 0xf) as usize) << 2
    }

    /// Whether the packet is a fragment.
    #[inline(always)]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.fragment.get() & Self::MORE_FRAGMENTS_AND_OFFSET != 0
    }

    /// Whether the packet is a fragment other than the first, which has the next header.
    #[inline(always)]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment.get() & Self::OFFSET != 0
    }
}

/// An IPv6 header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// The version, 6, in four bits, the traffic class in eight, and the flow label.
    pub version_class_label: [u8; 4],
    /// Bytes after this header.
    pub payload_length: U16,
    /// See [`protocol`].
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

impl Ipv6 {
    /// The version, of four bits.
    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version_class_label[0] >> 4
    }

    /// The traffic class, whose lowest two bits are ECN.
    #[inline(always)]
    #[must_use]
    pub const fn class(&self) -> u8 {
        self.version_class_label[0] << 4 | self.version_class_label[1] >> 4
    }
}

/// The extension header of an IPv6 fragment.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6Fragment {
    /// See [`protocol`].
    pub next_header: u8,
    /// Reserved.
    pub reserved: u8,
    /// Fragment offset, in units of eight bytes, and three flags.
    pub offset: U16,
    /// Identification, the same in all fragments of a packet.
    pub identification: U32,
}

impl Ipv6Fragment {
    /// Whether it isn't the first fragment, which has the next header.
    #[inline(always)]
    #[must_use]
    pub const fn is_later(&self) -> bool {
        self.offset.get() >> 3 != 0
    }
}

/// A UDP header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Bytes of the datagram, this header included.
    pub length: U16,
    /// Checksum over pseudo header, this header and payload.
    pub checksum: [u8; 2],
}

/// A TCP header, up to its options.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tcp {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Sequence number of the first byte.
    pub sequence: U32,
    /// Acknowledgement number: the byte expected next.
    pub acknowledgement: U32,
    /// The header's length in words of four bytes, in the upper four bits.
    pub data_offset: u8,
    /// Flags.
    pub flags: u8,
    /// Receive window.
    pub window: U16,
    /// Checksum over pseudo header, this header and payload.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: U16,
}

impl Tcp {
    /// Bytes of the header, options included, by its own length field.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        ((self.data_offset >> 4) as usize) << 2
    }

    /// Whether it starts a connection: SYN without ACK.
    #[inline(always)]
    #[must_use]
    pub const fn is_start(&self) -> bool {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        self.flags & (SYN | ACK) == SYN
    }
}

/// The header of an ICMP message, of IPv4 or IPv6.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum over the message; for IPv6 with a pseudo header.
    pub checksum: [u8; 2],
    /// The rest of the header, which depends on the type.
    pub rest: [u8; 4],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_lengths_of_their_standards() {
        let lens = [
            (ETHERNET_LEN, 14),
            (IPV4_LEN, 20),
            (IPV6_LEN, 40),
            (IPV6_FRAGMENT_LEN, 8),
            (UDP_LEN, 8),
            (TCP_LEN, 20),
            (ICMP_LEN, 8),
        ];
        for (len, expected) in lens {
            assert_eq!(len, expected);
        }
    }

    #[test]
    fn fields_are_where_their_standards_say() {
        let mut bytes = [0_u8; 40];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = at as u8;
        }
        let (ip, _) = Ipv4::ref_from_prefix(&bytes).unwrap();
        assert_eq!(ip.total_length.get(), 0x0203);
        assert_eq!(ip.hop_limit, 8);
        assert_eq!(ip.source, [12, 13, 14, 15]);
        let ip = Ipv6::ref_from_bytes(&bytes).unwrap();
        assert_eq!(ip.payload_length.get(), 0x0405);
        assert_eq!((ip.next_header, ip.hop_limit), (6, 7));
        assert_eq!(ip.destination[0], 24);
        let (tcp, _) = Tcp::ref_from_prefix(&bytes).unwrap();
        assert_eq!((tcp.data_offset, tcp.flags), (12, 13));
        assert_eq!(tcp.checksum, [16, 17]);
        let (udp, _) = Udp::ref_from_prefix(&bytes).unwrap();
        assert_eq!(udp.length.get(), 0x0405);
    }

    #[test]
    fn a_class_lies_across_two_bytes() {
        let mut bytes = [0_u8; IPV6_LEN];
        bytes[..2].copy_from_slice(&[0x6a, 0xb0]);
        let ip = Ipv6::ref_from_bytes(&bytes).unwrap();
        assert_eq!((ip.version(), ip.class()), (6, 0xab));
    }
}
