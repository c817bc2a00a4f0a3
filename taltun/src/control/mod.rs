//! The controller: handshakes, timers, maps and the control socket, all on one thread.
pub mod engine;
