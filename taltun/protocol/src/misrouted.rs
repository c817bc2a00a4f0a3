//! Data that comes here and belongs to a session of another hub: misrouted.
//!
//! Hubs that share an address take it over from each other, and so get what peers still send on sessions with the hub
//! before. Such data tells nothing that can be trusted, as only that hub can open it. So it is known by where it comes
//! from, which the other hub told: data from there is passed on to that hub as it is, while that hub gives its peers up.
//! Data from anywhere else goes nowhere.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use super::endpoint::{Endpoint, PeerId};
use super::peer::Peer;

/// Whose misrouted are known, and which hubs get theirs.
#[derive(Debug, Default)]
pub(super) struct Misrouted {
    /// Who is where of the peers that are at home at another hub, and that hub.
    expected: HashMap<SocketAddr, (PeerId, Arc<Peer>)>,
    /// The same by their peers.
    places: HashMap<PeerId, SocketAddr>,
    /// The hubs to which misrouted are passed on.
    passed_to: Vec<PeerId>,
}

impl Misrouted {
    /// A peer is at home at this hub, and there outside; or nothing is known of it any more.
    pub(super) fn expect(&mut self, peer: PeerId, home: Option<(SocketAddr, Arc<Peer>)>) {
        if let Some(place) = self.places.remove(&peer)
            && let Entry::Occupied(known) = self.expected.entry(place)
            && known.get().0 == peer
        {
            known.remove();
        }
        if let Some((place, hub)) = home {
            let place = canonical(place);
            self.places.insert(peer, place);
            self.expected.insert(place, (peer, hub));
        }
    }

    /// These hubs get the misrouted of their peers from now on, and no others.
    pub(super) fn pass_to(&mut self, hubs: Vec<PeerId>) {
        self.passed_to = hubs;
    }

    /// Where data from there is passed on to, if it is.
    pub(super) fn passed_to(&self, from: SocketAddr) -> Option<Endpoint> {
        if self.passed_to.is_empty() {
            return None;
        }
        let (_, hub) = self.expected.get(&canonical(from))?;
        let is_passed = self.passed_to.contains(&hub.id());
        hub.endpoint().filter(|_| is_passed)
    }
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}
