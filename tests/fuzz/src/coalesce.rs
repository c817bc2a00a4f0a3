//! Joining packets of flows and cutting them again: each flow's packets come out in their order and as
//! they were; and what isn't joined isn't touched.

use taltun::dataplane::offload::coalesce::{Coalescer, Join};
use taltun::dataplane::offload::split::Segments;
use taltun_protocol::ip;

use crate::checksums::{checksum, of_transport};
use crate::choices::Choices;

/// Most packets of a batch here.
const MOST: usize = 200;

/// What a flow's next packet is made by.
#[derive(Clone, Copy)]
struct Flow {
    v6: bool,
    udp: bool,
    sequence: u32,
    id: u16,
}

/// A batch as it comes from peers: mostly good neighbours, and some of each other kind.
fn packets(choices: &mut Choices<'_>) -> Vec<Vec<u8>> {
    let mut flows = [0, 1, 2, 3].map(|nth| Flow {
        v6: nth & 1 != 0,
        udp: nth & 2 != 0,
        sequence: u32::MAX - 3000,
        id: 65_530,
    });
    let mut packets = Vec::new();
    while !choices.is_over() && packets.len() < MOST {
        let step = choices.byte();
        let nth = usize::from(step & 3);
        let len = match step >> 2 & 3 {
            0 => choices.below(40),
            _ => 48 * usize::from(step >> 4),
        };
        let odd = choices.byte();
        let mut packet = flow_packet(&mut flows[nth], nth as u16, len, odd);
        if odd >= 0xf0 && !packet.is_empty() {
            // One byte is anything.
            let at = usize::from(choices.word()) % packet.len();
            packet[at] = choices.byte();
        }
        packets.push(packet);
    }
    packets
}

/// The next packet of a flow with this much payload, odd in some way if `odd` says so.
fn flow_packet(flow: &mut Flow, port: u16, len: usize, odd: u8) -> Vec<u8> {
    let mut transport = Vec::new();
    transport.extend(port.to_be_bytes());
    transport.extend(5201_u16.to_be_bytes());
    let field = if flow.udp {
        transport.extend((8 + len as u16).to_be_bytes());
        transport.extend([0, 0]);
        6
    } else {
        let flags = [0x10, 0x10, 0x10, 0x18, 0x11, 0x12, 0x90, 0x14][usize::from(odd & 7)];
        if odd & 0x78 == 0x78 {
            flow.sequence = flow.sequence.wrapping_add(1);
        }
        transport.extend(flow.sequence.to_be_bytes());
        transport.extend([0, 0, 0, 77, 0x80, flags, 0x20, 0, 0, 0, 0, 0]);
        transport.extend([1; 12]);
        16
    };
    transport.extend((0..len).map(|at| at as u8 ^ odd));
    flow.sequence = flow.sequence.wrapping_add(len as u32);
    let protocol = if flow.udp { 17 } else { 6 };
    let mut packet = if flow.v6 {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((transport.len() as u16).to_be_bytes());
        header.extend([protocol, 64]);
        header.extend([0xfd; 16]);
        header.extend([0xfe; 16]);
        header
    } else {
        let mut header = vec![0x45, 0];
        header.extend((20 + transport.len() as u16).to_be_bytes());
        header.extend(flow.id.to_be_bytes());
        header.extend([0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum(&header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        flow.id = flow.id.wrapping_add(1);
        header
    };
    let at = packet.len();
    packet.extend(transport);
    let sum = match of_transport(&packet, at, protocol) {
        0 if flow.udp => 0xffff,
        sum => sum,
    };
    packet[at + field..at + field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What a packet is compared by: joining writes IPv4's identification and checksums anew.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let at = match packet.first() {
        Some(first) if first >> 4 == 4 && packet.len() >= 20 => {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
            20
        }
        Some(first) if first >> 4 == 6 && packet.len() >= 40 => 40,
        _ => return packet,
    };
    let protocol = if at == 20 { packet[9] } else { packet[6] };
    let field = at + if protocol == 17 { 6 } else { 16 };
    if let Some(sum) = packet.get_mut(field..field + 2) {
        sum.fill(0);
    }
    packet
}

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kinds = choices.byte();
    let join = Join {
        tcp: kinds & 1 == 0,
        udp: kinds & 2 == 0,
    };
    // A peer's packets passed this before.
    let packets: Vec<Vec<u8>> = packets(&mut choices)
        .into_iter()
        .filter(|packet| ip::parse(packet).is_some_and(|inner| inner.len == packet.len()))
        .collect();
    let (mut arena, mut places) = (Vec::new(), Vec::new());
    let mut coalescer = Coalescer::with_capacity(packets.len());
    for packet in &packets {
        arena.extend([0xaa; 16]);
        places.push(arena.len());
        arena.extend(packet);
    }
    for (packet, start) in packets.iter().zip(&places) {
        coalescer.push(&arena, *start, packet.len(), join);
    }
    let before = arena.clone();
    let mut again: Vec<Vec<u8>> = Vec::new();
    let mut written = 0;
    for at in 0..coalescer.len() {
        let run = coalescer.join(at, &mut arena);
        let mut whole = Vec::new();
        for (start, len) in coalescer.pieces(&run) {
            whole.extend(&arena[start..start + len]);
        }
        assert!(whole.len() <= 65_535);
        written += run.packets;
        let mut segments = Segments::new(&run.header, &whole).expect("what was joined can be cut");
        let mut cut = 0;
        while let Some(len) = segments.next_len() {
            let mut one = vec![0; len];
            segments.write_next(&mut one);
            again.push(one);
            cut += 1;
        }
        assert_eq!(cut, run.packets, "as many as were joined");
        if run.packets == 1 {
            let alone = again.last().expect("there is one");
            assert!(packets.contains(alone), "what isn't joined isn't touched");
        } else {
            assert!(join.tcp || join.udp);
        }
        coalescer.restore(&run, &mut arena);
    }
    assert_eq!(arena, before, "what was written is taken back");
    assert_eq!(written, packets.len());
    assert_eq!(coalescer.is_empty(), packets.is_empty());
    // Flows may pass each other, the packets of one may not.
    let of = |all: &[Vec<u8>], key: &[u8]| -> Vec<Vec<u8>> {
        let of_flow = all.iter().filter(|packet| flow_key(packet) == key);
        of_flow.map(|packet| comparable(packet)).collect()
    };
    let mut keys: Vec<_> = packets.iter().map(|packet| flow_key(packet)).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (again, before) = (of(&again, &key), of(&packets, &key));
        assert_eq!(again.len(), before.len(), "packets of flow {key:?}");
        let differs = again.iter().zip(&before).position(|(is, was)| is != was);
        assert_eq!(differs, None, "flow {key:?}");
    }
}

/// Addresses, and protocol and ports where these are plain: what a flow is told by.
fn flow_key(packet: &[u8]) -> Vec<u8> {
    match packet[0] {
        0x45 => [
            &packet[12..20],
            &packet[9..10],
            packet.get(20..24).unwrap_or(&[]),
        ]
        .concat(),
        first if first >> 4 == 4 => [&packet[12..20], &packet[..1]].concat(),
        _ => [
            &packet[8..40],
            &packet[6..7],
            packet.get(40..44).unwrap_or(&[]),
        ]
        .concat(),
    }
}
