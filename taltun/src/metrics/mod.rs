//! The metrics for Prometheus, in a process of their own.
//!
//! The tunnel starts this process, hands it the sockets that it listens on and a channel, and
//! answers what it asks by that. It has no right of its own: it is nobody's, sees no key, and a
//! fault in it, or a scraper that misbehaves, ends it alone. The tunnel starts another.

mod accept;
mod channel;
mod classic;
mod confine;
mod families;
mod process;
mod seen;
mod server;
mod stream;
mod texts;

pub use self::channel::{QUESTION, send_listeners};
pub use self::process::serve;
pub use self::seen::{Answer, Seen};

/// The hidden command of that process.
pub const COMMAND: &str = "metrics-process";
