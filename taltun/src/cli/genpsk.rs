//! `taltun genpsk`

use clap::Args;

use super::failure::Failure;
use super::secret;
use crate::crypto::PresharedKey;

/// Make a preshared key and print it.
///
/// It goes, the same, into `preshared_key` on both sides of one tunnel, and protects what
/// is recorded today from the quantum computers of tomorrow.
#[derive(Args)]
pub(super) struct Genpsk {}

impl Genpsk {
    pub(super) fn run() -> Result<(), Failure> {
        let key = PresharedKey(*secret::random()?);
        secret::print(&key.to_base64())
    }
}
