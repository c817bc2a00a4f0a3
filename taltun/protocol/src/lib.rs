//! WireGuard without I/O, without a clock and without randomness of its own.
//!
//! Two halves share one state:
//!
//! * [`device::Device`], owned by one thread, is the control half: handshakes, timers,
//!   cookies, peers. It is a pure state machine; its documentation tells the order in which
//!   to call it.
//! * [`tunnel::Tunnel`], shared by all workers, is the data half: sealing, opening and
//!   relaying packets in place.
//!
//! Time is what callers pass in ([`time::Time`]), and so is randomness
//! ([`randomness::Randomness`]), so every test of the rules in the WireGuard paper runs on
//! a virtual clock and gives the same bytes each time.
//!
//! One concept a file; [`messages`] is the page with every constant and wire layout.
#![forbid(unsafe_code)]

pub mod allowed_ips;
pub mod cookie;
pub mod device;
pub mod ecn;
pub mod ip;
pub mod messages;
mod nesting;
pub mod noise;
pub mod peer;
pub mod plan;
pub mod randomness;
pub mod ratelimiter;
pub mod replay;
pub mod session;
mod staged;
pub mod tai64n;
#[cfg(any(test, feature = "testing"))]
pub mod tests;
pub mod time;
mod timers;
mod trie;
pub mod tunnel;
