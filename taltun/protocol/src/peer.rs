//! A peer, as far as workers may touch it: sessions in transition, endpoint, activity and
//! packets that wait for a handshake.
//!
//! | file | concern |
//! |---|---|
//! | `activity` | when packets came and went, and how many |
//! | `handling` | what is done with its packets besides, and what it is in a fleet |
//! | `sessions` | the session that seals, and those that still open what is on its way |
//!
//! Everything here is shared between the controller and the workers. Workers come here once
//! a run of packets of one peer, not once a packet. What only the controller knows of a
//! peer (handshake state, timers, cookies) is in [`super::device`].

mod activity;
mod handling;
mod sessions;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taltun_common::bucket::Rate;

use super::at::At;
pub use super::endpoint::{Endpoint, Local, PeerId};
use super::messages::REKEY_TIMEOUT;
use super::place::Place;
use super::randomness::Randomness;
use super::requests::Asked;
use super::session::{Role, Session};
use super::staged::Staged;
use super::time::Time;
use taltun_crypto::PublicKey;

pub(super) use activity::{Activity, Amount};
pub use handling::{FleetPart, Handling};

use activity::read_time;
use sessions::Sessions;

/// A peer that went back and forth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// How often it came back to where it had been before its last move.
    pub returns: u32,
    /// Where it is, and where it was before.
    pub between: [SocketAddr; 2],
}

/// What is different about where a message came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is for somebody else to follow"
)]
pub(super) struct Moved {
    /// The peer was known to be at another address or port.
    pub(super) theirs: bool,
    /// It changed our local address.
    pub(super) ours: bool,
    /// It is at an address or port where it wasn't known to be, if it was known at all.
    pub(super) elsewhere: bool,
    /// That is where it was before it moved the last time.
    pub(super) back: bool,
}

/// What a worker asks of the controller for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WorkerRequest {
    /// There is something to send and no session, or the session needs a successor.
    Handshake = 1,
    /// A session was confirmed: send what was staged.
    Flush = 2,
    /// The peer is somewhere else now.
    Moved = 4,
    /// Data went either way, for the first time in a while.
    Used = 8,
}

/// Control messages that one peer may send a second, and at once.
const CONTROL_RATE: Rate = Rate::with_burst(100, 200);

/// All that workers asked for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a request of its own"
)]
pub(super) struct WorkerRequests {
    pub(super) handshake: bool,
    pub(super) flush: bool,
    pub(super) moved: bool,
    pub(super) used: bool,
}

/// A peer's shared half.
#[derive(Debug)]
pub struct Peer {
    id: PeerId,
    public_key: PublicKey,
    /// Whether its public key is below ours: see [`Self::settle_on`].
    precedes_us: bool,
    sessions: Mutex<Sessions>,
    at: Mutex<At>,
    /// Where it was before, if it has moved.
    left: Mutex<Option<SocketAddr>>,
    /// How often it moved to where it had been before.
    returns: AtomicU32,
    /// What waits for sessions of all peers.
    staged: Arc<Mutex<Staged>>,
    requests: Asked,
    /// Neither does it get a session, nor does anything wait for one.
    refused: AtomicBool,
    /// The bits of its [`Handling`].
    handling: AtomicU8,
    /// Its [`FleetPart`].
    fleet_part: AtomicU8,
    /// The hub where it is at home, if that isn't this one.
    home: Mutex<Option<Arc<Self>>>,
    /// Whether that hub took it over in good order, so that what we send it on the session it had here comes
    /// from where it is used to and doesn't lead it back.
    handed_over: AtomicBool,
    /// When it may send as many control messages at once again as it ever may, in nanoseconds.
    control_full_at: Mutex<u64>,
    /// When packets came and went.
    pub(super) activity: Activity,
}

impl Peer {
    pub(super) fn new(
        id: PeerId,
        public_key: PublicKey,
        precedes_us: bool,
        endpoint: Option<Endpoint>,
        staged: Arc<Mutex<Staged>>,
    ) -> Self {
        Self {
            id,
            public_key,
            precedes_us,
            sessions: Mutex::default(),
            at: Mutex::new(At::new(endpoint)),
            left: Mutex::default(),
            returns: AtomicU32::new(0),
            staged,
            requests: Asked::default(),
            refused: AtomicBool::new(false),
            handling: AtomicU8::new(0),
            fleet_part: AtomicU8::new(FleetPart::None as u8),
            home: Mutex::default(),
            handed_over: AtomicBool::new(false),
            control_full_at: Mutex::default(),
            activity: Activity::default(),
        }
    }

    /// Its name inside the device.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Who it is.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// What is done with its packets besides.
    pub fn handling(&self) -> Handling {
        Handling::of(self.handling.load(Ordering::Relaxed))
    }

    /// From the next batch on, this is done with its packets besides.
    pub fn set_handling(&self, handling: Handling) {
        self.handling.store(handling.bits(), Ordering::Relaxed);
    }

    /// What it is in the fleet.
    #[inline]
    pub fn fleet_part(&self) -> FleetPart {
        FleetPart::of(self.fleet_part.load(Ordering::Relaxed))
    }

    /// From the next batch on, this is what it is in the fleet. It is at home here.
    pub fn set_fleet_part(&self, part: FleetPart) {
        self.fleet_part.store(part as u8, Ordering::Relaxed);
        *lock(&self.home) = None;
    }

    /// From the next batch on, what is for it goes to that hub. Where the peer was `handed_over`, it goes on the
    /// session that the peer has here, as long as there is one, if a third hub brings it.
    pub fn set_home(&self, hub: Arc<Self>, handed_over: bool) {
        *lock(&self.home) = Some(hub);
        self.handed_over.store(handed_over, Ordering::Relaxed);
        self.fleet_part
            .store(FleetPart::Away as u8, Ordering::Relaxed);
    }

    /// The hub where it is at home, if that isn't this one.
    #[inline]
    pub fn home(&self) -> Option<Arc<Self>> {
        if self.fleet_part() != FleetPart::Away {
            return None;
        }
        lock(&self.home).clone()
    }

    /// Whether it is at home at another hub since a moment ago, and still takes what comes on the session
    /// that it has here.
    pub(super) fn still_listens(&self, now: Time) -> bool {
        self.fleet_part() == FleetPart::Away
            && self.handed_over.load(Ordering::Relaxed)
            && self.sending_session(now).is_some()
    }

    /// Whether it is another hub.
    #[inline]
    pub fn is_hub(&self) -> bool {
        self.fleet_part() == FleetPart::Hub
    }

    /// Where it is, if that is known.
    pub fn endpoint(&self) -> Option<Endpoint> {
        lock(&self.at).endpoint
    }

    /// Where a batch of packets for it goes: to where it is, at the next port where each batch
    /// goes to another one.
    pub(super) fn next_endpoint(&self) -> Option<Endpoint> {
        lock(&self.at).next()
    }

    /// From now on we choose where among these places it is, and it moves only to others. Each
    /// batch goes to one of `ports`, if there are any. While where it is `works`, it doesn't move to other
    /// ports of their addresses either.
    pub(super) fn choose_among(
        &self,
        places: &[Place],
        ports: &[u16],
        works: bool,
        random: &mut Randomness,
    ) {
        lock(&self.at).choose_among(places, ports, works, random);
    }

    /// It is where it says, as any peer.
    pub(super) fn choose_freely(&self) {
        lock(&self.at).choose_freely();
    }

    /// Bytes of authenticated messages received, handshakes and keepalives included.
    pub fn rx_bytes(&self) -> u64 {
        self.activity.rx_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of transport messages received, keepalives included: while they grow, a session
    /// works.
    pub fn rx_transport_bytes(&self) -> u64 {
        let handshakes = self.activity.rx_handshake_bytes.load(Ordering::Relaxed);
        self.rx_bytes().saturating_sub(handshakes)
    }

    /// Bytes of messages sent, handshakes and keepalives included.
    pub fn tx_bytes(&self) -> u64 {
        self.activity.tx_bytes.load(Ordering::Relaxed)
    }

    /// Authenticated messages received, of any kind.
    pub fn rx_packets(&self) -> u64 {
        self.activity.rx_packets.load(Ordering::Relaxed)
    }

    /// Messages sent, of any kind.
    pub fn tx_packets(&self) -> u64 {
        self.activity.tx_packets.load(Ordering::Relaxed)
    }

    /// Whether there is no session with it, and none is made: see
    /// [`super::device::Device::set_refused`].
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn set_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// When the last handshake was completed, as who we are now.
    pub fn last_handshake(&self) -> Option<Time> {
        read_time(&self.activity.last_handshake)
    }

    /// When it was last heard: a handshake or anything within a session that it led to.
    pub fn last_heard(&self) -> Option<Time> {
        let handshake = self.last_handshake()?;
        self.activity.last_received().max(Some(handshake))
    }

    /// Whether it said anything on a session since the last handshake.
    pub fn has_spoken(&self) -> bool {
        let last = self.activity.last_received();
        last.is_some() && last >= self.last_handshake()
    }

    /// Handshakes completed since the start.
    pub fn handshakes(&self) -> u64 {
        self.activity.handshakes.load(Ordering::Relaxed)
    }

    /// Between which places it went back and forth, and how often; `None` if it never did.
    pub fn turns(&self) -> Option<Turns> {
        let returns = self.returns.load(Ordering::Relaxed);
        let (endpoint, left) = (self.endpoint()?, (*lock(&self.left))?);
        (returns > 0).then_some(Turns {
            returns,
            between: [endpoint.remote, left],
        })
    }

    /// Moves the peer to where an authenticated message came from (§2.1). One that `hops` may come
    /// from another port each time, by a NAT that has a mapping for each port of ours: that is
    /// nothing to tell of.
    pub(super) fn roam(&self, to: Endpoint, hops: bool) -> Moved {
        self.move_to(to, hops, At::is_chosen_among)
    }

    /// The same for data, by which no peer moves that is known to be reached at another port.
    pub(super) fn speak_from(&self, from: Endpoint, hops: bool) -> Moved {
        let stays = |at: &At, to| at.is_chosen_among(to) || at.is_needless(to);
        self.move_to(from, hops, stays)
    }

    fn move_to(&self, to: Endpoint, hops: bool, stays: fn(&At, SocketAddr) -> bool) -> Moved {
        let mut at = lock(&self.at);
        if at.endpoint == Some(to) {
            return Moved::default();
        }
        if stays(&at, to.remote)
            && let Some(used) = at.endpoint.as_mut()
        {
            // An answer to where we sent before, on its way since, or from another port than ours.
            let is_same = used.remote.ip() == to.remote.ip();
            let ours = is_same && used.local != to.local;
            if ours {
                used.local = to.local;
            }
            return Moved {
                ours,
                ..Moved::default()
            };
        }
        let before = at.endpoint.replace(to);
        let left = before.map(|left| left.remote);
        let mut back = false;
        let is_hop = hops && left.is_some_and(|left| left.ip() == to.remote.ip());
        if left != Some(to.remote) && !is_hop {
            let before = std::mem::replace(&mut *lock(&self.left), left);
            if before == Some(to.remote) {
                back = true;
                self.returns.fetch_add(1, Ordering::Relaxed);
            }
        }
        Moved {
            theirs: !is_hop && left.is_some_and(|left| left != to.remote),
            ours: before.and_then(|before| before.local) != to.local,
            elsewhere: left != Some(to.remote),
            back,
        }
    }

    pub(super) fn set_endpoint(&self, to: Option<Endpoint>) {
        lock(&self.at).endpoint = to;
    }

    /// Forgets which of our addresses the peer used: after silence it may be gone.
    pub(super) fn forget_local_address(&self) {
        if let Some(endpoint) = lock(&self.at).endpoint.as_mut() {
            endpoint.local = None;
        }
    }

    /// The session that seals now.
    pub(super) fn sending_session(&self, now: Time) -> Option<Arc<Session>> {
        lock(&self.sessions)
            .current
            .as_ref()
            .filter(|session| session.may_send(now))
            .cloned()
    }

    /// Takes in a new session.
    pub(super) fn begin(&self, session: Arc<Session>, role: Role) {
        lock(&self.sessions).begin(session, role);
    }

    /// Data arrived on a session made as responder: it becomes current (§6.3). True for
    /// the caller that made it so.
    pub(super) fn confirm(&self, session: &Arc<Session>, now: Time) -> bool {
        let mut sessions = lock(&self.sessions);
        if session.is_confirmed() {
            return false;
        }
        session.confirm();
        sessions.promote(session);
        self.activity.handshake_completed(now);
        true
    }

    /// Data arrived on `session`. When two initiations crossed, each side first seals on the
    /// session that it initiated itself; then both would renew at the same age, cross again,
    /// and retire what the other still seals on. So both settle on the session whose
    /// initiator has the smaller public key. That is safe with any peer: who sends on a
    /// session also opens on it.
    pub(super) fn settle_on(&self, session: &Arc<Session>, now: Time) {
        if session.age(now) >= 2 * REKEY_TIMEOUT {
            return;
        }
        let initiator_precedes = match session.role() {
            Role::Initiator => !self.precedes_us,
            Role::Responder => self.precedes_us,
        };
        if !initiator_precedes {
            return;
        }
        let mut sessions = lock(&self.sessions);
        let Sessions { older, current, .. } = &mut *sessions;
        if let Some(current) = current
            && let Some(old) = older.iter_mut().find(|old| Arc::ptr_eq(old, session))
            && old.crossed(current)
        {
            std::mem::swap(old, current);
        }
    }

    /// Whether a handshake that we answered still waits for the peer's first data.
    pub(super) fn awaits_confirmation(&self) -> bool {
        lock(&self.sessions).next.is_some()
    }

    /// Takes the sessions that are no longer used.
    pub(super) fn take_retired(&self) -> Vec<Arc<Session>> {
        std::mem::take(&mut lock(&self.sessions).retired)
    }

    /// Takes all sessions away, to be wiped.
    pub(super) fn take_sessions(&self) -> Vec<Arc<Session>> {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        sessions.all().chain(&sessions.retired).cloned().collect()
    }

    /// Whether any session is there that a worker could still use.
    pub(super) fn has_session(&self, now: Time) -> bool {
        lock(&self.sessions)
            .all()
            .any(|session| session.may_receive(now))
    }

    /// Keeps a packet until there is a session; how many older ones, of any peer, had to go
    /// for it.
    pub(super) fn stage(&self, packet: &[u8]) -> usize {
        lock(&self.staged).push(self.id, packet)
    }

    pub(super) fn take_staged(&self) -> Vec<Vec<u8>> {
        lock(&self.staged).take(self.id)
    }

    /// Whether it may send one more control message now.
    pub(super) fn may_control(&self, now: Time) -> bool {
        CONTROL_RATE.take(&mut lock(&self.control_full_at), now.as_nanos())
    }

    /// Adds a request; true when there was none before.
    pub(super) fn add_request(&self, request: WorkerRequest) -> bool {
        self.requests.add(request as u8)
    }

    /// Takes all requests.
    pub(super) fn take_requests(&self) -> WorkerRequests {
        let requests = self.requests.take();
        let has = |request| requests & request as u8 != 0;
        WorkerRequests {
            handshake: has(WorkerRequest::Handshake),
            flush: has(WorkerRequest::Flush),
            moved: has(WorkerRequest::Moved),
            used: has(WorkerRequest::Used),
        }
    }

    /// Forgets how it came to be where it is; whether anything else was asked for it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn forget_moves(&self) -> bool {
        self.returns.store(0, Ordering::Relaxed);
        *lock(&self.left) = None;
        self.requests.forget(WorkerRequest::Moved as u8) != 0
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn current_session(&self) -> Option<Arc<Session>> {
        lock(&self.sessions).current.clone()
    }
}

impl Drop for Peer {
    /// A worker may have staged a packet after the controller forgot the peer.
    fn drop(&mut self) {
        self.take_staged();
    }
}

/// A panic elsewhere must not stop the tunnel: none of these values can be left half-made.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
