//! Rules: who may start talking to whom through the tunnel, and the flows that follow.
//!
//! A [`Policy`] is what the file says, [`Compiled`] the same for look-ups. A [`RuleSet`] holds it
//! with the [`World`], which says what addresses the hub has. A [`Judge`] holds a rule set and
//! the flows that it let start. It gives a [`Verdict`] on each packet:
//!
//! ```text
//! packet ──► Packet::parse ──► known flow? ── yes ──────────────► pass
//!                                  │ no
//!                                  └► first rule that matches ──► a new flow, or a drop
//! ```
//!
//! There is no I/O here, no clock and no randomness: the caller gives the time and a secret.

pub mod compiled;
pub mod early;
pub mod flows;
pub mod groups;
pub mod idle;
pub mod judge;
pub mod outside;
pub mod packet;
pub mod party;
pub mod rows;
pub mod rules;
pub mod service;
pub mod set;
mod stretches;
pub mod tuple;

#[cfg(test)]
mod tests;

// Where a test takes each order of threads, this name leads to what does so (`tests/interleavings`).
use std::sync;

pub use compiled::Compiled;
pub use groups::Groups;
pub use judge::{Judge, Verdict};
pub use packet::Packet;
pub use rules::{Action, Decision, Ends, Owners, Party, Policy, Rule, Side, World};
pub use service::Service;
pub use set::RuleSet;
