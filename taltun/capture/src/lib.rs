//! Captures: what a packet becomes on its way from a tunnel to Wireshark.
//!
//! ```text
//! packet ──► Filter::matches ──► pcapng::packet ──► a file, or standard output
//!              classic BPF, as
//!              tcpdump compiles it
//! ```
//!
//! * [`pcapng`] writes the blocks of a pcapng file: section, interfaces, packets, statistics.
//! * [`Filter`] is a program of classic BPF, checked when it is read, so that it always ends and
//!   never reads beyond its packet.
//! * [`blocks`] finds the blocks of such a stream again.
//!
//! There is no I/O here and no clock.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod blocks;
mod filter;
mod instruction;
pub mod pcapng;

pub use filter::{Filter, FilterError};
