//! Reloading: the file is read again beside the controller and compared with what it was before;
//! what differs becomes a plan, and that is carried out. A command that changes a peer has the file
//! changed first.
//!
//! | file | concern |
//! |---|---|
//! | [`reader`] | reads the file, or changes it, on a thread of its own |
//! | [`compared`] | a file that was read, all its peers compared with those before |
//! | [`last_read`] | what the file was when it was taken over, and what is different since |
//! | [`edit`] | changes a peer in the file |
//! | [`fleet`] | reads the file again as it was, with other peers of the fleet |
//! | [`plan`] | what differs from the running tunnel, what of it needs a restart, and the sentence about it; pure |
//! | [`steps`] | what of it can fail: taken in turn, and undone in turn when one fails |
//! | [`execution`] | changes the components of the running tunnel |

mod compared;
mod edit;
mod execution;
mod fleet;
mod last_read;
mod not_read;
mod plan;
mod reader;
mod steps;

pub(super) use self::compared::Compared;
pub(super) use self::execution::{Done, Reload, Scope, follow_host};
pub(super) use self::last_read::LastRead;
pub(super) use self::not_read::NotRead;
pub(super) use self::plan::differs;
pub(super) use self::reader::{Asker, EditAsker, FileRead, Reader};
