//! Packets that wait for their turn: those of peers with a rate, and all that leaves where the
//! uplink has one.
//!
//! A worker that comes upon such a packet leaves it aside, and at the end of its batch puts all of
//! them into the queues of one [`Shaper`]. A thread of its own takes them out when they may go and
//! carries them to their end; see `release`:
//!
//! ```text
//! UDP ─► open ─► of a peer with rate_up ─► queues ─► TUN, or relayed ─┐
//!                  relayed to a peer with rate_down, or uplink ─► queues ─► seal ─► UDP
//! TUN ─► for a peer with rate_down, or uplink ───────────────────────┘
//! ```
//!
//! One thread, because all of them share the uplink, and because workers sleep until there is
//! something to receive, not until a time. The queues have one lock, taken once a batch; a worker
//! that has nothing to leave aside doesn't take it. What is held is a copy in memory that was
//! taken when the limits were set.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taltun_policy::Packet;
use taltun_policy::packet::Content;
use taltun_shaping::{ClassSettings, Direction, Offer, Queued, Rate, Released};

use super::clock;
use super::sys::Bell;
use crate::protocol::ecn;
use crate::protocol::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, padded_len};
use crate::protocol::peer::PeerId;
use crate::protocol::time::Time;

/// Memory for packets that wait. The system gives as much of it as was ever used.
const MEMORY: usize = 32 << 20;
/// The shortest sleep between two releases: what may go meanwhile goes together.
const GRAIN: Duration = Duration::from_micros(500);
/// Bytes of the headers before a datagram over IPv4; IPv6 takes [`MORE_FOR_IPV6`].
const OUTER_HEADERS: usize = 20 + 8;
/// Bytes that an IPv6 header has more.
pub(super) const MORE_FOR_IPV6: u32 = 20;
/// Packets that are released together.
pub(super) const BATCH: usize = 128;
/// Bytes that are released together of either direction, besides the last packet.
const FULL: usize = 64 << 10;
/// Room for one packet of any size, sealed.
const SLOT: usize = 65_536 + DATA_OVERHEAD;
/// Bytes of the arena that packets are released to.
pub(super) const ARENA: usize = 2 * FULL + SLOT;

/// Where a packet goes once it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// It came from a peer and is for this host.
    #[default]
    Local,
    /// It came from a peer and is for another.
    Relay,
    /// It is to be sealed.
    Out {
        /// The hop limit that its datagram leaves with.
        hop_limit: Option<u8>,
        /// Whether it came from a peer.
        relayed: bool,
    },
}

/// Packets of a batch that have to wait, in its arena.
#[derive(Debug, Default)]
pub(super) struct HeldPackets(Vec<Held>);

#[derive(Debug)]
struct Held {
    key: u32,
    at: usize,
    len: usize,
    way: Way,
    flow: u64,
}

impl HeldPackets {
    /// A packet that came from this peer, for this host or to be relayed.
    pub(super) fn push_from(&mut self, peer: PeerId, at: usize, len: usize, relay: bool) {
        let way = if relay { Way::Relay } else { Way::Local };
        self.push(peer, at, len, way);
    }

    /// A packet of another peer's that goes to this one.
    pub(super) fn push_relayed(&mut self, peer: PeerId, at: usize, len: usize) {
        let way = Way::Out {
            hop_limit: None,
            relayed: true,
        };
        self.push(peer, at, len, way);
    }

    /// A packet of this host's that goes to this peer.
    pub(super) fn push_outbound(
        &mut self,
        peer: PeerId,
        at: usize,
        len: usize,
        hop_limit: Option<u8>,
    ) {
        let way = Way::Out {
            hop_limit,
            relayed: false,
        };
        self.push(peer, at, len, way);
    }

    fn push(&mut self, peer: PeerId, at: usize, len: usize, way: Way) {
        let key = peer.number();
        let flow = 0;
        self.0.push(Held {
            key,
            at,
            len,
            way,
            flow,
        });
    }
}

/// A packet whose turn it is, and the part of the arena that it may become a datagram in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) len: usize,
    pub(super) way: Way,
}

/// The queues that packets wait in, shared by all threads.
#[derive(Debug)]
pub struct Shaper {
    queues: Mutex<Queues>,
    bell: Bell,
}

#[derive(Debug)]
struct Queues {
    shaper: taltun_shaping::Shaper<Way>,
    releaser: Releaser,
}

/// What the thread does that releases.
#[derive(Debug, Clone, Copy)]
enum Releaser {
    /// It looks for itself before it sleeps.
    Awake,
    Sleeps {
        until: Option<Time>,
    },
}

impl Shaper {
    /// Without any limit.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queues: Mutex::new(Queues {
                shaper: taltun_shaping::Shaper::new(MEMORY),
                releaser: Releaser::Awake,
            }),
            bell: Bell::new()?,
        })
    }

    /// Holds peers to these rates from now on, and all that is sent to any of them to `uplink`.
    pub fn set(&self, classes: &[ClassSettings], uplink: Option<Rate>, now: Time) {
        self.lock().shaper.set(at(now), classes, uplink);
        // Something may go earlier.
        self.bell.ring();
    }

    /// What waits of a peer in a direction, if it is held to anything.
    pub fn queued(&self, peer: PeerId, direction: Direction) -> Option<Queued> {
        self.lock().shaper.queued(direction, peer.number())
    }

    /// Takes packets of a batch in, which lie in `arena`, where the tunnel's MTU is `mtu`. Returns
    /// how many packets were dropped.
    pub(super) fn hold(&self, arena: &[u8], held: &mut HeldPackets, mtu: usize) -> u64 {
        if held.0.is_empty() {
            return 0;
        }
        for packet in &mut held.0 {
            packet.flow = flow(&arena[packet.at..packet.at + packet.len]);
        }
        let now = clock::now();
        let mut queues = self.lock();
        for held in held.0.drain(..) {
            let packet = &arena[held.at..held.at + held.len];
            let direction = match held.way {
                Way::Local | Way::Relay => Direction::Up,
                Way::Out { .. } => Direction::Down,
            };
            let offer = Offer {
                packet,
                key: held.key,
                flow: held.flow,
                cost: (OUTER_HEADERS + DATA_OVERHEAD + padded_len(held.len, mtu)) as u32,
                capable: ecn::is_capable(packet),
                tag: held.way,
            };
            queues.shaper.enqueue(at(now), direction, offer);
        }
        let dropped = queues.shaper.take_dropped();
        let wake = queues.must_wake();
        drop(queues);
        if wake {
            self.bell.ring();
        }
        dropped
    }

    /// Puts what may go now into `slots`, with room to be sealed in `arena`, which has [`ARENA`]
    /// bytes. What was released
    /// before took `more` bytes of the uplink than it was thought to. Returns how many packets
    /// were dropped.
    pub(super) fn release(
        &self,
        now: Time,
        arena: &mut [u8],
        slots: &mut Vec<Slot>,
        mtu: usize,
        more: u32,
    ) -> u64 {
        let mut filled = 0;
        let mut queues = self.lock();
        if more > 0 {
            queues.shaper.spend_uplink(at(now), more);
        }
        // What comes from peers leaves room for what goes to them.
        for (direction, most, full) in [
            (Direction::Up, BATCH / 2, FULL),
            (Direction::Down, BATCH, 2 * FULL),
        ] {
            while slots.len() < most && filled < full {
                let to = &mut arena[filled + DATA_HEADER_LEN..];
                let Some(released) = queues.shaper.dequeue(at(now), direction, to) else {
                    break;
                };
                let Released { len, marked, tag } = released;
                if marked {
                    ecn::mark(&mut to[..len]);
                }
                let start = filled;
                filled += DATA_OVERHEAD + padded_len(len, mtu);
                slots.push(Slot {
                    start,
                    end: filled,
                    len,
                    way: tag,
                });
            }
        }
        queues.shaper.take_dropped()
    }

    /// How long to wait from `now` on before [`Self::release`] has something; `None` for until the
    /// [`bell`](Self::bell) rings.
    pub(super) fn time_to_release(&self, now: Time) -> Option<Duration> {
        let mut queues = self.lock();
        let next = queues.shaper.next_release();
        let wait = next.map(|next| next.saturating_sub(at(now)));
        let wait = wait.map(|wait| {
            if wait.is_zero() {
                wait
            } else {
                wait.max(GRAIN)
            }
        });
        queues.releaser = match wait {
            Some(Duration::ZERO) => Releaser::Awake,
            wait => Releaser::Sleeps {
                until: wait.map(|wait| now + wait),
            },
        };
        wait
    }

    /// Rings when something may go earlier than it was thought to.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// Whether the thread that releases sleeps longer than it may, which it won't any more.
    fn must_wake(&mut self) -> bool {
        let Releaser::Sleeps { until } = self.releaser else {
            return false;
        };
        let Some(next) = self.shaper.next_release() else {
            return false;
        };
        let sleeps_on = until.is_none_or(|until| next + GRAIN < at(until));
        if sleeps_on {
            self.releaser = Releaser::Awake;
        }
        sleeps_on
    }
}

/// A time, as the queues count it.
fn at(time: Time) -> Duration {
    Duration::from_nanos(time.as_nanos())
}

/// The same number for all packets of a flow. All fragments are of the flow of those that have no
/// ports, so that they keep their order.
fn flow(packet: &[u8]) -> u64 {
    let Some(packet) = Packet::parse(packet) else {
        return 0;
    };
    let ports = match packet.content {
        _ if packet.fragment.is_some() => None,
        Content::Tcp { ports, .. } | Content::Udp(ports) => Some(ports),
        _ => None,
    };
    let ports = ports.map_or(0, |ports| {
        u64::from(ports.source) << 16 | u64::from(ports.destination)
    });
    let mut hash = u64::from(packet.protocol) << 32 | ports;
    for address in [packet.source, packet.destination] {
        let bits = match address {
            std::net::IpAddr::V4(v4) => v4.to_bits().into(),
            std::net::IpAddr::V6(v6) => v6.to_bits(),
        };
        for word in [bits as u64, (bits >> 64) as u64] {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
    // The low bits choose the set of queues.
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source: u8, port: u16, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 36, 0, 7, 0, 0, 64, 17, 0, 0];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend([10, 0, 0, source, 10, 0, 0, 9]);
        packet.extend(port.to_be_bytes());
        packet.extend([0, 53, 0, 16, 0, 0]);
        packet.extend([0; 8]);
        packet
    }

    #[test]
    fn flows_differ_by_address_and_port_and_fragments_stay_together() {
        let mut seen = std::collections::HashSet::new();
        for source in 1..20 {
            for port in 1000..1050 {
                assert!(seen.insert(flow(&udp(source, port, 0))));
                assert_eq!(
                    flow(&udp(source, port, 0)),
                    flow(&udp(source, port, 0x4000))
                );
            }
        }
        let sets: Vec<usize> = (0..8)
            .map(|set| seen.iter().filter(|hash| **hash % 8 == set).count())
            .collect();
        assert!(sets.iter().all(|count| *count > 80), "{sets:?}");
        let first = flow(&udp(1, 1000, 0x2000));
        assert_eq!(first, flow(&udp(1, 1001, 0x2002)));
        assert_eq!(first, flow(&udp(1, 7, 0x0004)));
        assert_eq!(flow(&[]), flow(&[0x45; 19]));
    }

    #[test]
    fn the_bell_rings_only_for_a_thread_that_sleeps_too_long() {
        let shaper = Shaper::new().unwrap();
        let class = ClassSettings {
            key: 7,
            up: Rate::of_bits(1_000_000),
            down: None,
        };
        shaper.set(&[class], None, clock::now());
        shaper.bell().hush();
        assert_eq!(shaper.time_to_release(clock::now()), None);
        let arena = udp(1, 1000, 0);
        let mut held = HeldPackets::default();
        let mut hold = |times: usize| {
            for _ in 0..times {
                held.0.push(Held {
                    key: 7,
                    at: 0,
                    len: arena.len(),
                    way: Way::Local,
                    flow: 0,
                });
            }
            assert_eq!(shaper.hold(&arena, &mut held, 1420), 0);
        };
        let is_awake = || matches!(shaper.lock().releaser, Releaser::Awake);
        hold(1);
        assert!(is_awake());
        let mut to = vec![0; ARENA];
        let mut slots = Vec::new();
        let dropped = shaper.release(clock::now(), &mut to, &mut slots, 1420, 0);
        assert_eq!((slots.len(), dropped), (1, 0));
        assert_eq!(to[DATA_HEADER_LEN..][..arena.len()], arena);
        // So many that the last have to wait.
        hold(100);
        slots.clear();
        let now = clock::now();
        shaper.release(now, &mut to, &mut slots, 1420, 0);
        let wait = shaper.time_to_release(now).unwrap();
        assert!(wait <= Duration::from_millis(1), "{wait:?}");
        hold(1);
        assert!(!is_awake());
    }
}
