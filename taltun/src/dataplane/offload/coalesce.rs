//! Joins packets of one flow, so that the kernel takes them as one: the reverse of
//! [`super::split`].
//!
//! A [`Coalescer`] collects the packets of a whole batch, which stay where they are in the
//! arena, into *runs*. A run is written with one system call that gathers its pieces.
//! Packets of one flow keep their order by construction: a packet joins the last run of its
//! flow or starts a new one behind it.
//!
//! Checksums aren't verified first, as in the kernel's own WireGuard: every packet here was
//! authenticated from its sender's tunnel to ours.

use taltun_common::headers::protocol::{TCP, UDP};

use super::checksum::{Sum, pseudo_header};
use super::vnet::{DATA_VALID, Gso, NEEDS_CSUM, VnetHeader};
use crate::protocol::ip;

/// Most bytes of a joined packet: what an IP length field can say.
const MAX_BYTES: usize = 65_535;
/// Most packets in a run, so that gathering them stays well below the kernel's limit.
pub const MAX_PARTS: usize = 128;
/// How far back a packet looks for its flow. More flows than this in one batch gain
/// nothing from joining.
const LOOK_BACK: usize = 16;
/// The longest IP and TCP headers that are joined.
const MAX_HEADERS: usize = 40 + 60;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

const NONE: u32 = u32::MAX;

/// Collects packets of a batch into runs.
#[derive(Debug, Default)]
pub struct Coalescer {
    runs: Vec<Group>,
    parts: Vec<Part>,
}

/// A packet in the arena, and the next one of its run.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: usize,
    len: usize,
    next: u32,
}

/// Packets that go to the kernel together.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: u32,
    last: u32,
    parts: usize,
    bytes: usize,
    /// What the flow is; `None` for packets that are never joined.
    flow: Option<Flow>,
    /// Nothing may follow: a shorter or pushed segment ended it.
    closed: bool,
    pushed: bool,
}

/// What must hold for the next packet of a flow.
#[derive(Debug, Clone, Copy)]
struct Flow {
    transport: Gso,
    transport_at: usize,
    payload_at: usize,
    /// Payload bytes of each packet but the last.
    size: usize,
    next_sequence: u32,
}

/// A packet's place in its flow.
struct Candidate {
    flow: Flow,
    sequence: u32,
    pushed: bool,
}

/// A run as it is written: a header and the pieces that follow it.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    /// What to put before the packet.
    pub header: VnetHeader,
    /// Whether the packet is IPv6.
    pub v6: bool,
    /// How many packets it was.
    pub packets: usize,
    run: usize,
    /// The first packet's headers as they came.
    original: [u8; MAX_HEADERS],
}

impl Coalescer {
    /// Room for `capacity` packets without allocating again.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            runs: Vec::with_capacity(capacity),
            parts: Vec::with_capacity(capacity),
        }
    }

    /// Takes the packet of `len` bytes at `start` in the arena; joins it to its flow when
    /// `join` and it fits.
    pub fn push(&mut self, arena: &[u8], start: usize, len: usize, join: Join) {
        let packet = &arena[start..start + len];
        let candidate = join.wants(packet).and_then(|()| examine(packet, join));
        let part = self.parts.len() as u32;
        self.parts.push(Part {
            start,
            len,
            next: NONE,
        });
        if let Some(candidate) = &candidate
            && let Some(at) = self.run_of(arena, packet, candidate)
            && self.runs[at].takes(candidate, len)
        {
            let run = &mut self.runs[at];
            self.parts[run.last as usize].next = part;
            run.last = part;
            run.take(candidate, len);
            return;
        }
        self.close_flow_of(arena, packet);
        self.runs.push(Group {
            first: part,
            last: part,
            parts: 1,
            bytes: len,
            closed: candidate.as_ref().is_none_or(|c| c.pushed),
            pushed: candidate.as_ref().is_some_and(|c| c.pushed),
            flow: candidate.map(|candidate| candidate.flow),
        });
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Makes run `at` one packet: changes the headers of its first packet in the arena.
    pub fn join(&self, at: usize, arena: &mut [u8]) -> Joined {
        let run = &self.runs[at];
        let first = &self.parts[run.first as usize];
        let packet = &mut arena[first.start..first.start + first.len];
        let mut joined = Joined {
            header: VnetHeader {
                flags: DATA_VALID,
                ..VnetHeader::default()
            },
            v6: packet[0] >> 4 == 6,
            packets: run.parts,
            run: at,
            original: [0; MAX_HEADERS],
        };
        if let Some(flow) = run.flow
            && run.parts > 1
        {
            joined.original[..flow.payload_at].copy_from_slice(&packet[..flow.payload_at]);
            write_headers(packet, &flow, run);
            joined.header = VnetHeader {
                flags: NEEDS_CSUM,
                gso: flow.transport,
                header_len: flow.payload_at as u16,
                gso_size: flow.size as u16,
                csum_start: flow.transport_at as u16,
                csum_offset: if flow.transport == Gso::Tcp { 16 } else { 6 },
            };
        }
        joined
    }

    /// The pieces of a joined run in the arena, as `(start, len)`, in order.
    pub fn pieces(&self, joined: &Joined) -> impl Iterator<Item = (usize, usize)> {
        let run = &self.runs[joined.run];
        let skip = run.flow.map_or(0, |flow| flow.payload_at);
        self.parts_of(run).enumerate().map(move |(number, part)| {
            let skip = if number == 0 { 0 } else { skip };
            (part.start + skip, part.len - skip)
        })
    }

    /// Takes back what [`Self::join`] changed, for a kernel that doesn't take packets
    /// joined.
    pub fn restore(&self, joined: &Joined, arena: &mut [u8]) {
        let run = &self.runs[joined.run];
        if let Some(flow) = run.flow
            && run.parts > 1
        {
            let first = self.parts[run.first as usize].start;
            arena[first..first + flow.payload_at]
                .copy_from_slice(&joined.original[..flow.payload_at]);
        }
    }

    /// The packets of a run in the arena, as `(start, len)`, in order.
    pub fn packets(&self, joined: &Joined) -> impl Iterator<Item = (usize, usize)> {
        self.parts_of(&self.runs[joined.run])
            .map(|part| (part.start, part.len))
    }

    /// Forgets all packets, keeping the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.parts.clear();
    }

    fn parts_of(&self, run: &Group) -> impl Iterator<Item = Part> {
        let mut at = run.first;
        std::iter::from_fn(move || {
            let part = *self.parts.get(at as usize)?;
            at = part.next;
            Some(part)
        })
    }

    /// Nothing may join the runs that a packet which didn't join them comes behind. It may be one
    /// that could have been joined: of the same ports, and with another traffic class.
    fn close_flow_of(&mut self, arena: &[u8], packet: &[u8]) {
        let from = self.runs.len().saturating_sub(LOOK_BACK);
        for run in &mut self.runs[from..] {
            if let Some(flow) = &run.flow {
                let first = self.parts[run.first as usize].start;
                run.closed |= may_be_of_flow(&arena[first..], packet, flow);
            }
        }
    }

    /// The last run of the packet's flow.
    fn run_of(&self, arena: &[u8], packet: &[u8], candidate: &Candidate) -> Option<usize> {
        let from = self.runs.len().saturating_sub(LOOK_BACK);
        (from..self.runs.len()).rev().find(|&at| {
            let run = &self.runs[at];
            run.flow.is_some_and(|flow| {
                let first = &self.parts[run.first as usize];
                let other = &arena[first.start..first.start + first.len];
                flow.transport == candidate.flow.transport
                    && flow.payload_at == candidate.flow.payload_at
                    && same_flow(other, packet, &flow)
            })
        })
    }
}

/// Which packets the kernel takes joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams.
    pub udp: bool,
}

impl Join {
    fn wants(self, packet: &[u8]) -> Option<()> {
        (self.tcp || self.udp).then_some(())?;
        (packet.len() > 40).then_some(())
    }
}

impl Group {
    fn takes(&self, candidate: &Candidate, len: usize) -> bool {
        let Some(flow) = &self.flow else {
            return false;
        };
        let payload = len - flow.payload_at;
        !self.closed
            && self.parts < MAX_PARTS
            && self.bytes + payload <= MAX_BYTES
            && payload <= flow.size
            && (flow.transport == Gso::Udp || candidate.sequence == flow.next_sequence)
    }

    fn take(&mut self, candidate: &Candidate, len: usize) {
        let Some(flow) = &mut self.flow else {
            return;
        };
        let payload = len - flow.payload_at;
        self.parts += 1;
        self.bytes += payload;
        self.pushed |= candidate.pushed;
        self.closed = candidate.pushed || payload < flow.size;
        flow.next_sequence = flow.next_sequence.wrapping_add(payload as u32);
    }
}

/// Finds out whether a packet may be joined at all: a plain TCP segment or UDP datagram
/// with payload, no IP options, no fragment, no flag but ACK and PSH.
fn examine(packet: &[u8], join: Join) -> Option<Candidate> {
    let (protocol, transport_at) = match packet[0] {
        0x45 => {
            let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
            (!fragment).then_some((packet[9], 20))?
        }
        first if first >> 4 == 6 => (packet[6], 40),
        _ => return None,
    };
    let transport = packet.get(transport_at..)?;
    match protocol {
        TCP if join.tcp && transport.len() >= 20 => {
            let header_len = usize::from(transport[12] >> 4) * 4;
            let flags = transport[13];
            let payload = transport.len().checked_sub(header_len)?;
            if header_len < 20 || payload == 0 || flags & !PSH != ACK || transport[12] & 0x0f != 0 {
                return None;
            }
            let mut sequence = [0; 4];
            sequence.copy_from_slice(&transport[4..8]);
            let sequence = u32::from_be_bytes(sequence);
            Some(Candidate {
                flow: Flow {
                    transport: Gso::Tcp,
                    transport_at,
                    payload_at: transport_at + header_len,
                    size: payload,
                    next_sequence: sequence.wrapping_add(payload as u32),
                },
                sequence,
                pushed: flags & PSH != 0,
            })
        }
        UDP if join.udp && transport.len() > 8 => {
            let len = usize::from(u16::from_be_bytes([transport[4], transport[5]]));
            // A datagram sent without a checksum would get one: leave it as it is.
            let without_checksum = transport[6..8] == [0, 0];
            if len != transport.len() || without_checksum {
                return None;
            }
            Some(Candidate {
                flow: Flow {
                    transport: Gso::Udp,
                    transport_at,
                    payload_at: transport_at + 8,
                    size: transport.len() - 8,
                    next_sequence: 0,
                },
                sequence: 0,
                pushed: false,
            })
        }
        _ => None,
    }
}

/// Whether two packets belong to one flow and differ only in what cutting would make
/// differ: lengths, checksums, IPv4 identification, TCP sequence and push.
fn same_flow(a: &[u8], b: &[u8], flow: &Flow) -> bool {
    if a[0] >> 4 != b[0] >> 4 {
        return false;
    }
    let network = if a[0] >> 4 == 4 {
        // Type of service, fragment flags, hops and protocol, addresses.
        a[1] == b[1] && a[6..10] == b[6..10] && a[12..20] == b[12..20]
    } else {
        // Traffic class and flow label, next header and hops, addresses.
        a[..4] == b[..4] && a[6..40] == b[6..40]
    };
    let at = flow.transport_at;
    if !network || a[at..at + 4] != b[at..at + 4] {
        return false;
    }
    // Acknowledgement, window and options must be the same: only one of each survives.
    flow.transport == Gso::Udp
        || (a[at + 8..at + 13] == b[at + 8..at + 13]
            && a[at + 14..at + 16] == b[at + 14..at + 16]
            && a[at + 18..flow.payload_at] == b[at + 18..flow.payload_at])
}

/// Whether a packet that isn't joined belongs to a flow: same addresses, and same ports
/// where these are easy to find.
fn may_be_of_flow(of_flow: &[u8], packet: &[u8], flow: &Flow) -> bool {
    let (addresses, plain) = match packet.first() {
        Some(0x45) if of_flow[0] == 0x45 && packet.len() >= 20 => (12..20, packet[9] == of_flow[9]),
        Some(first) if first >> 4 == 4 && of_flow[0] >> 4 == 4 && packet.len() >= 20 => {
            (12..20, false)
        }
        Some(first) if first >> 4 == 6 && of_flow[0] >> 4 == 6 && packet.len() >= 40 => {
            (8..40, packet[6] == of_flow[6])
        }
        _ => return false,
    };
    let ports = flow.transport_at..flow.transport_at + 4;
    packet[addresses.clone()] == of_flow[addresses]
        && (!plain
            || packet
                .get(ports.clone())
                .is_none_or(|p| *p == of_flow[ports]))
}

/// Makes the first packet's headers those of the whole run, with the checksum left to the
/// kernel.
fn write_headers(packet: &mut [u8], flow: &Flow, run: &Group) {
    let at = flow.transport_at;
    let Some(inner) = ip::parse(packet) else {
        return;
    };
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&(run.bytes as u16).to_be_bytes());
        packet[10..12].fill(0);
        let checksum = Sum::default().with(&packet[..at]).finish();
        packet[10..12].copy_from_slice(&checksum);
    } else {
        packet[4..6].copy_from_slice(&((run.bytes - 40) as u16).to_be_bytes());
    }
    let transport_len = (run.bytes - at) as u16;
    let (protocol, field) = if flow.transport == Gso::Tcp {
        if run.pushed {
            packet[at + 13] |= PSH;
        }
        (TCP, at + 16)
    } else {
        packet[at + 4..at + 6].copy_from_slice(&transport_len.to_be_bytes());
        (UDP, at + 6)
    };
    let partial = pseudo_header(inner.source, inner.destination, protocol)
        .with_u16(transport_len)
        .partial();
    packet[field..field + 2].copy_from_slice(&partial);
}
