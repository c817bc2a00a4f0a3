//! A process of its own for what listens beside the tunnel: the metrics, the page, the resolver and the UDP gateway.
//!
//! The tunnel starts it, hands it the sockets that it listens on and a channel, and answers what it
//! asks by that. It has no right of its own: it is nobody's, sees no key of the tunnel's, opens no file but what it
//! needs, and a fault in it, or a client that misbehaves, ends it alone. The tunnel starts another.
//!
//! | file | concern |
//! |---|---|
//! | `handover` | the sockets on their way to the process |
//! | `confine` | giving up all rights |
//! | `restrict` | system calls and files, once all is open; telling the tunnel what the kernel forbids |
//! | `question` | asking the tunnel, and its answer; lines of JSON |
//! | `lookup` | asking the tunnel's tables, in the middle of other work |
//! | `log` | what it has to say, as lines that the tunnel passes on to its log |
//! | `start` | the process from its first line to its runtime |
//! | `connections` | who may be connected, and who gives way |
//! | `stream` | a connection and its end |

mod confine;
mod connections;
mod handover;
mod log;
mod lookup;
mod question;
mod restrict;
mod start;
mod stream;

pub(crate) use self::confine::close_inherited;
pub(crate) use self::connections::{Limits, Listener, network_of, serve};
pub use self::handover::send_sockets;
pub(crate) use self::log::{Line, log_to_tunnel};
pub(crate) use self::lookup::Lookup;
pub use self::lookup::{Found, answer_lookups, lookup_sockets};
pub(crate) use self::question::{OF_TUNNEL, ask, read_line, write_line};
pub(crate) use self::restrict::{Needs, restrict};
pub use self::restrict::{REFUSED, told_rights};
pub(crate) use self::start::{Process, begin, confined, run};
#[cfg(test)]
pub(crate) use self::stream::TO_ASK;
pub(crate) use self::stream::{Stream, close, http};
