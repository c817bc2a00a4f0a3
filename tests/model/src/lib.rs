//! A hub, three spokes and a stranger on a virtual clock, through any series of events: what people send,
//! what a network loses, copies, delays, spoils and sends elsewhere, clocks that jump, restarts with old
//! disks, keys that change, spokes that roam, ports that are shut, rules, bans and reloads.
//!
//! The protocol is the real one; the shells around it make the calls that a program makes. Beside it a
//! model as simple as can be knows what configurations say. After each event these must hold:
//!
//! * what is delivered was sent so, by the peer that it seems to be from, for the one who gets it, and
//!   comes once;
//! * a packet goes to the owner of its destination, and is refused exactly if its source isn't its
//!   sender's; rules stop exactly what they should;
//! * no counter is used twice on a session;
//! * an index is born once and dies once, nothing is opened under a dead one, and a peer has few of them;
//! * a wake-up is never in the past, and there are no more of them than timers explain.
//!
//! And at the end of each series:
//!
//! * once configurations agree and the network is kind, everybody talks with everybody within a minute;
//! * once nobody talks, all sessions end, and nobody wakes any more.
//!
//! Each multiplication of X25519 is made once by each thread, and remembered: with ephemeral keys that are the same
//! in all worlds, that takes most of the cost away, which would be two thirds of all.
//!
//! An input is bytes, so that a fuzzer leads it (`tests/fuzz`) and random ones drive it (`tests/model.rs`).

// Bytes of an input become numbers of any width, and a model is written to be compared.
#![allow(
    clippy::cast_lossless,
    reason = "a model is a test, of which a panic is the outcome"
)]

mod acts;
mod cast;
mod kind;
mod ledger;
mod mending;
mod network;
mod node;
mod packet;
mod rules;
mod script;
mod tally;
mod transition;
mod world;

pub use tally::Tally;

use taltun_crypto::remembered;

use script::Script;
use world::World;

/// Most transitions of an input.
const MOST: usize = 600;

/// Runs a world by an input: what came about. It panics where something doesn't hold.
pub fn run(input: &[u8]) -> Tally {
    remembered::start();
    let mut script = Script::new(input);
    let seed = [(); 4].map(|()| script.byte());
    let mut world = World::new(seed);
    for _ in 0..MOST {
        if script.is_over() {
            break;
        }
        acts::step(&mut world, &mut script);
    }
    kind::end(&mut world);
    world.tally
}
