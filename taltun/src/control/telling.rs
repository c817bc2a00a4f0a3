//! What the controller tells of peers, in the log and to the next start of this tunnel: its
//! part of [`super::peer_log`] and [`super::memory`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use taltun_common::drops::DropReason;
use tokio::time::Instant;

use super::engine::Engine;
use super::icmp::Undelivered;
use super::peer_log::Cause;
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::layer::Layer;
use crate::protocol::device::Event;
use crate::protocol::peer::{Endpoint, PeerId};

/// Between two looks at all sources.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
/// So many initiations without an answer, and the name of a peer's endpoint is looked up again.
const LOOK_UP_AFTER: u32 = 3;
/// Places that nothing could be sent to, between two looks at who is there.
const MOST_NOT_SENT: usize = 4096;
/// Sources looked at, those with most packets first.
const MOST_MISLED: usize = 256;

impl Engine {
    /// Tells of what the device says about a peer, or a stranger.
    pub(super) fn tell(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::UnknownKey(key, from) => self.peer_log.unknown_key(key, from, now),
            Event::HandshakeFinished(id) => self.with_peer(id, |engine, key, label, endpoint| {
                engine.peer_log.finished(key, label, endpoint, now);
                engine.remember(key, endpoint);
            }),
            Event::Moved(id) => self.with_peer(id, |engine, key, label, endpoint| {
                engine.peer_log.moved(key, label, endpoint, now);
                engine.remember(key, endpoint);
            }),
            Event::Unanswered(id, in_a_row) => {
                self.with_peer(id, |engine, key, label, endpoint| {
                    engine.peer_log.unanswered(key, label, endpoint, now);
                    if in_a_row % LOOK_UP_AFTER == 0 {
                        engine.look_up_again(key);
                    }
                });
            }
            Event::NotConfirmed(id) => self.with_peer(id, |engine, key, label, endpoint| {
                engine.peer_log.not_confirmed(key, label, endpoint, now);
            }),
            Event::AnswerRefused(id) => self.with_peer(id, |engine, key, label, endpoint| {
                let cause = Cause::PresharedKey;
                engine.peer_log.trouble(key, label, endpoint, cause, now);
            }),
            Event::IndexBorn(_)
            | Event::IndexDied(_)
            | Event::CookieGiven(_)
            | Event::HandshakeGivenUp(_) => {}
        }
    }

    fn with_peer(
        &mut self,
        id: PeerId,
        tell: impl FnOnce(&mut Self, &PublicKey, &str, Option<SocketAddr>),
    ) {
        // It may be gone since.
        let Some(key) = self.device.key_of(id).copied() else {
            return;
        };
        let peer = self.device.peer(&key);
        let endpoint = peer.and_then(|peer| Some(peer.endpoint()?.remote));
        let label = self.label(&key);
        self.note_placed(&key);
        tell(self, &key, &label, endpoint);
    }

    /// Tells the log whether it is the configuration that says where a peer is.
    fn note_placed(&mut self, key: &PublicKey) {
        let is_placed = self.peers.endpoint(key).is_some();
        self.peer_log.placed(key, is_placed);
    }

    /// Keeps where a peer is for the next start, which asks it there unless the configuration
    /// knows better.
    fn remember(&mut self, key: &PublicKey, endpoint: Option<SocketAddr>) {
        if let (Some(memory), Some(endpoint)) = (&mut self.memory, endpoint) {
            memory.note(*key, endpoint);
        }
    }

    /// When to speak to the next of the peers that were there before this start.
    pub(super) fn next_remembered(&self) -> Option<Instant> {
        self.memory.as_ref()?.next_at()
    }

    /// Keeps where peers are, at the end.
    pub(super) fn keep_memory(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.finish();
        }
    }

    /// Speaks to the next of the peers that were there before this start.
    pub(super) fn speak_to_remembered(&mut self) {
        let next = self
            .memory
            .as_mut()
            .and_then(super::memory::Memory::next_peer);
        let Some((key, place)) = next else { return };
        let is_ours_to_say = self.peers.has_no_endpoint(&key);
        let Some(peer) = self.device.peer(&key) else {
            return;
        };
        match place {
            // It came by itself, or the configuration says where it is.
            Some(_) if !is_ours_to_say || peer.endpoint().is_some() => return,
            Some(place) => {
                self.device.set_endpoint(&key, Some(Endpoint::from(place)));
                self.peer_log.remembered(&key, place);
            }
            None => {}
        }
        self.device.initiate(&key, clock::now());
    }

    /// What is done once a second.
    pub(super) fn tell_of_the_second(&mut self) {
        self.peer_log.tick(clock::now());
        self.device.follow_places();
        self.by_wg.tell();
        if let Some(memory) = &mut self.memory {
            memory.tick();
        }
        self.look_for_misled();
        let undelivered = self.icmp.take();
        self.tell_undelivered(&undelivered);
    }

    /// Names who sends messages for another public key than ours, where XDP drops them.
    fn look_for_misled(&mut self) {
        let now = clock::now();
        for source in self.gate.take_misled() {
            self.peer_log.misled(source, now);
        }
        let is_early = self
            .looked_for_misled
            .is_some_and(|at| now.since(at) < BETWEEN_LOOKS);
        if is_early {
            return;
        }
        let mac1 = DropReason::Mac1.label();
        let count = self.shield.drops().get(mac1).copied().unwrap_or_default();
        if std::mem::replace(&mut self.misled_before, count) >= count {
            return;
        }
        self.looked_for_misled = Some(now);
        for source in self.shield.sources(Layer::Outer, MOST_MISLED) {
            if source.reason.as_deref() == Some(mac1) && !source.addr.is_unspecified() {
                self.peer_log.misled(source.addr, now);
            }
        }
    }

    /// Tells of datagrams that didn't leave, or didn't arrive, as ICMP messages say.
    fn tell_undelivered(&mut self, undelivered: &[Undelivered]) {
        let port = self.plant.listen_address().port();
        let ours = undelivered.iter().filter(|one| one.from_port == port);
        let mut causes: HashMap<SocketAddr, Cause> = std::mem::take(&mut self.not_sent)
            .into_iter()
            .map(|(to, errno)| (to, Cause::NotSent(sentence(errno))))
            .collect();
        causes.extend(ours.map(|one| {
            let cause = one.why.map_or(Cause::PortClosed, Cause::Unreachable);
            (one.to, cause)
        }));
        self.tell_causes(&causes);
    }

    /// The kernel refused to send a handshake message there. It is told within a second,
    /// together with others: who is there has to be searched for among all peers.
    pub(super) fn tell_not_sent(&mut self, to: SocketAddr, errno: i32) {
        if self.not_sent.len() < MOST_NOT_SENT {
            let to = SocketAddr::new(to.ip().to_canonical(), to.port());
            self.not_sent.insert(to, errno);
        }
    }

    /// Tells each peer's trouble, by where it is.
    fn tell_causes(&mut self, causes: &HashMap<SocketAddr, Cause>) {
        if causes.is_empty() {
            return;
        }
        let now = clock::now();
        for (to, cause) in causes {
            for peer in self.device.peers_at(to.ip().into()) {
                let Some(remote) = peer.endpoint().map(|endpoint| endpoint.remote) else {
                    continue;
                };
                if remote.port() == to.port() && remote.ip().to_canonical() == to.ip() {
                    let (key, label) = (peer.public_key(), self.label(peer.public_key()));
                    self.note_placed(key);
                    self.peer_log
                        .trouble(key, &label, Some(remote), cause.clone(), now);
                }
            }
        }
    }
}

/// What an error of the kernel's means.
fn sentence(errno: i32) -> String {
    let error = std::io::Error::from_raw_os_error(errno).to_string();
    let sentence = error.split(" (os error").next();
    sentence.unwrap_or(&error).to_owned()
}
