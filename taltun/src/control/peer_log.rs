//! What happens to peers, as lines of the log, and what keeps one from a handshake, for
//! `status`: who came, from where, and why somebody doesn't.
//!
//! What peers do is told for each of them; what [`Strangers`] do a few times a minute.

mod cause;
mod strangers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{debug, info, warn};

pub(super) use self::cause::Cause;
pub(super) use self::strangers::Strangers;
use super::window::Window;
use crate::crypto::PublicKey;
use crate::protocol::device::{PathChange, Why};
use crate::protocol::time::Time;
use crate::report::Problem;

/// Lines a minute: more than a person reads, and few enough for any disk.
const LINES: u64 = 300;
/// A handshake this long after the last one is news; a renewal isn't.
const SILENCE: Duration = Duration::from_secs(180);
/// A problem is told again after this long.
const AGAIN: Duration = Duration::from_secs(600);
/// Two of a kind that are further apart have nothing to do with each other.
const ROW: Duration = Duration::from_secs(30);

/// What is known of a peer.
#[derive(Debug, Default)]
struct Seen {
    /// Where it was heard last, now or before this start.
    endpoint: Option<SocketAddr>,
    /// Whether the configuration says where it is.
    is_placed: bool,
    handshake: Option<Time>,
    unanswered: u32,
    unconfirmed: u32,
    last_unconfirmed: Option<Time>,
    problem: Option<(Cause, Time)>,
    /// The last one that is over.
    last_problem: Option<(Cause, Time)>,
    /// When the problem was last written into the log.
    told: Option<Time>,
    /// Why the name of its endpoint can't be looked up, while a session works.
    not_resolved: Option<String>,
}

impl Seen {
    /// Its problem is over.
    fn end_problem(&mut self) {
        if let Some(problem) = self.problem.take() {
            self.last_problem = Some(problem);
        }
    }
}

/// Writes the log of peers.
#[derive(Debug)]
pub(super) struct PeerLog {
    peers: HashMap<PublicKey, Seen>,
    lines: Window,
}

impl Default for PeerLog {
    fn default() -> Self {
        Self {
            peers: HashMap::new(),
            lines: Window::new("peers", LINES),
        }
    }
}

impl PeerLog {
    /// A handshake with a peer is complete.
    pub(super) fn finished(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        now: Time,
    ) {
        let seen = self.peers.entry(*key).or_default();
        let is_news = seen.problem.is_some()
            || seen.endpoint != endpoint
            || seen.handshake.is_none_or(|last| now.since(last) >= SILENCE);
        seen.end_problem();
        *seen = Seen {
            endpoint,
            last_problem: seen.last_problem.take(),
            is_placed: seen.is_placed,
            handshake: Some(now),
            not_resolved: seen.not_resolved.take(),
            ..Seen::default()
        };
        let endpoint = shown(endpoint);
        if !is_news {
            debug!(peer = %label, %endpoint, "session renewed");
        } else if self.lines.allows(now) {
            info!(peer = %label, %endpoint, "handshake finished");
        }
    }

    /// Whether the configuration says where a peer is.
    pub(super) fn placed(&mut self, key: &PublicKey, is_placed: bool) {
        if let Some(seen) = self.peers.get_mut(key) {
            seen.is_placed = is_placed;
        } else if is_placed {
            self.peers.entry(*key).or_default().is_placed = true;
        }
    }

    /// A peer was heard there before this start.
    pub(super) fn remembered(&mut self, key: &PublicKey, endpoint: SocketAddr) {
        self.peers.entry(*key).or_default().endpoint = Some(endpoint);
    }

    /// Nobody asks for a peer any more that isn't where it was heard: that is no problem.
    pub(super) fn let_go(&mut self, key: &PublicKey) {
        if let Some(seen) = self.peers.get_mut(key)
            && matches!(seen.problem, Some((Cause::Away(_), _)))
        {
            seen.end_problem();
            seen.unanswered = 0;
        }
    }

    /// A peer went on to another address or port.
    pub(super) fn moved(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        now: Time,
    ) {
        let seen = self.peers.entry(*key).or_default();
        if seen.endpoint == endpoint {
            return;
        }
        let before = std::mem::replace(&mut seen.endpoint, endpoint);
        if self.lines.allows(now) {
            info!(
                peer = %label,
                endpoint = %shown(endpoint),
                before = %shown(before),
                "new endpoint"
            );
        }
    }

    /// Data to a peer goes another way.
    pub(super) fn took_path(&mut self, label: &str, change: &PathChange, now: Time) {
        let why = match change.why {
            Why::Silent => "the path before doesn't answer".to_owned(),
            Why::Lossy(loss) => format!("the path before loses {loss} %"),
            Why::Returned => "it comes earlier in the list, and works again".to_owned(),
            Why::Handshake => "a handshake was answered there".to_owned(),
            Why::Astray => "the hub spoke from another port or address".to_owned(),
        };
        if self.lines.allows(now) {
            info!(peer = %label, path = %change.to, before = %change.from, "took another path: {why}");
        }
    }

    /// An initiation went unanswered. One may be lost; two in a row are told.
    pub(super) fn unanswered(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        now: Time,
    ) {
        let seen = self.peers.entry(*key).or_default();
        seen.unanswered += 1;
        if seen.unanswered >= 2 {
            // It may have moved to where the name leads.
            let unresolved = seen.not_resolved.take().map(Cause::NotResolved);
            let cause = unresolved.unwrap_or(Cause::NoAnswer);
            self.trouble(key, label, endpoint, cause, now);
        }
    }

    /// A peer started over although it was answered. One answer may be lost; two in a row are
    /// told.
    pub(super) fn not_confirmed(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        now: Time,
    ) {
        let seen = self.peers.entry(*key).or_default();
        let in_a_row = seen
            .last_unconfirmed
            .is_some_and(|last| now.since(last) < ROW);
        seen.unconfirmed = if in_a_row { seen.unconfirmed + 1 } else { 1 };
        seen.last_unconfirmed = Some(now);
        if seen.unconfirmed >= 2 {
            self.trouble(key, label, endpoint, Cause::NotConfirmed, now);
        }
    }

    /// A peer's initiation is much older than its last. With a session that works it has another
    /// clock now, and somebody plays a recorded message.
    pub(super) fn clock_behind(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        behind: Duration,
        now: Time,
    ) {
        let handshake = self.peers.get(key).and_then(|seen| seen.handshake);
        if handshake.is_none_or(|last| now.since(last) >= SILENCE) {
            self.trouble(key, label, endpoint, Cause::Clock(behind), now);
        }
    }

    /// Something keeps a peer from a handshake.
    pub(super) fn trouble(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        cause: Cause,
        now: Time,
    ) {
        let seen = self.peers.entry(*key).or_default();
        let was_there = seen.endpoint.is_some() && seen.endpoint == endpoint;
        let cause = if was_there && !seen.is_placed {
            cause.of_roaming()
        } else {
            cause
        };
        if let Some((known, at)) = &mut seen.problem
            && known.outranks(&cause)
            && now.since(*at) < AGAIN
        {
            return;
        }
        let is_same = matches!(&seen.problem, Some((known, _)) if known.is_again(&cause));
        let told_lately = seen.told.is_some_and(|at| now.since(at) < AGAIN);
        let message = cause.message();
        // That peers come and go is nothing to mend.
        let is_normal = matches!(cause, Cause::Away(_));
        seen.problem = Some((cause, now));
        if is_same && told_lately {
            return;
        }
        seen.told = Some(now);
        if !self.lines.allows(now) {
            return;
        }
        if endpoint.is_none() {
            warn!(peer = %label, "no handshake: {message}");
        } else if is_normal {
            info!(peer = %label, endpoint = %shown(endpoint), "no handshake: {message}");
        } else {
            warn!(peer = %label, endpoint = %shown(endpoint), "no handshake: {message}");
        }
    }

    /// The name of a peer's endpoint can't be looked up. While the last handshake counts and none is
    /// due, the peer is where it was, and that is no problem yet.
    pub(super) fn not_resolved(
        &mut self,
        key: &PublicKey,
        label: &str,
        endpoint: Option<SocketAddr>,
        reason: String,
        now: Time,
    ) {
        let seen = self.peers.entry(*key).or_default();
        let is_up = seen.unanswered == 0
            && seen.problem.is_none()
            && seen.handshake.is_some_and(|last| now.since(last) < SILENCE);
        if !is_up {
            seen.not_resolved = None;
            return self.trouble(key, label, endpoint, Cause::NotResolved(reason), now);
        }
        seen.not_resolved = Some(reason.clone());
        if self.lines.allows(now) {
            warn!(
                peer = %label,
                endpoint = %shown(endpoint),
                "{reason}; the peer answers at the address that was known before, and the name is \
                 tried again and again"
            );
        }
    }

    /// A peer that couldn't be reached is heard again.
    pub(super) fn reached(&mut self, key: &PublicKey) {
        if let Some(seen) = self.peers.get_mut(key)
            && let Some((cause, _)) = &seen.problem
            && cause.is_of_the_way()
        {
            seen.end_problem();
        }
    }

    /// The name of a peer's endpoint was looked up, after all.
    pub(super) fn resolved(&mut self, key: &PublicKey) {
        let Some(seen) = self.peers.get_mut(key) else {
            return;
        };
        seen.not_resolved = None;
        if matches!(seen.problem, Some((Cause::NotResolved(_), _))) {
            seen.end_problem();
        }
    }

    /// Forgets all but these peers.
    pub(super) fn forget(&mut self, peer: &PublicKey) {
        self.peers.remove(peer);
    }

    /// To be called once a second.
    pub(super) fn tick(&mut self, now: Time) {
        self.lines.tick(now);
    }

    /// What last kept a peer from a handshake.
    pub(super) fn problem(&self, key: &PublicKey, now: Time) -> Option<Problem> {
        self.peers.get(key)?.problem.as_ref().map(reported(now))
    }

    /// What did so before, and is over.
    pub(super) fn last_problem(&self, key: &PublicKey, now: Time) -> Option<Problem> {
        self.peers
            .get(key)?
            .last_problem
            .as_ref()
            .map(reported(now))
    }
}

/// A problem, as it is told now.
fn reported(now: Time) -> impl Fn(&(Cause, Time)) -> Problem {
    move |(cause, at)| Problem {
        cause: cause.reported(),
        message: cause.message(),
        seconds_ago: now.since(*at).as_secs_f64(),
    }
}

fn shown(endpoint: Option<SocketAddr>) -> String {
    endpoint.map_or_else(|| "(none)".to_owned(), |endpoint| endpoint.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PrivateKey;
    use crate::report::ProblemCause;

    fn key(number: u8) -> PublicKey {
        PrivateKey::from_bytes([number; 32]).public_key()
    }

    fn at(seconds: u64) -> Time {
        Time::START + Duration::from_secs(1000 + seconds)
    }

    const THERE: &str = "192.0.2.1:9000";

    fn there() -> SocketAddr {
        THERE.parse().unwrap()
    }

    fn cause(log: &PeerLog, peer: u8, now: Time) -> Option<ProblemCause> {
        log.problem(&key(peer), now).map(|problem| problem.cause)
    }

    #[test]
    fn silence_is_a_problem_after_ten_seconds_and_over_with_a_handshake() {
        let mut log = PeerLog::default();
        log.unanswered(&key(1), "ana", Some(there()), at(5));
        assert_eq!(cause(&log, 1, at(5)), None);
        log.unanswered(&key(1), "ana", Some(there()), at(10));
        assert_eq!(cause(&log, 1, at(12)), Some(ProblemCause::NoAnswer));
        assert!((log.problem(&key(1), at(12)).unwrap().seconds_ago - 2.0).abs() < 1e-6);
        log.finished(&key(1), "ana", Some(there()), at(15));
        assert_eq!(cause(&log, 1, at(15)), None);
    }

    #[test]
    fn a_peer_that_left_has_no_endpoint_to_mend() {
        let mut log = PeerLog::default();
        // From before this start.
        log.remembered(&key(1), there());
        log.trouble(&key(1), "ana", Some(there()), Cause::PortClosed, at(0));
        let problem = log.problem(&key(1), at(0)).unwrap();
        assert_eq!(problem.cause, ProblemCause::Away);
        assert_eq!(
            problem.message,
            "it isn't where it was last heard (ICMP: port unreachable): it is off, or elsewhere; \
             it comes back when it sends something"
        );
        // It is over once nobody asks any more, and when it speaks.
        log.let_go(&key(1));
        assert_eq!(cause(&log, 1, at(1)), None);
        log.unanswered(&key(1), "ana", Some(there()), at(2));
        log.unanswered(&key(1), "ana", Some(there()), at(3));
        assert_eq!(cause(&log, 1, at(3)), Some(ProblemCause::Away));
        log.finished(&key(1), "ana", Some(there()), at(4));
        assert_eq!(cause(&log, 1, at(4)), None);
        // What it does say while it is there is told, and stays.
        log.trouble(&key(1), "ana", Some(there()), Cause::PresharedKey, at(5));
        log.trouble(&key(1), "ana", Some(there()), Cause::NoAnswer, at(6));
        log.let_go(&key(1));
        assert_eq!(cause(&log, 1, at(6)), Some(ProblemCause::PresharedKey));
        // Where the file says where it is, or it is asked elsewhere, that may be wrong.
        log.finished(&key(2), "bob", Some(there()), at(0));
        log.placed(&key(2), true);
        log.trouble(&key(2), "bob", Some(there()), Cause::PortClosed, at(1));
        log.let_go(&key(2));
        assert_eq!(cause(&log, 2, at(1)), Some(ProblemCause::PortClosed));
        log.finished(&key(3), "eve", Some(there()), at(0));
        let elsewhere = Some("192.0.2.9:9000".parse().unwrap());
        log.trouble(&key(3), "eve", elsewhere, Cause::PortClosed, at(1));
        assert_eq!(cause(&log, 3, at(1)), Some(ProblemCause::PortClosed));
    }

    #[test]
    fn what_says_more_stays() {
        let mut log = PeerLog::default();
        log.trouble(&key(1), "ana", Some(there()), Cause::PortClosed, at(0));
        log.unanswered(&key(1), "ana", Some(there()), at(5));
        log.unanswered(&key(1), "ana", Some(there()), at(10));
        assert_eq!(cause(&log, 1, at(10)), Some(ProblemCause::PortClosed));
        log.trouble(&key(1), "ana", Some(there()), Cause::PresharedKey, at(11));
        assert_eq!(cause(&log, 1, at(11)), Some(ProblemCause::PresharedKey));
    }

    #[test]
    fn a_name_that_is_not_resolved_is_a_problem_until_it_is() {
        let mut log = PeerLog::default();
        let reason = "cannot look up vpn.example.invalid: no such name";
        log.trouble(
            &key(1),
            "hub",
            None,
            Cause::NotResolved(reason.into()),
            at(0),
        );
        let problem = log.problem(&key(1), at(3)).unwrap();
        assert_eq!(problem.cause, ProblemCause::NotResolved);
        assert!(problem.message.starts_with(reason), "{}", problem.message);
        log.resolved(&key(1));
        assert_eq!(cause(&log, 1, at(4)), None);
        // What else is wrong is no matter of names.
        log.trouble(&key(1), "hub", Some(there()), Cause::PortClosed, at(5));
        log.resolved(&key(1));
        assert_eq!(cause(&log, 1, at(6)), Some(ProblemCause::PortClosed));
    }

    #[test]
    fn a_name_that_is_not_resolved_is_no_problem_while_a_session_works() {
        let mut log = PeerLog::default();
        let reason = "cannot look up vpn.example.invalid: no such name";
        log.finished(&key(1), "hub", Some(there()), at(0));
        log.not_resolved(&key(1), "hub", Some(there()), reason.into(), at(1));
        assert_eq!(cause(&log, 1, at(1)), None);
        // It is one as soon as the peer is silent, without another look-up's end.
        log.finished(&key(1), "hub", Some(there()), at(120));
        log.unanswered(&key(1), "hub", Some(there()), at(240));
        assert_eq!(cause(&log, 1, at(240)), None);
        log.unanswered(&key(1), "hub", Some(there()), at(245));
        assert_eq!(cause(&log, 1, at(245)), Some(ProblemCause::NotResolved));
        log.finished(&key(2), "eve", Some(there()), at(0));
        log.not_resolved(&key(2), "eve", Some(there()), reason.into(), at(181));
        assert_eq!(cause(&log, 2, at(181)), Some(ProblemCause::NotResolved));
        // Where it was looked up meanwhile, silence is that.
        log.finished(&key(3), "bob", Some(there()), at(0));
        log.placed(&key(3), true);
        log.not_resolved(&key(3), "bob", Some(there()), reason.into(), at(1));
        log.resolved(&key(3));
        log.unanswered(&key(3), "bob", Some(there()), at(5));
        log.unanswered(&key(3), "bob", Some(there()), at(10));
        assert_eq!(cause(&log, 3, at(10)), Some(ProblemCause::NoAnswer));
    }

    #[test]
    fn who_is_heard_again_is_reached() {
        let mut log = PeerLog::default();
        log.trouble(&key(1), "ana", Some(there()), Cause::PortClosed, at(0));
        log.reached(&key(1));
        assert_eq!(cause(&log, 1, at(1)), None);
        log.trouble(&key(1), "ana", Some(there()), Cause::PresharedKey, at(2));
        log.reached(&key(1));
        assert_eq!(cause(&log, 1, at(2)), Some(ProblemCause::PresharedKey));
    }

    #[test]
    fn answers_that_are_not_taken_are_a_problem_only_in_a_row() {
        let mut log = PeerLog::default();
        log.not_confirmed(&key(1), "ana", Some(there()), at(0));
        log.not_confirmed(&key(1), "ana", Some(there()), at(100));
        assert_eq!(cause(&log, 1, at(100)), None);
        log.not_confirmed(&key(1), "ana", Some(there()), at(105));
        assert_eq!(cause(&log, 1, at(105)), Some(ProblemCause::NotConfirmed));
    }

    #[test]
    fn a_problem_that_is_over_is_the_last_one_until_another_is() {
        let mut log = PeerLog::default();
        let (key, at) = (PublicKey([1; 32]), |seconds| {
            Time::START + Duration::from_secs(seconds)
        });
        log.clock_behind(&key, "ana", None, Duration::from_secs(7200), at(10));
        let problem = log.problem(&key, at(11)).unwrap();
        assert_eq!(problem.cause, ProblemCause::Clock);
        assert!(problem.message.contains("2 hours before"), "{problem:?}");
        assert_eq!(log.last_problem(&key, at(11)), None);
        log.finished(&key, "ana", None, at(12));
        assert_eq!(log.problem(&key, at(13)), None);
        let last = log.last_problem(&key, at(13)).unwrap();
        assert_eq!((last.cause, last.seconds_ago), (problem.cause, 3.0));
        // A recorded message that somebody plays while there is a session.
        log.clock_behind(&key, "ana", None, Duration::from_secs(7200), at(14));
        assert_eq!(log.problem(&key, at(14)), None);
        log.finished(&key, "ana", None, at(120));
        assert!(log.last_problem(&key, at(120)).is_some());
        log.trouble(&key, "ana", None, Cause::PresharedKey, at(400));
        log.finished(&key, "ana", None, at(410));
        let last = log.last_problem(&key, at(410)).unwrap();
        assert_eq!(last.cause, ProblemCause::PresharedKey);
    }
}
