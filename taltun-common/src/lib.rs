//! What user space and the eBPF programs must agree on: wire constants, map keys and
//! values, drop reasons.
#![no_std]

pub mod drops;
