//! What user space and the eBPF programs must agree on: wire constants, map keys and
//! values, drop reasons, and the arithmetic that both do.
//!
//! Everything here is `no_std`, free of panics and of memory other than its arguments, so
//! the eBPF programs run the very functions that user space tests.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "in eBPF a call costs stack, of which the whole chain has 512 bytes"
)]

pub mod address;
pub mod blake2s;
pub mod bucket;
pub mod budget;
pub mod drops;
pub mod headers;
pub mod hints;
pub mod maps;
pub mod segments;
pub mod sparse;
pub mod steering;
pub mod wire;
