//! Peers that may be at several addresses, of which some may not get through, or at several ports
//! of one: while a peer doesn't answer, each initiation goes to the next address, at a random one
//! of its ports. If the addresses are set again meanwhile and are the same, the turn goes on where
//! it was.
//!
//! Without a session or to a new place, an initiation goes to the next addresses as well, [`STAGGER`] one after the
//! other, as the same message each time: the peer takes the first that arrives, and refuses the
//! others as replayed. So an address that doesn't get through costs a fraction of a second. Where
//! only the answers get lost, the peer refuses all copies: so the next initiation begins elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Control, Device, Transmit};
use crate::peer::{Endpoint, PeerId};
use crate::place::Place;
use crate::randomness::Randomness;
use crate::time::Time;

/// Between two places that an initiation goes to (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Places that an initiation goes to beside the first, at the most.
const MOST_COPIES: usize = 7;

/// Addresses that a peer may be at, and the results of trying them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) all: Vec<Place>,
    /// The initiation that goes to further places.
    copies: Option<Copies>,
    /// Initiations without an answer, one after the other.
    unanswered: u32,
    /// No initiation went to the current one yet.
    untried: bool,
}

impl Places {
    /// A handshake has come to its end.
    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
        self.end_copies();
    }

    /// An initiation goes to the current address.
    pub(super) fn tried(&mut self) {
        self.untried = false;
    }

    /// Initiations without an answer, one after the other.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// When the initiation in flight goes to another place.
    pub(super) fn next_copy_at(&self) -> Option<Time> {
        self.copies.as_ref()?.next
    }

    /// The initiation in flight goes nowhere else.
    pub(super) fn end_copies(&mut self) {
        self.copies = None;
    }

    /// Whether these are the places that are known, in whatever order.
    fn are(&self, places: &[Place]) -> bool {
        let have = |list: &[Place], all: &[Place]| all.iter().all(|at| list.contains(at));
        have(&self.all, places) && have(places, &self.all)
    }

    /// Where to go after `current`, if there is anywhere else: to the next place, at any of its
    /// ports.
    fn after(&self, current: SocketAddr, random: &mut Randomness) -> Option<SocketAddr> {
        let at = self.all.iter().position(|place| place.contains(current));
        let next = at.map_or(0, |at| (at + 1) % self.all.len());
        let next = self.all.get(next)?.choose(Some(current), random);
        (next != current).then_some(next)
    }

    /// Where the next initiation begins, after one that began at `first` and went to `last` at the
    /// end: it goes on from there, but never begins at the same place once more.
    fn next_first(
        &self,
        first: SocketAddr,
        last: SocketAddr,
        random: &mut Randomness,
    ) -> Option<SocketAddr> {
        let next = self.after(last, random)?;
        let began_there = |place: &Place| place.contains(first) && place.contains(next);
        if self.all.len() > 1 && self.all.iter().any(began_there) {
            return self.after(next, random);
        }
        Some(next)
    }

    /// Whether there is anything to choose from.
    pub(super) fn are_several(&self) -> bool {
        self.copies() > 0
    }

    /// How many times an initiation may go elsewhere: once to each other place, or where they have
    /// several ports, to several of these.
    fn copies(&self) -> usize {
        let ports = self.all.iter().map(Place::ports);
        (ports.sum::<usize>().saturating_sub(1)).min(MOST_COPIES)
    }
}

/// An initiation that goes to several places.
#[derive(Debug)]
struct Copies {
    message: Vec<u8>,
    /// When it goes to another one, if it does.
    next: Option<Time>,
    left: usize,
    /// Where it went last.
    last: SocketAddr,
}

impl Control {
    pub(super) fn set_places(&mut self, places: &[Place], random: &mut Randomness, now: Time) {
        let current = self.peer.endpoint().map(|endpoint| endpoint.remote);
        let is_at = |place: &Place| current.is_some_and(|current| place.contains(current));
        let is_listed = places.iter().any(is_at);
        let is_same = self.places.are(places);
        let new = places.iter().find(|place| !self.places.all.contains(place));
        // What was tried in vain comes after what wasn't tried yet.
        let first = new.or(places.first()).copied();
        if !is_same {
            self.places.all = places.to_vec();
            self.places.end_copies();
            self.paths.set_places(places);
        }
        let stays = is_listed && (is_same || self.peer.sending_session(now).is_some());
        if let Some(first) = first
            && !stays
        {
            let at = first.choose(None, random);
            self.peer.set_endpoint(Some(Endpoint::from(at)));
            self.places.untried = true;
        }
    }

    /// An initiation wasn't answered: the next one goes elsewhere, if there is somewhere else.
    /// With a session the peer was there lately, and one lost message doesn't move it.
    /// Whether it does.
    pub(super) fn try_next_place(&mut self, random: &mut Randomness, now: Time) -> bool {
        self.places.unanswered = self.places.unanswered.saturating_add(1);
        let last = self.places.copies.take().map(|copies| copies.last);
        if self.places.untried || self.paths.answers_at(self.peer.endpoint()) {
            return false;
        }
        if self.places.unanswered < 2 && self.peer.sending_session(now).is_some() {
            return false;
        }
        if let Some(first) = self.peer.endpoint().map(|endpoint| endpoint.remote)
            && let Some(next) = self.places.next_first(first, last.unwrap_or(first), random)
        {
            self.peer.set_endpoint(Some(Endpoint::from(next)));
            return true;
        }
        false
    }

    /// An initiation was sent: without a session, or to a new place, it goes to further places, if
    /// there are any.
    pub(super) fn begin_copies(&mut self, message: &[u8], now: Time) {
        let left = self.places.copies();
        let is_unsure = self.places.untried || self.peer.sending_session(now).is_none();
        self.places.copies = match self.peer.endpoint() {
            Some(endpoint) if left > 0 && is_unsure => Some(Copies {
                message: message.to_vec(),
                next: Some(now + STAGGER),
                left,
                last: endpoint.remote,
            }),
            _ => None,
        };
    }
}

impl Device {
    /// Sends the initiation in flight to one more place.
    pub(super) fn send_copy(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(mut copies) = control.places.copies.take() else {
            return;
        };
        let Some(next) = control.places.after(copies.last, &mut self.randomness) else {
            return;
        };
        let payload = copies.message.clone();
        control.peer.activity.sent(now, payload.len() as u64, false);
        self.transmits.push_back(Transmit {
            endpoint: Endpoint::from(next),
            payload,
            ecn: 0,
        });
        copies.left -= 1;
        copies.last = next;
        // Once it went everywhere, the next initiation goes on where this one ended.
        copies.next = (copies.left > 0).then_some(now + STAGGER);
        control.places.copies = Some(copies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9000))
    }

    #[test]
    fn addresses_take_turns_and_one_alone_has_nobody_after_it() {
        let turns = |all: &[u8], current: u8| {
            let places = Places {
                all: all.iter().copied().map(at).map(Place::from).collect(),
                ..Places::default()
            };
            places.after(at(current), &mut Randomness::seeded([0; 32]))
        };
        assert_eq!(turns(&[1, 2, 3], 1), Some(at(2)));
        assert_eq!(turns(&[1, 2, 3], 3), Some(at(1)));
        // It was heard from elsewhere, and isn't there any more.
        assert_eq!(turns(&[1, 2, 3], 9), Some(at(1)));
        assert_eq!(turns(&[1], 9), Some(at(1)));
        assert_eq!(turns(&[1], 1), None);
        assert_eq!(turns(&[], 9), None);
    }

    #[test]
    fn the_same_addresses_in_another_order_are_the_same() {
        let place = |last| Place::from(at(last));
        let places = Places {
            all: vec![place(1), place(2)],
            ..Places::default()
        };
        assert!(places.are(&[place(2), place(1)]));
        assert!(!places.are(&[place(1)]));
        assert!(!places.are(&[place(1), place(2), place(3)]));
        assert!(!places.are(&[place(1), Place::new(at(2), 9001)]));
        assert!(!places.are(&[]));
        assert!(Places::default().are(&[]));
    }
}
