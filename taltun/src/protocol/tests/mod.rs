//! The rules of WireGuard, each proven on a virtual clock.
//!
//! [`pair`] is the world that the tests share: devices, a clock and a network that may
//! lose, delay, reorder and duplicate. Each test names one rule and cites the section of
//! the WireGuard paper it comes from. They live inside the crate to see sessions and limits
//! that nobody outside may touch; they drive devices only by the calls that a shell makes.

mod boringtun;
mod clock;
mod cookies;
mod data;
mod faults;
mod handshake;
mod live;
mod pair;
mod relay;
mod replay;
mod roaming;
pub(crate) mod steps;
mod threads;
mod timers;
mod vectors;
