//! `taltun peer rename`

use clap::Args;

use super::told;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::control::request::{PeerEdit, RenamePeer};

/// Give a peer another name, also where groups, rules, forwarded ports and routed names have it.
#[derive(Args)]
pub(super) struct Rename {
    /// Its name or public key.
    peer: String,

    /// What to call it from now on.
    name: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Rename {
    pub(super) fn run(self) -> Result<(), Failure> {
        let edit = PeerEdit::Rename(RenamePeer {
            peer: self.peer,
            name: self.name,
        });
        told::change(&self.target, edit, self.json)
    }
}
