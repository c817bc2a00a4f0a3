//! `taltun reload`

use clap::Args;

use super::failure::Failure;
use super::output;
use super::target::Target;
use crate::control::{self, request};

/// Make a running tunnel read its configuration file again.
///
/// Exit codes: 0 done; 2 the file has a mistake, which is printed, and everything goes on as
/// before; 1 no tunnel runs, or a change needs a restart.
#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    target: Target,

    /// The tunnel of this process, as units name it: `taltun reload --pid $MAINPID`.
    #[arg(long, value_name = "PID", conflicts_with = "interface")]
    pid: Option<i32>,
}

impl Reload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let reloaded = match self.pid {
            Some(pid) => control::call(Some(&control::interface_of(pid)?), request::Reload)?,
            None => self.target.ask(request::Reload)?,
        };
        for warning in &reloaded.warnings {
            output::warn(&self.target.advice(warning));
        }
        let done = self.target.advice(&reloaded.done.0);
        output::print(&format!("{done}\n"))
    }
}
