//! Peers whose name has several addresses, one of which may be of a family that doesn't get
//! through: while a peer doesn't answer, each initiation goes to the next address. If the name is
//! looked up again meanwhile, with the same result, the turn goes on where it was.

use std::net::SocketAddr;

use super::Control;
use crate::peer::Endpoint;
use crate::time::Time;

/// Addresses that a peer may be at, and the results of trying them.
#[derive(Debug, Default)]
pub(super) struct Places {
    addresses: Vec<SocketAddr>,
    /// Initiations without an answer, one after the other.
    unanswered: u32,
    /// No initiation went to the current one yet.
    untried: bool,
}

impl Places {
    /// A handshake has come to its end.
    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// An initiation goes to the current address.
    pub(super) fn tried(&mut self) {
        self.untried = false;
    }

    /// Initiations without an answer, one after the other.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether these are the addresses that are known, in whatever order.
    fn are(&self, addresses: &[SocketAddr]) -> bool {
        let have = |list: &[SocketAddr], all: &[SocketAddr]| all.iter().all(|at| list.contains(at));
        have(&self.addresses, addresses) && have(addresses, &self.addresses)
    }

    /// The address after this one, if there is more than one.
    fn after(&self, current: SocketAddr) -> Option<SocketAddr> {
        let at = self.addresses.iter().position(|place| *place == current);
        let next = at.map_or(0, |at| (at + 1) % self.addresses.len());
        self.addresses
            .get(next)
            .copied()
            .filter(|next| *next != current)
    }
}

impl Control {
    pub(super) fn set_places(&mut self, addresses: &[SocketAddr], now: Time) {
        let current = self.peer.endpoint().map(|endpoint| endpoint.remote);
        let is_listed = current.is_some_and(|current| addresses.contains(&current));
        let is_same = self.places.are(addresses);
        let new = addresses
            .iter()
            .find(|address| !self.places.addresses.contains(address));
        // What was tried in vain comes after what wasn't tried yet.
        let first = new.or(addresses.first()).copied();
        if !is_same {
            self.places.addresses = addresses.to_vec();
        }
        let stays = is_listed && (is_same || self.peer.sending_session(now).is_some());
        if let Some(first) = first
            && !stays
        {
            self.peer.set_endpoint(Some(Endpoint::from(first)));
            self.places.untried = true;
        }
    }

    /// An initiation wasn't answered: the next one goes elsewhere, if there is somewhere else.
    /// With a session the peer was there lately, and one lost message doesn't move it.
    /// Whether it does.
    pub(super) fn try_next_place(&mut self, now: Time) -> bool {
        self.places.unanswered = self.places.unanswered.saturating_add(1);
        if self.places.untried {
            return false;
        }
        if self.places.unanswered < 2 && self.peer.sending_session(now).is_some() {
            return false;
        }
        if let Some(endpoint) = self.peer.endpoint()
            && let Some(next) = self.places.after(endpoint.remote)
        {
            self.peer.set_endpoint(Some(Endpoint::from(next)));
            return true;
        }
        false
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
                addresses: all.iter().copied().map(at).collect(),
                ..Places::default()
            };
            places.after(at(current))
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
        let places = Places {
            addresses: vec![at(1), at(2)],
            ..Places::default()
        };
        assert!(places.are(&[at(2), at(1)]));
        assert!(!places.are(&[at(1)]));
        assert!(!places.are(&[at(1), at(2), at(3)]));
        assert!(!places.are(&[]));
        assert!(Places::default().are(&[]));
    }
}
