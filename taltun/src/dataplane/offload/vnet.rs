//! The header before each packet of a TUN with `IFF_VNET_HDR` (`struct virtio_net_hdr`).

/// Bytes of the header.
pub const VNET_HEADER_LEN: usize = 10;

/// The checksum is left to whoever sends the packet on: from `csum_start` on.
pub const NEEDS_CSUM: u8 = 1;
/// The checksum is known to be right.
pub const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type when the stream uses ECN; says nothing about how to cut it.
const GSO_ECN: u8 = 0x80;

/// How a packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gso {
    /// It is one packet.
    #[default]
    None,
    /// A piece of a TCP stream.
    Tcp,
    /// Datagrams of one UDP flow, all of a size but the last.
    Udp,
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// How to cut the packet.
    pub gso: Gso,
    /// Bytes of all headers. The kernel's value is a hint that isn't to be trusted.
    pub header_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the checksummed part starts: the transport header.
    pub csum_start: u16,
    /// Where in it the checksum is.
    pub csum_offset: u16,
}

/// A kind of segmentation that we never asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown segmentation type {0:#x}")]
pub struct UnknownGso(pub u8);

impl VnetHeader {
    /// Reads a header.
    pub fn decode(bytes: &[u8; VNET_HEADER_LEN]) -> Result<Self, UnknownGso> {
        let word = |at| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !GSO_ECN {
            GSO_NONE => Gso::None,
            GSO_TCPV4 | GSO_TCPV6 => Gso::Tcp,
            GSO_UDP_L4 => Gso::Udp,
            other => return Err(UnknownGso(other)),
        };
        Ok(Self {
            flags: bytes[0],
            gso,
            header_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// Writes the header for a packet of the given IP version.
    pub fn encode(&self, v6: bool) -> [u8; VNET_HEADER_LEN] {
        let mut out = [0; VNET_HEADER_LEN];
        out[0] = self.flags;
        out[1] = match self.gso {
            Gso::None => GSO_NONE,
            Gso::Tcp if v6 => GSO_TCPV6,
            Gso::Tcp => GSO_TCPV4,
            Gso::Udp => GSO_UDP_L4,
        };
        for (at, word) in [
            (2, self.header_len),
            (4, self.gso_size),
            (6, self.csum_start),
            (8, self.csum_offset),
        ] {
            out[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_writing_and_reading() {
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso: Gso::Tcp,
            header_len: 52,
            gso_size: 1368,
            csum_start: 20,
            csum_offset: 16,
        };
        for v6 in [false, true] {
            assert_eq!(VnetHeader::decode(&header.encode(v6)), Ok(header));
        }
    }

    #[test]
    fn the_ecn_bit_is_not_part_of_the_type() {
        let mut bytes = [0; VNET_HEADER_LEN];
        bytes[1] = GSO_TCPV4 | GSO_ECN;
        assert_eq!(VnetHeader::decode(&bytes).map(|h| h.gso), Ok(Gso::Tcp));
    }

    #[test]
    fn a_type_we_never_asked_for_is_refused() {
        let mut bytes = [0; VNET_HEADER_LEN];
        bytes[1] = 3;
        assert_eq!(VnetHeader::decode(&bytes), Err(UnknownGso(3)));
    }
}
