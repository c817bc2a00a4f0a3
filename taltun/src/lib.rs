//! Taltun: a WireGuard-compatible VPN hub for Linux.
//!
//! `docs/architecture.md` tells which part does what, and the way of a packet through them; the
//! arrows between the parts are held by a test. [`protocol`] has no sockets, no clock and no
//! randomness of its own, so that it runs unchanged on a virtual clock.

pub mod accel;
pub mod cli;
pub mod client_file;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod gateway;
pub mod layer;
pub mod metrics;
pub mod name_service;
mod os;
pub mod privileged;
pub mod report;
#[cfg(test)]
mod scaling;
pub mod secret;
pub mod server_process;
pub mod system;
pub mod verbs;
pub mod web;

pub use taltun_crypto as crypto;
pub use taltun_protocol as protocol;
