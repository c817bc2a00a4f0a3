//! `taltun peer`: the peers of a running tunnel, in its file and in the tunnel at once.
//!
//! | file | concern |
//! |---|---|
//! | [`new`], [`rotate`] | a peer's keys, which are made here, and its file |
//! | [`client`] | that file, as text, code or picture, to where it is wanted |
//! | [`made_file`] | a new file for its owner alone |
//! | [`set`] | other values for a peer that there is |
//! | [`list`], [`show`] | what peers there are |
//! | [`told`] | what was done, and what undoes it |
//! | [`unanswered`] | a tunnel that ended in the middle of it |

mod client;
mod list;
mod made_file;
mod new;
mod remove;
mod rename;
mod rotate;
mod set;
mod show;
mod told;
mod unanswered;

use clap::{Args, Subcommand};

use super::failure::Failure;

/// Add, list, show, change, remove and rename peers, or give them other keys.
///
/// A change is made in the configuration file and in the running tunnel at once; if one can't be,
/// neither is. All else in the file stays as it is, comments included. Each command prints the one
/// that undoes it. On a hub of a fleet, new peers and those of the fleet are changed in etcd instead,
/// for all hubs.
#[derive(Args)]
pub(super) struct Peer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    List(list::List),
    Show(show::Show),
    Remove(remove::Remove),
    Rename(rename::Rename),
    Rotate(rotate::Rotate),
    Set(set::Set),
}

impl Peer {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::New(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Show(command) => command.run(),
            Command::Remove(command) => command.run(),
            Command::Rename(command) => command.run(),
            Command::Rotate(command) => command.run(),
            Command::Set(command) => command.run(),
        }
    }
}
