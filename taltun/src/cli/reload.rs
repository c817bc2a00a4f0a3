//! `taltun reload`

use clap::Args;

use super::failure::Failure;
use super::output;
use super::target::Target;
use crate::control::request;

/// Have a running tunnel read its configuration file again.
///
/// If the file has a mistake, it is printed, everything goes on as before, and the exit code is
/// 2. It is 1 where no tunnel runs, or where what differs takes a restart.
#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    target: Target,
}

impl Reload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let reloaded = self.target.ask(request::Reload)?;
        for warning in &reloaded.warnings {
            output::warn(warning);
        }
        output::print(&format!("{}\n", reloaded.done.0))
    }
}
