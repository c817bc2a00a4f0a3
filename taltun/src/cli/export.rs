//! `taltun export`

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;
use super::target::{Subject, unexpected};
use crate::config::{self, wgquick};
use crate::control::{Request, Response};

/// Translate a configuration or a running tunnel to a wg-quick file, on standard output.
///
/// With an interface it is the running tunnel as it is now, with what `wg` changed and where
/// its peers are; that takes root. Without one it is the configuration file, with its
/// comments. What wg-quick has no word for, such as a peer's name, is kept as a comment, which
/// `import` makes a setting again unless it is a hook. Of a tunnel made by name, addresses are
/// left out: Taltun doesn't know them. Keep the outcome to its owner: the private key is in it
/// (`umask 077`).
#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    subject: Subject,

    /// The configuration file.
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "config.toml",
        conflicts_with_all = ["name", "interface"]
    )]
    config: PathBuf,
}

impl Export {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !self.subject.is_given() {
            return self.export_file();
        }
        match self.subject.ask(&Request::Export)? {
            Response::Export(text) => output::print(text.as_str()),
            other => Err(unexpected(&other)),
        }
    }

    fn export_file(&self) -> Result<(), Failure> {
        let loaded = config::load(&self.config)?;
        for warning in &loaded.warnings {
            output::warn(warning);
        }
        let file = self.config.display();
        let text = std::fs::read_to_string(&self.config).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::Usage(format!("{file}: cannot read: {error}")))?;
        output::print(&wgquick::export(&text, &loaded.config))
    }
}
