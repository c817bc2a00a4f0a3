//! Peers and their settings: added, changed and removed while everything runs.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::steering::MAX_WORKERS;

use super::control::Hello;
use super::paths::Paths;
use super::places::Places;
use super::{AddPeerError, Control, Device, PeerSettings, RouteEdit};
use crate::allowed_ips::AllowedIps;
use crate::cookie::{Checker, Sealer};
use crate::noise::Identity;
use crate::peer::{Endpoint, Peer, PeerId};
use crate::place::Place;
use crate::ratelimiter::{self, RateLimiter};
use crate::tai64n::Tai64n;
use crate::time::Time;
use crate::timers::Timers;
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};

impl Device {
    /// From now on, the receiver indices that we give out say which of so many workers their
    /// peer belongs to (at least 1, at most [`taltun_common::steering::MAX_WORKERS`]).
    pub fn set_workers(&mut self, workers: u32) {
        self.workers = workers.clamp(1, MAX_WORKERS as u32);
    }

    /// How many initiations one source may send a second; who sends more is asked to prove its
    /// address. None is without limit.
    pub fn set_initiations_per_second(&mut self, most: Option<u32>) {
        let burst = |most: u32| most.max(ratelimiter::BURST);
        self.claimed = most.map(|most| RateLimiter::new(most, burst(most)));
    }

    /// Whether packets of a peer for another peer go straight to it from now on.
    pub fn set_relay(&mut self, relay: bool) {
        self.tunnel.tables_mut().relay = relay;
    }

    /// What this host is and what it reaches otherwise than through the tunnel. No peer speaks
    /// as the one, and nothing for the other is relayed to a peer that owns a wider network.
    pub fn set_foreign(&mut self, own: &[IpAddr], nets: &[IpNet]) {
        let mut own = own.to_vec();
        own.sort_unstable();
        let mut foreign = AllowedIps::default();
        for net in nets {
            foreign.insert(*net, ());
        }
        let mut tables = self.tunnel.tables_mut();
        let old = (
            std::mem::replace(&mut tables.own, own),
            std::mem::replace(&mut tables.foreign, foreign),
        );
        drop(tables);
        // Freed here, after the lock is.
        drop(old);
    }

    /// Adds a peer. It takes its allowed IPs from earlier owners of exactly these prefixes.
    pub fn add_peer(
        &mut self,
        settings: PeerSettings,
        now: Time,
    ) -> Result<Arc<Peer>, AddPeerError> {
        let precedes_us = settings.public_key < *self.identity.public();
        self.add(settings, precedes_us, now)
    }

    /// The same, of a peer that knows us by any key.
    pub(super) fn add(
        &mut self,
        settings: PeerSettings,
        precedes_us: bool,
        now: Time,
    ) -> Result<Arc<Peer>, AddPeerError> {
        let key = settings.public_key;
        if key == *self.identity.public() {
            return Err(AddPeerError::OurOwnKey);
        }
        if self.by_key.contains_key(&key) {
            return Err(AddPeerError::Known);
        }
        let id = PeerId(self.next_id);
        self.next_id += 1;
        let peer = Arc::new(Peer::new(
            id,
            key,
            precedes_us,
            settings.endpoint,
            self.tunnel.staged.clone(),
        ));
        let mut timers = Timers::default();
        timers.set_persistent(settings.persistent_keepalive, now);
        self.by_key.insert(key, id);
        let control = Control {
            peer: Arc::clone(&peer),
            made_of_static_keys: OnceCell::new(),
            hub: None,
            preshared_key: settings.preshared_key,
            sealer: Sealer::new(&key),
            timers,
            initiations: [None, None],
            places: Places::default(),
            paths: Paths::default(),
            hello: Hello::default(),
            found_at: None,
            newest_timestamp: None,
            away: false,
            last_initiation_received: None,
            deadline: None,
        };
        self.peers.insert(id, Box::new(control));
        let add = |net: &IpNet| RouteEdit::Add(Arc::clone(&peer), *net);
        let edits: Vec<RouteEdit> = settings.allowed_ips.iter().map(add).collect();
        self.edit_routes(&edits);
        self.tunnel.note_place(id);
        self.schedule(id, now);
        Ok(peer)
    }

    /// Removes a peer with everything that is known of it; false when there is none.
    pub fn remove_peer(&mut self, key: &PublicKey) -> bool {
        let Some(id) = self.forget_peer(key) else {
            return false;
        };
        self.edit_routes(&[RouteEdit::Clear(id)]);
        true
    }

    /// The first half of [`Self::remove_peer`], for removing many at once: all but the
    /// peer's allowed IPs, which are left to [`Self::edit_routes`].
    pub fn forget_peer(&mut self, key: &PublicKey) -> Option<PeerId> {
        let id = self.by_key.remove(key)?;
        self.tunnel.note_place(id);
        self.abandon_initiations(id);
        self.wipe_sessions(id);
        if let Some(control) = self.peers.remove(&id) {
            self.whereabouts.forget(id, control.found_at);
            if let Some(deadline) = control.deadline {
                self.deadlines.remove(&(deadline, id));
            }
        }
        let mut tables = self.tunnel.tables_mut();
        tables.hubs.retain(|hub| hub.id() != id);
        tables.misrouted.expect(id, None);
        drop(tables);
        self.forgotten.push(*key);
        Some(id)
    }

    /// The keys of peers that were removed since this was last asked; some may be back.
    pub fn take_forgotten(&mut self) -> Vec<PublicKey> {
        std::mem::take(&mut self.forgotten)
    }

    /// Replaces what a peer may send from and gets.
    pub fn set_allowed_ips(&mut self, key: &PublicKey, allowed_ips: &[IpNet]) {
        if let Some(peer) = self.peer(key).cloned() {
            // In one step, so that no packet falls between the old and the new ones.
            let mut edits = vec![RouteEdit::Clear(peer.id())];
            let add = |net: &IpNet| RouteEdit::Add(Arc::clone(&peer), *net);
            edits.extend(allowed_ips.iter().map(add));
            self.edit_routes(&edits);
        }
    }

    /// Replaces our own key, or takes it away. All sessions end, as they were made with the
    /// old one, and no peer counts as there until its next handshake shows that it knows the new
    /// one. A peer with the new key would be ourselves and is removed.
    pub fn set_private_key(&mut self, key: Option<PrivateKey>, now: Time) {
        if self.private_key() == key.as_ref() {
            return;
        }
        self.has_private_key = key.is_some();
        // One that was made up is never used; a made-up one that isn't random is no worse.
        let made_up = || {
            self.random_private_key()
                .unwrap_or(PrivateKey::from_bytes([1; 32]))
        };
        self.identity = Identity::new(key.unwrap_or_else(made_up));
        self.checker = Checker::new(self.identity.public());
        self.share_checker();
        self.remove_peer(&self.identity.public().clone());
        for control in self.peers.values_mut() {
            control.made_of_static_keys = OnceCell::new();
        }
        self.end_all_sessions(now);
        for control in self.peers.values() {
            control.peer.activity.forget_handshake();
        }
    }

    /// Ends all that was agreed on, with whomever: sessions, handshakes under way, cookies
    /// that were given. Nothing of it may be used once more by a machine that was rolled back
    /// or cloned. Where there was a session, a new one is asked for at once.
    pub fn start_over(&mut self, now: Time) {
        self.checker.forget_secret();
        self.share_checker();
        for id in self.end_all_sessions(now) {
            self.want_handshake(id, now);
        }
    }

    /// Ends all sessions and handshakes under way; who had a session.
    fn end_all_sessions(&mut self, now: Time) -> Vec<PeerId> {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        let mut had_session = Vec::new();
        for id in ids {
            self.abandon_initiations(id);
            if let Some(control) = self.peers.get_mut(&id) {
                if control.peer.has_session(now) {
                    had_session.push(id);
                }
                control.timers.start_over();
                control.peer.activity.forget_unanswered();
                control.peer.activity.forget_unacknowledged();
            }
            self.wipe_sessions(id);
            self.schedule(id, now);
        }
        had_session
    }

    /// Ends the sessions with a peer and makes no other, until it is refused no more. What it
    /// sends is dropped as of no session, its handshakes and what is for it as
    /// [`DropReason::PeerRefused`]. A worker that has a batch in hand finishes that.
    ///
    /// [`DropReason::PeerRefused`]: taltun_common::drops::DropReason::PeerRefused
    pub fn set_refused(&mut self, key: &PublicKey, refused: bool, now: Time) {
        let Some(&id) = self.by_key.get(key) else {
            return;
        };
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        if control.peer.is_refused() == refused {
            return;
        }
        control.peer.set_refused(refused);
        if !refused {
            // It may take a while until it tries again.
            self.want_handshake(id, now);
            return;
        }
        control.timers.start_over();
        control.peer.activity.forget_unanswered();
        control.peer.activity.forget_unacknowledged();
        drop(control.peer.take_staged());
        self.abandon_initiations(id);
        self.wipe_sessions(id);
        self.schedule(id, now);
    }

    /// Moves a peer to a configured endpoint.
    pub fn set_endpoint(&mut self, key: &PublicKey, endpoint: Option<Endpoint>) {
        if let Some(&id) = self.by_key.get(key)
            && let Some(control) = self.peers.get_mut(&id)
        {
            control.places = Places::default();
            control.stop_paths();
            control.paths = Paths::default();
            control.peer.set_endpoint(endpoint);
            self.tunnel.note_place(id);
        }
    }

    /// Says where a peer may be: at the first of these places, or if it doesn't answer there,
    /// at one of the others. A peer that is at one of them, with a session, stays there.
    pub fn set_places<P: Into<Place> + Copy>(&mut self, key: &PublicKey, places: &[P], now: Time) {
        if let Some(&id) = self.by_key.get(key)
            && let Some(control) = self.peers.get_mut(&id)
        {
            let places: Vec<Place> = places.iter().map(|place| (*place).into()).collect();
            control.set_places(&places, self.hop.pool, &mut self.randomness, now);
            self.tunnel.note_place(id);
            self.follow_paths(id, now);
            self.schedule(id, now);
        }
    }

    /// Where a peer may be, if that was said.
    pub fn places(&self, key: &PublicKey) -> &[Place] {
        let control = self.by_key.get(key).and_then(|id| self.peers.get(id));
        control.map_or(&[], |control| &control.places.all)
    }

    /// Forgets from which of our addresses a peer was to be answered: the route chooses one
    /// until the peer is heard again.
    pub fn forget_local_address(&self, key: &PublicKey) {
        if let Some(peer) = self.peer(key) {
            peer.forget_local_address();
        }
    }

    /// The timestamp of the newest handshake that a peer is known to have made, here or with another
    /// hub.
    pub fn newest_timestamp(&self, key: &PublicKey) -> Option<Tai64n> {
        self.peers.get(self.by_key.get(key)?)?.newest_timestamp
    }

    /// A peer made a handshake with another hub: none that is as old or older is taken here.
    pub fn note_timestamp(&mut self, key: &PublicKey, timestamp: Tai64n) {
        if let Some(id) = self.by_key.get(key)
            && let Some(control) = self.peers.get_mut(id)
        {
            control.newest_timestamp = control.newest_timestamp.max(Some(timestamp));
        }
    }

    /// Says whether a peer is at home at another hub. If so, we start no handshake with it, and say
    /// nothing on the sessions that there are: it would come back here by that. They open what is on its
    /// way for some seconds. Its own handshakes are answered as ever.
    pub fn set_away(&mut self, key: &PublicKey, away: bool, now: Time) {
        let Some(&id) = self.by_key.get(key) else {
            return;
        };
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut control.away, away) == away {
            return;
        }
        if away {
            control.timers.leave(now);
            control.peer.activity.forget_unanswered();
            control.peer.activity.forget_unacknowledged();
            drop(control.peer.take_staged());
            self.abandon_initiations(id);
        }
        self.schedule(id, now);
    }

    /// Starts a handshake with a peer that was at home at another hub, where that hub had it, at once: what
    /// was under way before is void.
    pub fn take_over(&mut self, key: &PublicKey, at: Endpoint, now: Time) {
        self.set_endpoint(key, Some(at));
        let Some(&id) = self.by_key.get(key) else {
            return;
        };
        self.abandon_initiations(id);
        if let Some(control) = self.peers.get_mut(&id) {
            control.away = false;
            control.timers.restart();
        }
        self.want_handshake(id, now);
    }

    /// Changes the preshared key; sessions go on, the next handshake uses it.
    pub fn set_preshared_key(&mut self, key: &PublicKey, preshared_key: PresharedKey) {
        if let Some(id) = self.by_key.get(key)
            && let Some(control) = self.peers.get_mut(id)
        {
            control.preshared_key = preshared_key;
        }
    }

    /// Changes the interval of persistent keepalives.
    pub fn set_persistent_keepalive(
        &mut self,
        key: &PublicKey,
        interval: Option<Duration>,
        now: Time,
    ) {
        if let Some(&id) = self.by_key.get(key)
            && let Some(control) = self.peers.get_mut(&id)
        {
            control.timers.set_persistent(interval, now);
            self.schedule(id, now);
        }
    }

    /// Asks for a handshake with a peer, as if there were data for it.
    pub fn initiate(&mut self, key: &PublicKey, now: Time) {
        if let Some(&id) = self.by_key.get(key) {
            self.want_handshake(id, now);
        }
    }
}
