//! The UDP gateway of `[udpgw]`, in a process of its own.
//!
//! [`server_process`](crate::server_process) says what such a process is. The gateway itself is the crate
//! `taltun_udpgw`. The tunnel tells whether an address is one of its own, and keeps the counters.
//!
//! | file | concern |
//! |---|---|
//! | `process` | the process: what it may do, and its end |
//! | `channel` | what goes between it and the tunnel |
//! | `settings` | the gateway's options, as the file has them |

mod channel;
mod process;
mod settings;

pub(crate) use self::channel::{Numbers, Said, Told};
pub use self::process::serve;
pub(crate) use self::settings::{files, limits};

/// The hidden command of that process.
pub const COMMAND: &str = "udpgw-process";
