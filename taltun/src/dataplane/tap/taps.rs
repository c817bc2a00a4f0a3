//! All watches, and what each wants.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ring::{Reader, Writer};
use super::seen::{Fate, Place, Seen, Subject};
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;

/// Watches at once. Each costs a copy of what it wants.
pub const WATCHES: usize = 8;

/// What somebody wants to see.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a kind of its own, in any combination"
)]
pub struct Wants {
    /// Only what comes from this peer or goes to it; `None` for all. What was dropped before its
    /// peer was known is taken for the peer's if it comes from where that is.
    pub peer: Option<Arc<Peer>>,
    /// What passes, too, not only what is dropped.
    pub passed: bool,
    /// Packets as they are inside, once each.
    pub inner: bool,
    /// Datagrams as they are outside, those that arrive and those that leave.
    pub outer: bool,
    /// Of datagrams, those that are dropped and hold no packet that is told.
    pub lost: bool,
    /// Bytes that are kept of each.
    pub snap: usize,
    /// Bytes that may wait for the reader, of each thread.
    pub room: usize,
}

/// A watch as those see it who tell it something.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) wants: Wants,
    pub(super) left_out: AtomicU64,
    /// Rings that the reader hasn't taken yet.
    pub(super) readers: Mutex<Vec<Reader>>,
    /// For what is told outside of a batch.
    pub(super) beside: Mutex<Writer>,
}

impl Shared {
    /// Whether this is wanted.
    pub(super) fn wants(&self, seen: &Seen) -> bool {
        let wants = &self.wants;
        let dropped = matches!(seen.fate, Fate::Dropped(_));
        let kind = match seen.place {
            Place::Arrived | Place::Leaves => {
                wants.outer || (wants.lost && dropped && !seen.held_packet)
            }
            Place::Kernel => wants.lost,
            Place::ToHost | Place::FromHost | Place::Relayed => wants.inner,
        };
        kind && (dropped || wants.passed)
            && wants.peer.as_ref().is_none_or(|peer| is_of(seen, peer))
    }

    pub(super) fn leave_out(&self, packets: u64) {
        self.left_out.fetch_add(packets, Ordering::Relaxed);
    }
}

/// Whether it comes from a peer or goes to it.
fn is_of(seen: &Seen, peer: &Peer) -> bool {
    let key = Some(*peer.public_key());
    if seen.from.is_some() || seen.to.is_some() {
        return seen.from == key || seen.to == key;
    }
    let endpoint = peer.endpoint().map(|endpoint| endpoint.remote);
    match (seen.remote, endpoint) {
        (Some(remote), Some(known)) => remote.ip().to_canonical() == known.ip().to_canonical(),
        _ => false,
    }
}

/// All watches; shared by the threads of the data plane and the controller.
#[derive(Debug, Default)]
pub struct Taps {
    /// Another number whenever a watch begins or ends.
    pub(super) generation: AtomicU64,
    /// How many there are.
    count: AtomicUsize,
    pub(super) watches: Mutex<Vec<Arc<Shared>>>,
}

impl Taps {
    /// Whether anybody watches.
    #[inline]
    pub fn are_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether anybody wants to see this kind of thing.
    pub fn any(&self, wanted: impl Fn(&Wants) -> bool) -> bool {
        self.are_on() && lock(&self.watches).iter().any(|watch| wanted(&watch.wants))
    }

    /// Tells of something outside of a batch. For what is rare: it takes a lock.
    pub fn tell(&self, seen: Seen, bytes: &[u8]) {
        if !self.are_on() {
            return;
        }
        for watch in lock(&self.watches).iter() {
            if watch.wants(&seen) && !lock(&watch.beside).push(seen, bytes, watch.wants.snap) {
                watch.leave_out(seen.packets);
            }
        }
    }

    /// Tells of something that passed outside of a batch.
    #[inline]
    pub fn pass(&self, at: Time, subject: Subject<'_>) {
        if self.are_on() {
            self.tell_of(at, Fate::Passed, subject, 1);
        }
    }

    /// Tells of something outside of a batch, or of so many.
    pub(in crate::dataplane) fn tell_of(
        &self,
        at: Time,
        fate: Fate,
        subject: Subject<'_>,
        packets: u64,
    ) {
        let (mut seen, bytes) = subject.seen(at, fate);
        seen.packets = packets;
        self.tell(seen, bytes);
    }

    /// A watch ends.
    pub(super) fn end(&self, ended: &Arc<Shared>) {
        let mut watches = lock(&self.watches);
        watches.retain(|watch| !Arc::ptr_eq(watch, ended));
        self.changed(&watches);
    }

    /// There is one more or one less of them.
    pub(super) fn changed(&self, watches: &[Arc<Shared>]) {
        self.count.store(watches.len(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
