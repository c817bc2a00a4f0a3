//! Whether the privileged process answers, and putting right what it did when nobody waited for it any more.

use tracing::{debug, info, warn};

use super::Engine;
use crate::verbs::{self, News, Trouble};

/// What there is to know of the mark of our sockets.
pub(super) struct Marks {
    /// The one that rules of the host depend on, where there are any.
    pub(super) fixed: Option<u32>,
    /// Whether they may have another than they should.
    are_doubtful: bool,
}

impl Marks {
    pub(super) fn new(fixed: Option<u32>) -> Self {
        Self {
            fixed,
            are_doubtful: false,
        }
    }
}

impl Engine {
    /// Call it once a second.
    pub(super) fn look_at_privileged(&mut self) {
        for news in verbs::look() {
            match news {
                News::Silent => warn!(
                    "{}: no port, mark or AF_XDP socket can be changed until it does; is it stopped?",
                    Trouble::NoAnswer
                ),
                News::Answers(after) => info!(
                    "the privileged process answers again, after {} s",
                    after.as_secs()
                ),
                News::DidLate => self.marks.are_doubtful = true,
            }
        }
        // What it opened too late is closed by now. A mark stays on its sockets.
        if self.marks.are_doubtful {
            match self.data_plane.set_mark(self.data_plane.mark()) {
                Ok(()) => self.marks.are_doubtful = false,
                Err(error) => debug!("the mark can't be set again: {error}"),
            }
        }
    }
}
