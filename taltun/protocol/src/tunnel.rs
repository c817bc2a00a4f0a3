//! What workers and the controller share: the tables that packets are looked up in, and what
//! workers have to tell. What is done with packets is a [`Batch`](super::batch::Batch)'s.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::allowed_ips::AllowedIps;
use super::control_message::Heard;
use super::cookie::Checker;
use super::hub_message::HubMessage;
use super::ip;
use super::misrouted::{Misrouted, SendsHere};
use super::peer::{FleetPart, Moved, Peer, PeerId, WorkerRequest};
use super::requests::Requests;
use super::session::Session;
use super::staged::Staged;
use super::time::Time;

/// Most peers remembered at once that changed our local address, or came back to their earlier
/// endpoint.
const MOST_MOVED: usize = 4096;
/// Most control messages that wait for the controller.
const MOST_HEARD: usize = 1024;
/// Most messages of hubs that do.
const MOST_OF_HUBS: usize = 1024;
/// Most peers of other hubs that do.
const MOST_SENDING_HERE: usize = 1024;

/// What the workers share with the controller.
#[derive(Debug)]
pub struct Tunnel {
    tables: RwLock<Tables>,
    mtu: AtomicUsize,
    /// The UDP port that our datagrams leave from; 0 while it isn't known.
    listen_port: AtomicU16,
    requests: Requests<PeerId>,
    /// Control messages for the controller.
    heard: Mutex<Vec<Heard>>,
    /// Messages of other hubs for it.
    of_hubs: Mutex<Vec<HubMessage>>,
    /// Peers of other hubs that send here.
    sending_here: Mutex<Vec<SendsHere>>,
    pub(super) staged: Arc<Mutex<Staged>>,
    /// Peers that changed our local address.
    moved: Mutex<Vec<PeerId>>,
    /// Peers that came back to their earlier endpoint.
    returned: Mutex<Vec<PeerId>>,
    /// Whether any peer came, went, or is elsewhere.
    places_changed: AtomicBool,
    /// Peers that are elsewhere: came, were moved, or moved by themselves.
    elsewhere: Mutex<Elsewhere>,
}

/// Peers that are at another outer address than before.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    pub peers: Vec<PeerId>,
    /// More than these: any may be.
    pub more: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Who owns which inner addresses.
    pub routes: AllowedIps<Arc<Peer>>,
    /// Peer and session of each receiver index that we gave out.
    pub sessions: HashMap<u32, (Arc<Peer>, Arc<Session>)>,
    /// Whose initiation in flight has this index.
    pub initiations: HashMap<u32, PeerId>,
    /// What handshake messages to us have to show.
    pub checker: Option<Checker>,
    /// Our own inner addresses: never relayed.
    pub local: Vec<IpAddr>,
    /// All addresses of this host, sorted: no peer speaks as one of them.
    pub own: Vec<IpAddr>,
    /// What the host reaches otherwise than through the tunnel.
    pub foreign: AllowedIps<()>,
    /// Whether packets for another peer are relayed to it.
    pub relay: bool,
    /// The other hubs, which may pass on what peers send.
    pub hubs: Vec<Arc<Peer>>,
    /// Data of other hubs' sessions.
    pub misrouted: Misrouted,
}

impl Tables {
    /// Whether no peer may send from this address although it may own it, as behind a default
    /// route: ours, and those that no host has.
    pub fn is_never_a_peer(&self, source: IpAddr) -> bool {
        ip::is_no_hosts(source)
            || self.local.contains(&source)
            || self.own.binary_search(&source).is_ok()
    }

    /// Whether a peer's packets may have this source: it owns the address, and no host but its can
    /// have it.
    pub fn may_send_from(&self, peer: &Arc<Peer>, source: IpAddr) -> bool {
        let owns = self.routes.lookup(source).is_some_and(|owner| {
            Arc::ptr_eq(owner.value, peer) && owner.prefix_len >= ip::least_prefix(source)
        });
        owns && !self.is_never_a_peer(source)
    }

    /// Whether another hub may bring a packet from this source: that of a hub, or of a peer that all
    /// hubs have, wherever it is at home by what we know so far. The other hub has checked that the
    /// peer may send from there.
    pub fn may_bring(&self, source: IpAddr) -> bool {
        let brought = self.routes.lookup(source).is_some_and(|owner| {
            owner.value.fleet_part() != FleetPart::None
                && owner.prefix_len >= ip::least_prefix(source)
        });
        brought && !self.is_never_a_peer(source)
    }

    /// Whether this destination is another hub's, or that of a peer at home there, which doesn't
    /// listen to us any more.
    pub fn is_behind_hub(&self, destination: IpAddr, now: Time) -> bool {
        !self.local.contains(&destination)
            && self
                .routes
                .lookup(destination)
                .is_some_and(|owner| match owner.value.fleet_part() {
                    FleetPart::Hub => true,
                    FleetPart::Away => !owner.value.still_listens(now),
                    FleetPart::None | FleetPart::Peer => false,
                })
    }

    /// Whether another hub passed on what came from there and is this peer's: it says nothing of where the
    /// peer is.
    pub fn is_passed_on(&self, peer: &Peer, from: SocketAddr) -> bool {
        let is_there = |hub: &Arc<Peer>| hub.endpoint().is_some_and(|at| at.remote == from);
        matches!(peer.fleet_part(), FleetPart::Peer | FleetPart::Away)
            && self.hubs.iter().any(is_there)
    }

    /// Whether a packet from `source` should go straight to another peer. Never our own
    /// addresses; not to a default route, behind which is the operating system's choice, not
    /// a peer's network; and not where the operating system knows a network of its own that
    /// is at least as narrow as the peer's.
    pub fn goes_to_another_peer(&self, source: &Arc<Peer>, destination: IpAddr) -> bool {
        self.relay
            && !self.local.contains(&destination)
            && self.routes.lookup(destination).is_some_and(|owner| {
                owner.prefix_len > 0
                    && !Arc::ptr_eq(owner.value, source)
                    && self
                        .foreign
                        .lookup(destination)
                        .is_none_or(|foreign| foreign.prefix_len < owner.prefix_len)
            })
    }
}

impl Tunnel {
    pub(super) fn new(mtu: u16) -> Self {
        Self {
            tables: RwLock::default(),
            mtu: AtomicUsize::new(usize::from(mtu)),
            listen_port: AtomicU16::new(0),
            requests: Requests::default(),
            heard: Mutex::default(),
            of_hubs: Mutex::default(),
            sending_here: Mutex::default(),
            staged: Arc::default(),
            moved: Mutex::default(),
            returned: Mutex::default(),
            places_changed: AtomicBool::new(false),
            elsewhere: Mutex::default(),
        }
    }

    /// Whether workers asked something of the controller since this was last called. A
    /// worker calls it after a batch and wakes the controller on true.
    pub fn take_wake(&self) -> bool {
        self.requests.take_wake()
    }

    /// Changes the MTU that padding is held to.
    pub fn set_mtu(&self, mtu: u16) {
        self.mtu.store(usize::from(mtu), Ordering::Relaxed);
    }

    /// Says which UDP port our datagrams leave from, so that one of them which is routed
    /// into the tunnel itself is recognised.
    pub fn set_listen_port(&self, port: u16) {
        self.listen_port.store(port, Ordering::Relaxed);
    }

    /// The port of [`set_listen_port`](Self::set_listen_port).
    pub fn listen_port(&self) -> u16 {
        self.listen_port.load(Ordering::Relaxed)
    }

    /// The MTU that padding is held to.
    pub fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Whose an inner address is, and by how long a prefix.
    pub fn owner(&self, address: IpAddr) -> Option<(u8, PeerId)> {
        let tables = self.tables();
        let found = tables.routes.lookup(address)?;
        Some((found.prefix_len, found.value.id()))
    }

    /// All peers with a prefix that covers an inner address, each with the prefix's length.
    pub fn owners(&self, address: IpAddr) -> Vec<(u8, PeerId)> {
        let tables = self.tables();
        let covering = tables.routes.covering(address);
        covering.map(|(length, peer)| (length, peer.id())).collect()
    }

    pub(super) fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_requests(&self) -> Vec<PeerId> {
        self.requests.take()
    }

    /// A worker asks something of the controller.
    pub(super) fn request(&self, peer: &Peer, request: WorkerRequest) {
        if peer.add_request(request) {
            self.requests.push(peer.id());
        }
    }

    /// Keeps a control message for the controller; false if too many wait.
    pub(super) fn hear(&self, heard: Heard) -> bool {
        let mut all = self.lock_heard();
        if all.len() >= MOST_HEARD {
            return false;
        }
        all.push(heard);
        self.requests.note();
        true
    }

    /// The control messages that workers received.
    pub(super) fn take_heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.lock_heard())
    }

    /// Keeps a message of another hub for the controller; false if too many wait.
    pub(super) fn hear_hub(&self, message: HubMessage) -> bool {
        let mut all = self.lock_of_hubs();
        if all.len() >= MOST_OF_HUBS {
            return false;
        }
        all.push(message);
        self.requests.note();
        true
    }

    /// Remembers for the controller that a peer of another hub sends here.
    pub(super) fn note_sending_here(&self, it: SendsHere) {
        let mut all = self.lock_sending_here();
        // One that doesn't fit is told of when it sends again.
        if all.len() < MOST_SENDING_HERE {
            all.push(it);
            self.requests.note();
        }
    }

    /// The peers of other hubs that send here, as far as they weren't told of before.
    pub fn take_sending_here(&self) -> Vec<SendsHere> {
        std::mem::take(&mut *self.lock_sending_here())
    }

    fn lock_sending_here(&self) -> MutexGuard<'_, Vec<SendsHere>> {
        let locked = self.sending_here.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages of other hubs that workers received.
    pub fn take_of_hubs(&self) -> Vec<HubMessage> {
        std::mem::take(&mut *self.lock_of_hubs())
    }

    fn lock_of_hubs(&self) -> MutexGuard<'_, Vec<HubMessage>> {
        self.of_hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_heard(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a worker does that saw no session a moment ago.
    #[cfg(test)]
    pub(super) fn stage_for_test(&self, peer: &Peer, packet: &[u8]) {
        peer.stage(packet);
        self.request(peer, WorkerRequest::Handshake);
    }

    /// Remembers what is different about where a peer's message came from.
    pub(super) fn note_roam(&self, peer: &Peer, moved: Moved) {
        if moved.elsewhere {
            self.note_place(peer.id());
        }
        if moved.ours {
            note(&self.moved, peer.id());
        }
        if moved.back {
            note(&self.returned, peer.id());
        }
    }

    /// The peers that came back to where they were, since this was last asked.
    pub(super) fn take_returned(&self) -> Vec<PeerId> {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *returned)
    }

    /// The peers that changed our local address since the last call.
    pub(super) fn take_moved(&self) -> Vec<PeerId> {
        std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A peer came, went, or is elsewhere.
    pub(super) fn note_place(&self, peer: PeerId) {
        self.places_changed.store(true, Ordering::Release);
        let mut elsewhere = self.lock_elsewhere();
        if elsewhere.peers.len() >= MOST_MOVED {
            elsewhere.more = true;
        } else if elsewhere.peers.last() != Some(&peer) {
            elsewhere.peers.push(peer);
        }
    }

    /// The peers that came, went, or are elsewhere since this was last asked.
    pub(super) fn take_elsewhere(&self) -> Elsewhere {
        std::mem::take(&mut *self.lock_elsewhere())
    }

    fn lock_elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        self.elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any of that happened since this was last asked.
    pub fn take_places_changed(&self) -> bool {
        self.places_changed.load(Ordering::Relaxed)
            && self.places_changed.swap(false, Ordering::AcqRel)
    }
}

fn note(peers: &Mutex<Vec<PeerId>>, peer: PeerId) {
    let mut peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
    // A peer that doesn't fit waits for the next time.
    if peers.len() < MOST_MOVED && peers.last() != Some(&peer) {
        peers.push(peer);
    }
}
