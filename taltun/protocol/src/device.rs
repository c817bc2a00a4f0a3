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
//! | file | concern |
//! |---|---|
//! | this one | what it is made of, what happens when, timers |
//! | `peers` | mutators |
//! | `control` | control messages: hellos, and answers to what peers ask |
//! | `hubs` | other hubs, which we know by keys of their own |
//! | `handshakes` | their messages, and the sessions and indices that result |
//! | `owned` | which peer owns which inner addresses |
//! | `path_choice` | how paths are chosen among, and what is told of them |
//! | `paths`, `path` | probes, the path to a peer that is used, and hops from port to port |
//! | `places` | peers that may be at several addresses or ports |
//! | `ports` | the ports of one path that were asked lately |
//! | `probe_queue` | probes that wait, as no two may be under way to one address |
//! | `sending` | what the controller itself sends |
//! | `whereabouts` | peers by their outer address |
//!
//! Workers share its [`Tunnel`] and set deadlines by sealing and opening. All of these lie at
//! least [`KEEPALIVE_TIMEOUT`] ahead. So looking that often at each peer with a session misses no
//! deadline, and no worker ever has to wake the device for a timer.

mod control;
mod handshakes;
mod hubs;
#[cfg(test)]
mod many;
mod owned;
mod path;
mod path_choice;
mod paths;
mod peers;
mod places;
mod ports;
mod probe_queue;
mod sending;
mod whereabouts;

pub use super::place::Place;
pub use path_choice::{HopSettings, PathChange, PathReport, PathState, Why};
pub use places::MOST_PLACES;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::drops::DropReason;

use super::cookie::{Checker, Sealer};
use super::messages::{KEEPALIVE_TIMEOUT, Message};
use super::noise::{Identity, Initiator};
use super::peer::{Endpoint, Peer, PeerId, WorkerRequests};
use super::randomness::Randomness;
use super::ratelimiter::RateLimiter;
use super::tai64n::Tai64n;
use super::time::Time;
use super::timers::{Due, Timers};
use super::tunnel::Tunnel;
use super::wipe;
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey, SharedSecret};

/// What a device is made of.
#[derive(Debug)]
pub struct Settings {
    /// Our static private key.
    pub private_key: PrivateKey,
    /// The only source of randomness.
    pub randomness: Randomness,
    /// Wall-clock time, since the Unix epoch, at which [`Time`] was zero, until
    /// [`Device::set_wall_clock`] says better.
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

/// By which keys another hub and we know each other, where hubs share the key that their peers know.
///
/// As a responder each hub is who its peers know, so that programs in front of it need to know one key.
/// As an initiator it is itself: by that key the other hub tells who it is. The preshared key is made of
/// both hubs' own keys, so that no third hub with the shared one can answer in the other's place.
#[derive(Debug, Clone)]
pub struct HubKeys {
    /// Our own private key, of which the other hub knows the public one.
    pub own: PrivateKey,
    /// What the other hub's peers know it by.
    pub answers_as: PublicKey,
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
    /// Gives a prefix to a peer, taking it from the earlier owner of exactly this one.
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
    /// The traffic class of its header; see [`super::ecn`].
    pub class: u8,
}

/// What happened, for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// From now on this receiver index is ours; the message that carries it comes next.
    IndexBorn(u32),
    /// A session began under this receiver index of ours.
    SessionBegun {
        /// Ours, which was born before.
        local: u32,
        /// The peer's, which what we send on the session carries.
        remote: u32,
    },
    /// This receiver index is no longer ours, and a session under it is over.
    IndexDied(u32),
    /// A cookie was sent to this address. Its secret may be new: see [`Device::cookie_secret`].
    CookieGiven(IpAddr),
    /// No answer for the whole 90 s of a handshake (§6.4).
    HandshakeGivenUp(PeerId),
    /// A handshake with this peer is complete: both sides have proved that they have the keys.
    HandshakeFinished(PeerId),
    /// An initiation got no answer in time, the nth in a row; another one follows.
    Unanswered(PeerId, u32),
    /// The peer answered from its endpoint, but we can't open the answer: it has another preshared
    /// key.
    AnswerRefused(PeerId),
    /// The peer starts over although we answered: our answer was lost, or it couldn't open it.
    NotConfirmed(PeerId),
    /// The peer's initiation is refused, as it is by so much older than its last one, a minute or
    /// more: its clock went backwards, or somebody plays a recorded one.
    ClockBehind(PeerId, Duration),
    /// The peer moved to another address or port.
    Moved(PeerId),
    /// Data to the peer goes another way.
    PathChanged(PeerId, PathChange),
    /// A sender knows our public key, but its own key is no peer's.
    UnknownKey(PublicKey, SocketAddr),
}

/// Most packets that waited for a handshake in vain and go out by [`Device::poll_given_up`]; each
/// becomes one message to its sender.
const MAX_GIVEN_UP: usize = 64;

/// The control half of WireGuard for one interface.
#[derive(Debug)]
pub struct Device {
    tunnel: Arc<Tunnel>,
    /// Without a private key, a random one that nobody sees.
    identity: Identity,
    has_private_key: bool,
    checker: Checker,
    /// For sources that have proved their address.
    limiter: RateLimiter,
    /// For sources that only claim it, if there is a limit; beyond it they must prove it.
    claimed: Option<RateLimiter>,
    randomness: Randomness,
    /// What the wall clock showed, and when.
    wall_clock: (Duration, Time),
    /// That of the last initiation, to whomever.
    last_timestamp: Tai64n,
    /// Each in a place of its own, that goes with it: a map that moves what is in it leaves copies of
    /// its secrets behind.
    peers: BTreeMap<PeerId, Box<Control>>,
    by_key: HashMap<PublicKey, PeerId>,
    deadlines: BTreeSet<(Time, PeerId)>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    given_up: VecDeque<Vec<u8>>,
    owned: owned::Owned,
    hop: HopSettings,
    whereabouts: whereabouts::Whereabouts,
    /// Keys of peers that were removed.
    forgotten: Vec<PublicKey>,
    next_id: u32,
    /// How many share the work; see [`taltun_common::steering`].
    workers: u32,
}

/// What only the controller knows of a peer.
#[derive(Debug)]
struct Control {
    peer: Arc<Peer>,
    /// Of [`Control::static_static`].
    made_of_static_keys: OnceCell<Option<SharedSecret>>,
    /// Of another hub.
    hub: Option<hubs::Hub>,
    preshared_key: PresharedKey,
    sealer: Sealer,
    timers: Timers,
    /// The initiation in flight and the one it superseded, whose answer may still come. What is
    /// taken out of here leaves nothing of its keys.
    initiations: [Option<Box<InFlight>>; 2],
    places: places::Places,
    paths: paths::Paths,
    hello: control::Hello,
    /// The outer address by which it is found.
    found_at: Option<IpAddr>,
    newest_timestamp: Option<Tai64n>,
    /// Whether it is at home at another hub, so that we don't speak first.
    away: bool,
    last_initiation_received: Option<Time>,
    deadline: Option<Time>,
}

#[derive(Debug)]
struct InFlight {
    index: u32,
    state: Initiator,
}

impl Control {
    /// The secret of both static keys; `None` for a low-order key of the peer's. It is made
    /// when it is first needed: for all peers of a big hub at once it would take seconds.
    fn static_static(&self, identity: &Identity) -> Option<&SharedSecret> {
        self.made_of_static_keys
            .get_or_init(|| identity.static_static(self.peer.public_key()))
            .as_ref()
    }
}

impl Device {
    /// A device without peers.
    pub fn new(settings: Settings) -> Self {
        let identity = Identity::new(settings.private_key);
        let tunnel = Tunnel::new(settings.mtu);
        let checker = Checker::new(identity.public());
        {
            let mut tables = tunnel.tables_mut();
            tables.checker = Some(checker.clone());
            tables.local = settings.local_addresses;
            tables.relay = settings.relay;
        }
        Self {
            tunnel: Arc::new(tunnel),
            checker,
            identity,
            has_private_key: true,
            limiter: RateLimiter::default(),
            claimed: None,
            randomness: settings.randomness,
            wall_clock: (settings.wall_clock_at_zero, Time::START),
            last_timestamp: Tai64n::default(),
            peers: BTreeMap::new(),
            by_key: HashMap::new(),
            deadlines: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            given_up: VecDeque::new(),
            owned: owned::Owned::default(),
            hop: HopSettings::default(),
            whereabouts: whereabouts::Whereabouts::default(),
            forgotten: Vec::new(),
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

    /// What each peer may send from and gets by the workers' table, sorted; peers without any
    /// are left out.
    #[cfg(test)]
    pub(super) fn allowed_ips(&self) -> HashMap<PeerId, Vec<IpNet>> {
        let mut owned: HashMap<PeerId, Vec<IpNet>> = HashMap::new();
        for (net, owner) in self.tunnel.tables().routes.iter() {
            owned.entry(owner.id()).or_default().push(net);
        }
        owned
    }

    /// The key of mac1 in messages to us, for a filter in front of us.
    pub fn mac1_key(&self) -> &[u8; 32] {
        self.checker.mac1_key()
    }

    /// The secret of cookies, for a filter in front of us, and how long from `now` its cookies are
    /// valid; `None` if there is no valid secret.
    pub fn cookie_secret(&self, now: Time) -> Option<(&[u8; 32], Duration)> {
        self.checker.secret(now)
    }

    /// The shared half of the peer with this key.
    pub fn peer(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        Some(&self.peers.get(self.by_key.get(key)?)?.peer)
    }

    /// How many peers there are.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// The public key of the peer with this name, unless it is gone.
    pub fn key_of(&self, id: PeerId) -> Option<&PublicKey> {
        Some(self.peers.get(&id)?.peer.public_key())
    }

    /// The peer with this id, if it is still there.
    pub fn peer_by_id(&self, id: PeerId) -> Option<&Arc<Peer>> {
        Some(&self.peers.get(&id)?.peer)
    }

    /// The peers that changed our local address since the last call.
    pub fn take_moved(&self) -> Vec<PeerId> {
        self.tunnel.take_moved()
    }

    /// The peers that came back to where they were before they moved, since this was last
    /// asked.
    pub fn take_returned(&self) -> Vec<PeerId> {
        self.tunnel.take_returned()
    }

    /// All peers, in the order they were added.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values().map(|control| &control.peer)
    }

    // ---- the wall clock ----------------------------------------------------------------

    /// What the wall clock shows at `now`, as time since the Unix epoch. It goes into the
    /// timestamps of initiations, so say it anew before anything that may send one: a clock
    /// that was wrong and is put right would else stay wrong here. Timestamps never go back,
    /// whatever the clock does.
    pub fn set_wall_clock(&mut self, shown: Duration, now: Time) {
        self.wall_clock = (shown, now);
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
        let mut outcome = Ok(());
        self.handle_handshakes(&[(datagram, from)], under_load, now, |_, of_it| {
            outcome = of_it;
        });
        outcome
    }

    /// Takes several in their order, and says of each how it went. Initiations that follow one
    /// another take less time together.
    pub fn handle_handshakes(
        &mut self,
        messages: &[(&[u8], Endpoint)],
        under_load: bool,
        now: Time,
        outcome: impl FnMut(usize, Result<(), DropReason>),
    ) {
        wipe::after(|| self.handle_each(messages, under_load, now, outcome));
    }

    fn handle_each(
        &mut self,
        messages: &[(&[u8], Endpoint)],
        under_load: bool,
        now: Time,
        mut outcome: impl FnMut(usize, Result<(), DropReason>),
    ) {
        let mut initiations = Vec::new();
        for (at, &(datagram, from)) in messages.iter().enumerate() {
            let message = match Message::parse(datagram) {
                _ if !self.has_private_key => Err(DropReason::Handshake),
                Ok(Message::Initiation(message)) => {
                    let under_load = under_load || self.is_beyond_limit(datagram, from, now);
                    let sender = message.sender.get();
                    match self.admit(datagram, sender, from, under_load, now) {
                        Ok(()) => initiations.push((at, message, from)),
                        Err(reason) => outcome(at, Err(reason)),
                    }
                    if initiations.len() == handshakes::TOGETHER {
                        self.handle_initiations(&initiations, now, &mut outcome);
                        initiations.clear();
                    }
                    continue;
                }
                Ok(message) => Ok(message),
                Err(_) => Err(DropReason::Shape),
            };
            self.handle_initiations(&initiations, now, &mut outcome);
            initiations.clear();
            let of_it = message.and_then(|message| match message {
                Message::Response(message) => self
                    .admit(datagram, message.sender.get(), from, under_load, now)
                    .and_then(|()| self.handle_response(message, from, now)),
                Message::CookieReply(message) => self.handle_cookie_reply(message, now),
                Message::Initiation(_) | Message::Data { .. } => Err(DropReason::Shape),
            });
            outcome(at, of_it);
        }
        self.handle_initiations(&initiations, now, &mut outcome);
    }

    /// Does what workers asked for since the last call.
    pub fn handle_requests(&mut self, now: Time) {
        let requests = self.tunnel.take_requests();
        for heard in self.tunnel.take_heard() {
            self.handle_control(&heard, now);
        }
        for id in requests {
            let Some(control) = self.peers.get(&id) else {
                continue;
            };
            let WorkerRequests {
                handshake,
                flush,
                moved,
                used,
            } = control.peer.take_requests();
            if moved {
                self.events.push_back(Event::Moved(id));
            }
            if flush {
                self.events.push_back(Event::HandshakeFinished(id));
                // The first data on a session proves that its handshake is finished: our own
                // initiation that is still in flight is now pointless.
                let retired = control.peer.take_retired();
                self.settle_handshake(id);
                if let Some(control) = self.peers.get_mut(&id) {
                    control.places.answered();
                }
                self.end_sessions(&retired);
                self.begin_hello(id, now);
            }
            // Also where a handshake is asked for: a session may have come up since, and
            // the worker that didn't see it yet has staged its packet too late for it.
            let flushed = self.flush_staged(id, now);
            if used || flushed > 0 {
                self.follow_paths(id, now);
            }
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
            if self.is_copy_due(id, now) {
                self.send_copy(id, now);
            }
            if self.is_answer_due(id, now) {
                self.speak_first(id, now);
            }
            self.repeat_hello(id, now);
            if self.are_paths_due(id, now) {
                self.follow_paths(id, now);
            }
            self.schedule(id, now);
        }
    }

    // ---- poll --------------------------------------------------------------------------

    /// The next event; to be called until empty, before [`Self::poll_transmit`].
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

    // ---- timers ------------------------------------------------------------------------

    fn due(&self, id: PeerId, now: Time) -> Option<Due> {
        let control = self.peers.get(&id)?;
        let (time, due) = control.timers.next(&control.peer.activity)?;
        (time <= now).then_some(due)
    }

    fn is_copy_due(&self, id: PeerId, now: Time) -> bool {
        let places = self.peers.get(&id).map(|control| &control.places);
        places.is_some_and(|places| places.next_copy_at().is_some_and(|at| at <= now))
    }

    fn is_answer_due(&self, id: PeerId, now: Time) -> bool {
        let places = self.peers.get(&id).map(|control| &control.places);
        places.is_some_and(|places| places.heard_by().is_some_and(|at| at <= now))
    }

    fn are_paths_due(&self, id: PeerId, now: Time) -> bool {
        let paths = self.peers.get(&id).map(|control| &control.paths);
        paths.is_some_and(|paths| paths.next_at().is_some_and(|at| at <= now))
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
                let in_a_row = control.places.unanswered().saturating_add(1);
                self.events.push_back(Event::Unanswered(id, in_a_row));
                if control.try_next_place(self.hop.pool, &mut self.randomness, now) {
                    self.tunnel.note_place(id);
                }
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
        let copy = control.places.next_copy_at();
        let hello = control.hello.next_at();
        let paths = control.paths.next_at();
        let heard = control.places.heard_by();
        let deadline = [exact, look, copy, heard, hello, paths]
            .into_iter()
            .flatten()
            .min();
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
}
