//! Why peers have no handshake: brings together what the device says, what the kernel refused to
//! send, what ICMP messages say, and what XDP dropped, and gives it to the [log of
//! peers](super::peer_log).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use taltun_common::drops::DropReason;

use super::icmp::{Icmp, Undelivered};
use super::peer_log::{Cause, PeerLog, Strangers};
use super::peers::Peers;
use super::suspicions::{Heard, Suspicions, Verdict};
use crate::accel::Shield;
use crate::crypto::PublicKey;
use crate::dataplane::gate::Gate;
use crate::layer::Layer;
use crate::protocol::device::{Device, Event};
use crate::protocol::time::Time;
use crate::report::{Drops, Problem, UnknownKey};

/// Between two looks at all sources.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
/// Places that nothing could be sent to, between two looks at who is there.
const MOST_NOT_SENT: usize = 4096;
/// Sources looked at, those with most packets first.
const MOST_MISLED: usize = 256;

/// What is known of peers without a handshake, and of strangers.
#[derive(Debug)]
pub(super) struct Diagnosis {
    log: PeerLog,
    strangers: Strangers,
    icmp: Icmp,
    /// Where the kernel refused to send, and why, until that is told.
    not_sent: HashMap<SocketAddr, i32>,
    suspicions: Suspicions,
    /// When sources were last looked at for a wrong key of ours, and how many such messages
    /// XDP had dropped then.
    looked_for_misled: Option<Time>,
    misled_before: u64,
}

impl Diagnosis {
    /// Nothing is known yet.
    pub(super) fn start() -> Self {
        Self {
            log: PeerLog::default(),
            strangers: Strangers::default(),
            icmp: Icmp::listen(),
            not_sent: HashMap::new(),
            suspicions: Suspicions::default(),
            looked_for_misled: None,
            misled_before: 0,
        }
    }

    /// What last kept a peer from a handshake.
    pub(super) fn problem(&self, key: &PublicKey, now: Time) -> Option<Problem> {
        self.log.problem(key, now)
    }

    /// What did so before, and is over.
    pub(super) fn last_problem(&self, key: &PublicKey, now: Time) -> Option<Problem> {
        self.log.last_problem(key, now)
    }

    /// Unknown keys that tried, the last one first.
    pub(super) fn unknown_keys(&self, now: Time) -> Vec<UnknownKey> {
        self.strangers.unknown_keys(now)
    }

    /// Takes note of what the device says about a peer, or a stranger.
    pub(super) fn note(&mut self, event: &Event, device: &Device, peers: &Peers, now: Time) {
        let log = &mut self.log;
        let id = match *event {
            Event::UnknownKey(key, from) => return self.strangers.unknown_key(key, from, now),
            Event::HandshakeFinished(id)
            | Event::Moved(id)
            | Event::Unanswered(id, _)
            | Event::NotConfirmed(id)
            | Event::PathChanged(id, _)
            | Event::ClockBehind(id, _)
            | Event::AnswerRefused(id) => id,
            Event::IndexBorn(_)
            | Event::SessionBegun { .. }
            | Event::IndexDied(_)
            | Event::CookieGiven(_)
            | Event::HandshakeGivenUp(_) => return,
        };
        // It may be gone since.
        let Some(key) = device.key_of(id) else { return };
        let endpoint = device.peer(key).and_then(|peer| peer.endpoint());
        let endpoint = endpoint.map(|endpoint| endpoint.remote);
        let label = &peers.label(key);
        log.placed(key, peers.endpoint(key).is_some());
        match event {
            Event::HandshakeFinished(_) => log.finished(key, label, endpoint, now),
            Event::Moved(_) => log.moved(key, label, endpoint, now),
            Event::Unanswered(..) => log.unanswered(key, label, endpoint, now),
            Event::PathChanged(_, change) => log.took_path(label, change, now),
            Event::ClockBehind(_, behind) => log.clock_behind(key, label, endpoint, *behind, now),
            Event::NotConfirmed(_) => log.not_confirmed(key, label, endpoint, now),
            _ => log.trouble(key, label, endpoint, Cause::PresharedKey, now),
        }
    }

    /// The kernel refused to send a handshake message there. It is told within a second,
    /// together with others: who is there has to be searched for among all peers.
    pub(super) fn not_sent(&mut self, to: SocketAddr, errno: i32) {
        if self.not_sent.len() < MOST_NOT_SENT {
            let to = SocketAddr::new(to.ip().to_canonical(), to.port());
            self.not_sent.insert(to, errno);
        }
    }

    /// A peer was heard there before this start.
    pub(super) fn remembered(&mut self, key: &PublicKey, endpoint: SocketAddr) {
        self.log.remembered(key, endpoint);
    }

    /// Nobody asks any more for a peer whose endpoint isn't given.
    pub(super) fn let_go(&mut self, key: &PublicKey) {
        self.log.let_go(key);
    }

    /// A handshake message came from here that is for another public key than ours.
    pub(super) fn misled(&mut self, source: IpAddr, now: Time) {
        self.strangers.misled(source, now);
    }

    /// The name of a peer's endpoint was looked up.
    pub(super) fn resolved(&mut self, key: &PublicKey) {
        self.log.resolved(key);
    }

    /// The name of a peer's endpoint can't be looked up.
    pub(super) fn not_resolved(
        &mut self,
        key: &PublicKey,
        reason: String,
        device: &Device,
        peers: &Peers,
        now: Time,
    ) {
        let endpoint = device.peer(key).and_then(|peer| peer.endpoint());
        let endpoint = endpoint.map(|endpoint| endpoint.remote);
        self.log
            .not_resolved(key, &peers.label(key), endpoint, reason, now);
    }

    /// Forgets a peer that is none any more.
    pub(super) fn forget(&mut self, key: &PublicKey) {
        self.log.forget(key);
    }

    /// Tells what has come together; call it once a second. `port` is the one that we listen
    /// on.
    pub(super) fn each_second(&mut self, port: u16, device: &mut Device, peers: &Peers, now: Time) {
        self.log.tick(now);
        self.strangers.tick(now);
        self.judge(device, peers, now);
        let causes = self.causes(port);
        self.suspect(&causes, device);
        self.suspicions.read(now);
    }

    /// Names who sends messages for another public key than ours, where XDP drops them. Call it
    /// once a second; `dropped` is what the shield dropped so far.
    pub(super) fn look_for_misled(
        &mut self,
        gate: &Gate,
        shield: &Shield,
        dropped: &Drops,
        now: Time,
    ) {
        for source in gate.take_misled() {
            self.strangers.misled(source, now);
        }
        let is_early = self
            .looked_for_misled
            .is_some_and(|at| now.since(at) < BETWEEN_LOOKS);
        if is_early {
            return;
        }
        let count = dropped[DropReason::Mac1];
        if std::mem::replace(&mut self.misled_before, count) >= count {
            return;
        }
        self.looked_for_misled = Some(now);
        for source in shield.sources(Layer::Outer, MOST_MISLED) {
            if source.reason == Some(DropReason::Mac1) && !source.addr.is_unspecified() {
                self.strangers.misled(source.addr, now);
            }
        }
    }

    /// Where datagrams didn't leave for, or didn't arrive, as ICMP messages say.
    fn causes(&mut self, port: u16) -> HashMap<SocketAddr, Cause> {
        let undelivered: Vec<Undelivered> = self.icmp.take();
        let ours = undelivered.iter().filter(|one| one.from_port == port);
        let mut causes: HashMap<SocketAddr, Cause> = std::mem::take(&mut self.not_sent)
            .into_iter()
            .map(|(to, errno)| (to, Cause::NotSent(sentence(errno))))
            .collect();
        causes.extend(ours.map(|one| {
            let cause = one.why.map_or(Cause::PortClosed, Cause::Unreachable);
            (one.to, cause)
        }));
        causes
    }

    /// Suspects each peer that is where something didn't arrive.
    fn suspect(&mut self, causes: &HashMap<SocketAddr, Cause>, device: &mut Device) {
        for (to, cause) in causes {
            for peer in device.peers_at(to.ip().into()) {
                let Some(remote) = peer.endpoint().map(|endpoint| endpoint.remote) else {
                    continue;
                };
                if remote.port() == to.port() && remote.ip().to_canonical() == to.ip() {
                    let heard = Heard::from(&peer);
                    self.suspicions
                        .add(peer.public_key(), cause.clone(), remote, heard);
                }
            }
        }
    }

    /// Tells what was suspected a second ago and still holds.
    fn judge(&mut self, device: &Device, peers: &Peers, now: Time) {
        let heard = |key: &PublicKey| device.peer(key).map(|peer| Heard::from(peer));
        for (key, verdict) in self.suspicions.judge(heard) {
            match verdict {
                Verdict::Holds(cause, remote) => {
                    self.log.placed(&key, peers.endpoint(&key).is_some());
                    self.log
                        .trouble(&key, &peers.label(&key), Some(remote), cause, now);
                }
                Verdict::Over => self.log.reached(&key),
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
