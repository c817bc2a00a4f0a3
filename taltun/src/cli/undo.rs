//! `taltun undo`

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::config;
use crate::control::{self, ControlSocket};
use crate::system;

/// Release what a tunnel that was killed left on this host.
///
/// Its kill switch and other firewall rules, policy rules, name servers and kernel settings are
/// taken back, as at an orderly end. While a tunnel of this name runs, nothing is touched: stop
/// it instead, which takes all of it back.
///
/// Exit codes: 0 all of it is undone, or there was nothing to undo; 1 the tunnel runs, or
/// something couldn't be undone; 2 wrong usage.
#[derive(Args)]
pub(super) struct Undo {
    /// The tunnel's interface.
    #[arg(value_name = "NAME")]
    name: String,
}

impl Undo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let name = config::interface_name(&self.name).map_err(Failure::Usage)?;
        if let Some(holder) = control::holder(&name) {
            return Err(runs(&name, &holder.to_string()));
        }
        super::logging::start(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let undone = runtime.block_on(async {
            // Nobody can start meanwhile: the socket is what tells that a tunnel runs.
            let _socket = ControlSocket::bind(&name).map_err(|error| match error {
                control::ControlError::Taken { .. } => runs(&name, &error.to_string()),
                other => other.into(),
            })?;
            Ok::<_, Failure>(system::undo(&control::runtime_dir(), &name).await?)
        })?;
        output::print(&match undone.as_slice() {
            [] => format!("nothing of {name} is left on this host\n"),
            undone => format!("undone for {name}: {}\n", undone.join(", ")),
        })
    }
}

fn runs(name: &str, holder: &str) -> Failure {
    Failure::Other(format!(
        "the tunnel {name} is running: {holder}. Nothing was undone; stopping it in order \
         (SIGTERM, or `systemctl stop`) takes everything back"
    ))
}
