//! The page in the browser, in a process of its own.
//!
//! [`server_process`](crate::server_process) says what such a process is. This one asks the tunnel
//! what browsers ask for, and knows nothing by itself: sessions are the tunnel's, too.
//!
//! | file | concern |
//! |---|---|
//! | `asked` | what it may ask, and what it is answered |
//! | `hub` | the channel to the tunnel |
//! | `reports` | how the tunnel is, asked once a second for all who look |
//! | `server` | connections |
//! | `patience` | how long each may take |
//! | `guard` | which requests come from our own pages |
//! | `request`, `response` | what is read of HTTP, and what is written |
//! | `routes` | which page or change a request is about |
//! | `changes`, `new_peer` | what forms ask for |
//! | `once` | which forms that make keys are done |
//! | `live` | what is sent while somebody looks |
//! | `pages` | HTML, which a template escapes |
//! | `words`, `units` | English and Spanish; numbers in both |

mod asked;
mod changes;
mod guard;
mod hub;
mod live;
mod new_peer;
mod once;
mod pages;
mod patience;
mod process;
mod reports;
mod request;
mod response;
mod routes;
mod server;
mod units;
mod words;

pub use self::asked::{
    Entered, NewPeer, QUESTION_MAX, Question, Reply, Report, RotatePeer, SetPeer, Verb, Who,
};
pub use self::process::serve;

/// The hidden command of that process.
pub const COMMAND: &str = "web-process";
