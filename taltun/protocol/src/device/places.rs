//! Peers that may be at several addresses, of which some may not get through, or at several ports
//! of one: while a peer doesn't answer, each initiation goes to the next address, at one of its
//! [`Ports`](super::ports). If the addresses are set again meanwhile and are the same, the turn goes
//! on where it was.
//!
//! Without a session, to a new place, or where the peer seems not to hear us, an initiation goes to the
//! next addresses as well, [`STAGGER`] one after the other, and the second address [`SOON`] after the
//! first where probes say that this one doesn't answer, as the same message each time: the peer takes the first that
//! arrives, and refuses the others as replayed. So an address or port that doesn't get through costs
//! a fraction of a second. Where only the answers get lost, the peer refuses all copies: so the next
//! initiation begins elsewhere, and what it began at in vain doesn't count as tried for the others.

use std::net::SocketAddr;
use std::time::Duration;

use super::ports::Asker;
use super::{Control, Device, Transmit};
use crate::peer::{Amount, Endpoint, PeerId};
use crate::place::Place;
use crate::randomness::Randomness;
use crate::time::Time;

/// Between two places that an initiation goes to (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// From the first place to the next, where probes say that the first doesn't answer.
const SOON: Duration = Duration::from_millis(20);
/// How long the peer may take to hear our answer to its initiation and to confirm that.
const ANSWER_HEARD: Duration = Duration::from_secs(1);
/// Times that an initiation is sent after the first one, at the most.
const MOST_COPIES: usize = 7;
/// Places of a peer that are looked at; any more are left out.
pub const MOST_PLACES: usize = 16;

/// Addresses that a peer may be at, and the results of trying them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) all: Vec<Place>,
    /// The initiation that goes to further places.
    copies: Option<Copies>,
    /// Initiations without an answer, one after the other.
    unanswered: u32,
    /// Where the last initiation went first.
    began_at: Option<SocketAddr>,
    /// No initiation went to the current one yet.
    untried: bool,
    /// When the peer is to have heard our answer to its initiation.
    heard_by: Option<Time>,
    /// It hasn't.
    is_unheard: bool,
}

impl Places {
    /// A handshake has come to its end.
    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
        (self.heard_by, self.is_unheard) = (None, false);
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

    /// The numbers of the places in the order of their turn after `current`, which comes last.
    fn turn_after(&self, current: SocketAddr) -> impl Iterator<Item = usize> + use<> {
        let count = self.all.len();
        let at = self.all.iter().position(|place| place.contains(current));
        let first = at.map_or(0, |at| at + 1);
        (first..first + count).map(move |at| at % count)
    }

    /// Whether one of them is there.
    fn contain(&self, at: SocketAddr) -> bool {
        self.all.iter().any(|place| place.contains(at))
    }

    /// When the peer is to have heard our answer.
    pub(super) fn heard_by(&self) -> Option<Time> {
        self.heard_by
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
    began: Time,
    /// Where it went first.
    first: SocketAddr,
    /// Where it went last.
    last: SocketAddr,
}

impl Control {
    pub(super) fn set_places(
        &mut self,
        places: &[Place],
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) {
        let places = &places[..places.len().min(MOST_PLACES)];
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
            self.paths.set_places(places, now);
        }
        let stays = is_listed && (is_same || self.peer.sending_session(now).is_some());
        if let Some(first) = first
            && !stays
        {
            self.begin_at(first, pool, random, now);
        }
    }

    /// The next initiation begins at this place, at the most hopeful of its ports.
    fn begin_at(&mut self, place: Place, pool: usize, random: &mut Randomness, now: Time) {
        let path = self.paths.leading_to(place.first());
        let port =
            path.and_then(|path| path.ports.choose(Asker::Handshake, None, pool, random, now));
        let at = port.map_or(place.first(), |port| place.at(port));
        self.peer.set_endpoint(Some(Endpoint::from(at)));
        self.places.untried = true;
    }

    /// An initiation wasn't answered: the next one goes elsewhere, if there is somewhere else.
    /// Where the peer was lately, one lost message doesn't move it. Whether it does.
    pub(super) fn try_next_place(
        &mut self,
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) -> bool {
        self.places.unanswered = self.places.unanswered.saturating_add(1);
        let last = self.places.copies.take().map(|copies| copies.last);
        if self.places.untried || self.paths.answers_at(self.peer.endpoint()) {
            return false;
        }
        if self.places.unanswered < 2 && !self.is_unsure(now) {
            return false;
        }
        // The peer may have spoken from elsewhere meanwhile.
        let Some(first) = self.places.began_at else {
            return false;
        };
        // The copies prove nothing: the peer may have answered the first message alone.
        if let Some(path) = self.paths.leading_to(first) {
            path.ports.failed(Asker::Handshake, first.port());
        }
        if let Some(next) = self.next_first(first, last.unwrap_or(first), pool, random, now) {
            self.peer.set_endpoint(Some(Endpoint::from(next)));
            return true;
        }
        false
    }

    /// An initiation was answered from there, perhaps a copy of it. While places are chosen among,
    /// data goes there, too, unless it goes to a port that is known to answer. That a port answered
    /// lately counts for nothing where something else tells that it doesn't. Whether data goes there
    /// from now on.
    pub(super) fn follow_answer(&mut self, from: Endpoint, now: Time) -> bool {
        let used = self.peer.endpoint().map(|endpoint| endpoint.remote);
        let is_unsure = self.is_unsure(now);
        if let Some(path) = self.paths.leading_to(from.remote) {
            path.shook_hands();
        }
        let mut is_good = |at: SocketAddr| {
            let path = self.paths.leading_to(at);
            !is_unsure && path.is_some_and(|path| path.ports.is_good(at.port()))
        };
        if used.is_none_or(|used| used == from.remote || is_good(used)) {
            return false;
        }
        let Some(path) = self.paths.leading_to(from.remote) else {
            return false;
        };
        path.ports.keep(from.remote.port(), now);
        self.peer.set_endpoint(Some(from));
        true
    }

    /// Whether the peer may not hear us where we send to: there is no session, it didn't hear our last
    /// answer, nothing tells of it at a place that isn't its own, or its probes say so.
    fn is_unsure(&self, now: Time) -> bool {
        self.peer.sending_session(now).is_none()
            || self.places.is_unheard
            || self.paths.is_doubtful(self.peer.endpoint())
    }

    /// An initiation of the peer is answered.
    pub(super) fn note_answer(&mut self, now: Time) {
        let Some(at) = self.peer.endpoint().map(|endpoint| endpoint.remote) else {
            return;
        };
        if let Some(path) = self.paths.leading_to(at) {
            path.ports.sent(at.port(), now);
        }
        let is_in_time = now + ANSWER_HEARD;
        self.places.heard_by = self.places.are_several().then_some(is_in_time);
    }

    /// The peer was to have heard our answer by now. If it hasn't, we speak to it where it is said to
    /// be. Whether we do.
    fn doubt_answer(&mut self, pool: usize, random: &mut Randomness, now: Time) -> bool {
        self.places.heard_by = None;
        if !self.peer.awaits_confirmation() {
            return false;
        }
        self.places.is_unheard = true;
        let at = self.peer.endpoint().map(|endpoint| endpoint.remote);
        if at.is_none_or(|at| !self.places.contain(at))
            && let Some(first) = self.places.all.first().copied()
        {
            self.begin_at(first, pool, random, now);
        }
        true
    }

    /// Where the next initiation begins, after one that began at `first` and went to `last` at the
    /// end: it goes on from there, but never begins at the same place once more.
    fn next_first(
        &mut self,
        first: SocketAddr,
        last: SocketAddr,
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) -> Option<SocketAddr> {
        let is_other = |number: &usize| {
            let place = self.places.all.get(*number);
            self.places.all.len() < 2 || place.is_some_and(|place| !place.contains(first))
        };
        let number = self.places.turn_after(last).find(is_other)?;
        let path = self.paths.get_mut(number)?;
        let port = if path.place.contains(first) {
            path.ports
                .choose_hopeful(Asker::Handshake, None, pool, random, now)?
        } else {
            path.ports
                .choose(Asker::Handshake, None, pool, random, now)?
        };
        Some(path.place.at(port)).filter(|next| *next != first)
    }

    /// Where the next copy goes: to the next place that has a port which the message didn't go to.
    fn next_copy(
        &mut self,
        copies: &Copies,
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) -> Option<SocketAddr> {
        let (asker, round) = (Asker::Handshake, Some(copies.began));
        self.places.turn_after(copies.last).find_map(|number| {
            let path = self.paths.get_mut(number)?;
            let port = if path.place.contains(copies.first) {
                path.ports.choose_hopeful(asker, round, pool, random, now)?
            } else {
                path.ports.choose(asker, round, pool, random, now)?
            };
            path.ports.sent(port, now);
            Some(path.place.at(port))
        })
    }

    /// An initiation was sent: without a session, or to a new place, it goes to further places, if
    /// there are any.
    pub(super) fn begin_copies(&mut self, message: &[u8], now: Time) {
        let at = self.peer.endpoint().map(|endpoint| endpoint.remote);
        if let Some(at) = at
            && let Some(path) = self.paths.leading_to(at)
        {
            path.ports.sent(at.port(), now);
        }
        let left = self.places.copies();
        let is_unsure = self.places.untried || self.is_unsure(now);
        let is_doubtful = self.paths.is_doubtful(self.peer.endpoint());
        let first_wait = if is_doubtful && self.places.all.len() > 1 {
            SOON
        } else {
            STAGGER
        };
        self.places.began_at = at;
        self.places.copies = match self.peer.endpoint() {
            Some(endpoint) if left > 0 && is_unsure => Some(Copies {
                message: message.to_vec(),
                next: Some(now + first_wait),
                left,
                began: now,
                first: endpoint.remote,
                last: endpoint.remote,
            }),
            _ => None,
        };
    }
}

impl Device {
    /// Starts a handshake with a peer that didn't hear our answer to its own: the way to where that went
    /// may be blocked.
    pub(super) fn speak_first(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        if control.doubt_answer(self.hop.pool, &mut self.randomness, now) {
            self.tunnel.note_place(id);
            self.want_handshake(id, now);
        }
    }

    /// Sends the initiation in flight to one more place.
    pub(super) fn send_copy(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(mut copies) = control.places.copies.take() else {
            return;
        };
        let next = control.next_copy(&copies, self.hop.pool, &mut self.randomness, now);
        let Some(next) = next else {
            // The next initiation goes on where this one ended.
            copies.next = None;
            control.places.copies = Some(copies);
            return;
        };
        let payload = copies.message.clone();
        control
            .peer
            .activity
            .sent(now, Amount::one(payload.len() as u64), false);
        self.transmits.push_back(Transmit {
            endpoint: Endpoint::from(next),
            payload,
            class: 0,
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
    fn addresses_take_turns() {
        let turn = |all: &[u8], current: u8| {
            let places = Places {
                all: all.iter().copied().map(at).map(Place::from).collect(),
                ..Places::default()
            };
            places.turn_after(at(current)).collect::<Vec<_>>()
        };
        assert_eq!(turn(&[1, 2, 3], 1), [1, 2, 0]);
        assert_eq!(turn(&[1, 2, 3], 3), [0, 1, 2]);
        // It was heard from elsewhere, and isn't there any more.
        assert_eq!(turn(&[1, 2, 3], 9), [0, 1, 2]);
        assert_eq!(turn(&[1], 1), [0]);
        assert!(turn(&[], 9).is_empty());
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
