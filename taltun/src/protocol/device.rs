//! The control half: peers, handshakes, timers, cookies.
//!
//! One thread owns a [`Device`]. Its methods come in four kinds:
//!
//! * *handle* methods take what happened: [`Device::handle_handshake`] a handshake message,
//!   [`Device::handle_requests`] what workers asked for, [`Device::handle_timeout`] the
//!   passing of time. Each takes `now`.
//! * *poll* methods say what to do: first [`Device::poll_event`] until it is empty, then
//!   [`Device::poll_transmit`] until it is empty, then sleep until
//!   [`Device::poll_timeout`]. Events come first because a filter in front of us must know
//!   an index before the message that carries it leaves.
//! * mutators add, change and remove peers.
//! * getters read.
//!
//! Workers share its [`Tunnel`] and make deadlines by sealing and opening. All of these lie
//! at least [`KEEPALIVE_TIMEOUT`] ahead, so a device that looks at each peer that has a
//! session that often misses none, and no worker ever has to wake it for a timer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_common::drops::DropReason;
use taltun_common::steering::{self, MAX_WORKERS};

use super::cookie::{Checker, Proof, Sealer};
use super::messages::{
    CookieReply, DATA_OVERHEAD, INITIATION_INTERVAL, Initiation, KEEPALIVE_TIMEOUT, Message,
    PADDING, REKEY_TIMEOUT_JITTER, Response,
};
use super::noise::{self, Identity, Initiator, TransportKeys};
use super::peer::{Endpoint, Peer, PeerId};
use super::ratelimiter::RateLimiter;
use super::session::{Role, Session};
use super::tai64n::Tai64n;
use super::time::Time;
use super::timers::{Due, Timers};
use super::tunnel::{Tunnel, seal};
use crate::crypto::{KEY_LEN, PresharedKey, PrivateKey, PublicKey, SharedSecret};

/// What a device is made of.
#[derive(Debug)]
pub struct Settings {
    /// Our static private key.
    pub private_key: PrivateKey,
    /// Seeds the only source of randomness: 32 bytes from the operating system, or a fixed
    /// seed in a test.
    pub seed: [u8; 32],
    /// Wall-clock time, since the Unix epoch, at which [`Time`] was zero. Timestamps in
    /// initiations are made of this and the monotonic clock, so they never go backwards
    /// while we run, whatever happens to the wall clock.
    pub wall_clock_at_zero: Duration,
    /// MTU of the tunnel, bytes.
    pub mtu: u16,
    /// Our own inner addresses: packets for them are never relayed.
    pub local_addresses: Vec<IpAddr>,
    /// Whether packets of a peer for another peer go straight to it.
    pub relay: bool,
}

/// Everything needed to know a peer.
#[derive(Debug, Clone)]
pub struct PeerSettings {
    /// Who it is.
    pub public_key: PublicKey,
    /// The shared symmetric key; all zero for none.
    pub preshared_key: PresharedKey,
    /// Where it is, if that is known.
    pub endpoint: Option<Endpoint>,
    /// What it may send from and gets.
    pub allowed_ips: Vec<IpNet>,
    /// Interval of persistent keepalives.
    pub persistent_keepalive: Option<Duration>,
}

/// Why a peer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// A peer with our own key would be ourselves.
    #[error("the peer's public key is our own")]
    OurOwnKey,
    /// There is one with this key.
    #[error("there is a peer with this public key already")]
    Known,
}

/// A change of who owns which inner addresses.
#[derive(Debug, Clone)]
pub enum RouteEdit {
    /// Takes all from a peer, which may be gone already.
    Clear(PeerId),
    /// Gives a prefix to a peer, taking it from whoever had exactly this one.
    Add(Arc<Peer>, IpNet),
    /// Takes exactly this prefix from a peer, if it is its own.
    Remove(PeerId, IpNet),
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to, and from which of our addresses.
    pub endpoint: Endpoint,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// Something the surroundings may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// From now on this receiver index is ours; the message that carries it comes next.
    IndexBorn(u32),
    /// This receiver index is no longer ours.
    IndexDied(u32),
    /// A cookie is on its way to this address, and with it comes back who lives there; the
    /// secret it is made of may be new: see [`Device::cookie_secret`].
    CookieGiven(IpAddr),
    /// Nobody answered for the whole 90 s of a handshake (§6.4).
    HandshakeGivenUp(PeerId),
}

/// Packets that waited for a handshake in vain and are handed out by
/// [`Device::poll_given_up`], at most; each becomes one message to its sender.
const MAX_GIVEN_UP: usize = 64;

/// The control half of WireGuard for one interface.
#[derive(Debug)]
pub struct Device {
    tunnel: Arc<Tunnel>,
    /// Without a private key, one that was made up and never shown to anybody.
    identity: Identity,
    has_private_key: bool,
    checker: Checker,
    limiter: RateLimiter,
    rng: ChaCha20Rng,
    wall_clock_at_zero: Duration,
    peers: BTreeMap<PeerId, Control>,
    by_key: HashMap<PublicKey, PeerId>,
    /// Indices of initiations in flight.
    initiations: HashMap<u32, PeerId>,
    deadlines: BTreeSet<(Time, PeerId)>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    given_up: VecDeque<Vec<u8>>,
    next_id: u32,
    /// How many share the work; see [`taltun_common::steering`].
    workers: u32,
}

/// What only the controller knows of a peer.
#[derive(Debug)]
struct Control {
    peer: Arc<Peer>,
    static_static: Option<SharedSecret>,
    preshared_key: PresharedKey,
    sealer: Sealer,
    timers: Timers,
    /// The initiation in flight and the one it superseded, whose answer may still come.
    initiations: [Option<InFlight>; 2],
    newest_timestamp: Option<Tai64n>,
    last_initiation_received: Option<Time>,
    deadline: Option<Time>,
}

#[derive(Debug)]
struct InFlight {
    index: u32,
    state: Initiator,
}

impl Device {
    /// A device without peers.
    pub fn new(settings: Settings) -> Self {
        let identity = Identity::new(settings.private_key);
        let tunnel = Tunnel::new(settings.mtu);
        {
            let mut tables = tunnel.tables_mut();
            tables.local = settings.local_addresses;
            tables.relay = settings.relay;
        }
        Self {
            tunnel: Arc::new(tunnel),
            checker: Checker::new(identity.public()),
            identity,
            has_private_key: true,
            limiter: RateLimiter::default(),
            rng: ChaCha20Rng::from_seed(settings.seed),
            wall_clock_at_zero: settings.wall_clock_at_zero,
            peers: BTreeMap::new(),
            by_key: HashMap::new(),
            initiations: HashMap::new(),
            deadlines: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            given_up: VecDeque::new(),
            next_id: 0,
            workers: 1,
        }
    }

    // ---- getters -----------------------------------------------------------------------

    /// The half that workers use.
    pub fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    /// Our public key.
    pub fn public_key(&self) -> &PublicKey {
        self.identity.public()
    }

    /// Our private key; `None` while there is none, and no handshake either.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.has_private_key.then(|| self.identity.private())
    }

    /// The symmetric key shared with a peer; `None` when there is no such peer.
    pub fn preshared_key(&self, key: &PublicKey) -> Option<&PresharedKey> {
        Some(&self.peers.get(self.by_key.get(key)?)?.preshared_key)
    }

    /// The interval of a peer's persistent keepalives, if it has one.
    pub fn persistent_keepalive(&self, key: &PublicKey) -> Option<Duration> {
        self.peers.get(self.by_key.get(key)?)?.timers.persistent()
    }

    /// What each peer may send from and gets, sorted; peers without any are left out.
    pub fn allowed_ips(&self) -> HashMap<PeerId, Vec<IpNet>> {
        let mut owned: HashMap<PeerId, Vec<IpNet>> = HashMap::new();
        for (net, owner) in self.tunnel.tables().routes.iter() {
            owned.entry(owner.id()).or_default().push(net);
        }
        owned
    }

    /// The key of mac1 in messages to us, for whoever checks it before us.
    pub fn mac1_key(&self) -> &[u8; 32] {
        self.checker.mac1_key()
    }

    /// The secret of cookies, for whoever checks them before us, and for how long from `now`
    /// on they are honoured; `None` if none is.
    pub fn cookie_secret(&self, now: Time) -> Option<(&[u8; 32], Duration)> {
        self.checker.secret(now)
    }

    /// The shared half of the peer with this key.
    pub fn peer(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        Some(&self.peers.get(self.by_key.get(key)?)?.peer)
    }

    /// All peers, in the order they were added.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values().map(|control| &control.peer)
    }

    // ---- mutators ----------------------------------------------------------------------

    /// From now on, the receiver indices that we give out say which of so many workers their
    /// peer belongs to (at least 1, at most [`taltun_common::steering::MAX_WORKERS`]).
    pub fn set_workers(&mut self, workers: u32) {
        self.workers = workers.clamp(1, MAX_WORKERS as u32);
    }

    /// Adds a peer. Its allowed IPs are taken from whoever had exactly the same before.
    pub fn add_peer(
        &mut self,
        settings: PeerSettings,
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
        let precedes_us = key < *self.identity.public();
        let peer = Arc::new(Peer::new(id, key, precedes_us, settings.endpoint));
        let mut timers = Timers::default();
        timers.set_persistent(settings.persistent_keepalive, now);
        self.by_key.insert(key, id);
        self.peers.insert(
            id,
            Control {
                peer: Arc::clone(&peer),
                static_static: self.identity.static_static(&key),
                preshared_key: settings.preshared_key,
                sealer: Sealer::new(&key),
                timers,
                initiations: [None, None],
                newest_timestamp: None,
                last_initiation_received: None,
                deadline: None,
            },
        );
        self.tunnel
            .tables_mut()
            .add_routes(&peer, &settings.allowed_ips);
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
        self.abandon_initiations(id);
        self.wipe_sessions(id);
        if let Some(control) = self.peers.remove(&id)
            && let Some(deadline) = control.deadline
        {
            self.deadlines.remove(&(deadline, id));
        }
        Some(id)
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

    /// Makes many changes of allowed IPs, in order. Workers see all of them at once or none
    /// yet, and wait for none of it.
    pub fn edit_routes(&mut self, edits: &[RouteEdit]) {
        if edits.is_empty() {
            return;
        }
        // Clearing goes through the whole table, so all peers that are cleared before they
        // are given anything are cleared together.
        let mut given = HashSet::new();
        let mut cleared = HashSet::new();
        for edit in edits {
            match edit {
                RouteEdit::Clear(id) if !given.contains(id) => drop(cleared.insert(*id)),
                RouteEdit::Add(peer, _) => drop(given.insert(peer.id())),
                RouteEdit::Clear(_) | RouteEdit::Remove(..) => {}
            }
        }
        let mut routes = self.tunnel.tables().routes.clone();
        if !cleared.is_empty() {
            routes.retain(|owner| !cleared.contains(&owner.id()));
        }
        for edit in edits {
            match edit {
                RouteEdit::Clear(id) if cleared.remove(id) => {}
                RouteEdit::Clear(id) => routes.retain(|owner| owner.id() != *id),
                RouteEdit::Add(peer, net) => drop(routes.insert(net.trunc(), Arc::clone(peer))),
                RouteEdit::Remove(id, net) => {
                    routes.remove_if(net.trunc(), |owner| owner.id() == *id);
                }
            }
        }
        let old = std::mem::replace(&mut self.tunnel.tables_mut().routes, routes);
        // Freed here, after the lock is.
        drop(old);
    }

    /// Replaces our own key, or takes it away. All sessions end, as they were made with the
    /// old one; a peer with the new key would be ourselves and is removed.
    pub fn set_private_key(&mut self, key: Option<PrivateKey>, now: Time) {
        if self.private_key() == key.as_ref() {
            return;
        }
        self.has_private_key = key.is_some();
        self.identity = Identity::new(key.unwrap_or_else(|| self.random_private_key()));
        self.checker = Checker::new(self.identity.public());
        self.remove_peer(&self.identity.public().clone());
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.abandon_initiations(id);
            self.wipe_sessions(id);
            if let Some(control) = self.peers.get_mut(&id) {
                control.static_static = self.identity.static_static(control.peer.public_key());
                control.timers.start_over();
                control.peer.activity.forget_unanswered();
                control.peer.activity.forget_unacknowledged();
            }
            self.schedule(id, now);
        }
    }

    /// Moves a peer to a configured endpoint.
    pub fn set_endpoint(&mut self, key: &PublicKey, endpoint: Option<Endpoint>) {
        if let Some(peer) = self.peer(key) {
            peer.set_endpoint(endpoint);
        }
    }

    /// Forgets from which of our addresses a peer was to be answered: the route chooses one
    /// until the peer is heard again.
    pub fn forget_local_address(&self, key: &PublicKey) {
        if let Some(peer) = self.peer(key) {
            peer.forget_local_address();
        }
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

    // ---- handle ------------------------------------------------------------------------

    /// Takes a handshake message: anything of WireGuard's shape but data, which workers
    /// open. `under_load` says that handshakes come faster than they are handled, so that
    /// senders have to prove their address first (§5.4.7).
    pub fn handle_handshake(
        &mut self,
        datagram: &[u8],
        from: Endpoint,
        under_load: bool,
        now: Time,
    ) -> Result<(), DropReason> {
        if !self.has_private_key {
            return Err(DropReason::Handshake);
        }
        match Message::parse(datagram) {
            Ok(Message::Initiation(message)) => {
                self.admit(datagram, message.sender(), from, under_load, now)?;
                self.handle_initiation(message, from, now)
            }
            Ok(Message::Response(message)) => {
                self.admit(datagram, message.sender(), from, under_load, now)?;
                self.handle_response(message, from, now)
            }
            Ok(Message::CookieReply(message)) => self.handle_cookie_reply(message, now),
            Ok(Message::Data { .. }) | Err(_) => Err(DropReason::Shape),
        }
    }

    /// Does what workers asked for since the last call.
    pub fn handle_requests(&mut self, now: Time) {
        for id in self.tunnel.take_requests() {
            let Some(control) = self.peers.get(&id) else {
                continue;
            };
            let (handshake, flush) = control.peer.take_requests();
            if flush {
                // The first data on a session proves that its handshake is finished: an
                // initiation of ours that is still in flight has become pointless.
                let retired = control.peer.take_retired();
                self.settle_handshake(id);
                self.end_sessions(&retired);
            }
            // Also where a handshake is asked for: a session may have come up since, and
            // the worker that didn't see it yet has staged its packet too late for it.
            self.flush_staged(id, now);
            if handshake && self.needs_session(id, now) {
                self.want_handshake(id, now);
            }
            self.schedule(id, now);
        }
    }

    /// Does what is due at `now`. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            while let Some(due) = self.due(id, now) {
                self.handle_due(id, due, now);
            }
            self.schedule(id, now);
        }
    }

    // ---- poll --------------------------------------------------------------------------

    /// What the surroundings should know; until empty, before [`Self::poll_transmit`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A datagram to send; until empty.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// A packet that waited for a handshake which never came about; until empty. Its sender
    /// should hear of it.
    pub fn poll_given_up(&mut self) -> Option<Vec<u8>> {
        self.given_up.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    // ---- handshakes --------------------------------------------------------------------

    /// Whether a handshake message is worth any public-key operation.
    fn admit(
        &mut self,
        datagram: &[u8],
        sender: u32,
        from: Endpoint,
        under_load: bool,
        now: Time,
    ) -> Result<(), DropReason> {
        match self.checker.check(datagram, from.remote, now) {
            Proof::None => Err(DropReason::Mac1),
            Proof::Mac1 | Proof::Mac2 if !under_load => Ok(()),
            Proof::Mac2 if self.limiter.allow(from.remote.ip(), now) => Ok(()),
            Proof::Mac2 => Err(DropReason::RateLimited),
            Proof::Mac1 => {
                let rng = &mut self.rng;
                let reply = self
                    .checker
                    .reply(datagram, sender, from.remote, now, |bytes| {
                        rng.fill_bytes(bytes);
                    });
                self.events.push_back(Event::CookieGiven(from.remote.ip()));
                self.transmits.push_back(Transmit {
                    endpoint: from,
                    payload: reply.to_vec(),
                });
                Err(DropReason::NoCookie)
            }
        }
    }

    fn handle_initiation(
        &mut self,
        message: Initiation<'_>,
        from: Endpoint,
        now: Time,
    ) -> Result<(), DropReason> {
        let refused = DropReason::Handshake;
        let claimed = noise::receive(&self.identity, message).map_err(|_| refused)?;
        let id = *self.by_key.get(&claimed.initiator).ok_or(refused)?;
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let static_static = control.static_static.as_ref().ok_or(refused)?;
        let verified = claimed.verify(static_static).map_err(|_| refused)?;
        let replayed = control
            .newest_timestamp
            .is_some_and(|newest| verified.timestamp <= newest);
        let flooding = control
            .last_initiation_received
            .is_some_and(|last| now.since(last) < INITIATION_INTERVAL);
        if replayed || flooding {
            return Err(refused);
        }
        control.newest_timestamp = Some(verified.timestamp);
        control.last_initiation_received = Some(now);

        let local_index = self.unused_index(id);
        let remote_index = verified.initiator_index();
        let ephemeral = self.random_private_key();
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let (mut response, keys) = verified
            .respond(&control.preshared_key, &ephemeral, local_index)
            .map_err(|_| refused)?;
        control.sealer.seal(&mut response, now);
        self.events.push_back(Event::IndexBorn(local_index));
        let peer = Arc::clone(&control.peer);
        peer.roam(from);
        peer.activity.received(now, message.0.len() as u64, false);
        self.begin_session(id, &keys, Role::Responder, local_index, remote_index, now);
        self.send(&peer, response.to_vec(), now);
        self.schedule(id, now);
        Ok(())
    }

    fn handle_response(
        &mut self,
        message: Response<'_>,
        from: Endpoint,
        now: Time,
    ) -> Result<(), DropReason> {
        let id = *self
            .initiations
            .get(&message.receiver())
            .ok_or(DropReason::UnknownIndex)?;
        let refused = DropReason::Handshake;
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let slot = control
            .initiations
            .iter()
            .position(|slot| {
                slot.as_ref()
                    .is_some_and(|flight| flight.index == message.receiver())
            })
            .ok_or(refused)?;
        let keys = control.initiations[slot]
            .as_ref()
            .ok_or(refused)?
            .state
            .finish(&self.identity, &control.preshared_key, message)
            .map_err(|_| refused)?;

        // The index lives on as the session's. The initiation before this one is over. One
        // after it, if this answer comes late, is not: the responder replaces this session
        // as soon as it gets that one, and then only its answer tells us the new keys.
        control.initiations[slot] = None;
        self.initiations.remove(&message.receiver());
        let newer = control.initiations[0].take();
        self.abandon_initiations(id);
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        control.initiations[0] = newer;
        let control = self.peers.get(&id).ok_or(refused)?;
        let peer = Arc::clone(&control.peer);
        peer.roam(from);
        peer.activity.received(now, message.0.len() as u64, false);
        peer.activity.handshake_completed(now);
        self.begin_session(
            id,
            &keys,
            Role::Initiator,
            message.receiver(),
            message.sender(),
            now,
        );
        // The responder may send only once it has received something on the session.
        if self.flush_staged(id, now) == 0 {
            self.send_keepalive(id, now);
        }
        self.schedule(id, now);
        Ok(())
    }

    /// Never moves the peer: a cookie reply is not authenticated by it.
    fn handle_cookie_reply(
        &mut self,
        message: CookieReply<'_>,
        now: Time,
    ) -> Result<(), DropReason> {
        let index = message.receiver();
        let id = match self.initiations.get(&index) {
            Some(id) => *id,
            None => self
                .tunnel
                .tables()
                .sessions
                .get(&index)
                .map(|(peer, _)| peer.id())
                .ok_or(DropReason::UnknownIndex)?,
        };
        let control = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        if control.sealer.receive(message, now) {
            Ok(())
        } else {
            Err(DropReason::Handshake)
        }
    }

    /// Starts a handshake now, or leaves it to the timer when the last one is too young.
    fn want_handshake(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        if control.timers.is_handshaking() {
            return;
        }
        control.timers.want_handshake();
        if control.timers.may_initiate(now) {
            self.send_initiation(id, now);
        }
        self.schedule(id, now);
    }

    /// Whether a peer has no session to send on, or one that is due for renewal.
    fn needs_session(&self, id: PeerId, now: Time) -> bool {
        self.peers.get(&id).is_some_and(|control| {
            control
                .peer
                .sending_session(now)
                .is_none_or(|session| session.renew_on_send(now))
        })
    }

    fn send_initiation(&mut self, id: PeerId, now: Time) {
        let possible = self.peers.get(&id).is_some_and(|control| {
            self.has_private_key
                && control.static_static.is_some()
                && control.peer.endpoint().is_some()
        });
        if !possible {
            // No key of ours, a low-order one of theirs, or nowhere to send to: nothing
            // ever leaves, and what waits for it need not wait.
            self.give_up(id, now);
            return;
        }
        let index = self.unused_index(id);
        let ephemeral = self.random_private_key();
        let jitter = self.random_jitter();
        let timestamp =
            Tai64n::from_unix(self.wall_clock_at_zero + Duration::from_nanos(now.as_nanos()));
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let peer = Arc::clone(&control.peer);
        let made = control.static_static.as_ref().and_then(|static_static| {
            noise::initiate(
                &self.identity,
                peer.public_key(),
                static_static,
                ephemeral,
                index,
                timestamp,
            )
            .ok()
        });
        let Some((state, mut message)) = made else {
            control.timers.handshake_abandoned(now);
            return;
        };
        self.events.push_back(Event::IndexBorn(index));
        control.sealer.seal(&mut message, now);
        control.timers.initiation_sent(now, jitter);
        let [newest, superseded] = &mut control.initiations;
        let forgotten = std::mem::replace(superseded, newest.take());
        *newest = Some(InFlight { index, state });
        self.initiations.insert(index, id);
        if let Some(forgotten) = forgotten {
            self.initiations.remove(&forgotten.index);
            self.events.push_back(Event::IndexDied(forgotten.index));
        }
        self.send(&peer, message.to_vec(), now);
    }

    /// Forgets the initiations in flight, with their indices.
    fn abandon_initiations(&mut self, id: PeerId) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        for flight in std::mem::take(&mut control.initiations)
            .into_iter()
            .flatten()
        {
            self.initiations.remove(&flight.index);
            self.events.push_back(Event::IndexDied(flight.index));
        }
    }

    /// There will be no handshake for now: what waited for it is lost.
    fn give_up(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        control.timers.handshake_abandoned(now);
        let room = MAX_GIVEN_UP - self.given_up.len();
        let staged = control.peer.take_staged();
        self.given_up.extend(staged.into_iter().take(room));
    }

    /// The other side's handshake came to its end: ours is not needed.
    fn settle_handshake(&mut self, id: PeerId) {
        if let Some(control) = self.peers.get_mut(&id) {
            control.timers.handshake_settled();
        }
        self.abandon_initiations(id);
    }

    fn begin_session(
        &mut self,
        id: PeerId,
        keys: &TransportKeys,
        role: Role,
        local_index: u32,
        remote_index: u32,
        now: Time,
    ) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        control.timers.session_begun(now, role == Role::Initiator);
        let session = Arc::new(Session::new(keys, role, local_index, remote_index, now));
        self.tunnel.tables_mut().sessions.insert(
            local_index,
            (Arc::clone(&control.peer), Arc::clone(&session)),
        );
        control.peer.begin(session, role);
        let retired = control.peer.take_retired();
        self.end_sessions(&retired);
    }

    /// Takes back the indices of sessions that are no longer used.
    fn end_sessions(&mut self, sessions: &[Arc<Session>]) {
        if sessions.is_empty() {
            return;
        }
        let mut tables = self.tunnel.tables_mut();
        for session in sessions {
            tables.sessions.remove(&session.local_index());
            self.events
                .push_back(Event::IndexDied(session.local_index()));
        }
    }

    // ---- timers ------------------------------------------------------------------------

    fn due(&self, id: PeerId, now: Time) -> Option<Due> {
        let control = self.peers.get(&id)?;
        let (time, due) = control.timers.next(&control.peer.activity)?;
        (time <= now).then_some(due)
    }

    fn handle_due(&mut self, id: PeerId, due: Due, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        match due {
            Due::Retry if control.timers.attempts_used_up(now) => {
                self.give_up(id, now);
                self.abandon_initiations(id);
                self.events.push_back(Event::HandshakeGivenUp(id));
            }
            Due::Retry => {
                control.peer.forget_local_address();
                self.send_initiation(id, now);
            }
            Due::Handshake => self.send_initiation(id, now),
            Due::Unanswered => {
                control.peer.activity.forget_unanswered();
                control.peer.forget_local_address();
                self.want_handshake(id, now);
            }
            Due::Keepalive => {
                control.peer.activity.forget_unacknowledged();
                self.send_keepalive(id, now);
            }
            Due::PersistentKeepalive => {
                control.timers.persistent_tried(now);
                if !self.send_keepalive(id, now) {
                    self.want_handshake(id, now);
                }
            }
            Due::Wipe => {
                control.timers.wiped();
                // A handshake in flight is not old: it ends by itself within 90 s.
                if !control.timers.is_handshaking() {
                    self.abandon_initiations(id);
                }
                self.wipe_sessions(id);
            }
        }
    }

    /// Writes down when to look at a peer again.
    fn schedule(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let exact = control
            .timers
            .next(&control.peer.activity)
            .map(|(time, _)| time);
        // Workers may make a deadline at any time, but none nearer than this.
        let look = control
            .peer
            .has_session(now)
            .then_some(now + KEEPALIVE_TIMEOUT);
        let deadline = [exact, look].into_iter().flatten().min();
        if let Some(old) = control.deadline {
            self.deadlines.remove(&(old, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        control.deadline = deadline;
    }

    /// Forgets all sessions of a peer (§6.3).
    fn wipe_sessions(&mut self, id: PeerId) {
        let Some(control) = self.peers.get(&id) else {
            return;
        };
        let sessions = control.peer.take_sessions();
        self.end_sessions(&sessions);
    }

    // ---- sending -----------------------------------------------------------------------

    /// Sends a handshake message to where the peer is.
    fn send(&mut self, peer: &Peer, payload: Vec<u8>, now: Time) {
        if let Some(endpoint) = peer.endpoint() {
            peer.activity.sent(now, payload.len() as u64, false);
            self.transmits.push_back(Transmit { endpoint, payload });
        }
    }

    /// Seals and sends what waited for a session; how many packets that were.
    fn flush_staged(&mut self, id: PeerId, now: Time) -> usize {
        let Some(control) = self.peers.get(&id) else {
            return 0;
        };
        let peer = Arc::clone(&control.peer);
        let Some(session) = peer.sending_session(now) else {
            return 0;
        };
        let packets = peer.take_staged();
        let mut sent = 0;
        for packet in &packets {
            sent += usize::from(self.send_data(&peer, &session, packet, now));
        }
        sent
    }

    /// Sends an empty packet; false when there is no session to send it on.
    fn send_keepalive(&mut self, id: PeerId, now: Time) -> bool {
        let Some(control) = self.peers.get(&id) else {
            return false;
        };
        let peer = Arc::clone(&control.peer);
        let Some(session) = peer.sending_session(now) else {
            return false;
        };
        self.send_data(&peer, &session, &[], now)
    }

    fn send_data(&mut self, peer: &Peer, session: &Session, packet: &[u8], now: Time) -> bool {
        let (Some(endpoint), Some(counter)) = (peer.endpoint(), session.reserve(1)) else {
            return false;
        };
        let mut payload = vec![0; packet.len() + PADDING + DATA_OVERHEAD];
        payload[16..16 + packet.len()].copy_from_slice(packet);
        let mtu = self.tunnel.mtu();
        let Some(len) = seal(session, counter, &mut payload, packet.len(), mtu) else {
            return false;
        };
        payload.truncate(len);
        peer.activity.sent(now, len as u64, !packet.is_empty());
        self.transmits.push_back(Transmit { endpoint, payload });
        if session.renew_on_send(now) {
            self.want_handshake(peer.id(), now);
        }
        true
    }

    // ---- small things ------------------------------------------------------------------

    /// A random index that nobody uses (§5.4), but for the bits that name the peer's worker;
    /// whoever uses it tells of its birth.
    fn unused_index(&mut self, peer: PeerId) -> u32 {
        let tables = self.tunnel.tables();
        let worker = peer.0 % self.workers;
        loop {
            let index = steering::index_of(worker, self.workers, self.rng.next_u32());
            if !self.initiations.contains_key(&index) && !tables.sessions.contains_key(&index) {
                return index;
            }
        }
    }

    fn random_private_key(&mut self) -> PrivateKey {
        let mut bytes = zeroize::Zeroizing::new([0; KEY_LEN]);
        self.rng.fill_bytes(&mut *bytes);
        PrivateKey::from_bytes(*bytes)
    }

    fn random_jitter(&mut self) -> Duration {
        let most = REKEY_TIMEOUT_JITTER.as_nanos() as u64;
        Duration::from_nanos(self.rng.next_u64() % most)
    }
}
