//! What is told of a packet or a datagram.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use taltun_common::drops::DropReason;

use crate::crypto::PublicKey;
use crate::protocol::peer::{Endpoint, Peer};
use crate::protocol::time::Time;

/// Where something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A datagram that arrived.
    Arrived,
    /// A datagram that leaves.
    Leaves,
    /// A packet from a peer to this host, or to what the kernel routes it to.
    ToHost,
    /// A packet from this host, or from behind it, to a peer.
    FromHost,
    /// A packet from one peer to another.
    Relayed,
    /// What an eBPF program dropped before a worker saw it.
    Kernel,
}

impl Place {
    /// Whether it is outside of the tunnel.
    pub fn is_outer(self) -> bool {
        matches!(self, Self::Arrived | Self::Leaves)
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It went on.
    Passed,
    /// It waits for a session.
    Waits,
    /// It was dropped.
    Dropped(DropReason),
}

/// A rule of one of the sets of rules that there have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleRef {
    /// Which set: [`crate::dataplane::rules::Held::number`].
    pub set: u64,
    /// Which rule of it; `None` for the default.
    pub rule: Option<u32>,
}

/// What is told of a packet or a datagram, beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// When.
    pub at: Time,
    /// Where.
    pub place: Place,
    /// What became of it.
    pub fate: Fate,
    /// The rule that decided, where one did.
    pub rule: Option<RuleRef>,
    /// The peer that it comes from, where that is known.
    pub from: Option<PublicKey>,
    /// The peer that it goes to, where that is known.
    pub to: Option<PublicKey>,
    /// The other end outside, where it is known.
    pub remote: Option<SocketAddr>,
    /// Our address outside, where it is known.
    pub local: Option<IpAddr>,
    /// How many this stands for: 1, but for those that are only counted.
    pub packets: u64,
    /// Its length.
    pub len: usize,
    /// Whether the packet in this datagram is told as well.
    pub(super) held_packet: bool,
    /// Bytes that are kept of it.
    pub(super) kept: usize,
}

impl Seen {
    /// Something of which nothing is known but this.
    pub fn new(at: Time, place: Place, fate: Fate) -> Self {
        Self {
            at,
            place,
            fate,
            rule: None,
            from: None,
            to: None,
            remote: None,
            local: None,
            packets: 1,
            len: 0,
            held_packet: false,
            kept: 0,
        }
    }

    pub(super) fn has_endpoint(&mut self, endpoint: Endpoint) {
        self.remote = Some(endpoint.remote);
        self.local = endpoint.local.map(|local| local.address);
    }
}

/// What is told, with the bytes that are kept: an IP packet, or the payload of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// What is told of it.
    pub seen: Seen,
    /// Its first bytes.
    pub bytes: &'a [u8],
}

impl Deref for Observed<'_> {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        &self.seen
    }
}

/// What is told of: whoever counts it says so.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// Nothing is known of it any more, but in which direction it went.
    Unknown(Place),
    /// A datagram that arrived.
    Arrived {
        /// Where it came from.
        from: Endpoint,
        /// As it came.
        datagram: &'a [u8],
        /// The peer whose session it is addressed to.
        peer: Option<&'a Peer>,
    },
    /// A datagram that was to leave.
    Leaves {
        /// Where to.
        endpoint: Endpoint,
        /// As it was to leave.
        datagram: &'a [u8],
    },
    /// A packet.
    Packet {
        /// Which way it went.
        place: Place,
        /// Who sent it.
        from: Option<&'a Peer>,
        /// Whom it was for.
        to: Option<&'a Peer>,
        /// As it is inside.
        packet: &'a [u8],
        /// The rule that decided, where one did.
        rule: Option<RuleRef>,
    },
    /// What is told already.
    Told,
    /// The packet that was told last, before it was sealed where it lies.
    ToldBefore {
        /// Whom it goes to.
        to: Option<&'a Peer>,
    },
}

impl<'a> Subject<'a> {
    /// Older packets that waited for the session that this one is to wait for.
    pub(in crate::dataplane) fn displaced_by(self) -> Self {
        match self {
            Self::Packet { place, to, .. } => Self::Packet {
                place,
                // They may have come from others.
                from: None,
                to,
                packet: &[],
                rule: None,
            },
            other => other,
        }
    }

    /// What is told of it, but for its first bytes, which come beside.
    pub(super) fn seen(self, at: Time, fate: Fate) -> (Seen, &'a [u8]) {
        match self {
            Self::Unknown(place) => (Seen::new(at, place, fate), &[]),
            Self::Told | Self::ToldBefore { .. } => (Seen::new(at, Place::FromHost, fate), &[]),
            Self::Arrived {
                from,
                datagram,
                peer,
            } => {
                let mut seen = Seen::new(at, Place::Arrived, fate);
                seen.has_endpoint(from);
                seen.from = peer.map(|peer| *peer.public_key());
                seen.len = datagram.len();
                (seen, datagram)
            }
            Self::Leaves { endpoint, datagram } => {
                let mut seen = Seen::new(at, Place::Leaves, fate);
                seen.has_endpoint(endpoint);
                seen.len = datagram.len();
                (seen, datagram)
            }
            Self::Packet {
                place,
                from,
                to,
                packet,
                rule,
            } => {
                let mut seen = Seen::new(at, place, fate);
                seen.from = from.map(|peer| *peer.public_key());
                seen.to = to.map(|peer| *peer.public_key());
                seen.rule = rule;
                seen.len = packet.len();
                (seen, packet)
            }
        }
    }
}
