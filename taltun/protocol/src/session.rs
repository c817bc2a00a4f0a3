//! A session: two transport keys, a send counter and a replay window (paper §5.4.6).
//!
//! Shared between threads; sealing and opening only read. Callers seal and open in place
//! in a buffer laid out as `header (16) | packet, padded | tag (16)`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taltun_common::wire;
use zerocopy::IntoBytes;

use super::counter::SendCounter;
use super::messages::{
    DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_ON_RECEIVE_AFTER_TIME, REKEY_TIMEOUT,
    STOP_SENDING_AFTER_TIME,
};
use super::noise::TransportKeys;
use super::replay::ReplayWindow;
use super::time::Time;
use taltun_crypto::{AeadKey, AuthError, TAG_LEN, aead};

/// Which side of the handshake we were; only an initiator renews a session by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We sent the initiation.
    Initiator,
    /// We answered one.
    Responder,
}

/// Keys and counters that came out of one handshake.
#[derive(Debug)]
pub struct Session {
    local_index: u32,
    remote_index: u32,
    role: Role,
    born: Time,
    sending: AeadKey,
    receiving: AeadKey,
    counter: SendCounter,
    replay: Mutex<ReplayWindow>,
    /// For an initiator true from the start; for a responder, once data arrived on it.
    confirmed: AtomicBool,
    /// A session asks for its successor only once by receiving.
    renewal_asked: AtomicBool,
    /// The other side understands control messages.
    takes_control: AtomicBool,
}

impl Session {
    pub(super) fn new(
        keys: &TransportKeys,
        role: Role,
        local_index: u32,
        remote_index: u32,
        now: Time,
    ) -> Self {
        Self {
            local_index,
            remote_index,
            role,
            born: now,
            sending: AeadKey::new(&keys.sending),
            receiving: AeadKey::new(&keys.receiving),
            counter: SendCounter::with_limit(REJECT_AFTER_MESSAGES),
            replay: Mutex::default(),
            confirmed: AtomicBool::new(role == Role::Initiator),
            renewal_asked: AtomicBool::new(false),
            takes_control: AtomicBool::new(false),
        }
    }

    /// The index the other side addresses us by.
    pub fn local_index(&self) -> u32 {
        self.local_index
    }

    /// When its handshake was.
    pub(super) fn born(&self) -> Time {
        self.born
    }

    /// Which side of its handshake we were.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether the handshakes of both crossed: each side initiated one, closer to each other
    /// than a retry.
    pub(super) fn crossed(&self, other: &Self) -> bool {
        self.role != other.role
            && self.age(other.born) < REKEY_TIMEOUT
            && other.age(self.born) < REKEY_TIMEOUT
    }

    /// Takes the next `count` counters, to seal that many packets; `None` once the session
    /// has used up what it may ever send (§6.1).
    pub fn reserve(&self, count: u64) -> Option<u64> {
        self.counter.reserve(count)
    }

    /// Seals in place. `message` is the whole data message: 16 bytes for the header, the
    /// padded packet, 16 bytes for the tag.
    ///
    /// # Panics
    /// When `message` is shorter than header and tag.
    pub fn seal(&self, counter: u64, message: &mut [u8]) {
        let (packet, tag) = self
            .write_header(counter, message)
            .split_last_chunk_mut::<TAG_LEN>()
            .expect("a message has room for its tag");
        *tag = self.sending.seal(counter, &[], packet);
    }

    /// The same for [`seal_all`](taltun_crypto::aead::seal_all), which does the rest.
    pub(super) fn to_seal<'a>(&'a self, counter: u64, message: &'a mut [u8]) -> aead::Message<'a> {
        let rest = self.write_header(counter, message);
        aead::Message::new(&self.sending, counter, rest)
    }

    /// Gives back what is behind it.
    fn write_header<'a>(&self, counter: u64, message: &'a mut [u8]) -> &'a mut [u8] {
        let (header, rest) = message.split_at_mut(DATA_HEADER_LEN);
        let fields = DataHeader {
            kind: wire::DATA.into(),
            receiver: self.remote_index.into(),
            counter: counter.into(),
        };
        header.copy_from_slice(fields.as_bytes());
        rest
    }

    /// Opens a data message in place and returns its padded packet, not yet checked
    /// against replay: that is [`Self::accept`], for authenticated packets only.
    pub fn open<'a>(&self, counter: u64, message: &'a mut [u8]) -> Result<&'a mut [u8], AuthError> {
        if message.len() < DATA_OVERHEAD {
            return Err(AuthError);
        }
        self.receiving
            .open(counter, &[], &mut message[DATA_HEADER_LEN..])
    }

    /// The same for [`open_all`](taltun_crypto::aead::open_all), which does it.
    pub(super) fn to_open<'a>(&'a self, counter: u64, message: &'a mut [u8]) -> aead::Message<'a> {
        // What has no room for header and tag is too short for the tag without a header, too.
        let rest = message.get_mut(DATA_HEADER_LEN..).unwrap_or_default();
        aead::Message::new(&self.receiving, counter, rest)
    }

    /// Takes note of an authenticated counter; false for a replay.
    pub fn accept(&self, counter: u64) -> bool {
        self.replay
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .accept(counter)
    }

    /// Time since the handshake that made it.
    pub fn age(&self, now: Time) -> Duration {
        now.since(self.born)
    }

    /// Whether it may still open what arrives (§6.2).
    pub fn may_receive(&self, now: Time) -> bool {
        self.age(now) < REJECT_AFTER_TIME
    }

    /// Whether it may still seal (§6.1, §6.2); ends a little before the session does, so
    /// that nothing arrives after its death.
    pub fn may_send(&self, now: Time) -> bool {
        self.age(now) < STOP_SENDING_AFTER_TIME && self.counter.used() < REJECT_AFTER_MESSAGES
    }

    /// Whether sending on it should start the handshake for its successor (§6.2).
    pub(super) fn renew_on_send(&self, now: Time) -> bool {
        self.counter.used() >= REKEY_AFTER_MESSAGES
            || (self.role == Role::Initiator && self.age(now) >= REKEY_AFTER_TIME)
    }

    /// Whether receiving on it should; true once at the most.
    pub(super) fn renew_on_receive(&self, now: Time) -> bool {
        self.role == Role::Initiator
            && self.age(now) >= REKEY_ON_RECEIVE_AFTER_TIME
            && !self.renewal_asked.swap(true, Ordering::Relaxed)
    }

    /// Whether the other side is known to hold the keys.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    pub(super) fn confirm(&self) {
        self.confirmed.store(true, Ordering::Release);
    }

    /// Whether the other side is known to understand control messages.
    pub fn takes_control(&self) -> bool {
        self.takes_control.load(Ordering::Relaxed)
    }

    pub(super) fn set_takes_control(&self) {
        self.takes_control.store(true, Ordering::Relaxed);
    }

    /// Pretends that `sent` messages were sent, for tests of the limits.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn set_counter(&self, sent: u64) {
        self.counter.set_used(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Session, Session) {
        let keys = |sending, receiving| TransportKeys {
            sending: [sending; 32],
            receiving: [receiving; 32],
        };
        (
            Session::new(&keys(1, 2), Role::Initiator, 10, 20, Time::START),
            Session::new(&keys(2, 1), Role::Responder, 20, 10, Time::START),
        )
    }

    #[test]
    fn data_messages_have_32_bytes_of_overhead() {
        let (a, b) = pair();
        let mut message = vec![0; 16 + 64 + 16];
        message[16..80].fill(7);
        a.seal(a.reserve(1).unwrap(), &mut message);
        assert_eq!(message.len(), 64 + 32);
        assert_eq!(&message[..8], &[4, 0, 0, 0, 20, 0, 0, 0]);
        assert_eq!(b.open(0, &mut message).unwrap(), [7; 64]);
    }

    #[test]
    fn a_message_changed_anywhere_does_not_open() {
        let (a, b) = pair();
        let mut sealed = vec![0; 16 + 32 + 16];
        a.seal(a.reserve(1).unwrap(), &mut sealed);
        for at in 16..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 0x80;
            assert!(b.open(0, &mut forged).is_err());
        }
        assert!(b.open(1, &mut sealed.clone()).is_err());
        assert!(b.open(0, &mut sealed).is_ok());
    }

    #[test]
    fn the_counter_never_passes_its_limit_nor_wraps() {
        let (a, _) = pair();
        a.set_counter(REJECT_AFTER_MESSAGES - 2);
        assert_eq!(a.reserve(1), Some(REJECT_AFTER_MESSAGES - 2));
        assert!(a.may_send(Time::START));
        assert_eq!(a.reserve(2), None);
        assert!(!a.may_send(Time::START));
        for _ in 0..3 {
            assert_eq!(a.reserve(u64::MAX / 2), None);
        }
        assert!(!a.may_send(Time::START));
    }

    #[test]
    fn only_the_initiator_renews_by_age_but_both_by_count() {
        let (a, b) = pair();
        let late = Time::START + REKEY_AFTER_TIME;
        assert!(a.renew_on_send(late));
        assert!(!b.renew_on_send(late));
        b.set_counter(REKEY_AFTER_MESSAGES);
        assert!(b.renew_on_send(Time::START));
    }
}
