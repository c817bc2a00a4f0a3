//! Reloading: the file is read again beside the controller and compared with what it was before;
//! what differs becomes a plan, and that is carried out.
//!
//! | file | concern |
//! |---|---|
//! | [`reader`] | reads the file, on a thread of its own, and compares all peers |
//! | [`plan`] | what differs from the running tunnel, what of it needs a restart, and the sentence about it; pure |
//! | [`steps`] | what of it can fail: taken in turn, and undone in turn when one fails |
//! | [`execution`] | changes the components of the running tunnel |

mod execution;
mod plan;
mod reader;
mod steps;

pub(super) use self::execution::{Reload, follow_host};
pub(super) use self::reader::{Compared, FileRead, NotRead, Reader};
