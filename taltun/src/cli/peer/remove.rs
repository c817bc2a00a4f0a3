//! `taltun peer remove`

use clap::Args;

use super::told;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::control::request::{PeerEdit, RemovePeer};

/// Take a peer away: its session ends, and its address is free again.
///
/// Refused while a group, a rule, a forwarded port or a name that is routed needs it. What it moved
/// stays in `taltun usage`.
#[derive(Args)]
pub(super) struct Remove {
    /// Its name or public key.
    peer: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Remove {
    pub(super) fn run(self) -> Result<(), Failure> {
        let edit = PeerEdit::Remove(RemovePeer { peer: self.peer });
        told::change(&self.target, edit, self.json)
    }
}
