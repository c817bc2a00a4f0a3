//! `taltun kill-switch`

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::{logging, output, undo};
use crate::config;
use crate::control::{self, ControlSocket, Origin};
use crate::system;

/// Close a tunnel's kill switch before the tunnel starts.
///
/// At boot, before the network: nothing leaves but through the tunnel, even if that never starts.
/// The unit taltun-killswitch@NAME does this. `taltun run` takes the kill switch over. A tunnel that
/// runs keeps its own, so then this changes nothing.
///
/// Exit codes: 0 it is closed, or open with --open; 2 the file has a mistake or no
/// `kill_switch = true`; 1 it couldn't be done.
#[derive(Args)]
pub(super) struct KillSwitch {
    /// The tunnel's configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,

    /// Open it again, as `taltun undo` does.
    #[arg(long)]
    open: bool,
}

impl KillSwitch {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = config::load(&self.config)?;
        let name = loaded.config.interface.tun_name.clone();
        if let Some(holder) = control::holder(&name) {
            let pid = holder.pid();
            let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            return output::print(&format!(
                "{name} is running{pid} and keeps its own kill switch; nothing was changed\n"
            ));
        }
        if self.open {
            return undo::undo(&name);
        }
        let file = self.config.display();
        if !loaded.config.host.kill_switch {
            return Err(Failure::Usage(format!(
                "{file}: there is no kill switch to close; add kill_switch = true to [interface]"
            )));
        }
        logging::start(loaded.config.interface.debug);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let origin = Origin {
            path: Some(self.config.clone()),
            keep_kill_switch: true,
            ..Origin::default()
        };
        runtime.block_on(async {
            // Nobody can start meanwhile: the socket is what tells that a tunnel runs.
            let _socket = ControlSocket::bind(&name)?;
            let start = system::start_command(&origin.words());
            let directory = control::runtime_dir();
            Ok::<_, Failure>(system::close_kill_switch(&loaded.config, &directory, start).await?)
        })?;
        output::print(&format!(
            "the kill switch of {name} is closed: nothing leaves until the tunnel runs or \
             `taltun undo {name}` opens it\n"
        ))
    }
}
