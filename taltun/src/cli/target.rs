//! Which running tunnel a command is meant for.

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::control::{self, Request, Response};

/// The tunnel to talk to.
#[derive(Args)]
pub(super) struct Target {
    /// The tunnel's interface; needed only where several are running.
    #[arg(long, short, value_name = "NAME")]
    interface: Option<String>,
}

impl Target {
    /// Sends a request that is answered with a sentence, and prints that.
    pub(super) fn command(&self, request: &Request) -> Result<(), Failure> {
        match ask(self.interface.as_deref(), request)? {
            Response::Done(text) => output::print(&format!("{text}\n")),
            Response::Reloaded { done, warnings } => {
                for warning in &warnings {
                    output::warn(warning);
                }
                output::print(&format!("{done}\n"))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// The tunnel to look at: as a word of its own, or as the other commands name it.
#[derive(Args)]
pub(super) struct Subject {
    /// The tunnel's interface; needed only where several are running.
    #[arg(value_name = "IFACE", conflicts_with = "interface")]
    name: Option<String>,

    #[command(flatten)]
    target: Target,
}

impl Subject {
    /// Sends a request.
    pub(super) fn ask(&self, request: &Request) -> Result<Response, Failure> {
        ask(self.name(), request)
    }

    /// The interface, if one was named.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref().or(self.target.interface.as_deref())
    }
}

/// The failure to report when an answer is of the wrong kind.
pub(super) fn unexpected(response: &Response) -> Failure {
    let kind = match response {
        Response::Status(_) => "a status",
        Response::Stats(_) => "statistics",
        Response::Export(_) => "a file",
        Response::Done(_)
        | Response::Reloaded { .. }
        | Response::Error(_)
        | Response::Misconfigured(_) => "a sentence",
    };
    Failure::Other(format!(
        "the tunnel answered with {kind}; is it of another version than this command?"
    ))
}

/// Sends a request to the tunnel of that name, or to the only one.
pub(super) fn ask(interface: Option<&str>, request: &Request) -> Result<Response, Failure> {
    answered(control::call(interface, request)?)
}

/// What a tunnel says, unless it is that it didn't do it.
pub(super) fn answered(response: Response) -> Result<Response, Failure> {
    match response {
        Response::Error(text) => Err(Failure::Other(text)),
        Response::Misconfigured(text) => Err(Failure::Usage(text)),
        other => Ok(other),
    }
}
