//! The counters of a session: each is given out once, and none beyond the limit.

use std::sync::Arc;

use loom::thread;

use crate::counter::SendCounter;
use crate::in_each_order;

/// Three threads take what two of them can have.
pub fn none_is_given_out_twice_nor_beyond_the_limit() {
    const LIMIT: u64 = 3;
    in_each_order(3, || {
        let counter = Arc::new(SendCounter::with_limit(LIMIT));
        let take = |count: u64| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.reserve(count).map(|first| first..first + count))
        };
        let others = [take(2), take(1)];
        let ours = counter.reserve(2).map(|first| first..first + 2);
        let all = others.map(|other| other.join().expect("it ends"));
        let all = all.into_iter().chain([ours]).flatten();
        let mut given: Vec<u64> = all.flatten().collect();
        given.sort_unstable();
        let count = given.len();
        given.dedup();
        assert_eq!(given.len(), count, "one is given out twice");
        assert!(given.last().is_none_or(|last| *last < LIMIT), "{given:?}");
        // However often it is asked from then on.
        for _ in 0..3 {
            assert!(counter.reserve(2).is_none());
        }
        assert!(counter.used() >= LIMIT);
    });
}
