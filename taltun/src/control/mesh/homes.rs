//! Where peers are at home: learned from their handshakes and from other hubs, and told to the data
//! plane, which leads what is for a peer to its hub.

use std::collections::HashSet;

use taltun_fleet::homes::is_believable;
use taltun_fleet::mesh::Announcement;
use taltun_fleet::{Heard, Home, Label};

use super::{GATHER, Mesh, Target};
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::protocol::peer::FleetPart;
use crate::protocol::tai64n::Tai64n;

/// Homes of peers that this hub doesn't know yet, at the most.
const MOST_EARLY: usize = 10_000;

impl Mesh {
    /// The fleet has these peers by now, and the tunnel has taken them over.
    pub(in crate::control) fn follow_peers(
        &mut self,
        peers: impl Iterator<Item = PublicKey>,
        target: &mut Target<'_>,
    ) {
        let peers: HashSet<PublicKey> = peers.collect();
        let part = |key: &PublicKey, part, target: &Target<'_>| {
            if let Some(peer) = target.device.peer(key) {
                peer.set_fleet_part(part);
            }
        };
        for key in self.peers.difference(&peers) {
            part(key, FleetPart::None, target);
            self.log.forget(key);
        }
        for key in &peers {
            // Who is away stays so.
            let known = target.device.peer(key).map(|peer| peer.fleet_part());
            if known == Some(FleetPart::None) {
                part(key, FleetPart::Peer, target);
            }
        }
        self.peers = peers;
        let early = std::mem::take(&mut self.early);
        for (key, home) in early {
            self.learn_home(key, home, target);
        }
        self.lead_all(target);
    }

    /// A handshake with a peer is complete: unless a newer one is known, it is at home here.
    pub(in crate::control) fn finished(&mut self, key: &PublicKey, target: &mut Target<'_>) {
        if !self.peers.contains(key) {
            return;
        }
        let own = &self.homes.own;
        let newest = target.device.newest_timestamp(key).unwrap_or_default();
        let known = self.homes.with(|homes| homes.get(key).cloned());
        let at = match known {
            Some(known) if newest.0 <= known.at => {
                if known.hub == *own {
                    known.at
                } else {
                    // We started it, so that the peer told no time: this comes next after what it told.
                    Tai64n(known.at).next().0
                }
            }
            _ => newest.0,
        };
        let home = Home {
            at,
            hub: own.clone(),
        };
        let heard = self.homes.with(|homes| homes.learn(*key, home));
        if let Some(lead) = &mut self.lead {
            lead.settled(key);
        }
        if heard != Heard::Nothing {
            self.homes.changed();
            target.device.note_timestamp(key, Tai64n(at));
            self.announce(key, target);
        }
        // Also where nothing is new: another hub may have said otherwise meanwhile.
        self.lead([*key], target);
        // Until it speaks here, it may go on with the session before.
        if target
            .device
            .peer(key)
            .is_some_and(|peer| peer.has_spoken())
        {
            self.expect_misrouted(key, target);
        }
    }

    /// Has data of a peer's sessions with another hub known by where it comes from.
    pub(super) fn expect_misrouted(&self, key: &PublicKey, target: &Target<'_>) {
        if self.lead.is_none() {
            return;
        }
        let home = self.homes.with(|homes| homes.get(key).cloned());
        let hub = home
            .filter(|home| home.hub != self.homes.own)
            .and_then(|home| self.hubs.get(home.hub.as_str()))
            .and_then(|hub| target.device.peer(&hub.is.public_key).cloned());
        let place = self.places.get(key).map(|(place, _)| *place);
        target.device.expect_misrouted(key, place.zip(hub));
    }

    /// A peer is at another address or port outside.
    pub(in crate::control) fn roamed(&mut self, key: &PublicKey, target: &Target<'_>) {
        let own = &self.homes.own;
        let is_own = |home: &Home| home.hub == *own;
        if self.homes.with(|homes| homes.get(key).is_some_and(is_own)) {
            self.announce(key, target);
        }
    }

    /// Tells the others of a peer that is at home here.
    fn announce(&mut self, key: &PublicKey, target: &Target<'_>) {
        self.log.push(*key);
        let soon = target.now + GATHER;
        self.flush_at.get_or_insert(soon);
    }

    /// Another hub says that peers are at home there. Returns whom to lead elsewhere.
    pub(super) fn learn(
        &mut self,
        told: Announcement,
        hub: &Label,
        target: &mut Target<'_>,
    ) -> Vec<PublicKey> {
        let mut moved = Vec::new();
        for entry in told.entries {
            let home = Home {
                at: entry.at,
                hub: hub.clone(),
            };
            if self.learn_home(entry.peer, home.clone(), target) {
                moved.push(entry.peer);
            }
            let is_home = |known: &Home| known.hub == home.hub;
            let is_there = self
                .homes
                .with(|homes| homes.get(&entry.peer).is_some_and(is_home));
            if let Some(endpoint) = entry.endpoint.filter(|_| is_there) {
                self.places.insert(entry.peer, (endpoint, target.now));
                self.expect_misrouted(&entry.peer, target);
            }
        }
        moved
    }

    /// Whether the peer is elsewhere by this.
    fn learn_home(&mut self, key: PublicKey, home: Home, target: &mut Target<'_>) -> bool {
        if !self.peers.contains(&key) {
            let known = self.early.get(&key);
            if known.is_none_or(|known| *known < home) && self.early.len() < MOST_EARLY {
                self.early.insert(key, home);
            }
            return false;
        }
        let at = home.at;
        if !is_believable(&at, clock::wall()) {
            return false;
        }
        let heard = self.homes.with(|homes| homes.learn(key, home));
        if heard == Heard::Nothing {
            return false;
        }
        self.homes.changed();
        target.device.note_timestamp(&key, Tai64n(at));
        // It answered its own hub, and not this one, which may have been starting with it.
        let was_starting = self.lead.as_mut().is_some_and(|lead| lead.settled(&key));
        heard == Heard::Moved || was_starting
    }

    /// etcd or the disk said where peers are.
    pub(in crate::control) fn follow_homes(&mut self, target: &mut Target<'_>) {
        self.lead_all(target);
    }

    /// Leads all peers of the fleet to where they are at home.
    pub(super) fn lead_all(&mut self, target: &mut Target<'_>) {
        let own = self.homes.own.clone();
        let all = self.homes.with(|homes| {
            let all = homes.all().filter(|(key, _)| self.peers.contains(*key));
            all.map(|(key, home)| (*key, home.clone()))
                .collect::<Vec<_>>()
        });
        for (key, home) in &all {
            target.device.note_timestamp(key, Tai64n(home.at));
            if home.hub == own && !self.log.contains(key) {
                self.log.push(*key);
            }
        }
        self.lead(all.into_iter().map(|(key, _)| key), target);
    }

    /// Leads what is for peers to the hubs where they are at home, and back to themselves.
    pub(super) fn lead(
        &mut self,
        keys: impl IntoIterator<Item = PublicKey>,
        target: &mut Target<'_>,
    ) {
        for key in keys {
            let home = self.homes.with(|homes| homes.get(&key).cloned());
            let Some(peer) = target.device.peer(&key).cloned() else {
                continue;
            };
            let hub = home
                .as_ref()
                .filter(|home| home.hub != self.homes.own)
                .and_then(|home| self.hubs.get(home.hub.as_str()))
                .and_then(|hub| target.device.peer(&hub.is.public_key).cloned())
                .filter(|hub| hub.is_hub());
            if hub.is_some() {
                self.log.forget(&key);
            }
            // It is on its way here, if we have a newer handshake that isn't confirmed yet.
            let newest = target.device.newest_timestamp(&key);
            let is_newest = home.is_some_and(|home| newest <= Some(Tai64n(home.at)));
            let is_starting = self.lead.as_ref().is_some_and(|it| it.is_starting(&key));
            if hub.is_none() || (is_newest && !is_starting) {
                target.device.set_away(&key, hub.is_some(), target.now);
            }
            match hub {
                Some(hub) => {
                    let lead = self.lead.as_ref();
                    peer.set_home(hub, lead.is_some_and(|lead| lead.hands_over(&peer)));
                }
                None if peer.fleet_part() == FleetPart::Away => {
                    peer.set_fleet_part(FleetPart::Peer);
                }
                None => {}
            }
        }
    }
}
