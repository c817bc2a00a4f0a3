//! `taltun import`

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::{output, secret};
use crate::config::wgquick;

/// Convert a wg-quick file to a Taltun configuration, on standard output.
///
/// The result means the same as the file does with `wg-quick up`; else it is refused with the line
/// at fault. Standard error lists what is odd about it and which of its commands root will run. The
/// interface gets the name of the file. Protect the result (`umask 077`): the private key is in it.
#[derive(Args)]
pub(super) struct Import {
    /// The wg-quick file, such as /etc/wireguard/wg0.conf.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Import {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = self.file.display().to_string();
        let bytes = std::fs::read(&self.file).map(Zeroizing::new);
        let bytes =
            bytes.map_err(|error| Failure::Usage(format!("{file}: cannot read: {error}")))?;
        // What comes through a pipe has no name.
        let named = self.file.metadata().is_ok_and(|file| file.is_file());
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let imported = wgquick::import(&bytes, &file, named.then_some(&*stem))?;
        for note in &imported.notes {
            output::complain(&format!("note: {note}"));
        }
        for warning in &imported.warnings {
            output::warn(warning);
        }
        secret::print_file(&imported.toml)
    }
}
