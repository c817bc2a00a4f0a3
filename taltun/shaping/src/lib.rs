//! Shaping: packets wait in fair queues until their peer's rate and the uplink let them go.
//!
//! A [`Shaper`] has two trees, one for each [`Direction`]. A tree has a class for each peer, and a
//! class a queue for each flow:
//!
//! ```text
//!                        ┌ flow ┐ DRR, CoDel
//! enqueue ──► class of ──┼ flow ┼──► rate of the peer ──┐ DRR
//!             a peer     └ flow ┘                       ├──► rate of the uplink ──► dequeue
//!             class of … ───────────► rate of the peer ─┘
//! ```
//!
//! * Rates are kept by virtual time: each packet moves the time of the next release by what it
//!   takes at the rate. Nothing is lost to late wake-ups, up to a limit.
//! * Flows of a class, and classes of a tree, take turns by deficit round robin, and one that has
//!   been idle comes first (RFC 8290).
//! * Each flow has a `CoDel` (RFC 8289), which marks packets that can be marked and drops others.
//! * Packets lie in a pool of a fixed size. A class takes at most as much of it as
//!   is free, so that a class that floods leaves room for the others.
//!
//! There is no I/O here and no clock: the caller says what time it is and asks when to come
//! again. Memory is taken when classes are set, never for a packet.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod codel;
mod flows;
mod list;
mod pacer;
mod pool;
mod queued;
mod rate;
mod shaper;
mod tree;

#[cfg(test)]
mod tests;

pub use queued::Queued;
pub use rate::Rate;
pub use shaper::{ClassSettings, Direction, Offer, Released, Shaper};
