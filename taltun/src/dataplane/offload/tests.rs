//! Cutting and joining against naive references, and against each other: what is joined and
//! cut again must be what it was.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::coalesce::{Coalescer, Join};
use super::split::{Contradiction, Segments};
use super::vnet::{Gso, NEEDS_CSUM, VnetHeader};
use crate::protocol::ip;

const BOTH: Join = Join {
    tcp: true,
    udp: true,
};

/// A flow that makes packets as its sender would.
#[derive(Clone)]
struct Flow {
    v6: bool,
    udp: bool,
    port: u16,
    sequence: u32,
    id: u16,
    options: usize,
    class: u8,
}

impl Flow {
    fn new(v6: bool, udp: bool, port: u16) -> Self {
        Self {
            v6,
            udp,
            port,
            sequence: u32::MAX - 3000,
            id: 65_530,
            options: if udp { 0 } else { 12 },
            class: 0,
        }
    }

    fn packet(&mut self, payload: &[u8], flags: u8) -> Vec<u8> {
        let mut transport = Vec::new();
        transport.extend(self.port.to_be_bytes());
        transport.extend(5201_u16.to_be_bytes());
        let field = if self.udp {
            transport.extend((8 + payload.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
            6
        } else {
            transport.extend(self.sequence.to_be_bytes());
            transport.extend(77_u32.to_be_bytes());
            transport.push(((20 + self.options) as u8 / 4) << 4);
            transport.push(flags);
            transport.extend([0x20, 0, 0, 0, 0, 0]);
            transport.extend(vec![1; self.options]);
            16
        };
        transport.extend(payload);
        self.sequence = self.sequence.wrapping_add(payload.len() as u32);
        let mut packet = self.ip_header(transport.len());
        self.id = self.id.wrapping_add(1);
        let at = packet.len();
        packet.extend(transport);
        let checksum = match naive_transport_checksum(&packet, at) {
            0 if self.udp => 0xffff,
            checksum => checksum,
        };
        packet[at + field..at + field + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn ip_header(&self, transport_len: usize) -> Vec<u8> {
        let protocol = if self.udp { 17 } else { 6 };
        if self.v6 {
            let mut header = vec![0x60, self.class, 0, 0];
            header.extend((transport_len as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend([0xfd; 16]);
            header.extend([0xfe; 16]);
            return header;
        }
        let mut header = vec![0x45, self.class];
        header.extend((20 + transport_len as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend([0x40, 0, 64, protocol, 0, 0]);
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = naive_checksum(&header, 0);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }
}

fn naive_checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for word in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            word[0],
            word.get(1).copied().unwrap_or(0),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum over pseudo-header and transport part, the field included: of a packet
/// whose field is zero what belongs there, of a right packet zero.
fn naive_transport_checksum(packet: &[u8], at: usize) -> u16 {
    let (addresses, protocol) = if packet[0] >> 4 == 4 {
        (&packet[12..20], packet[9])
    } else {
        (&packet[8..40], packet[6])
    };
    let len = (packet.len() - at) as u32;
    let addresses = u32::from(!naive_checksum(addresses, 0));
    naive_checksum(&packet[at..], addresses + u32::from(protocol) + len)
}

fn assert_right(packet: &[u8]) {
    let at = if packet[0] >> 4 == 4 {
        assert_eq!(naive_checksum(&packet[..20], 0), 0, "IP header checksum");
        20
    } else {
        40
    };
    assert_eq!(ip::parse(packet).map(|inner| inner.len), Some(packet.len()));
    assert_eq!(
        naive_transport_checksum(packet, at),
        0,
        "transport checksum"
    );
}

fn cut(header: &VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(header, packet).unwrap();
    let mut out = Vec::new();
    while let Some(len) = segments.next_len() {
        let mut segment = vec![0; len];
        segments.write_next(&mut segment);
        out.push(segment);
    }
    out
}

/// Joins packets and gives each run as it would be written.
fn joined(packets: &[Vec<u8>], join: Join) -> Vec<(VnetHeader, Vec<u8>, usize)> {
    let mut arena = Vec::new();
    let mut coalescer = Coalescer::default();
    for packet in packets {
        let start = arena.len() + 16;
        arena.extend([0; 16]);
        arena.extend(packet);
        arena.extend([0; 16]);
        coalescer.push(&arena, start, packet.len(), join);
    }
    (0..coalescer.len())
        .map(|at| {
            let run = coalescer.join(at, &mut arena);
            let bytes = coalescer
                .pieces(&run)
                .flat_map(|(start, len)| arena[start..start + len].to_vec())
                .collect();
            (run.header, bytes, run.packets)
        })
        .collect()
}

/// Without what cutting makes anew in an IPv4 header: identification and checksum.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

#[test]
fn a_stream_is_cut_into_right_packets_that_make_it_up() {
    for v6 in [false, true] {
        for payload_len in [1_usize, 1367, 1368, 1369, 40_000, 65_443] {
            let payload: Vec<u8> = (0..payload_len).map(|n| (n * 7 % 251) as u8).collect();
            let mut flow = Flow::new(v6, false, 1);
            let first_sequence = flow.sequence;
            // FIN, PSH, ACK, CWR
            let whole = flow.packet(&payload, 0x99);
            let transport_at = if v6 { 40 } else { 20 };
            let header = VnetHeader {
                flags: NEEDS_CSUM,
                gso: Gso::Tcp,
                // A lie, as some kernels tell: only the TCP header itself counts.
                header_len: 7,
                gso_size: 1368,
                csum_start: transport_at as u16,
                csum_offset: 16,
            };
            let segments = cut(&header, &whole);
            assert_eq!(segments.len(), payload_len.div_ceil(1368));
            let mut together: Vec<u8> = Vec::new();
            for (number, segment) in segments.iter().enumerate() {
                assert_right(segment);
                let tcp = &segment[transport_at..];
                let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
                assert_eq!(sequence, first_sequence.wrapping_add(together.len() as u32));
                let last = number + 1 == segments.len();
                assert_eq!(tcp[13] & 0x09 == 0x09, last, "FIN and PSH on the last");
                assert_eq!(tcp[13] & 0x80 != 0, number == 0, "CWR on the first");
                together.extend(&tcp[32..]);
            }
            assert_eq!(together, payload);
        }
    }
}

#[test]
fn a_burst_of_datagrams_is_cut_into_right_datagrams() {
    for v6 in [false, true] {
        let payload: Vec<u8> = (0..5000_u32).map(|n| (n % 253) as u8).collect();
        let whole = Flow::new(v6, true, 1).packet(&payload, 0);
        let transport_at = if v6 { 40 } else { 20 };
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso: Gso::Udp,
            gso_size: 1200,
            csum_start: transport_at,
            csum_offset: 6,
            ..VnetHeader::default()
        };
        let segments = cut(&header, &whole);
        let lens: Vec<_> = segments
            .iter()
            .map(|segment| segment.len() - usize::from(transport_at) - 8)
            .collect();
        assert_eq!(lens, [1200, 1200, 1200, 1200, 200]);
        for segment in &segments {
            assert_right(segment);
        }
    }
}

#[test]
fn an_unfinished_checksum_is_finished() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let right = Flow::new(v6, udp, 1).packet(b"some payload", 0x18);
        let at = if v6 { 40 } else { 20 };
        let field = at + if udp { 6 } else { 16 };
        // What the kernel leaves in the field: the sum of the pseudo-header.
        let mut unfinished = right.clone();
        let mut pseudo = right.clone();
        pseudo[at..].fill(0);
        let partial = !naive_transport_checksum(&pseudo, at);
        unfinished[field..field + 2].copy_from_slice(&partial.to_be_bytes());
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            csum_start: at as u16,
            csum_offset: (field - at) as u16,
            ..VnetHeader::default()
        };
        assert_eq!(cut(&header, &unfinished), [right]);
    }
}

#[test]
fn headers_that_contradict_their_packet_are_refused() {
    let packet = Flow::new(false, false, 1).packet(&[1; 3000], 0x10);
    let good = VnetHeader {
        flags: NEEDS_CSUM,
        gso: Gso::Tcp,
        gso_size: 1000,
        csum_start: 20,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    assert_eq!(cut(&good, &packet).len(), 3);
    for bad in [
        VnetHeader {
            gso_size: 0,
            ..good
        },
        VnetHeader {
            csum_start: 10,
            ..good
        },
        VnetHeader {
            csum_start: 3030,
            ..good
        },
        VnetHeader {
            csum_offset: 6,
            ..good
        },
        VnetHeader {
            gso: Gso::None,
            csum_start: 3051,
            ..good
        },
    ] {
        assert_eq!(
            Segments::new(&bad, &packet).map(drop).unwrap_err(),
            Contradiction
        );
    }
}

#[test]
fn any_header_on_any_bytes_is_refused_or_cut_without_a_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let base = Flow::new(false, false, 1).packet(&[1; 300], 0x10);
    for _ in 0..200_000 {
        let mut packet = base.clone();
        packet.truncate(rng.next_u32() as usize % (base.len() + 1));
        for _ in 0..rng.next_u32() % 4 {
            if let Some(len) = packet.len().checked_sub(1).filter(|len| *len > 0) {
                let at = rng.next_u32() as usize % len;
                packet[at] = rng.next_u32() as u8;
            }
        }
        let header = VnetHeader {
            flags: (rng.next_u32() % 3) as u8,
            gso: [Gso::None, Gso::Tcp, Gso::Udp][rng.next_u32() as usize % 3],
            header_len: rng.next_u32() as u16,
            gso_size: (rng.next_u32() % 400) as u16,
            csum_start: (rng.next_u32() % 64) as u16,
            csum_offset: [6, 16, 9][rng.next_u32() as usize % 3],
        };
        if let Ok(mut segments) = Segments::new(&header, &packet) {
            let mut count = 0;
            while let Some(len) = segments.next_len() {
                segments.write_next(&mut vec![0; len]);
                count += 1;
                assert!(count <= 400);
            }
        }
    }
}

#[test]
fn neighbours_of_a_stream_become_one_packet() {
    for v6 in [false, true] {
        let mut flow = Flow::new(v6, false, 1);
        let packets: Vec<_> = [(1368, 0x10), (1368, 0x10), (500, 0x18), (1368, 0x10)]
            .map(|(len, flags)| flow.packet(&vec![9; len], flags))
            .into();
        let runs = joined(&packets, BOTH);
        let counts: Vec<_> = runs.iter().map(|(_, _, packets)| *packets).collect();
        assert_eq!(counts, [3, 1], "the pushed one ends the run");
        let (header, bytes, _) = &runs[0];
        assert_eq!(header.gso, Gso::Tcp);
        assert_eq!(header.gso_size, 1368);
        let again = cut(header, bytes);
        for (packet, before) in again.iter().zip(&packets) {
            assert_right(packet);
            assert_eq!(comparable(packet), comparable(before));
        }
    }
}

#[test]
fn what_is_not_a_plain_neighbour_is_left_alone() {
    let base = Flow::new(false, false, 1);
    let first = base.clone().packet(&[1; 1000], 0x10);
    let second = |change: &dyn Fn(&mut Flow), flags: u8, len: usize| {
        let mut flow = base.clone();
        flow.packet(&[1; 1000], 0x10);
        change(&mut flow);
        flow.packet(&vec![1; len], flags)
    };
    let same = |_: &mut Flow| {};
    let neighbours = [
        ("a gap", second(&|f| f.sequence += 1, 0x10, 1000)),
        ("another port", second(&|f| f.port = 2, 0x10, 1000)),
        ("another class", second(&|f| f.class = 3, 0x10, 1000)),
        ("FIN", second(&same, 0x11, 1000)),
        ("SYN", second(&same, 0x12, 1000)),
        ("RST", second(&same, 0x14, 1000)),
        ("URG", second(&same, 0x30, 1000)),
        ("ECE", second(&same, 0x50, 1000)),
        ("CWR", second(&same, 0x90, 1000)),
        ("no payload", second(&same, 0x10, 0)),
        ("a larger one", second(&same, 0x10, 1001)),
        ("other options", second(&|f| f.options = 8, 0x10, 1000)),
    ];
    for (what, neighbour) in neighbours {
        let runs = joined(&[first.clone(), neighbour.clone()], BOTH);
        assert_eq!(runs.len(), 2, "{what}");
        assert_eq!(runs[0].1, first, "{what}");
        assert_eq!(runs[1].1, neighbour, "{what}");
    }
    let neighbour = second(&same, 0x10, 1000);
    assert_eq!(joined(&[first.clone(), neighbour.clone()], BOTH).len(), 1);
    let none = Join {
        tcp: false,
        udp: false,
    };
    assert_eq!(joined(&[first, neighbour], none).len(), 2);
}

/// One with a congestion mark among those that joined.
#[test]
fn datagrams_do_not_pass_one_of_another_traffic_class() {
    for v6 in [false, true] {
        let mut flow = Flow::new(v6, true, 1);
        let mut packets: Vec<_> = [0, 0].map(|_| flow.packet(&[5; 100], 0)).into();
        flow.class = 3;
        packets.push(flow.packet(&[6; 100], 0));
        flow.class = 0;
        packets.push(flow.packet(&[7; 100], 0));
        let runs = joined(&packets, BOTH);
        let counts: Vec<_> = runs.iter().map(|(_, _, packets)| *packets).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!([&runs[1].1, &runs[2].1], [&packets[2], &packets[3]]);
    }
}

#[test]
fn datagrams_without_a_checksum_keep_having_none() {
    let mut flow = Flow::new(false, true, 1);
    let packets = [0, 0].map(|_| {
        let mut packet = flow.packet(&[5; 100], 0);
        packet[26..28].fill(0);
        packet
    });
    let runs = joined(&packets, BOTH);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].1, packets[0]);
}

#[test]
fn fragments_and_ip_options_are_left_alone() {
    let mut flow = Flow::new(false, true, 1);
    let mut fragments = [0, 0].map(|_| flow.packet(&[5; 100], 0));
    for fragment in &mut fragments {
        fragment[6] = 0x20;
    }
    assert_eq!(joined(&fragments, BOTH).len(), 2);
}

/// Random flows, interleaved as a network would: joined and cut again, each flow's packets
/// come out in their order, unchanged.
#[test]
fn joining_and_cutting_again_changes_nothing_and_keeps_order() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut flows: Vec<Flow> = (0..=rng.next_u32() % 6)
            .map(|port| {
                Flow::new(
                    rng.next_u32() % 2 == 0,
                    rng.next_u32() % 3 == 0,
                    port as u16,
                )
            })
            .collect();
        let mut packets = Vec::new();
        for _ in 0..200 {
            let which = rng.next_u32() as usize % flows.len();
            let flow = &mut flows[which];
            let burst = 1 + rng.next_u32() % 20;
            let len = 1 + rng.next_u32() as usize % 1400;
            for _ in 0..burst {
                let len = match rng.next_u32() % 10 {
                    0 => 1 + rng.next_u32() as usize % len,
                    1 if !flow.udp => 0,
                    _ => len,
                };
                let flags = [0x10, 0x10, 0x10, 0x18, 0x11][rng.next_u32() as usize % 5];
                if rng.next_u32() % 20 == 0 {
                    flow.sequence = flow.sequence.wrapping_add(1);
                }
                packets.push(flow.packet(&vec![which as u8; len], flags));
            }
        }
        let runs = joined(&packets, BOTH);
        assert!(runs.iter().all(|(_, bytes, _)| bytes.len() <= 65_535));
        let again: Vec<Vec<u8>> = runs
            .iter()
            .flat_map(|(header, bytes, count)| {
                let parts = cut(header, bytes);
                assert_eq!(parts.len(), *count);
                parts
            })
            .collect();
        assert_eq!(again.len(), packets.len());
        for flow in &flows {
            let of_flow = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                all.iter()
                    .filter(|packet| {
                        let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
                        packet[at..at + 2] == flow.port.to_be_bytes()
                    })
                    .map(|packet| comparable(packet))
                    .collect()
            };
            let (again, before) = (of_flow(&again), of_flow(&packets));
            assert_eq!(again.len(), before.len());
            let differs = again.iter().zip(&before).position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}");
        }
        for packet in &again {
            assert_right(packet);
        }
    }
}

#[test]
fn what_the_kernel_refuses_joined_can_be_had_one_by_one() {
    let mut flow = Flow::new(false, false, 1);
    let packets = [0, 0, 0].map(|_| flow.packet(&[9; 700], 0x10));
    let mut arena: Vec<u8> = packets.concat();
    let before = arena.clone();
    let mut coalescer = Coalescer::default();
    for number in 0..3 {
        let len = packets[0].len();
        coalescer.push(&arena, number * len, len, BOTH);
    }
    let joined = coalescer.join(0, &mut arena);
    assert_eq!(joined.packets, 3);
    assert_ne!(arena, before);
    coalescer.restore(&joined, &mut arena);
    assert_eq!(arena, before);
    let lens: Vec<_> = coalescer.packets(&joined).collect();
    assert_eq!(lens, [(0, 752), (752, 752), (1504, 752)]);
}
