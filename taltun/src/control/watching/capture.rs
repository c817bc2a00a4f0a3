//! `taltun capture`: what is seen of packets, as the blocks of a pcapng file.
//!
//! Whoever reads it gets up to three interfaces: packets inside the tunnel between this host and
//! peers, packets inside from peer to peer, and datagrams outside. Each packet is there once, with a comment
//! that says whom it is between and what became of it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use taltun_capture::Filter;
use taltun_capture::pcapng::{self, Direction, Interface, Packet, Statistics};

use super::datagram::{self, Header};
use super::names::Names;
use super::stream::Stream;
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::dataplane::tap::{Fate, Observed, Place, Wants};
use crate::protocol::peer::Peer;
use crate::protocol::tunnel::Tunnel;

/// A datagram's hop limit isn't known: what Linux gives one that it sends.
const HOP_LIMIT: u8 = 64;

/// Where packets go that aren't for a peer.
const HOST: &str = "this host";

/// The longest IP packet, and so what a filter may look at.
const LONGEST: usize = 65_535;

/// Bytes that may wait of each thread, and packets: as many whole ones of the Internet as 20 ms of
/// a gigabit a second.
const ROOM: usize = 4 << 20;
const WAITING: usize = 16_384;

/// What is seen where, in the order of a file's interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inner,
    Relayed,
    Outer,
}

impl Side {
    const ALL: [Self; 3] = [Self::Inner, Self::Relayed, Self::Outer];

    fn of(place: Place) -> Option<Self> {
        Some(match place {
            Place::ToHost | Place::FromHost => Self::Inner,
            Place::Relayed => Self::Relayed,
            Place::Arrived | Place::Leaves => Self::Outer,
            // It is only counted.
            Place::Kernel => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Relayed => "relayed",
            Self::Outer => "outer",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Inner => "packets in the tunnel between this host and peers",
            Self::Relayed => "packets in the tunnel from peer to peer, each once",
            Self::Outer => {
                "WireGuard's datagrams; their IP and UDP headers are written anew, without the \
                 hop limit, the DSCP and the identification that they had"
            }
        }
    }
}

/// An interface of the file.
#[derive(Debug)]
struct Seen {
    side: Side,
    received: u64,
    accepted: u64,
}

/// What is to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a kind of packets, in any combination"
)]
pub struct Captured {
    /// Packets in the tunnel between this host and peers.
    pub inner: bool,
    /// Packets in the tunnel from peer to peer.
    pub relayed: bool,
    /// Datagrams.
    pub outer: bool,
    /// Bytes that are kept of each packet; 0 for all.
    pub snap_length: u32,
    /// Which of them: a filter in words, and as a program.
    pub filter: Option<(String, Filter)>,
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Capture {
    tunnel: Arc<Tunnel>,
    sides: Vec<Seen>,
    filter: Option<Filter>,
    /// Bytes that are kept of a packet.
    snap: usize,
    /// What a file begins with, until it is written.
    head: Vec<u8>,
    /// Where the clock of packets began, by the wall clock.
    zero: Duration,
    /// When the capture began, nanoseconds since 1970.
    start: u64,
    /// A datagram with its headers.
    datagram: Vec<u8>,
    comment: String,
}

impl Captured {
    /// What the data plane is to tell, of one peer or of all.
    pub fn wants(&self, peer: Option<Arc<Peer>>) -> Wants {
        // A filter may look at all of a packet.
        let snap = match &self.filter {
            Some(_) => LONGEST,
            None => self.snap(),
        };
        Wants {
            peer,
            passed: true,
            inner: self.inner || self.relayed,
            outer: self.outer,
            lost: false,
            snap,
            room: ROOM.min(snap.saturating_mul(WAITING)),
        }
    }

    /// Bytes that are kept of a packet.
    fn snap(&self) -> usize {
        match self.snap_length {
            0 => LONGEST,
            bytes => bytes as usize,
        }
    }
}

impl Capture {
    /// Of the tunnel on `interface`.
    pub fn new(captured: Captured, interface: &str, tunnel: Arc<Tunnel>) -> Self {
        let wanted = |side: &Side| match side {
            Side::Inner => captured.inner,
            Side::Relayed => captured.relayed,
            Side::Outer => captured.outer,
        };
        let sides = Side::ALL.into_iter().filter(wanted).map(|side| Seen {
            side,
            received: 0,
            accepted: 0,
        });
        let sides: Vec<_> = sides.collect();
        let snap = captured.snap();
        let (words, filter) = captured.filter.unzip();
        let mut head = Vec::new();
        let application = concat!("taltun ", env!("CARGO_PKG_VERSION"));
        pcapng::section(&mut head, application, "Linux");
        for seen in &sides {
            let side = Interface {
                name: &format!("{interface} {}", seen.side.word()),
                description: seen.side.description(),
                filter: words.as_deref(),
                snap_length: captured.snap_length,
            };
            pcapng::interface(&mut head, &side);
        }
        Self {
            tunnel,
            sides,
            filter,
            snap,
            head,
            zero: clock::wall_clock_at_zero(),
            start: nanoseconds(clock::wall()),
            datagram: Vec::new(),
            comment: String::new(),
        }
    }
}

impl Stream for Capture {
    fn packet(&mut self, observed: &Observed<'_>, names: &Names, to: &mut Vec<u8>) {
        to.append(&mut self.head);
        let Some(side) = Side::of(observed.place) else {
            return;
        };
        let Some(interface) = self.sides.iter().position(|seen| seen.side == side) else {
            return;
        };
        // What was only counted, there being nothing left of it, can't be shown.
        if observed.bytes.is_empty() {
            return;
        }
        let (bytes, length) = match side {
            Side::Inner | Side::Relayed => (observed.bytes, observed.len),
            Side::Outer => {
                let Some(length) = self.write_datagram(observed) else {
                    return;
                };
                (&self.datagram[..], length)
            }
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let seen = &mut self.sides[interface];
        seen.received = seen.received.saturating_add(1);
        if let Some(filter) = &self.filter
            && !filter.matches(bytes, length)
        {
            return;
        }
        seen.accepted = seen.accepted.saturating_add(1);
        self.comment.clear();
        comment(&mut self.comment, observed, names);
        let at = self
            .zero
            .saturating_add(Duration::from_nanos(observed.at.as_nanos()));
        let packet = Packet {
            interface: interface as u32,
            time: nanoseconds(at),
            bytes: &bytes[..bytes.len().min(self.snap)],
            length,
            direction: direction(observed.place),
            comment: Some(&self.comment),
        };
        pcapng::packet(to, &packet);
    }

    fn patience(&self) -> Duration {
        // Who looks at packets may leave them for a while.
        Duration::from_secs(60)
    }

    fn beat(&mut self, _: u64, to: &mut Vec<u8>) {
        // So that a reader knows what it reads before there is a packet.
        to.append(&mut self.head);
    }

    fn end(&mut self, _: Option<&str>, left_out: u64, to: &mut Vec<u8>) {
        to.append(&mut self.head);
        let end = nanoseconds(clock::wall()).max(self.start);
        // Which side's they were isn't known.
        let mut lost = left_out;
        for (interface, seen) in self.sides.iter().enumerate() {
            let dropped = std::mem::take(&mut lost);
            let statistics = Statistics {
                interface: interface as u32,
                start: self.start,
                end,
                received: seen.received.saturating_add(dropped),
                dropped,
                accepted: seen.accepted,
            };
            pcapng::statistics(to, &statistics);
        }
    }
}

impl Capture {
    /// Writes a datagram with its headers; how long it was with them. `None` where it isn't
    /// known where it came from or went to.
    fn write_datagram(&mut self, observed: &Observed<'_>) -> Option<usize> {
        let remote = canonical(observed.remote?);
        let local = observed.local.map(|local| local.to_canonical());
        let local = local.unwrap_or(match remote.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
        let local = SocketAddr::new(local, self.tunnel.listen_port());
        let ends = match observed.place {
            Place::Arrived => [remote, local],
            _ => [local, remote],
        };
        let header = Header {
            class: 0,
            hop_limit: HOP_LIMIT,
        };
        self.datagram.clear();
        datagram::write(
            &mut self.datagram,
            ends,
            header,
            observed.bytes,
            observed.len,
        );
        let headers = self.datagram.len().saturating_sub(observed.bytes.len());
        Some(observed.len.saturating_add(headers))
    }
}

/// Whom it is between, and what became of it.
fn comment(to: &mut String, observed: &Observed<'_>, names: &Names) {
    // Adding to a String can't fail.
    let _ = match observed.place {
        Place::ToHost | Place::Arrived | Place::Kernel => {
            add_end(to, observed.from, observed, names);
            write!(to, " to {HOST}: ")
        }
        Place::FromHost | Place::Leaves => {
            let _ = write!(to, "{HOST} to ");
            add_end(to, observed.to, observed, names);
            write!(to, ": ")
        }
        Place::Relayed => {
            add_end(to, observed.from, observed, names);
            let _ = write!(to, " to ");
            add_end(to, observed.to, observed, names);
            write!(to, ": ")
        }
    };
    let _ = match observed.fate {
        Fate::Passed => write!(to, "passed"),
        Fate::Waits => write!(to, "waits for a session"),
        Fate::Dropped(reason) => write!(to, "dropped, counted as {}", reason.label()),
    };
    // A rule that let it pass is no news.
    if let (Some(rule), Fate::Dropped(_)) = (observed.rule, observed.fate) {
        let _ = write!(to, " ({})", names.rule(rule));
    }
}

/// Names a peer; where it isn't known, the address outside.
fn add_end(to: &mut String, peer: Option<PublicKey>, observed: &Observed<'_>, names: &Names) {
    let _ = match (peer, observed.remote) {
        (Some(peer), _) => write!(to, "{}", names.peer(&peer)),
        (None, Some(remote)) if observed.place.is_outer() => write!(to, "{}", canonical(remote)),
        (None, _) => write!(to, "nobody known"),
    };
}

fn direction(place: Place) -> Direction {
    match place {
        Place::Arrived | Place::ToHost => Direction::Inbound,
        Place::Leaves | Place::FromHost => Direction::Outbound,
        Place::Relayed | Place::Kernel => Direction::Unknown,
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn nanoseconds(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use taltun_capture::blocks::{self, Kind};
    use taltun_common::drops::DropReason;

    use super::*;
    use crate::crypto::PrivateKey;
    use crate::dataplane::rules::Rules;
    use crate::dataplane::tap;
    use crate::protocol::device::{Device, Settings};
    use crate::protocol::randomness::Randomness;
    use crate::protocol::time::Time;

    const ALL: Captured = Captured {
        inner: true,
        relayed: true,
        outer: true,
        snap_length: 0,
        filter: None,
    };

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn names() -> Names {
        let names = Names::new(Arc::new(Rules::default()));
        let peers = [(key(1), "ana".to_owned()), (key(2), "luis".to_owned())];
        names.set(peers.into_iter());
        names
    }

    fn capture(captured: Captured) -> Capture {
        let device = Device::new(Settings {
            private_key: PrivateKey::from_bytes([7; 32]),
            randomness: Randomness::seeded([0; 32]),
            wall_clock_at_zero: Duration::ZERO,
            mtu: 1420,
            local_addresses: Vec::new(),
            relay: true,
        });
        device.tunnel().set_listen_port(51820);
        Capture::new(captured, "wg0", Arc::clone(device.tunnel()))
    }

    fn seen(place: Place, fate: Fate, len: usize) -> tap::Seen {
        let mut seen = tap::Seen::new(Time::START, place, fate);
        seen.len = len;
        seen
    }

    /// The blocks that a capture makes of these.
    fn made(captured: Captured, all: &[(tap::Seen, &[u8])]) -> Vec<(Kind, Vec<u8>)> {
        let mut capture = capture(captured);
        let (names, mut bytes) = (names(), Vec::new());
        for (seen, bytes_seen) in all {
            let observed = Observed {
                seen: *seen,
                bytes: bytes_seen,
            };
            capture.packet(&observed, &names, &mut bytes);
        }
        capture.end(None, 5, &mut bytes);
        let (mut blocks, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((kind, block)) = blocks::first(rest).unwrap() {
            blocks.push((kind, block.to_vec()));
            rest = &rest[block.len()..];
        }
        blocks
    }

    /// Packets of a capture: interface, lengths, bytes and what is said of them.
    fn packets(captured: Captured, all: &[(tap::Seen, &[u8])]) -> Vec<(u32, u32, Vec<u8>, String)> {
        let packets = made(captured, all).into_iter();
        let packets = packets.filter(|(kind, _)| *kind == Kind::Packet);
        packets
            .map(|(_, block)| {
                let word = |at: usize| u32::from_le_bytes(*block[at..].first_chunk().unwrap());
                let captured = word(20) as usize;
                let options = 28 + captured.next_multiple_of(4);
                let comment = (word(options) >> 16) as usize;
                let comment = block[options + 4..options + 4 + comment].to_vec();
                let bytes = block[28..28 + captured].to_vec();
                (
                    word(8),
                    word(24),
                    bytes,
                    String::from_utf8(comment).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn each_packet_is_at_its_side_with_its_ends_and_fate() {
        let mut relayed = seen(Place::Relayed, Fate::Passed, 3);
        (relayed.from, relayed.to) = (Some(key(1)), Some(key(2)));
        let mut to_host = seen(Place::ToHost, Fate::Dropped(DropReason::Rule), 3);
        to_host.from = Some(key(1));
        let from_host = seen(Place::FromHost, Fate::Dropped(DropReason::NoPeer), 3);
        let mut waits = seen(Place::FromHost, Fate::Waits, 3);
        waits.to = Some(key(2));
        let mut unknown = seen(Place::Arrived, Fate::Dropped(DropReason::Shape), 3);
        unknown.remote = Some("[::ffff:192.0.2.7]:1234".parse().unwrap());
        let mut leaves = seen(Place::Leaves, Fate::Passed, 3);
        leaves.remote = Some("[2001:db8::7]:1234".parse().unwrap());
        leaves.to = Some(key(1));
        let counted = seen(Place::Kernel, Fate::Dropped(DropReason::Mac1), 0);
        let all = [relayed, to_host, from_host, waits, unknown, leaves, counted];
        let all = all.map(|seen| (seen, &b"abc"[..]));
        let told = packets(ALL, &all);
        let told: Vec<_> = told
            .iter()
            .map(|(interface, _, _, comment)| (*interface, &comment[..]))
            .collect();
        assert_eq!(
            told,
            [
                (1, "ana to luis: passed"),
                (0, "ana to this host: dropped, counted as rule"),
                (0, "this host to nobody known: dropped, counted as no_peer"),
                (0, "this host to luis: waits for a session"),
                (2, "192.0.2.7:1234 to this host: dropped, counted as shape"),
                (2, "this host to ana: passed"),
            ]
        );
        // Only what was asked for, and its interfaces count from 0.
        let relayed_only = Captured {
            inner: false,
            outer: false,
            ..ALL
        };
        let told = packets(relayed_only, &all);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, &told[0].3[..]), (0, "ana to luis: passed"));
    }

    #[test]
    fn datagrams_get_their_headers_and_what_has_none_is_left_out() {
        let mut arrived = seen(Place::Arrived, Fate::Passed, 1000);
        arrived.remote = Some("192.0.2.7:1234".parse().unwrap());
        arrived.local = Some("192.0.2.1".parse().unwrap());
        let nowhere = seen(Place::Arrived, Fate::Passed, 1000);
        let lost = seen(Place::ToHost, Fate::Dropped(DropReason::Shaped), 0);
        let short = Captured {
            snap_length: 30,
            ..ALL
        };
        assert_eq!(short.wants(None).snap, 30);
        let told = packets(
            short,
            &[(arrived, b"abcde"), (nowhere, b"abcde"), (lost, b"")],
        );
        let [(2, 1028, packet, _)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(packet.len(), 30);
        assert_eq!(packet[12..20], [192, 0, 2, 7, 192, 0, 2, 1]);
        assert_eq!(packet[20..24], [0x04, 0xd2, 0xca, 0x6c]);
        assert_eq!(packet[28..], *b"ab");
    }

    #[test]
    fn a_filter_sees_whole_packets_and_what_is_lost_is_counted_once() {
        // `tcpdump -y RAW -ddd greater 100`
        let program = vec![[128, 0, 0, 0], [53, 0, 1, 100], [6, 0, 0, 9], [6, 0, 0, 0]];
        let captured = Captured {
            snap_length: 1,
            filter: Some(("greater 100".to_owned(), Filter::new(program).unwrap())),
            ..ALL
        };
        assert_eq!(captured.wants(None).snap, LONGEST);
        let long = seen(Place::ToHost, Fate::Passed, 100);
        let short = seen(Place::ToHost, Fate::Passed, 99);
        let all: [(tap::Seen, &[u8]); 2] = [(long, b"abc"), (short, b"abc")];
        let blocks = made(captured, &all);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        let interfaces = [Kind::Interface; 3];
        let statistics = [Kind::Statistics; 3];
        let expected = [
            &[Kind::Section][..],
            &interfaces,
            &[Kind::Packet],
            &statistics,
        ];
        assert_eq!(kinds, expected.concat());
        let counts: Vec<_> = blocks
            .iter()
            .filter_map(|(_, block)| pcapng::read_statistics(block))
            .map(|it| (it.received, it.dropped, it.accepted))
            .collect();
        assert_eq!(counts, [(7, 5, 1), (0, 0, 0), (0, 0, 0)]);
        assert!(Filter::new(vec![[1, 2, 3, 4]]).is_err());
    }

    #[test]
    fn a_file_begins_before_there_is_a_packet_and_only_once() {
        let mut capture = capture(ALL);
        let mut bytes = Vec::new();
        capture.beat(0, &mut bytes);
        assert!(matches!(
            blocks::first(&bytes),
            Ok(Some((Kind::Section, _)))
        ));
        let length = bytes.len();
        capture.beat(0, &mut bytes);
        assert_eq!(bytes.len(), length);
    }
}
