//! `taltun pubkey`

use std::io::Read;

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;
use crate::crypto::PrivateKey;

/// More than any spelling of a key takes.
const INPUT_MAX: u64 = 1024;

/// Read a private key from standard input and print its public key.
///
/// taltun pubkey < hub.key
#[derive(Args)]
pub(super) struct Pubkey {}

impl Pubkey {
    pub(super) fn run() -> Result<(), Failure> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_MAX as usize));
        std::io::stdin()
            .lock()
            .take(INPUT_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::Other(format!("cannot read standard input: {error}")))?;
        let key: PrivateKey = std::str::from_utf8(&bytes)
            .map_err(|_| {
                Failure::Usage("standard input: expected a key, found binary data".into())
            })?
            .parse()
            .map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
        output::print(&format!("{}\n", key.public_key()))
    }
}
