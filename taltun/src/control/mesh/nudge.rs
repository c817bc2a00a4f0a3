//! The nudge: a peer of another hub of the group sends here, as its hub is gone or its packets take another way. It would
//! notice after 15 s that nobody answers. So this hub starts a handshake with it, where the other hub told that it is.
//!
//! What it sends can't be opened here, and so proves nothing: anybody may send in its name. So a nudge goes to that
//! place and to no other, it changes nothing until the peer answers, and there are few: one at a time with a
//! peer, none beside another handshake, and [`RATE`] in all.

use taltun_common::bucket::Rate;

use super::{Mesh, Target};
use crate::crypto::PublicKey;
use crate::protocol::misrouted::SendsHere;
use crate::protocol::peer::{Endpoint, Local};

/// Nudges a second, and at once.
const RATE: Rate = Rate::with_burst(500, 500);

/// How many there were, and when there may be more.
#[derive(Debug, Default)]
pub(super) struct Nudges {
    count: u64,
    full_at: u64,
}

impl Nudges {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn take(&mut self, now: u64) -> bool {
        let taken = RATE.take(&mut self.full_at, now);
        self.count += u64::from(taken);
        taken
    }
}

impl Mesh {
    /// Calls peers of other hubs that send here.
    pub(in crate::control) fn nudge(&mut self, them: &[SendsHere], target: &mut Target<'_>) {
        for it in them {
            let Some(key) = target.device.key_of(it.peer).copied() else {
                continue;
            };
            if self.may_nudge(&key, it.local, target) && self.nudges.take(target.now.as_nanos()) {
                self.call(&key, it.local, target);
            }
        }
    }

    /// Whether this hub is where such a peer is to be, and isn't with it already.
    fn may_nudge(&self, key: &PublicKey, local: Option<Local>, target: &Target<'_>) -> bool {
        let Some(lead) = &self.lead else { return false };
        let to_shared = local.is_some_and(|local| lead.is_shared(local));
        let is_for_us = !lead.gives_up() && (lead.leads || !to_shared);
        is_for_us && !lead.is_starting(key) && !target.device.is_handshaking(key)
    }

    fn call(&mut self, key: &PublicKey, local: Option<Local>, target: &mut Target<'_>) {
        let home = self.homes.with(|homes| homes.get(key).cloned());
        if home.is_some_and(|home| home.hub == self.homes.own) {
            // It has a session with us, and didn't hear of that.
            return target.device.keep_alive(key, target.now);
        }
        let Some((place, _)) = self.places.get(key) else {
            return;
        };
        let endpoint = Endpoint {
            local,
            ..Endpoint::from(*place)
        };
        self.start_with(key, endpoint, true, target);
    }
}
