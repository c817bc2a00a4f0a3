//! `taltun peer rotate`

use clap::Args;

use super::client::ClientOptions;
use super::told;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::control::request::{PeerEdit, RotatePeer};

/// Give a peer another key and print the file that it needs by now.
///
/// The hub refuses the old key from this moment on, and its session ends. Name, addresses, rules and
/// limits stay. What the peer moved is counted by its key, so its usage and its quota begin anew.
#[derive(Args)]
pub(super) struct Rotate {
    /// Its name or public key.
    peer: String,

    /// Take its preshared key away.
    #[arg(long, conflicts_with = "psk")]
    no_psk: bool,

    #[command(flatten)]
    file: ClientOptions,

    #[command(flatten)]
    target: Target,
}

impl Rotate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let prepared = self.file.prepare(&self.peer)?;
        let rotate = RotatePeer {
            peer: self.peer,
            public_key: prepared.public_key(),
            preshared_key: prepared.preshared_key(),
            without_preshared_key: self.no_psk,
            file: prepared.wishes(),
        };
        let edited = told::ask(&self.target, PeerEdit::Rotate(rotate))?;
        prepared.deliver(&edited, &self.target)
    }
}
