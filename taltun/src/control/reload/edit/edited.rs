//! What a change of a peer leaves: where it was written, what it is to become in the tunnel, and how it
//! is taken back.

use zeroize::Zeroizing;

use crate::config::{NotReplaced, OnDisk};
use crate::control::reload::compared::Compared;
use crate::report::PeerEdited;

/// A file that was changed on the disk, and what it is to become in the tunnel.
#[derive(Debug)]
pub(in crate::control) struct Edited {
    pub compared: Compared,
    pub written: Written,
    pub answer: Box<PeerEdited>,
}

/// Where a change was written.
#[derive(Debug)]
pub(in crate::control) enum Written {
    /// Into the file.
    File(WrittenFile),
    /// Into etcd, for all hubs of the fleet.
    Fleet,
}

impl Written {
    /// Takes the change back; says what is left of it if that can't be.
    pub(in crate::control) fn restore(&self) -> Result<(), String> {
        match self {
            Self::File(file) => file.restore(),
            Self::Fleet => Err("the other hubs of the fleet have the change".to_owned()),
        }
    }
}

/// A file that was replaced, and what was in it before.
#[derive(Debug)]
pub(in crate::control) struct WrittenFile {
    pub(super) after: OnDisk,
    pub(super) before: Zeroizing<String>,
}

impl WrittenFile {
    /// Makes the file what it was; says what it is if that can't be.
    fn restore(&self) -> Result<(), String> {
        self.after
            .replace(&self.before)
            .map(drop)
            .map_err(|reason| match reason {
                NotReplaced::Changed => {
                    "the file has the change, as somebody else changed it meanwhile".to_owned()
                }
                NotReplaced::Failed(reason) => format!("the file has the change: {reason}"),
            })
    }
}
