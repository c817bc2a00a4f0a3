//! What threads share by an order of their own, tried in each order that they can come in.
//!
//! The files are the program's. Here they are built with [loom]'s atomics, locks and cells in the place of the
//! standard library's: `crate::sync` leads there. Loom runs a scenario again and again, each time in
//! another order, and lets a thread see each value that the order of memory allows it to see, as a
//! machine might that is weaker than x86. The scenarios are small, as their number grows fast: two or
//! three threads, a few steps each.
//!
//! What is shared by a mutex, a channel, [rtrb](https://docs.rs/rtrb) or rayon alone isn't here: who wrote
//! these tests them.

// The program's files in it have their own tests where they are.
#![cfg(not(test))]

use loom::sync;

pub mod counters;
pub mod known_flows;
pub mod requested;
pub mod xsk;

#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../../taltun/protocol/src/counter.rs"]
mod counter;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../../taltun/policy/src/flows.rs"]
mod flows;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../../taltun/protocol/src/requests.rs"]
mod requests;
mod rules;
mod tuple;

/// Runs a scenario in each order in which no more than `switches` times a thread has to give way that could
/// go on. Nearly all faults take two such switches at the most; without a limit it takes hours.
fn in_each_order(switches: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut loom = loom::model::Builder::new();
    loom.preemption_bound = Some(switches);
    loom.check(scenario);
}
