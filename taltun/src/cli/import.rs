//! `taltun import`

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;
use crate::config::{self, wgquick};

/// Translate a wg-quick file to a configuration of Taltun's, on standard output.
///
/// What Taltun has no word for, such as `PreUp`, is kept as a comment, which `export` makes a
/// setting again. The interface is called like the file. Keep the outcome to its owner: the
/// private key is in it (`umask 077`).
#[derive(Args)]
pub(super) struct Import {
    /// The wg-quick file, such as /etc/wireguard/wg0.conf.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Import {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::Usage(format!("{file}: cannot read: {error}")))?;
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let name = config::interface_name(&stem).unwrap_or_else(|_| "taltun0".to_owned());
        let imported = wgquick::import(&text, &file, &name)?;
        for warning in &imported.warnings {
            output::warn(warning);
        }
        // What wg accepts and Taltun doesn't, one prefix for two peers, is better said now.
        config::parse(&imported.toml, "what comes out")?;
        output::print(&imported.toml)
    }
}
