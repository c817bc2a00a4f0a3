//! `taltun export`

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;
use crate::config::{self, wgquick};

/// Translate a configuration to a wg-quick file, on standard output.
///
/// What wg-quick has no word for, such as a peer's name, is kept as a comment, which `import`
/// makes a setting again. Keep the outcome to its owner: the private key is in it (`umask 077`).
#[derive(Args)]
pub(super) struct Export {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

impl Export {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = config::load(&self.config)?;
        for warning in &loaded.warnings {
            output::complain(&format!("warning: {warning}"));
        }
        let file = self.config.display();
        let text = std::fs::read_to_string(&self.config).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::Usage(format!("{file}: cannot read: {error}")))?;
        output::print(&wgquick::export(&text, &loaded.config))
    }
}
