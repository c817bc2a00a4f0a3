//! `taltun peer new`

use std::net::IpAddr;

use clap::Args;

use super::client::ClientOptions;
use super::network::{Network, nets};
use super::told;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::control::request::{NewPeer, PeerEdit};

/// Add a peer and print the file that it needs.
///
/// Its keys are made here, and its private key goes nowhere but into that file: neither the hub's
/// process nor the hub's configuration has it. The peer gets the next free address of the tunnel,
/// of IPv4 and IPv6 if the hub has both, and may connect at once.
#[derive(Args)]
pub(super) struct New {
    /// What to call it.
    name: String,

    /// Its address in the tunnel, once for each family, in place of the next free one.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    address: Vec<IpAddr>,

    /// A network behind it, which is reached through it.
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    allowed: Vec<Network>,

    /// Its last day, in UTC, such as 2026-12-31; after that it is refused.
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,

    #[command(flatten)]
    file: ClientOptions,

    #[command(flatten)]
    target: Target,
}

impl New {
    pub(super) fn run(self) -> Result<(), Failure> {
        let prepared = self.file.prepare(&self.name)?;
        let new = NewPeer {
            name: self.name,
            public_key: prepared.public_key(),
            preshared_key: prepared.preshared_key(),
            expires: self.expires,
            addresses: self.address,
            allowed_ips: nets(&self.allowed),
            file: prepared.wishes(),
        };
        let edited = told::ask(&self.target, PeerEdit::New(new))?;
        prepared.deliver(&edited, &self.target)
    }
}
