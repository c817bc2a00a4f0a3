//! Inner packets: UDP with a number, by which a packet is known wherever it comes out.

use std::net::IpAddr;

/// Ports that rules tell from each other.
pub(crate) const PORTS: [u16; 3] = [53, 443, 8080];
const UDP: u8 = 17;

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// The ports of UDP.
    pub(crate) ports: [u16; 2],
    pub(crate) number: u32,
}

/// The packet that says so, with so many bytes of payload behind the number.
pub(crate) fn build(said: &Said, payload: usize) -> Vec<u8> {
    let udp_len = 8 + 4 + payload;
    let mut packet = match (said.source, said.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = (20 + udp_len) as u16;
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
            header[2..4].copy_from_slice(&total.to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (source, destination) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, UDP, 64];
            header[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
            for address in [source, destination] {
                if let IpAddr::V6(address) = address {
                    header.extend(address.octets());
                }
            }
            assert_eq!(header.len(), 40, "both are of one family");
            header
        }
    };
    for port in said.ports {
        packet.extend(port.to_be_bytes());
    }
    packet.extend((udp_len as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(said.number.to_be_bytes());
    packet.resize(packet.len() + payload, said.number as u8);
    packet
}

/// The number that a packet carries, if it is long enough for one.
pub(crate) fn number(packet: &[u8]) -> Option<u32> {
    let header = if packet.first()? >> 4 == 6 { 40 } else { 20 };
    let bytes = packet.get(header + 8..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The packet as it was before hubs took hops off it: with the full hop limit, and the checksum of that.
pub(crate) fn with_all_hops(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] = 64;
    } else {
        assert_eq!(checksum(&packet[..20]), 0, "a wrong checksum of the header");
        packet[8] = 64;
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071; zero over a header that has its own.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
