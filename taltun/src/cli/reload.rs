//! `taltun reload`

use clap::Args;

use super::failure::Failure;
use super::target::Target;
use crate::control::Request;

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
        self.target.command(&Request::Reload)
    }
}
