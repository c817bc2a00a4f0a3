//! Peers whose name has several addresses, one of which may be of a family that doesn't get
//! through: while a peer doesn't answer, each initiation goes to the next of them.

use std::net::SocketAddr;

use super::Control;
use crate::peer::Endpoint;
use crate::time::Time;

/// Addresses that a peer may be at, and what became of trying them.
#[derive(Debug, Default)]
pub(super) struct Places {
    addresses: Vec<SocketAddr>,
    /// Initiations without an answer, one after the other.
    unanswered: u32,
}

impl Places {
    /// A handshake has come to its end.
    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
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
        self.places.addresses = addresses.to_vec();
        let current = self.peer.endpoint().map(|endpoint| endpoint.remote);
        let stays = self.peer.sending_session(now).is_some()
            && current.is_some_and(|current| addresses.contains(&current));
        if let Some(first) = addresses.first()
            && !stays
        {
            self.peer.set_endpoint(Some(Endpoint::from(*first)));
        }
    }

    /// An initiation wasn't answered: the next one goes elsewhere, if there is somewhere else.
    /// With a session the peer was there lately, and one lost message doesn't move it.
    pub(super) fn try_next_place(&mut self, now: Time) {
        self.places.unanswered = self.places.unanswered.saturating_add(1);
        if self.places.unanswered < 2 && self.peer.sending_session(now).is_some() {
            return;
        }
        if let Some(endpoint) = self.peer.endpoint()
            && let Some(next) = self.places.after(endpoint.remote)
        {
            self.peer.set_endpoint(Some(Endpoint::from(next)));
        }
    }
}
