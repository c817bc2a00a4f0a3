//! `taltun genkey`

use clap::Args;

use super::failure::Failure;
use super::secret;
use crate::crypto::PrivateKey;

/// Make a private key and print it.
///
/// Keep it in a file that only its owner may read: umask 077; taltun genkey > hub.key
#[derive(Args)]
pub(super) struct Genkey {}

impl Genkey {
    pub(super) fn run() -> Result<(), Failure> {
        let key = PrivateKey::from_bytes(*secret::random()?);
        secret::print(&key.to_base64())
    }
}
