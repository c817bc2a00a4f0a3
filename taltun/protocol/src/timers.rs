//! What is due for a peer by time alone, without a packet (paper §6).
//!
//! Nothing here waits: [`Timers::next`] returns what is due next, and when, from the timers and
//! the peer's activity.

use std::time::Duration;

use super::messages::{
    KEEPALIVE_TIMEOUT, NEW_HANDSHAKE_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, WIPE_AFTER_TIME,
};
use super::peer::Activity;
use super::time::Time;

/// How long sessions open what is on its way of a peer that has another hub now.
const LINGER: Duration = Duration::from_secs(3);

/// From an initiation to one that goes elsewhere.
const ELSEWHERE_AFTER: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Our initiation got no answer: send another (§6.4).
    Retry,
    /// A handshake was asked for while the last initiation was too young (§6.1).
    Handshake,
    /// Data was sent and nothing came back: negotiate anew (§6.5).
    Unanswered,
    /// Data was received and nothing sent since: say that we are there (§6.5).
    Keepalive,
    /// The mapping of a NAT must not close.
    PersistentKeepalive,
    /// No new session for long: wipe all key material (§6.3).
    Wipe,
}

/// The controller's clockwork for one peer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    last_initiation: Option<Time>,
    /// When to send the initiation again; set while a handshake is in flight.
    retry_at: Option<Time>,
    /// When the first initiation of the handshake in flight was sent.
    handshake_since: Option<Time>,
    /// A handshake was asked for and not started yet.
    wanted: bool,
    wipe_at: Option<Time>,
    /// Since when keepalives are counted where no packet went either way yet.
    persistent_since: Option<Time>,
    persistent: Option<Duration>,
    jitter: Duration,
}

impl Timers {
    /// The earliest thing due, which may lie in the past.
    pub(super) fn next(&self, activity: &Activity) -> Option<(Time, Due)> {
        let idle = |time: Option<Time>| time.filter(|_| !self.is_handshaking());
        [
            (self.retry_at, Due::Retry),
            (idle(self.wanted_at()), Due::Handshake),
            (
                idle(activity.unanswered_since())
                    .map(|since| since + NEW_HANDSHAKE_TIME + self.jitter),
                Due::Unanswered,
            ),
            (
                activity
                    .unacknowledged_since()
                    .map(|since| since + KEEPALIVE_TIMEOUT),
                Due::Keepalive,
            ),
            (idle(self.persistent_at(activity)), Due::PersistentKeepalive),
            (self.wipe_at, Due::Wipe),
        ]
        .into_iter()
        .filter_map(|(time, due)| Some((time?, due)))
        .min_by_key(|(time, _)| *time)
    }

    /// Asks for a handshake, at once or as soon as the last initiation is old enough.
    pub(super) fn want_handshake(&mut self) {
        self.wanted = true;
    }

    /// Whether another initiation may be sent now (§6.1).
    pub(super) fn may_initiate(&self, now: Time) -> bool {
        self.last_initiation
            .is_none_or(|last| now.since(last) >= REKEY_TIMEOUT)
    }

    /// The peer is gone from where the last initiation went, and may be elsewhere: the next one need not wait as long
    /// as one to the same place.
    pub(super) fn hasten(&mut self, now: Time) {
        let last = self.last_initiation;
        self.last_initiation = last.filter(|last| now.since(*last) < ELSEWHERE_AFTER);
    }

    /// Whether our handshake is in flight, to be retried or given up.
    pub(super) fn is_handshaking(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Whether the handshake in flight was tried for its whole 90 s (§6.4). Told by time
    /// rather than by counting, so that a machine that slept through them knows.
    pub(super) fn attempts_used_up(&self, now: Time) -> bool {
        self.handshake_since
            .is_some_and(|since| now.since(since) >= REKEY_ATTEMPT_TIME)
    }

    /// An initiation was sent.
    pub(super) fn initiation_sent(&mut self, now: Time, jitter: Duration) {
        self.wanted = false;
        self.handshake_since.get_or_insert(now);
        self.last_initiation = Some(now);
        self.retry_at = Some(now + REKEY_TIMEOUT + jitter);
        self.jitter = jitter;
    }

    /// The handshake in flight is given up, or can't be made at all.
    pub(super) fn handshake_abandoned(&mut self, now: Time) {
        self.handshake_settled();
        self.wipe_at.get_or_insert(now + WIPE_AFTER_TIME);
    }

    /// A session came out of a handshake. `ours` when we had started it.
    pub(super) fn session_begun(&mut self, now: Time, ours: bool) {
        self.wipe_at = Some(now + WIPE_AFTER_TIME);
        if ours {
            self.handshake_settled();
        }
    }

    /// No handshake is needed any more: ours is finished, or the other side's was.
    pub(super) fn handshake_settled(&mut self) {
        self.wanted = false;
        self.handshake_since = None;
        self.retry_at = None;
    }

    /// All keys were wiped.
    pub(super) fn wiped(&mut self) {
        self.wipe_at = None;
    }

    /// The peer is another hub's now: nothing is due any more but that its sessions end, before any of
    /// them would need a keepalive.
    pub(super) fn leave(&mut self, now: Time) {
        self.handshake_settled();
        self.wipe_at = Some(now + LINGER);
    }

    /// The next handshake may start at once, whatever was tried before.
    pub(super) fn restart(&mut self) {
        self.handshake_settled();
        self.last_initiation = None;
    }

    /// All that was under way is void, as when our own key changes: the next handshake may
    /// start at once.
    pub(super) fn start_over(&mut self) {
        self.restart();
        self.wipe_at = None;
    }

    /// The interval of persistent keepalives.
    pub(super) fn persistent(&self) -> Option<Duration> {
        self.persistent
    }

    /// Sets the interval of persistent keepalives, zero being none. Where no packet went
    /// either way yet, the first one is due at once.
    pub(super) fn set_persistent(&mut self, interval: Option<Duration>, now: Time) {
        let interval = interval.filter(|interval| !interval.is_zero());
        self.persistent_since = match (self.persistent, interval) {
            (None, Some(_)) => None,
            _ => Some(now),
        };
        self.persistent = interval;
    }

    /// A persistent keepalive could not be sent; the next one is due an interval later.
    pub(super) fn persistent_tried(&mut self, now: Time) {
        self.persistent_since = Some(now);
    }

    fn wanted_at(&self) -> Option<Time> {
        self.wanted.then(|| {
            self.last_initiation
                .map_or(Time::START, |last| last + REKEY_TIMEOUT)
        })
    }

    fn persistent_at(&self, activity: &Activity) -> Option<Time> {
        let interval = self.persistent?;
        let since = activity.last_traversal().max(self.persistent_since);
        Some(since.map_or(Time::START, |since| since + interval))
    }
}
