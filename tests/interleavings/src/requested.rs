//! What workers ask of the controller: nothing waits for ever, however they come between each other.
//!
//! Two workers beside a controller that looks by itself aren't tried: loom takes two stores of different
//! threads to one place for unordered, even where a read and write in one step lies between them, and so
//! finds an order that no machine has.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::in_each_order;
use crate::requests::{Asked, Requests};

/// A peer, its list, and whether somebody woke the controller.
#[derive(Default)]
struct World {
    requests: Requests<u8>,
    peer: Asked,
    woken: AtomicBool,
}

impl World {
    /// A worker asks for something, and wakes the controller at the end of its batch.
    fn work(&self, bit: u8) {
        if self.peer.add(bit) {
            self.requests.push(1);
        }
        if self.requests.take_wake() {
            self.woken.store(true, Ordering::Release);
        }
    }

    /// The controller does all that is asked for; these bits.
    fn carry_out(&self) -> u8 {
        let peers = self.requests.take();
        let bits = peers.iter().map(|_| self.peer.take());
        bits.fold(0, |all, bits| all | bits)
    }
}

/// A worker asks for one thing and then for another, while the controller looks by itself. What the
/// controller hasn't done by then it was woken for.
pub fn what_a_worker_asks_for_while_the_controller_looks_is_done_or_wakes_it() {
    in_each_order(4, || {
        let world = Arc::new(World::default());
        let workers = Arc::clone(&world);
        let worker = thread::spawn(move || {
            workers.work(1);
            workers.work(2);
        });
        let mut done = world.carry_out();
        worker.join().expect("it ends");
        if world.woken.swap(false, Ordering::AcqRel) {
            done |= world.carry_out();
        }
        assert_eq!(done, 3, "something waits, and nobody says so");
    });
}

/// Two workers ask for something of one peer at the same time.
pub fn of_two_workers_that_ask_at_once_one_wakes_the_controller() {
    in_each_order(3, || {
        let world = Arc::new(World::default());
        let workers = [1, 2].map(|bit| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.work(bit))
        });
        for worker in workers {
            worker.join().expect("it ends");
        }
        assert!(world.woken.swap(false, Ordering::AcqRel), "nobody says so");
        assert_eq!(world.carry_out(), 3);
    });
}
