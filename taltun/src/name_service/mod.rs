//! The resolver of `[names]` and `[dns_routes]`, in a process of its own.
//!
//! [`server_process`](crate::server_process) says what such a process is. It reads what peers ask and what
//! name servers of others answer. The tunnel gives it the sockets on our vips, tells it the names of peers and
//! the list of `[dns_routes]`, and leads into the tunnel what it learns. It forgets nothing but what it was told: when
//! it ends, the next one begins with the same.
//!
//! | file | concern |
//! |---|---|
//! | `process` | the process: what it may do, what it is told and tells |
//! | `channel` | what goes between it and the tunnel |
//! | `service` | questions and their answers |
//! | `zone` | the names of peers |
//! | `upstream` | asks name servers |
//! | `shares` | how much of it everybody may have at once |
//! | `listed_answers` | what of an answer concerns names of `[dns_routes]` |
//! | `dns_message` | DNS messages, for whoever reads or makes one |

mod channel;
pub(crate) mod dns_message;
mod listed_answers;
mod process;
mod service;
mod shares;
mod upstream;
mod zone;

pub(crate) use self::channel::{Said, Told};
pub(crate) use self::listed_answers::LONGEST;
#[cfg(feature = "fuzzing")]
pub(crate) use self::listed_answers::{concerned, fit, listed};
pub use self::process::serve;
pub(crate) use self::service::{Learned, PORT};
pub(crate) use self::zone::Zone;

/// The hidden command of that process.
pub const COMMAND: &str = "names-process";
