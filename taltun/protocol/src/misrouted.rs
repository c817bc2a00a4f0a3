//! Data that comes here and belongs to a session with another hub.
//!
//! Hubs that share an address take it over from each other, and so get what peers still send on sessions with the hub
//! before. Nothing in such data can be trusted, as only that hub can open it. So it is known by where it comes from,
//! which the other hub told. While that hub gives its peers up, data from there is passed on to it as it is. Else the
//! controller is told that the peer sends here, once a second at the most. Data from anywhere else goes nowhere, and
//! none tells where a peer is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::endpoint::{Endpoint, Local, PeerId};
use super::peer::Peer;
use super::time::Time;

/// How often the controller is told of one peer, at the most.
const TELL: Duration = Duration::from_secs(1);

/// A peer of another hub sends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendsHere {
    /// Who it seems to be.
    pub peer: PeerId,
    /// Which of our addresses its data came to.
    pub local: Option<Local>,
}

/// Whose data is known, and which hubs get theirs.
#[derive(Debug, Default)]
pub(super) struct Misrouted {
    /// Who is where of the peers that are at home at another hub.
    expected: HashMap<SocketAddr, Expected>,
    /// The same by their peers.
    places: HashMap<PeerId, SocketAddr>,
    /// The hubs to which it is passed on.
    passed_to: Vec<PeerId>,
}

#[derive(Debug)]
struct Expected {
    peer: PeerId,
    hub: Arc<Peer>,
    /// From when on the controller may be told again, in nanoseconds.
    tell_at: AtomicU64,
}

/// What is done with data of a session that isn't ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is passed on.
    PassOn(Endpoint),
    /// The controller is told of this peer.
    Tell(PeerId),
    /// Nothing.
    Nothing,
}

impl Misrouted {
    /// A peer is at home at this hub, and there outside; or nothing is known of it any more.
    pub(super) fn expect(&mut self, peer: PeerId, home: Option<(SocketAddr, Arc<Peer>)>) {
        if let Some(place) = self.places.remove(&peer)
            && let Entry::Occupied(known) = self.expected.entry(place)
            && known.get().peer == peer
        {
            known.remove();
        }
        if let Some((place, hub)) = home {
            let place = canonical(place);
            self.places.insert(peer, place);
            let expected = Expected {
                peer,
                hub,
                tell_at: AtomicU64::new(0),
            };
            self.expected.insert(place, expected);
        }
    }

    /// Where such peers are.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.expected.keys().map(SocketAddr::ip)
    }

    /// These hubs get the data of their peers from now on, and no others.
    pub(super) fn pass_to(&mut self, hubs: Vec<PeerId>) {
        self.passed_to = hubs;
    }

    /// What is done with data that came from there.
    pub(super) fn answer(&self, from: SocketAddr, now: Time) -> Answer {
        if self.expected.is_empty() {
            return Answer::Nothing;
        }
        let Some(known) = self.expected.get(&canonical(from)) else {
            return Answer::Nothing;
        };
        if self.passed_to.contains(&known.hub.id()) {
            return known.hub.endpoint().map_or(Answer::Nothing, Answer::PassOn);
        }
        let tell_at = known.tell_at.load(Ordering::Relaxed);
        let next = (now + TELL).as_nanos();
        let is_told = tell_at <= now.as_nanos()
            && known
                .tell_at
                .compare_exchange(tell_at, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_told {
            Answer::Tell(known.peer)
        } else {
            Answer::Nothing
        }
    }
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}
