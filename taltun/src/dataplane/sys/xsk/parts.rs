//! The memory of a ring: two numbers, flags and entries.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::mapping::Mapping;

/// The flag of a kernel that wants to be told when there is something in the ring.
pub(super) const NEED_WAKEUP: u32 = libc::XDP_RING_NEED_WAKEUP;

/// Marks what may lie in a ring.
///
/// # Safety
/// Any bytes are a valid value, and dropping it does nothing.
pub(super) unsafe trait Entry: Copy {}

// SAFETY: an integer.
unsafe impl Entry for u64 {}
// SAFETY: three integers.
unsafe impl Entry for libc::xdp_desc {}

/// The parts of a ring, and the memory they lie in.
#[derive(Debug)]
pub(super) struct RingParts<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    _memory: Arc<Mapping>,
}

// SAFETY: the pointers lead into the mapping, which can be used from any thread; what is
// done through them is atomic or, for entries, ordered by the two numbers.
unsafe impl<T: Entry> Send for RingParts<T> {}

impl<T: Entry> RingParts<T> {
    /// Those that lie in this memory.
    ///
    /// # Errors
    /// Where the size is no power of two, or they don't lie in it.
    pub(super) fn new(
        memory: Arc<Mapping>,
        at: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        if !size.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            producer: memory.values(at.producer, 1)?,
            consumer: memory.values(at.consumer, 1)?,
            flags: memory.values(at.flags, 1)?,
            entries: memory.values(at.desc, size as usize)?,
            size,
            _memory: memory,
        })
    }

    /// How many entries there are.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// The number behind the last entry that was put in.
    pub(super) fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned and within the mapping, which lives as long as `self`; the kernel
        // too changes it by atomic stores only.
        unsafe { self.producer.as_ref() }
    }

    /// The number behind the last entry that was taken out.
    pub(super) fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    /// What the kernel says of itself.
    pub(super) fn flags(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }
    }

    /// Writes the entry of this number.
    ///
    /// # Safety
    /// The other side neither reads nor writes it meanwhile.
    pub(super) unsafe fn write(&self, number: u32, value: T) {
        // SAFETY: the place is within the mapping, and nobody else's, as the caller says.
        unsafe { self.place(number).write(value) };
    }

    /// Reads the entry of this number.
    ///
    /// # Safety
    /// The other side doesn't write it meanwhile.
    pub(super) unsafe fn read(&self, number: u32) -> T {
        // SAFETY: the place is within the mapping, and nobody writes it, as the caller says; any
        // bytes are a value.
        unsafe { self.place(number).read() }
    }

    fn place(&self, number: u32) -> NonNull<T> {
        // SAFETY: the place is below the size, and so many entries lie in the mapping.
        unsafe { self.entries.add((number & (self.size - 1)) as usize) }
    }
}
