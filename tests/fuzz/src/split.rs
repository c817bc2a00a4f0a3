//! Cutting what the kernel left whole, against the packets that its sender would have made one by
//! one: written here from the header's and the payload's meaning alone.

use taltun::dataplane::offload::split::Segments;
use taltun::dataplane::offload::vnet::{Gso, NEEDS_CSUM, VNET_HEADER_LEN, VnetHeader};

use crate::checksums::{checksum, of_transport};
use crate::choices::Choices;

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let header = choices.array::<VNET_HEADER_LEN>();
    let Ok(mut header) = VnetHeader::decode(&header) else {
        return;
    };
    let kind = choices.byte();
    // Half of all are what a kernel says, about a packet whose lengths are right.
    let is_plain = kind & 1 == 0;
    let mut packet = choices.rest().to_vec();
    if is_plain {
        let Some(at) = make_plain(&mut packet, kind) else {
            return;
        };
        header.csum_start = at as u16;
        header.csum_offset = if kind & 4 == 0 { 16 } else { 6 };
        header.gso = if kind & 4 == 0 { Gso::Tcp } else { Gso::Udp };
        header.gso_size = header.gso_size % 512 + 1;
        header.flags = NEEDS_CSUM;
    }
    let Ok(mut segments) = Segments::new(&header, &packet) else {
        assert!(!is_plain, "{header:?} of a plain packet is refused");
        return;
    };
    let mut cut = Vec::new();
    while let Some(len) = segments.next_len() {
        let mut out = vec![0xee; len];
        segments.write_next(&mut out);
        cut.push(out);
        assert!(cut.len() <= packet.len().max(1), "it doesn't end");
    }
    match header.gso {
        Gso::None if header.flags & NEEDS_CSUM == 0 => assert_eq!(cut, [packet]),
        Gso::None => {
            let [cut] = &cut[..] else {
                panic!("{} packets of one", cut.len())
            };
            let at = usize::from(header.csum_start);
            let field = at + usize::from(header.csum_offset);
            let mut expected = packet.clone();
            expected[field..field + 2].copy_from_slice(&cut[field..field + 2]);
            assert_eq!(*cut, expected, "only the checksum is written");
        }
        transport if is_plain => {
            let payload = payload_at(&packet, usize::from(header.csum_start), transport);
            let expected = senders(&packet, &header, payload);
            assert_eq!(cut.len(), expected.len());
            for (nth, (cut, expected)) in cut.iter().zip(&expected).enumerate() {
                assert_eq!(cut, expected, "packet {nth} of {header:?}");
            }
        }
        transport => {
            // Headers may lie about each other. No payload is lost or doubled.
            let at = payload_at(&packet, usize::from(header.csum_start), transport);
            let together: Vec<u8> = cut.iter().flat_map(|cut| cut[at..].to_vec()).collect();
            assert_eq!(together, packet[at..]);
        }
    }
}

/// Makes of any bytes a packet with plain headers, and says where its transport begins.
fn make_plain(packet: &mut [u8], kind: u8) -> Option<usize> {
    let (v6, udp) = (kind & 2 != 0, kind & 4 != 0);
    let at = if v6 { 40 } else { 20 };
    let transport = if udp { 8 } else { 20 };
    let len = packet.len();
    (len >= at + transport && len <= 65_535).then_some(())?;
    let protocol = if udp { 17 } else { 6 };
    if v6 {
        packet[0] = 0x60 | packet[0] & 0x0f;
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        packet[6] = protocol;
    } else {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[9] = protocol;
    }
    if !udp {
        // As many options as there are bytes for.
        let options = usize::from(packet[at + 12] >> 4).clamp(5, (len - at) / 4);
        packet[at + 12] = (options as u8) << 4 | packet[at + 12] & 0x0f;
    }
    Some(at)
}

fn payload_at(packet: &[u8], at: usize, transport: Gso) -> usize {
    match transport {
        Gso::Udp => at + 8,
        _ => at + usize::from(packet[at + 12] >> 4) * 4,
    }
}

/// The packets that a sender without offloads would have made.
fn senders(packet: &[u8], header: &VnetHeader, payload: usize) -> Vec<Vec<u8>> {
    let at = usize::from(header.csum_start);
    let (headers, data) = packet.split_at(payload);
    let pieces: Vec<&[u8]> = if data.is_empty() {
        vec![data]
    } else {
        data.chunks(header.gso_size.into()).collect()
    };
    let (mut sent, mut made) = (0_usize, Vec::new());
    for (nth, piece) in pieces.iter().enumerate() {
        let mut one = [headers, piece].concat();
        let (is_first, is_last) = (nth == 0, nth + 1 == pieces.len());
        let len = one.len();
        if one[0] >> 4 == 6 {
            one[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        } else {
            one[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            let id = u16::from_be_bytes([one[4], one[5]]).wrapping_add(nth as u16);
            one[4..6].copy_from_slice(&id.to_be_bytes());
            one[10..12].fill(0);
            let sum = checksum(&one[..20], 0);
            one[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let (protocol, field) = if header.gso == Gso::Udp {
            one[at + 4..at + 6].copy_from_slice(&((len - at) as u16).to_be_bytes());
            (17, at + 6)
        } else {
            let sequence = u32::from_be_bytes(one[at + 4..at + 8].try_into().unwrap());
            let sequence = sequence.wrapping_add(sent as u32);
            one[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
            let (fin_psh, cwr) = (0x09, 0x80);
            let cleared = if is_last { 0 } else { fin_psh } | if is_first { 0 } else { cwr };
            one[at + 13] &= !cleared;
            (6, at + 16)
        };
        one[field..field + 2].fill(0);
        let sum = match of_transport(&one, at, protocol) {
            0 if protocol == 17 => 0xffff,
            sum => sum,
        };
        one[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        sent += piece.len();
        made.push(one);
    }
    made
}
