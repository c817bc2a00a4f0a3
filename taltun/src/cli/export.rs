//! `taltun export`

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::{output, secret};
use crate::config::{self, wgquick};
use crate::control::{self, request};

/// Print a configuration or a running tunnel as a wg-quick file.
///
/// With an interface: the running tunnel as it is now, with what `wg` changed and its peers'
/// endpoints; that takes root. Without one: the configuration file, with its comments. Settings
/// that wg-quick doesn't have, such as a peer's name, become comments; `import` makes settings of
/// these again, but never hooks. For a tunnel made by name, addresses are left out: Taltun doesn't
/// know them. Protect the result (`umask 077`): the private key is in it.
#[derive(Args)]
pub(super) struct Export {
    /// The running tunnel with this interface; without it, the configuration file.
    #[arg(value_name = "IFACE", conflicts_with = "interface")]
    name: Option<String>,

    /// The same as IFACE.
    #[arg(long, short, value_name = "NAME")]
    interface: Option<String>,

    /// The configuration file, where no interface is given.
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
        let Some(name) = self.name.as_deref().or(self.interface.as_deref()) else {
            return self.export_file();
        };
        let text = control::call(Some(name), request::Export)?;
        secret::print_file(text.as_str())
    }

    fn export_file(&self) -> Result<(), Failure> {
        let is_missing = std::fs::metadata(&self.config)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        let loaded = config::load(&self.config).map_err(|error| {
            let running = if is_missing {
                "; `taltun export IFACE` exports a running tunnel"
            } else {
                ""
            };
            Failure::Usage(format!("{error}{running}"))
        })?;
        for warning in &loaded.warnings {
            output::warn(warning);
        }
        let file = self.config.display();
        let text = std::fs::read_to_string(&self.config).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::Usage(format!("{file}: cannot read: {error}")))?;
        secret::print_file(&wgquick::export(&text, &loaded.config))
    }
}
