//! The memory of a ring, of loom's atomics and cells: it fails where an entry is written while the other side
//! reads it.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;

/// The flag of a kernel that wants to be told when there is something in the ring.
pub(super) const NEED_WAKEUP: u32 = 1;

/// Marks what may lie in a ring.
pub(super) trait Entry: Copy {}

impl Entry for u64 {}

/// What both ends lead into.
#[derive(Debug)]
pub(super) struct Memory<T> {
    producer: AtomicU32,
    consumer: AtomicU32,
    flags: AtomicU32,
    entries: Vec<UnsafeCell<T>>,
}

// SAFETY: the cells see for themselves whether two threads use one of them at a time, and fail.
unsafe impl<T: Entry> Sync for Memory<T> {}
// SAFETY: as above.
unsafe impl<T: Entry> Send for Memory<T> {}

impl Memory<u64> {
    /// So many places, a power of two, and the number that both sides have come to.
    pub(super) fn new(size: u32, number: u32) -> Self {
        Self {
            producer: AtomicU32::new(number),
            consumer: AtomicU32::new(number),
            flags: AtomicU32::new(0),
            entries: (0..size).map(|_| UnsafeCell::new(0)).collect(),
        }
    }
}

/// One end's parts of a ring.
#[derive(Debug)]
pub(super) struct RingParts<T>(Arc<Memory<T>>);

impl<T: Entry> RingParts<T> {
    pub(super) fn of(memory: &Arc<Memory<T>>) -> Self {
        Self(Arc::clone(memory))
    }

    pub(super) fn size(&self) -> u32 {
        self.0.entries.len() as u32
    }

    pub(super) fn producer(&self) -> &AtomicU32 {
        &self.0.producer
    }

    pub(super) fn consumer(&self) -> &AtomicU32 {
        &self.0.consumer
    }

    pub(super) fn flags(&self) -> &AtomicU32 {
        &self.0.flags
    }

    /// # Safety
    /// None is needed, unlike in the program.
    pub(super) unsafe fn write(&self, number: u32, value: T) {
        // SAFETY: the cell fails where another thread uses it.
        self.cell(number)
            .with_mut(|place| unsafe { *place = value });
    }

    /// # Safety
    /// None is needed, unlike in the program.
    pub(super) unsafe fn read(&self, number: u32) -> T {
        // SAFETY: the cell fails where another thread writes it.
        self.cell(number).with(|place| unsafe { *place })
    }

    fn cell(&self, number: u32) -> &UnsafeCell<T> {
        &self.0.entries[(number & (self.size() - 1)) as usize]
    }
}
