//! What the hubs of a fleet tell each other inside the tunnel between them, without etcd: that they
//! are there, and where peers are at home. Here is no I/O and no clock.
//!
//! | file | concern |
//! |---|---|
//! | [`message`] | the messages, and their layout |
//! | [`path`] | loss and delay of the way to another hub |
//! | [`lead`] | which hub has the address that several share |
//! | [`log`] | what is still to be told to whom |

pub mod lead;
pub mod log;
pub mod message;
pub mod path;

pub use log::{Log, Place};
pub use message::{Announcement, Beat, Entry, Message};
pub use path::Path;
