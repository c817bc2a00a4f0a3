//! One ring that is shared with the kernel: one side puts values in, the other takes them
//! out.
//!
//! Both sides count for ever, modulo 2³²; an entry's place is its number modulo the size,
//! which is a power of two. The producer's number is read and written so that whoever sees
//! it also sees the entries before it; the consumer's, so that whoever sees it knows that
//! the entries before it have been read.
//!
//! `tests/interleavings` tries each order of both sides.

use super::atomic::{Ordering, fence};
use super::parts::{Entry, NEED_WAKEUP, RingParts};

/// The side that puts values in.
#[derive(Debug)]
pub(super) struct Producer<T> {
    parts: RingParts<T>,
    /// The number of the next entry.
    next: u32,
    /// The consumer's number when we last looked.
    consumed: u32,
}

impl<T: Entry> Producer<T> {
    /// Goes on where the ring is.
    pub(super) fn new(parts: RingParts<T>) -> Self {
        let next = parts.producer().load(Ordering::Relaxed);
        let consumed = parts.consumer().load(Ordering::Acquire);
        Self {
            parts,
            next,
            consumed,
        }
    }

    /// Puts a value in, which the other side sees after [`publish`](Self::publish). Gives
    /// it back when the ring is full.
    pub(super) fn push(&mut self, value: T) -> Result<(), T> {
        if self.next.wrapping_sub(self.consumed) >= self.parts.size() {
            self.consumed = self.parts.consumer().load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumed) >= self.parts.size() {
                return Err(value);
            }
        }
        // SAFETY: the other side reads this place only once it sees a producer's number
        // behind it; and it has read what was there, as its own number says.
        unsafe { self.parts.write(self.next, value) };
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Shows the other side all that was put in.
    pub(super) fn publish(&self) {
        self.parts.producer().store(self.next, Ordering::Release);
    }

    /// The number behind the last value. All are [published](Self::publish).
    pub(super) fn published(&self) -> u32 {
        self.next
    }

    /// How many published values before this number, which is one of [`published`](Self::published), the other
    /// side hasn't taken yet.
    pub(super) fn waiting_before(&self, number: u32) -> u32 {
        let consumed = self.parts.consumer().load(Ordering::Acquire);
        let waiting = number.wrapping_sub(consumed);
        // The other side has passed it where this is "less than nothing".
        if waiting > self.parts.size() {
            0
        } else {
            waiting
        }
    }

    /// Whether the kernel wants to be told that there is something in the ring.
    pub(super) fn needs_wakeup(&self) -> bool {
        // The kernel sets the flag and then looks at the ring again. So we must look at
        // the flag only when our entries can be seen.
        fence(Ordering::SeqCst);
        self.parts.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// The side that takes values out.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    parts: RingParts<T>,
    /// The number of the next entry.
    next: u32,
    /// The producer's number when we last looked.
    produced: u32,
}

impl<T: Entry> Consumer<T> {
    /// Goes on where the ring is.
    pub(super) fn new(parts: RingParts<T>) -> Self {
        let next = parts.consumer().load(Ordering::Relaxed);
        let produced = parts.producer().load(Ordering::Acquire);
        Self {
            parts,
            next,
            produced,
        }
    }

    /// Takes the next value. Its place is free again after [`release`](Self::release).
    pub(super) fn pop(&mut self) -> Option<T> {
        if !self.has_more() {
            return None;
        }
        // SAFETY: the other side has written it, as its number says, and doesn't write
        // there again before it sees ours behind it.
        let value = unsafe { self.parts.read(self.next) };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// Whether there is a next value.
    pub(super) fn has_more(&mut self) -> bool {
        if self.next == self.produced {
            self.produced = self.parts.producer().load(Ordering::Acquire);
        }
        self.next != self.produced
    }

    /// Gives the places of all taken values back.
    pub(super) fn release(&self) {
        self.parts.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dataplane::sys::xsk::mapping::Mapping;

    pub(in super::super) const OFFSETS: libc::xdp_ring_offset = libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        flags: 128,
        desc: 192,
    };

    /// Memory for a ring, both of whose sides have come to `number`.
    pub(in super::super) fn memory(number: u32) -> Arc<Mapping> {
        let memory = Arc::new(Mapping::anonymous(1 << 16).unwrap());
        let parts = parts::<u64>(&memory, 4);
        parts.producer().store(number, Ordering::Relaxed);
        parts.consumer().store(number, Ordering::Relaxed);
        memory
    }

    /// One end of a ring of so many entries in this memory.
    pub(in super::super) fn parts<T: Entry>(memory: &Arc<Mapping>, size: u32) -> RingParts<T> {
        RingParts::new(Arc::clone(memory), &OFFSETS, size).unwrap()
    }

    fn pair(number: u32) -> (Producer<u64>, Consumer<u64>) {
        let memory = memory(number);
        (
            Producer::new(parts(&memory, 4)),
            Consumer::new(parts(&memory, 4)),
        )
    }

    #[test]
    fn nothing_is_seen_before_it_is_published_and_no_place_free_before_it_is_released() {
        let (mut producer, mut consumer) = pair(0);
        assert_eq!(consumer.pop(), None);
        for value in 1..=4 {
            producer.push(value).unwrap();
        }
        assert_eq!(producer.push(5), Err(5));
        assert_eq!(consumer.pop(), None);
        producer.publish();
        assert_eq!(producer.waiting_before(producer.published()), 4);
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(5), Err(5));
        consumer.release();
        assert_eq!(producer.waiting_before(producer.published()), 3);
        producer.push(5).unwrap();
        producer.publish();
        let rest: Vec<_> = std::iter::from_fn(|| consumer.pop()).collect();
        assert_eq!(rest, [2, 3, 4, 5]);
    }

    #[test]
    fn numbers_go_on_behind_the_largest() {
        let (mut producer, mut consumer) = pair(u32::MAX - 5);
        for value in 0..1000 {
            for part in 0..3 {
                producer.push(value * 3 + part).unwrap();
            }
            producer.publish();
            assert_eq!(producer.waiting_before(producer.published()), 3);
            for part in 0..3 {
                assert_eq!(consumer.pop(), Some(value * 3 + part));
            }
            assert_eq!(consumer.pop(), None);
            consumer.release();
        }
    }

    #[test]
    fn the_wakeup_flag_is_the_kernels_to_set() {
        let memory = memory(0);
        let producer = Producer::<u64>::new(parts(&memory, 4));
        assert!(!producer.needs_wakeup());
        let kernels = parts::<u64>(&memory, 4);
        kernels.flags().store(NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn two_threads_lose_and_invent_nothing() {
        const COUNT: u64 = 20_000;
        let (mut producer, mut consumer) = pair(u32::MAX - 100);
        let writer = std::thread::spawn(move || {
            for value in 0..COUNT {
                while producer.push(value).is_err() {
                    std::thread::yield_now();
                }
                producer.publish();
            }
        });
        for value in 0..COUNT {
            let got = loop {
                match consumer.pop() {
                    Some(got) => break got,
                    None => std::thread::yield_now(),
                }
            };
            consumer.release();
            assert_eq!(got, value);
        }
        writer.join().unwrap();
    }

    #[test]
    fn a_ring_that_does_not_fit_its_memory_is_refused() {
        let memory = memory(0);
        assert!(RingParts::<u64>::new(Arc::clone(&memory), &OFFSETS, 1 << 16).is_err());
        assert!(RingParts::<u64>::new(Arc::clone(&memory), &OFFSETS, 3).is_err());
        let crooked = libc::xdp_ring_offset {
            producer: 2,
            ..OFFSETS
        };
        assert!(RingParts::<u64>::new(memory, &crooked, 4).is_err());
    }
}
