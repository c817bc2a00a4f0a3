//! What workers ask of the controller: for which peers, and whether it has to be woken for that.
//!
//! A peer has a bit for each thing that can be asked for it. The worker that sets the first one puts the
//! peer on a list, so a peer is there once, however much is asked for it. After its batch a worker wakes the
//! controller if something waits. Nothing may be lost in between: `tests/interleavings` tries each order.

use std::sync::PoisonError;

use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// What is asked for one peer, as bits.
#[derive(Debug, Default)]
pub(super) struct Asked(AtomicU8);

impl Asked {
    /// Adds bits; true when there were none before.
    pub(super) fn add(&self, bits: u8) -> bool {
        self.0.fetch_or(bits, Ordering::AcqRel) == 0
    }

    /// Takes all bits.
    pub(super) fn take(&self) -> u8 {
        self.0.swap(0, Ordering::AcqRel)
    }

    /// Takes these bits away; those that are left.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn forget(&self, bits: u8) -> u8 {
        self.0.fetch_and(!bits, Ordering::Relaxed) & !bits
    }
}

/// The peers that something is asked for.
#[derive(Debug)]
pub(super) struct Requests<Id> {
    list: Mutex<Vec<Id>>,
    /// Whether the controller has to look.
    waiting: AtomicBool,
}

impl<Id> Default for Requests<Id> {
    fn default() -> Self {
        Self {
            list: Mutex::new(Vec::new()),
            waiting: AtomicBool::new(false),
        }
    }
}

impl<Id> Requests<Id> {
    /// Puts a peer on the list: the first bit of its [`Asked`] was set.
    pub(super) fn push(&self, id: Id) {
        self.lock().push(id);
        self.note();
    }

    /// Something waits for the controller that is where it looks before it takes the list or after.
    pub(super) fn note(&self) {
        self.waiting.store(true, Ordering::Release);
    }

    /// Whether anything came since this was last asked. Who gets true wakes the controller.
    pub(super) fn take_wake(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel)
    }

    /// All peers on the list. What comes after that is noted anew.
    pub(super) fn take(&self) -> Vec<Id> {
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Id>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
