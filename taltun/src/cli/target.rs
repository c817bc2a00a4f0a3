//! Which running tunnel a command is meant for.

use std::io::BufReader;
use std::os::unix::net::UnixStream;

use clap::Args;

use super::failure::Failure;
use super::{advice, output};
use crate::control;
use crate::control::ControlError;
use crate::control::request::Command;
use crate::control::response::Done;

/// The tunnel to talk to.
#[derive(Args)]
pub(super) struct Target {
    /// The tunnel's interface; needed only where several are running.
    #[arg(long, short, value_name = "NAME")]
    interface: Option<String>,
}

impl Target {
    /// The interface, if one was named.
    pub(super) fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// Has the tunnel do something.
    pub(super) fn ask<C: Command>(&self, command: C) -> Result<C::Answer, ControlError> {
        asked(self.interface(), control::call(self.interface(), command))
    }

    /// The same for what more follows behind the answer.
    pub(super) fn open<C: Command>(
        &self,
        command: C,
    ) -> Result<(C::Answer, BufReader<UnixStream>), ControlError> {
        let interface = self.interface();
        asked(interface, control::open(interface, command))
    }

    /// A message, in which advised commands name the tunnel if this one did.
    pub(super) fn advice(&self, message: &str) -> String {
        advice::for_tunnel(message, self.interface())
    }

    /// Has the tunnel do something, and prints what it says about it.
    pub(super) fn command<C: Command<Answer = Done>>(&self, command: C) -> Result<(), Failure> {
        let Done(text) = self.ask(command)?;
        output::print(&format!("{}\n", self.advice(&text)))
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
    /// Has the tunnel do something.
    pub(super) fn ask<C: Command>(&self, command: C) -> Result<C::Answer, ControlError> {
        asked(self.name(), control::call(self.name(), command))
    }

    /// The interface, if one was named.
    fn name(&self) -> Option<&str> {
        self.name.as_deref().or(self.target.interface.as_deref())
    }
}

/// What a tunnel that was named answered: its refusals advise commands, which name it, too.
fn asked<T>(interface: Option<&str>, answer: Result<T, ControlError>) -> Result<T, ControlError> {
    answer.map_err(|error| match error {
        ControlError::Refused(text) => ControlError::Refused(advice::for_tunnel(&text, interface)),
        ControlError::Misconfigured(text) => {
            ControlError::Misconfigured(advice::for_tunnel(&text, interface))
        }
        other => other,
    })
}
