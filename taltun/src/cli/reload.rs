//! `taltun reload`

use clap::Args;

use super::failure::Failure;
use super::target::Target;
use crate::control::Request;

/// Have a running tunnel read its configuration file again.
///
/// If the file has an error, it is printed and everything goes on as before.
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
