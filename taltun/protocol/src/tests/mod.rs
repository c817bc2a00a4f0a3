//! The rules of WireGuard, each proven on a virtual clock.
//!
//! `pair` is the world that the tests share: devices, a clock and a network that may
//! lose, delay, reorder and duplicate. Each test names one rule and cites the section of
//! the WireGuard paper it comes from. [`steps`] is open to whoever drives the protocol by the
//! feature `testing`: they prove their own way of doing a batch's work by it. They live inside the crate to see sessions and limits
//! that nobody outside may touch; they drive devices only by the calls that a shell makes.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "these are tests, of which the feature `testing` makes a part of the library"
)]

#[cfg(test)]
mod blocked;
#[cfg(test)]
mod boringtun;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod control_messages;
#[cfg(test)]
mod cookies;
#[cfg(test)]
mod data;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod held;
#[cfg(test)]
mod hopping;
#[cfg(test)]
mod hubs;
#[cfg(test)]
mod live;
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "not all of it takes part in `steps`")
)]
mod pair;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod places;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod roaming;
pub mod steps;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod timers;
