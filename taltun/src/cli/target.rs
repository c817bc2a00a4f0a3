//! Which running tunnel a command is meant for.

use std::io::BufReader;
use std::os::unix::net::UnixStream;

use clap::Args;

use super::failure::Failure;
use super::output;
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
        control::call(self.interface(), command)
    }

    /// The same for what more follows behind the answer.
    pub(super) fn open<C: Command>(
        &self,
        command: C,
    ) -> Result<(C::Answer, BufReader<UnixStream>), ControlError> {
        control::open(self.interface.as_deref(), command)
    }

    /// Has the tunnel do something, and prints what it says about it.
    pub(super) fn command<C: Command<Answer = Done>>(&self, command: C) -> Result<(), Failure> {
        let Done(text) = self.ask(command)?;
        output::print(&format!("{text}\n"))
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
        control::call(self.name(), command)
    }

    /// The interface, if one was named.
    fn name(&self) -> Option<&str> {
        self.name.as_deref().or(self.target.interface.as_deref())
    }
}
