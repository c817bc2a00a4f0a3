//! Packets as they pass or die, for a client that asked to see them: `taltun trace`,
//! `taltun capture`.
//!
//! ```text
//! a thread: batch → Observer: stages what is wanted ──► a ring for each watch ──► Watch (a reader's thread)
//! without a batch (refused sends, handshakes)  ─────► Taps::tell ─► a ring more ──┘
//! ```
//!
//! Off, it costs a thread one load a batch, and a packet that passes a branch. On, a thread copies
//! what is wanted of a batch to memory of its own, and at the end of the batch to rings that the
//! reader empties. Nobody waits for anybody: what a full ring has no room for is left out and
//! counted.
//!
//! Drops are told where they are counted, by the same call, and so is what passes. So what a watch
//! sees and what `taltun stats` counts are the same, but for what was left out.

mod observer;
mod ring;
mod seen;
mod taps;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use observer::Observer;
pub use seen::{Fate, Observed, Place, RuleRef, Seen, Subject};
pub use taps::{Taps, WATCHES, Wants};
pub use watch::Watch;
