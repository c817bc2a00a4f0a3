//! WireGuard without I/O.
pub mod time;
