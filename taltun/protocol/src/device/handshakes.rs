//! Handshakes: what each message does, when we start one, and the sessions and indices that
//! result.

use std::sync::Arc;
use std::time::Duration;

use taltun_common::drops::DropReason;
use taltun_common::steering;

use super::{Device, Event, InFlight, MAX_GIVEN_UP, Transmit};
use crate::cookie::Proof;
use crate::messages::{
    CookieReply, INITIATION_INTERVAL, Initiation, REKEY_TIMEOUT_JITTER, Response,
};
use crate::noise::{self, Claimed, TransportKeys, Verified};
use crate::peer::{Endpoint, PeerId};
use crate::randomness::NoRandomness;
use crate::session::{Role, Session};
use crate::tai64n::Tai64n;
use crate::time::Time;
use crate::wipe;
use taltun_crypto::{KEY_LEN, PrivateKey, PublicKey, SharedSecret, diffie_hellman_all};

/// Initiations that are handled together: as many as the lanes for multiplying them.
pub(super) const TOGETHER: usize = 8;

/// An initiation that will be answered.
struct Answer {
    id: PeerId,
    verified: Verified,
    ephemeral: PrivateKey,
    from: Endpoint,
}

/// How much older than its last an initiation has to be for its clock to be told of: what is later
/// than others on the way isn't.
const CLOCK_BEHIND: Duration = Duration::from_secs(60);

impl Device {
    /// Whether this initiation is more than its source may send without proving its address.
    /// Anybody can forge its address, so it is asked for the proof and not refused. An initiation
    /// with a wrong first MAC doesn't count.
    pub(super) fn is_beyond_limit(&mut self, datagram: &[u8], from: Endpoint, now: Time) -> bool {
        let Some(claimed) = &mut self.claimed else {
            return false;
        };
        self.checker.check(datagram, from.remote, now) != Proof::None
            && !claimed.allow(from.remote.ip(), now)
    }

    /// Whether a handshake message is worth any public-key operation.
    pub(super) fn admit(
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
                let born = self.checker.secret_born();
                // A nonce, and a secret where it is time for one.
                let random = self.randomness.bytes::<56>();
                let random = random.map_err(|_| DropReason::NoCookie)?;
                let mut random = random.into_iter();
                let reply = self
                    .checker
                    .reply(datagram, sender, from.remote, now, |bytes| {
                        bytes.fill_with(|| random.next().unwrap_or_default());
                    });
                if self.checker.secret_born() != born {
                    self.share_checker();
                }
                self.events.push_back(Event::CookieGiven(from.remote.ip()));
                self.transmits.push_back(Transmit {
                    endpoint: from,
                    payload: reply.to_vec(),
                    class: 0,
                });
                Err(DropReason::NoCookie)
            }
        }
    }

    /// Tells workers what handshake messages to us have to show now.
    pub(super) fn share_checker(&self) {
        self.tunnel.tables_mut().checker = Some(self.checker.clone());
    }

    /// Takes initiations that were admitted, up to [`TOGETHER`], each with its place among all
    /// messages. What can be multiplied for several of them is: their steps are those of one
    /// initiation, and each is done for all before the next.
    pub(super) fn handle_initiations(
        &mut self,
        initiations: &[(usize, &Initiation, Endpoint)],
        now: Time,
        outcome: &mut impl FnMut(usize, Result<(), DropReason>),
    ) {
        if initiations.is_empty() {
            return;
        }
        let claims = self.receive_initiations(initiations);
        self.make_static_secrets(&claims);
        let mut answers = Vec::with_capacity(initiations.len());
        for (claimed, &(at, _, from)) in claims.into_iter().zip(initiations) {
            match claimed.and_then(|claimed| self.verify_initiation(claimed, from, now)) {
                Ok(answer) => answers.push((at, answer)),
                Err(reason) => outcome(at, Err(reason)),
            }
        }
        let points = answers.iter().flat_map(|(_, answer)| {
            let points = answer.verified.points();
            points.map(|point| (&answer.ephemeral, point))
        });
        let pairs: Vec<_> = points.collect();
        let mut made = vec![[const { None }; 3]; answers.len()];
        diffie_hellman_all(&pairs, |at, secret| made[at / 3][at % 3] = secret);
        for ((at, answer), made) in answers.into_iter().zip(&made) {
            outcome(at, self.answer(answer, made, now));
        }
    }

    /// Finds out who each is from.
    fn receive_initiations(
        &self,
        initiations: &[(usize, &Initiation, Endpoint)],
    ) -> Vec<Result<Claimed, DropReason>> {
        let keys = initiations.iter();
        let keys: Vec<_> = keys
            .map(|(_, message, _)| PublicKey(message.ephemeral))
            .collect();
        let private = self.identity.private();
        let pairs: Vec<_> = keys.iter().map(|key| (private, key)).collect();
        let mut claims = Vec::with_capacity(initiations.len());
        diffie_hellman_all(&pairs, |at, secret| {
            let (_, message, _) = initiations[at];
            let claimed = noise::receive_with(&self.identity, message, secret.as_ref());
            claims.push(claimed.map_err(|_| DropReason::Handshake));
        });
        claims
    }

    /// Makes the secrets of both static keys that are to be needed now and weren't before.
    fn make_static_secrets(&self, claims: &[Result<Claimed, DropReason>]) {
        let claimed = claims.iter().filter_map(|claimed| {
            let id = self.by_key.get(&claimed.as_ref().ok()?.initiator)?;
            self.peers.get(id)
        });
        let lacking: Vec<_> = claimed
            .filter(|control| control.made_of_static_keys.get().is_none())
            .collect();
        let private = self.identity.private();
        let pairs = lacking
            .iter()
            .map(|control| (private, control.peer.public_key()));
        let pairs: Vec<_> = pairs.collect();
        diffie_hellman_all(&pairs, |at, secret| {
            // Two may be of one peer; the second makes the same.
            let _ = lacking[at].made_of_static_keys.set(secret);
        });
    }

    /// Whether its sender is who it claims to be and may start a session now.
    fn verify_initiation(
        &mut self,
        claimed: Claimed,
        from: Endpoint,
        now: Time,
    ) -> Result<Answer, DropReason> {
        let refused = DropReason::Handshake;
        let Some(&id) = self.by_key.get(&claimed.initiator) else {
            let stranger = Event::UnknownKey(claimed.initiator, from.remote);
            self.events.push_back(stranger);
            return Err(refused);
        };
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let static_static = control.static_static(&self.identity).ok_or(refused)?;
        let verified = claimed.verify(static_static).map_err(|_| refused)?;
        if control.peer.is_refused() {
            return Err(DropReason::PeerRefused);
        }
        let replayed = control
            .newest_timestamp
            .is_some_and(|newest| verified.timestamp <= newest);
        let flooding = control
            .last_initiation_received
            .is_some_and(|last| now.since(last) < INITIATION_INTERVAL);
        if replayed || flooding {
            let behind = control.newest_timestamp;
            let behind = behind.map(|newest| verified.timestamp.behind(newest));
            if let Some(behind) = behind.filter(|behind| *behind >= CLOCK_BEHIND) {
                self.events.push_back(Event::ClockBehind(id, behind));
            }
            return Err(refused);
        }
        control.newest_timestamp = Some(verified.timestamp);
        control.last_initiation_received = Some(now);
        let ephemeral = self.random_private_key().map_err(|_| refused)?;
        Ok(Answer {
            id,
            verified,
            ephemeral,
            from,
        })
    }

    /// Answers an initiation, and has a session with its sender.
    fn answer(
        &mut self,
        answer: Answer,
        made: &[Option<SharedSecret>; 3],
        now: Time,
    ) -> Result<(), DropReason> {
        let refused = DropReason::Handshake;
        let Answer {
            id, verified, from, ..
        } = answer;
        let local_index = self.unused_index(id).map_err(|_| refused)?;
        let remote_index = verified.initiator_index();
        let marked = verified.timestamp.is_marked();
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let (mut response, keys) = verified
            .respond_with(&control.preshared_key, made, local_index)
            .map_err(|_| refused)?;
        control.sealer.seal(&mut response, now);
        self.events.push_back(Event::IndexBorn(local_index));
        let peer = Arc::clone(&control.peer);
        if peer.awaits_confirmation() {
            self.events.push_back(Event::NotConfirmed(id));
        }
        self.tunnel.note_roam(&peer, peer.roam(from, marked));
        peer.activity
            .received_handshake(now, size_of::<Initiation>() as u64);
        let session =
            self.begin_session(id, &keys, Role::Responder, local_index, remote_index, now);
        if marked && let Some(session) = session {
            session.set_takes_control();
        }
        if let Some(control) = self.peers.get_mut(&id) {
            control.note_answer(now);
        }
        self.send(&peer, response.to_vec(), now);
        self.schedule(id, now);
        Ok(())
    }

    pub(super) fn handle_response(
        &mut self,
        message: &Response,
        from: Endpoint,
        now: Time,
    ) -> Result<(), DropReason> {
        let id = self
            .tunnel
            .tables()
            .initiations
            .get(&message.receiver.get())
            .copied();
        let id = id.ok_or(DropReason::UnknownIndex)?;
        let refused = DropReason::Handshake;
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let slot = control
            .initiations
            .iter()
            .position(|slot| {
                slot.as_ref()
                    .is_some_and(|flight| flight.index == message.receiver.get())
            })
            .ok_or(refused)?;
        let keys = control.initiations[slot]
            .as_ref()
            .ok_or(refused)?
            .state
            .finish(
                control.initiated_as(&self.identity),
                &control.preshared_key,
                message,
            );
        let Ok(keys) = keys else {
            // From another address it may be forged.
            let at = control.peer.endpoint().map(|endpoint| endpoint.remote);
            if at == Some(from.remote) {
                self.events.push_back(Event::AnswerRefused(id));
            }
            return Err(refused);
        };

        // The index lives on as the session's. The initiation before this one is over. One
        // after it, if this answer comes late, is not: the responder replaces this session
        // as soon as it gets that one, and then only its answer tells us the new keys.
        control.initiations[slot] = None;
        self.tunnel
            .tables_mut()
            .initiations
            .remove(&message.receiver.get());
        let newer = control.initiations[0].take();
        self.abandon_initiations(id);
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        control.initiations[0] = newer;
        let control = self.peers.get_mut(&id).ok_or(refused)?;
        let peer = Arc::clone(&control.peer);
        self.tunnel.note_roam(&peer, peer.roam(from, false));
        if control.follow_answer(from, now) {
            self.tunnel.note_place(id);
        }
        let change = control.settle_path();
        self.events
            .extend(change.map(|change| Event::PathChanged(id, change)));
        peer.activity
            .received_handshake(now, size_of_val(message) as u64);
        peer.activity.handshake_completed(now);
        self.events.push_back(Event::HandshakeFinished(id));
        self.begin_session(
            id,
            &keys,
            Role::Initiator,
            message.receiver.get(),
            message.sender.get(),
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
    pub(super) fn handle_cookie_reply(
        &mut self,
        message: &CookieReply,
        now: Time,
    ) -> Result<(), DropReason> {
        let index = message.receiver.get();
        let id = {
            let tables = self.tunnel.tables();
            let session = tables.sessions.get(&index).map(|(peer, _)| peer.id());
            let id = tables.initiations.get(&index).copied().or(session);
            id.ok_or(DropReason::UnknownIndex)?
        };
        let control = self.peers.get_mut(&id).ok_or(DropReason::UnknownIndex)?;
        if control.sealer.receive(message, now) {
            Ok(())
        } else {
            Err(DropReason::Handshake)
        }
    }

    /// Starts a handshake now, or leaves it to the timer when the last one is too young.
    pub(super) fn want_handshake(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        if control.timers.is_handshaking() || control.peer.is_refused() || control.away {
            return;
        }
        control.timers.want_handshake();
        if control.timers.may_initiate(now) {
            self.send_initiation(id, now);
        }
        self.schedule(id, now);
    }

    /// Whether a peer has no session to send on, or one that is due for renewal.
    pub(super) fn needs_session(&self, id: PeerId, now: Time) -> bool {
        self.peers.get(&id).is_some_and(|control| {
            control
                .peer
                .sending_session(now)
                .is_none_or(|session| session.renew_on_send(now))
        })
    }

    pub(super) fn send_initiation(&mut self, id: PeerId, now: Time) {
        let possible = self.peers.get(&id).is_some_and(|control| {
            self.has_private_key
                && !control.peer.is_refused()
                && !control.away
                && control.peer.public_key().is_usable()
                && control.peer.endpoint().is_some()
        });
        if !possible {
            // We have no key, the peer is refused, its key is of low order, or there is no
            // endpoint: no initiation can leave, so staged packets need not wait.
            self.give_up(id, now);
            return;
        }
        wipe::after(|| self.make_initiation(id, now));
    }

    fn make_initiation(&mut self, id: PeerId, now: Time) {
        let (Ok(index), Ok(ephemeral)) = (self.unused_index(id), self.random_private_key()) else {
            self.give_up(id, now);
            return;
        };
        let jitter = self.random_jitter();
        let timestamp = self.next_timestamp(now);
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let timestamp = if control.wants_control(&self.hop) {
            timestamp.marked()
        } else {
            timestamp
        };
        let peer = Arc::clone(&control.peer);
        let made = control.initiates_as(&self.identity).and_then(
            |(identity, responder, static_static)| {
                noise::initiate(
                    identity,
                    responder,
                    static_static,
                    ephemeral,
                    index,
                    timestamp,
                )
                .ok()
            },
        );
        let Some((state, mut message)) = made else {
            control.timers.handshake_abandoned(now);
            return;
        };
        self.events.push_back(Event::IndexBorn(index));
        control.sealer.seal(&mut message, now);
        control.timers.initiation_sent(now, jitter);
        let [newest, superseded] = &mut control.initiations;
        let forgotten = std::mem::replace(superseded, newest.take());
        *newest = Some(Box::new(InFlight { index, state }));
        let mut tables = self.tunnel.tables_mut();
        tables.initiations.insert(index, id);
        if let Some(forgotten) = forgotten {
            tables.initiations.remove(&forgotten.index);
            self.events.push_back(Event::IndexDied(forgotten.index));
        }
        drop(tables);
        control.begin_copies(&message, now);
        control.places.tried();
        self.send(&peer, message.to_vec(), now);
    }

    /// Forgets the initiations in flight, with their indices.
    pub(super) fn abandon_initiations(&mut self, id: PeerId) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        control.places.end_copies();
        for flight in std::mem::take(&mut control.initiations)
            .into_iter()
            .flatten()
        {
            self.tunnel.tables_mut().initiations.remove(&flight.index);
            self.events.push_back(Event::IndexDied(flight.index));
        }
    }

    /// There will be no handshake for now: what waited for it is lost.
    pub(super) fn give_up(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        control.timers.handshake_abandoned(now);
        let room = MAX_GIVEN_UP - self.given_up.len();
        let staged = control.peer.take_staged();
        self.given_up.extend(staged.into_iter().take(room));
    }

    /// The other side's handshake came to its end: ours is not needed.
    pub(super) fn settle_handshake(&mut self, id: PeerId) {
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
    ) -> Option<Arc<Session>> {
        let control = self.peers.get_mut(&id)?;
        control.timers.session_begun(now, role == Role::Initiator);
        control.hello.forget();
        if role == Role::Initiator {
            control.places.answered();
        }
        let session = Arc::new(Session::new(keys, role, local_index, remote_index, now));
        self.tunnel.tables_mut().sessions.insert(
            local_index,
            (Arc::clone(&control.peer), Arc::clone(&session)),
        );
        control.peer.begin(Arc::clone(&session), role);
        self.events.push_back(Event::SessionBegun {
            local: local_index,
            remote: remote_index,
        });
        let retired = control.peer.take_retired();
        self.end_sessions(&retired);
        Some(session)
    }

    /// Takes back the indices of sessions that are no longer used.
    pub(super) fn end_sessions(&mut self, sessions: &[Arc<Session>]) {
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

    /// A random unused index (§5.4), with the bits that name the peer's worker. The caller
    /// reports it by [`Event::IndexBorn`].
    fn unused_index(&mut self, peer: PeerId) -> Result<u32, NoRandomness> {
        let tables = self.tunnel.tables();
        let worker = peer.0 % self.workers;
        loop {
            let random = u32::from_ne_bytes(self.randomness.bytes()?);
            let index = steering::index_of(worker, self.workers, random);
            if !tables.initiations.contains_key(&index) && !tables.sessions.contains_key(&index) {
                return Ok(index);
            }
        }
    }

    pub(super) fn random_private_key(&mut self) -> Result<PrivateKey, NoRandomness> {
        let mut bytes = zeroize::Zeroizing::new([0; KEY_LEN]);
        self.randomness.fill(&mut *bytes)?;
        Ok(PrivateKey::from_bytes(*bytes))
    }

    fn random_jitter(&mut self) -> Duration {
        let most = REKEY_TIMEOUT_JITTER.as_nanos() as u64;
        // It keeps no secret: where there is no randomness there is no handshake either.
        let random = self.randomness.bytes().map_or(0, u64::from_ne_bytes);
        Duration::from_nanos(random % most)
    }

    /// The wall clock of now, but later than in any initiation before: peers take none that
    /// isn't.
    fn next_timestamp(&mut self, now: Time) -> Tai64n {
        let (shown, at) = self.wall_clock;
        let clock = Tai64n::from_unix(shown.saturating_add(now.since(at)));
        self.last_timestamp = clock.max(self.last_timestamp.next());
        self.last_timestamp
    }
}
