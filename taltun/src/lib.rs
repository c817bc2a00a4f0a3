//! Taltun: a WireGuard-compatible VPN hub for Linux.
//!
//! Dependencies between the modules point one way:
//! `cli → control → accel, dataplane, system → protocol → crypto → taltun-common`.
//! [`protocol`] is pure: it has no sockets, no clock and no randomness of its own, so it
//! runs unchanged under a virtual clock and a fuzzer. [`dataplane`] is the only home of
//! hot-path `unsafe`.

pub mod accel;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod report;
#[cfg(test)]
mod scaling;
pub mod system;

pub use taltun_crypto as crypto;
pub use taltun_protocol as protocol;
