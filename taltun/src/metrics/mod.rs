//! The metrics for Prometheus, in a process of their own.
//!
//! [`server_process`](crate::server_process) says what such a process is. This one asks the tunnel
//! how it is, and tells it to scrapers.

mod accept;
mod channel;
mod classic;
mod families;
mod process;
mod seen;
mod server;
mod texts;

pub use self::channel::QUESTION;
pub use self::process::serve;
pub use self::seen::{Answer, Peer, Peers, Seen};

/// The hidden command of that process.
pub const COMMAND: &str = "metrics-process";
