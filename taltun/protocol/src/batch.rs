//! What workers use to seal and open packets.
//!
//! A worker takes a [`Batch`] for the packets it has in hand. The batch holds the tables
//! for reading once, and touches a peer's shared state once a *run*, the neighbours in the
//! batch that belong to one peer. So nothing here locks or asks the time per packet.
//!
//! ```text
//! TUN  ──► Batch::seal  ─────────► UDP      longest prefix → session → seal in place
//! UDP  ──► Batch::open  ──► TUN             index → session → open in place → source check
//!                └────────► Batch::relay ─► UDP      the same buffer, sealed again
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLockReadGuard};

use taltun_common::drops::DropReason;
use taltun_crypto::{PublicKey, TAG_LEN};

use super::control_message::{ControlMessage, Heard, is_control};
use super::cookie::Proof;
use super::ecn;
use super::hub_message::{self, HubMessage, is_hub_message};
use super::ip::{self, Inner};
use super::messages::{DATA_HEADER_LEN, Message, padded_len};
use super::misrouted::{Answer, SendsHere};
use super::nesting::Nesting;
use super::peer::{Amount, Endpoint, Moved, Peer, PeerId, WorkerRequest};
use super::session::Session;
use super::time::Time;
use super::tunnel::{Tables, Tunnel};

/// A packet sealed in place: where its datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of the datagram, from the start of the buffer.
    pub len: usize,
    /// Who gets it.
    pub endpoint: Endpoint,
    /// The hop limit it has to leave with, where it carries a datagram of WireGuard's, so
    /// that a loop of tunnels comes to an end; `None` for the usual one.
    pub hop_limit: Option<u8>,
    /// The traffic class of its header; see [`ecn`].
    pub class: u8,
}

/// Why a packet isn't sealed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSealed {
    /// It was copied and goes out once there is a session.
    Staged {
        /// How many older packets that waited were lost for it.
        displaced: usize,
    },
    /// It has to wait for its turn, as all that goes to its peer: pass it to [`Batch::release`]
    /// then.
    Held {
        /// Whom it is for.
        peer: PeerId,
        /// What [`Batch::release`] takes.
        hop_limit: Option<u8>,
    },
    /// It is lost.
    Dropped(DropReason),
}

/// A data message opened in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// An empty packet: the peer says that it is there.
    Keepalive,
    /// No packet, but a message to the protocol itself; see [`super::control_message`].
    Control,
    /// A packet for us: `inner.len` bytes from [`DATA_HEADER_LEN`] on.
    Local(Inner),
    /// A packet for another peer; pass it to [`Batch::relay`] in the same buffer.
    Relay(Inner),
}

impl Tunnel {
    /// Starts a batch at `now`. Don't start a second one on a thread that still holds one.
    pub fn batch(&self, now: Time) -> Batch<'_> {
        Batch {
            tunnel: self,
            tables: self.tables(),
            now,
            mtu: self.mtu(),
            listen_port: self.listen_port(),
            releases: false,
            inbound: None,
            outbound: None,
        }
    }
}

/// Packets handled together at one point in time. What was learned of each peer is written
/// down when its run ends, the last one when the batch is dropped.
#[derive(Debug)]
pub struct Batch<'t> {
    tunnel: &'t Tunnel,
    tables: RwLockReadGuard<'t, Tables>,
    now: Time,
    mtu: usize,
    listen_port: u16,
    /// Whether what is sealed was held before.
    releases: bool,
    inbound: Option<InboundRun>,
    outbound: Option<OutboundRun>,
}

#[derive(Debug)]
struct InboundRun {
    index: u32,
    peer: Arc<Peer>,
    session: Arc<Session>,
    /// Whether what comes from the peer has to wait for its turn.
    held: bool,
    /// Whether the peer is another hub, which brings what others sent.
    of_hub: bool,
    /// Where the last authenticated packet came from.
    from: Option<Endpoint>,
    amount: Amount,
    data: bool,
}

#[derive(Debug)]
struct OutboundRun {
    /// Whose the packets are.
    owner: Arc<Peer>,
    /// Whom they are sealed for: that peer, or the hub where it is at home.
    peer: Arc<Peer>,
    session: Option<Arc<Session>>,
    endpoint: Option<Endpoint>,
    /// Whether what goes to the peer has to wait for its turn.
    held: bool,
    copies_dscp: bool,
    /// Whether another hub brought them.
    of_hub: bool,
    amount: Amount,
}

/// A packet's counter on its session, and where the packet goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub counter: u64,
    pub message_len: usize,
    endpoint: Endpoint,
    class: u8,
}

impl Reserved {
    /// What to tell of it once it is sealed.
    pub(super) fn sealed(self) -> Sealed {
        Sealed {
            len: self.message_len,
            endpoint: self.endpoint,
            hop_limit: None,
            class: self.class,
        }
    }
}

impl Batch<'_> {
    /// Seals a packet from the TUN for the peer that owns its destination. The packet is
    /// `buffer[16..16 + len]`; the buffer must have room for its padding and 16 bytes of
    /// tag behind it.
    pub fn seal(&mut self, buffer: &mut [u8], len: usize) -> Result<Sealed, NotSealed> {
        let hop_limit = self.enter_for(buffer, len)?;
        with_hop_limit(self.seal_in_run(buffer, len), hop_limit)
    }

    /// Seals a packet that was [`NotSealed::Held`], or whose peer was, now that it may go. It is
    /// where [`Self::seal`] has it.
    pub fn release(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        hop_limit: Option<u8>,
    ) -> Result<Sealed, NotSealed> {
        let packet = buffer.get(DATA_HEADER_LEN..DATA_HEADER_LEN + len);
        let inner = packet.and_then(ip::parse);
        let inner = inner.ok_or(NotSealed::Dropped(DropReason::InnerMalformed))?;
        if !self.enter_outbound(inner.destination, false) {
            return Err(NotSealed::Dropped(DropReason::NoPeer));
        }
        self.releases = true;
        let sealed = self.seal_in_run(buffer, len);
        self.releases = false;
        with_hop_limit(sealed, hop_limit)
    }

    /// Whose packet was opened last, if what comes from that peer has to wait for its turn.
    #[inline]
    pub fn held_sender(&self) -> Option<PeerId> {
        let run = self.inbound.as_ref()?;
        run.held.then(|| run.peer.id())
    }

    /// Whose message was taken in last.
    pub fn sender(&self) -> Option<&Arc<Peer>> {
        self.inbound.as_ref().map(|run| &run.peer)
    }

    /// Whom the last packet was to be sealed for, of which this became; `None` if nobody has its
    /// destination.
    pub fn receiver_of(&self, sealed: &Result<Sealed, NotSealed>) -> Option<&Arc<Peer>> {
        // Of these nobody was looked for, or nobody was found.
        let found = !matches!(
            sealed,
            Err(NotSealed::Dropped(
                DropReason::NoPeer | DropReason::HopLimit | DropReason::InnerMalformed
            ))
        );
        let run = self.outbound.as_ref().filter(|_| found)?;
        Some(&run.peer)
    }

    /// Looks after data of no session of ours, which may be of a peer of another hub: where it is passed on to, if it is.
    #[cold]
    pub fn misrouted(&self, from: Endpoint) -> Option<Endpoint> {
        match self.tables.misrouted.answer(from.remote, self.now) {
            Answer::PassOn(hub) => Some(hub),
            Answer::Tell(peer) => {
                let local = from.local;
                self.tunnel.note_sending_here(SendsHere { peer, local });
                None
            }
            Answer::Nothing => None,
        }
    }

    /// The peer whose session has this index of ours.
    pub fn peer_of(&self, index: u32) -> Option<&Arc<Peer>> {
        let (peer, _) = self.tables.sessions.get(&index)?;
        Some(peer)
    }

    /// Seals a packet that [`Self::open`] called [`Opened::Relay`] again, in its buffer,
    /// for the peer it is meant for.
    pub fn relay(&mut self, buffer: &mut [u8], inner: &Inner) -> Result<Sealed, NotSealed> {
        self.enter_for_relay(buffer, inner)?;
        self.seal_in_run(buffer, inner.len)
    }

    /// What a handshake message proves of its sender, or why it is dropped. It costs less than
    /// half a microsecond, and only senders that know our public key or an index of ours pass.
    /// So it comes before anything that other senders could use up.
    pub fn vet(
        &self,
        message: &Message<'_>,
        datagram: &[u8],
        from: SocketAddr,
    ) -> Result<Proof, DropReason> {
        let is_ours = |index: &u32| {
            self.tables.initiations.contains_key(index) || self.tables.sessions.contains_key(index)
        };
        match message {
            Message::Initiation(_) => {}
            Message::Response(response) if is_ours(&response.receiver.get()) => {}
            // It has no MAC: its cookie is sealed for one message of ours.
            Message::CookieReply(reply) if is_ours(&reply.receiver.get()) => {
                return Ok(Proof::None);
            }
            Message::Response(_) | Message::CookieReply(_) => return Err(DropReason::UnknownIndex),
            Message::Data { .. } => return Err(DropReason::Shape),
        }
        let checker = self.tables.checker.as_ref().ok_or(DropReason::Handshake)?;
        match checker.check(datagram, from, self.now) {
            Proof::None => Err(DropReason::Mac1),
            proof => Ok(proof),
        }
    }

    /// The peer that owns an inner address.
    pub fn owner(&self, address: IpAddr) -> Option<&PublicKey> {
        let (peer, _) = self.peer_behind(address)?;
        Some(peer.public_key())
    }

    /// The same for what the operating system sends there: not where it knows a network of its own
    /// that is at least as narrow.
    pub fn owner_behind_host(&self, address: IpAddr) -> Option<&PublicKey> {
        let owner = self.tables.routes.lookup(address)?;
        let foreign = self.tables.foreign.lookup(address);
        let is_peers = foreign.is_none_or(|foreign| foreign.prefix_len < owner.prefix_len);
        is_peers.then(|| owner.value.public_key())
    }

    /// Whether a peer's packets may have this source.
    pub fn may_send_from(&self, peer: &Arc<Peer>, source: IpAddr) -> bool {
        self.tables.may_send_from(peer, source)
    }

    /// Whether a peer's packet to this destination goes straight to another peer.
    pub fn goes_to_another_peer(&self, source: &Arc<Peer>, destination: IpAddr) -> bool {
        self.tables.goes_to_another_peer(source, destination)
    }

    /// The peer that a packet to this destination is sealed for, and the length of the prefix that
    /// says so.
    pub fn peer_behind(&self, destination: IpAddr) -> Option<(&Arc<Peer>, u8)> {
        let owner = self.tables.routes.lookup(destination)?;
        Some((owner.value, owner.prefix_len))
    }

    /// Opens a data message, whose header said `receiver` and `counter`, and checks that
    /// its inner source belongs to its peer.
    pub fn open(
        &mut self,
        receiver: u32,
        counter: u64,
        message: &mut [u8],
        from: Endpoint,
    ) -> Result<Opened, DropReason> {
        self.enter_inbound(receiver)?;
        let Some(run) = self.inbound.as_mut() else {
            return Err(DropReason::UnknownIndex);
        };
        if !run.session.may_receive(self.now) {
            return Err(DropReason::Expired);
        }
        let bytes = message.len() as u64;
        let packet = run
            .session
            .open(counter, message)
            .map_err(|_| DropReason::Authentication)?;
        self.accept_in_run(counter, bytes, packet, from)
    }

    /// Takes in an authentic message of so many `bytes`, which holds `packet`, padded.
    #[allow(
        clippy::inline_always,
        reason = "else its result is copied for each packet"
    )]
    #[inline(always)]
    pub(super) fn accept_in_run(
        &mut self,
        counter: u64,
        bytes: u64,
        packet: &[u8],
        from: Endpoint,
    ) -> Result<Opened, DropReason> {
        let Some(run) = self.inbound.as_mut() else {
            return Err(DropReason::UnknownIndex);
        };
        if !run.session.accept(counter) {
            return Err(DropReason::Replay);
        }

        // No packet of IP begins so.
        if packet.first() == Some(&0) {
            if is_control(packet) {
                return self.accept_control(bytes, packet, from);
            }
            if is_hub_message(packet) {
                return self.accept_of_hub(bytes, packet);
            }
        }
        // From here on the message is authentic: it counts, confirms and moves its peer,
        // whatever its content is.
        run.from = Some(from);
        run.amount.add(bytes);
        if !run.session.is_confirmed() && run.peer.confirm(&run.session, self.now) {
            self.tunnel.request(&run.peer, WorkerRequest::Flush);
        }
        if run.session.renew_on_receive(self.now) {
            self.tunnel.request(&run.peer, WorkerRequest::Handshake);
        }
        if packet.is_empty() {
            return Ok(Opened::Keepalive);
        }
        run.data = true;
        let inner = ip::parse(packet).ok_or(DropReason::InnerMalformed)?;
        if run.of_hub {
            if !self.tables.may_bring(inner.source) {
                return Err(DropReason::InnerSource);
            }
            // Between hubs there is one hop: a third one would be told by the hub that has the peer.
            if self.tables.is_behind_hub(inner.destination, self.now) {
                return Err(DropReason::HopLimit);
            }
        } else if !self.tables.may_send_from(&run.peer, inner.source) {
            return Err(DropReason::InnerSource);
        }
        if self
            .tables
            .goes_to_another_peer(&run.peer, inner.destination)
        {
            Ok(Opened::Relay(inner))
        } else {
            Ok(Opened::Local(inner))
        }
    }

    /// Takes in an authentic control message of the inbound run: it confirms its session, and the
    /// rest is for the controller.
    #[cold]
    fn accept_control(
        &mut self,
        bytes: u64,
        packet: &[u8],
        from: Endpoint,
    ) -> Result<Opened, DropReason> {
        let Some(run) = self.inbound.as_mut() else {
            return Err(DropReason::UnknownIndex);
        };
        run.peer.activity.received_control(bytes);
        if !run.session.is_confirmed() && run.peer.confirm(&run.session, self.now) {
            self.tunnel.request(&run.peer, WorkerRequest::Flush);
        }
        let message = ControlMessage::parse(packet).map_err(|_| DropReason::Control)?;
        if !run.peer.may_control(self.now) {
            return Err(DropReason::Control);
        }
        run.session.set_takes_control();
        let heard = Heard {
            peer: run.peer.id(),
            message,
            from,
            at: self.now,
        };
        if !self.tunnel.hear(heard) {
            return Err(DropReason::Control);
        }
        Ok(Opened::Control)
    }

    /// Takes in an authentic message of another hub: it confirms its session, and the rest is for
    /// the controller. From a peer that is no hub nobody expects one.
    #[cold]
    fn accept_of_hub(&mut self, bytes: u64, packet: &[u8]) -> Result<Opened, DropReason> {
        let Some(run) = self.inbound.as_mut() else {
            return Err(DropReason::UnknownIndex);
        };
        run.peer.activity.received_control(bytes);
        if !run.session.is_confirmed() && run.peer.confirm(&run.session, self.now) {
            self.tunnel.request(&run.peer, WorkerRequest::Flush);
        }
        let content = packet.get(hub_message::MAGIC.len()..);
        let content = content.filter(|_| run.of_hub && packet.len() <= hub_message::MOST);
        let message = HubMessage {
            peer: run.peer.id(),
            content: content.ok_or(DropReason::Control)?.to_vec(),
            at: self.now,
        };
        if !self.tunnel.hear_hub(message) {
            return Err(DropReason::Control);
        }
        Ok(Opened::Control)
    }

    /// When the batch is.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Makes the owner of the destination of `buffer[16..16 + len]` the peer of the outbound
    /// run. Gives the hop limit that its datagram has to leave with.
    #[allow(
        clippy::inline_always,
        reason = "else its result is copied for each packet"
    )]
    #[inline(always)]
    pub(super) fn enter_for(&mut self, buffer: &[u8], len: usize) -> Result<Option<u8>, NotSealed> {
        let drop = NotSealed::Dropped;
        let packet = buffer.get(DATA_HEADER_LEN..DATA_HEADER_LEN + len);
        let (packet, inner) = packet
            .and_then(|packet| Some((packet, ip::parse(packet)?)))
            .ok_or(drop(DropReason::InnerMalformed))?;
        if !self.enter_outbound(inner.destination, false) {
            return Err(drop(DropReason::NoPeer));
        }
        if self.is_our_own_datagram(packet, &inner) {
            return Err(drop(DropReason::RoutingLoop));
        }
        match Nesting::of(packet) {
            Nesting::None => Ok(None),
            Nesting::Carried(hop_limit) => Ok(Some(hop_limit)),
            Nesting::TooDeep => Err(drop(DropReason::RoutingLoop)),
        }
    }

    /// The same for a packet to relay, which loses a hop by it.
    pub(super) fn enter_for_relay(
        &mut self,
        buffer: &mut [u8],
        inner: &Inner,
    ) -> Result<(), NotSealed> {
        let packet = &mut buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + inner.len];
        if !ip::take_hop(packet) {
            return Err(NotSealed::Dropped(DropReason::HopLimit));
        }
        let of_hub = self.inbound.as_ref().is_some_and(|run| run.of_hub);
        if !self.enter_outbound(inner.destination, of_hub) {
            return Err(NotSealed::Dropped(DropReason::NoPeer));
        }
        Ok(())
    }

    /// Makes the owner of `destination` the peer of the outbound run; false when there is
    /// none. What another hub brought goes to no third one.
    fn enter_outbound(&mut self, destination: IpAddr, of_hub: bool) -> bool {
        let Some(owner) = self.tables.routes.lookup(destination) else {
            return false;
        };
        let same = self
            .outbound
            .as_ref()
            .is_some_and(|run| Arc::ptr_eq(&run.owner, owner.value) && run.of_hub == of_hub);
        if !same {
            let owner = Arc::clone(owner.value);
            let home = owner.home().filter(|_| !of_hub);
            let peer = home.unwrap_or_else(|| Arc::clone(&owner));
            let handling = peer.handling();
            self.end_outbound();
            self.outbound = Some(OutboundRun {
                owner,
                session: peer.sending_session(self.now),
                endpoint: peer.next_endpoint(),
                held: handling.hold_down,
                copies_dscp: handling.copy_dscp,
                of_hub,
                peer,
                amount: Amount::default(),
            });
        }
        true
    }

    /// Whether a packet is a datagram that we sent to the very peer that it is about to be
    /// sealed for: a route sends it into the tunnel by mistake, and the packet would come back,
    /// longer each time, for ever.
    fn is_our_own_datagram(&self, packet: &[u8], inner: &Inner) -> bool {
        let remote = self.outbound.as_ref().and_then(|run| run.endpoint);
        let Some(remote) = remote.map(|endpoint| endpoint.remote) else {
            return false;
        };
        remote.ip() == inner.destination
            && ip::udp_ports(packet) == Some((self.listen_port, remote.port()))
    }

    fn seal_in_run(&mut self, buffer: &mut [u8], len: usize) -> Result<Sealed, NotSealed> {
        let (session, reserved) = self.reserve_in_run(buffer, len)?;
        let message = &mut buffer[..reserved.message_len];
        seal_padded(session, reserved.counter, message, len);
        Ok(reserved.sealed())
    }

    /// Takes a counter for `buffer[16..16 + len]` on the session of the outbound run and
    /// counts it as sent; all that is left is to seal it. Without a session it is staged.
    #[allow(
        clippy::inline_always,
        reason = "else its result is copied for each packet"
    )]
    #[inline(always)]
    pub(super) fn reserve_in_run(
        &mut self,
        buffer: &[u8],
        len: usize,
    ) -> Result<(&Arc<Session>, Reserved), NotSealed> {
        let Some(run) = self.outbound.as_mut() else {
            return Err(NotSealed::Dropped(DropReason::NoPeer));
        };
        let Some(endpoint) = run.endpoint else {
            return Err(NotSealed::Dropped(DropReason::NoEndpoint));
        };
        if run.held && !self.releases {
            return Err(NotSealed::Held {
                peer: run.peer.id(),
                hop_limit: None,
            });
        }
        let counter = run.session.as_ref().and_then(|session| session.reserve(1));
        let (Some(session), Some(counter)) = (&run.session, counter) else {
            if run.peer.is_refused() {
                return Err(NotSealed::Dropped(DropReason::PeerRefused));
            }
            let packet = &buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + len];
            // A peer may relay what is larger than anything that leaves here.
            if len > self.mtu {
                return Err(NotSealed::Dropped(DropReason::Oversized));
            }
            let displaced = run.peer.stage(packet);
            self.tunnel.request(&run.peer, WorkerRequest::Handshake);
            return Err(NotSealed::Staged { displaced });
        };
        let message_len = message_len(buffer.len(), len, self.mtu)
            .ok_or(NotSealed::Dropped(DropReason::Oversized))?;
        run.amount.add(message_len as u64);
        if session.renew_on_send(self.now) {
            self.tunnel.request(&run.peer, WorkerRequest::Handshake);
        }
        let reserved = Reserved {
            counter,
            message_len,
            endpoint,
            class: ecn::class(&buffer[DATA_HEADER_LEN..], run.copies_dscp),
        };
        Ok((session, reserved))
    }

    /// The session that `receiver` addresses.
    pub(super) fn session_behind(&self, receiver: u32) -> Result<&Arc<Session>, DropReason> {
        let (_, session) = self
            .tables
            .sessions
            .get(&receiver)
            .ok_or(DropReason::UnknownIndex)?;
        Ok(session)
    }

    /// Makes the session behind `receiver` the inbound run.
    pub(super) fn enter_inbound(&mut self, receiver: u32) -> Result<(), DropReason> {
        if self
            .inbound
            .as_ref()
            .is_some_and(|run| run.index == receiver)
        {
            return Ok(());
        }
        let (peer, session) = self
            .tables
            .sessions
            .get(&receiver)
            .ok_or(DropReason::UnknownIndex)?;
        let run = InboundRun {
            index: receiver,
            peer: Arc::clone(peer),
            session: Arc::clone(session),
            held: peer.handling().hold_up,
            of_hub: peer.is_hub(),
            from: None,
            amount: Amount::default(),
            data: false,
        };
        self.end_inbound();
        self.inbound = Some(run);
        Ok(())
    }

    fn end_inbound(&mut self) {
        if let Some(run) = self.inbound.take()
            && let Some(from) = run.from
        {
            let moved = if self.tables.is_passed_on(&run.peer, from.remote) {
                Moved::default()
            } else {
                run.peer.speak_from(from, run.session.takes_control())
            };
            if moved.theirs {
                self.tunnel.request(&run.peer, WorkerRequest::Moved);
            }
            self.tunnel.note_roam(&run.peer, moved);
            run.peer.activity.received(self.now, run.amount, run.data);
            if run.data {
                self.note_use(&run.peer);
            }
            run.peer.settle_on(&run.session, self.now);
        }
    }

    fn end_outbound(&mut self) {
        if let Some(run) = self.outbound.take()
            && run.amount.packets > 0
        {
            run.peer.activity.sent(self.now, run.amount, true);
            self.note_use(&run.peer);
        }
    }

    /// Data went either way.
    #[inline]
    fn note_use(&self, peer: &Peer) {
        if peer.activity.was_awaited() {
            self.tunnel.request(peer, WorkerRequest::Used);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.end_inbound();
        self.end_outbound();
    }
}

/// Has a packet leave with a hop limit, or have it once it leaves. One that waits for a session
/// loses it, which gives a loop one more lap.
#[inline]
pub(super) fn with_hop_limit(
    sealed: Result<Sealed, NotSealed>,
    hop_limit: Option<u8>,
) -> Result<Sealed, NotSealed> {
    match sealed {
        Ok(sealed) => Ok(Sealed {
            hop_limit,
            ..sealed
        }),
        Err(NotSealed::Held { peer, .. }) => Err(NotSealed::Held { peer, hop_limit }),
        Err(other) => Err(other),
    }
}

/// Pads and seals `buffer[16..16 + len]`; the length of the message, or `None` when the
/// buffer has no room for it.
pub(super) fn seal(
    session: &Session,
    counter: u64,
    buffer: &mut [u8],
    len: usize,
    mtu: usize,
) -> Option<usize> {
    let message_len = message_len(buffer.len(), len, mtu)?;
    seal_padded(session, counter, &mut buffer[..message_len], len);
    Some(message_len)
}

/// Bytes of the message that a packet of `len` bytes becomes in a buffer of `room`; `None`
/// when that is too small. Padding is cut to the buffer: a relayed packet that came padded
/// to its sender's MTU has no more room than it came with.
fn message_len(room: usize, len: usize, mtu: usize) -> Option<usize> {
    let room = room.checked_sub(DATA_HEADER_LEN + TAG_LEN)?;
    let padded = padded_len(len, mtu).min(room);
    (padded >= len).then_some(DATA_HEADER_LEN + padded + TAG_LEN)
}

/// Pads and seals `message[16..16 + len]`, `message` being as long as [`message_len`] says.
pub(super) fn seal_padded(session: &Session, counter: u64, message: &mut [u8], len: usize) {
    pad(message, len);
    session.seal(counter, message);
}

/// Pads `message[16..16 + len]` to what is there but for the tag.
pub(super) fn pad(message: &mut [u8], len: usize) {
    let padded = message.len() - TAG_LEN;
    message[DATA_HEADER_LEN + len..padded].fill(0);
}
