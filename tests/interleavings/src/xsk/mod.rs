//! A ring of AF_XDP between the program and a kernel of loom's kind at its other end.

use std::sync::Arc;

use loom::sync::atomic;
use loom::thread;

use crate::in_each_order;
use atomic::{Ordering, fence};
use parts::{Memory, NEED_WAKEUP, RingParts};
use ring::{Consumer, Producer};

mod parts;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../../../taltun/src/dataplane/sys/xsk/ring.rs"]
mod ring;

/// The ends of a ring of one place, whose numbers are about to begin anew.
fn ends() -> (Producer<u64>, Consumer<u64>) {
    let memory = Arc::new(Memory::new(1, u32::MAX));
    (
        Producer::new(RingParts::of(&memory)),
        Consumer::new(RingParts::of(&memory)),
    )
}

/// What is put in comes out, once and in its order, and no place is written while it is read.
pub fn what_is_put_in_comes_out_once_and_in_order() {
    const COUNT: u64 = 3;
    in_each_order(3, || {
        let (mut producer, mut consumer) = ends();
        let other = thread::spawn(move || {
            for value in 0..COUNT {
                while producer.push(value).is_err() {
                    thread::yield_now();
                }
                producer.publish();
            }
        });
        for value in 0..COUNT {
            let got = loop {
                match consumer.pop() {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            consumer.release();
            assert_eq!(got, value);
        }
        other.join().expect("it ends");
        assert!(!consumer.has_more());
    });
}

/// A kernel that goes to sleep sets its flag and looks at the ring once more; the program shows an entry and
/// then looks at the flag. One of them sees the other, or the entry would lie there for ever.
pub fn an_entry_is_seen_or_the_kernel_is_woken() {
    in_each_order(3, || {
        let memory = Arc::new(Memory::new(2, 0));
        let mut producer = Producer::<u64>::new(RingParts::of(&memory));
        let kernels = Arc::clone(&memory);
        let kernel = thread::spawn(move || {
            let parts = RingParts::<u64>::of(&kernels);
            parts.flags().store(NEED_WAKEUP, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            Consumer::new(parts).has_more()
        });
        producer.push(7).expect("there is room");
        producer.publish();
        let woken = producer.needs_wakeup();
        let seen = kernel.join().expect("it ends");
        assert!(seen || woken, "an entry lies there, and the kernel sleeps");
    });
}
