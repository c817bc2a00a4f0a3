//! Talking to a running `taltun` by its control socket, as a user's shell does.
//!
//! It knows only where the socket is, not the process: so it can be given to another thread, and
//! it goes on while its `taltun` is killed and started anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;

use crate::command::output_of;
use crate::report::{Stats, Status};

/// The variable that tells `taltun` where its control socket is.
pub const RUNTIME_DIR: &str = "TALTUN_RUNTIME_DIR";

/// The variables that would lead it to what isn't its own, if whoever runs us has them set.
const OTHERS: [&str; 2] = ["TALTUN_STATE_DIR", "TALTUN_UAPI_DIR"];

/// Has a command that runs `taltun` keep all that is its own in `directory`, or find it there, whatever
/// our own environment says.
pub fn keep_in<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    for other in OTHERS {
        command.env_remove(other);
    }
    command.env(RUNTIME_DIR, directory)
}

/// Whom to talk to.
#[derive(Debug, Clone)]
pub struct Control {
    taltun: PathBuf,
    directory: PathBuf,
}

impl Control {
    /// For the `taltun` whose control socket is in `directory`.
    pub fn new(taltun: &Path, directory: &Path) -> Self {
        Self {
            taltun: taltun.to_owned(),
            directory: directory.to_owned(),
        }
    }

    /// `taltun status --json`.
    pub fn status(&self) -> Result<Status> {
        self.ask("status")
    }

    /// `taltun stats --json`.
    pub fn stats(&self) -> Result<Stats> {
        self.ask("stats")
    }

    /// Runs `taltun` with these words, `ban` and the like.
    pub fn tell(&self, words: &[&str]) -> Result<String> {
        output_of(self.command().args(words))
    }

    /// `taltun`, set up to talk to this one. It talks by a file, so any namespace will do.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.taltun);
        keep_in(&mut command, &self.directory);
        command
    }

    /// Where the control socket is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn ask<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let json = self.tell(&[what, "--json"])?;
        serde_json::from_str(&json)
            .map_err(|error| anyhow!("taltun {what} --json printed what we can't read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_taltun_of_a_lab_has_directories_of_its_own() {
        let mut command = Command::new("env");
        // As if our own environment had them.
        for other in OTHERS {
            command.env(other, "/nowhere");
        }
        keep_in(&mut command, Path::new("/run/x"));
        let value = |name: &str| {
            let mut all = command.get_envs();
            all.find(|(key, _)| *key == OsStr::new(name)).unwrap().1
        };
        assert_eq!(value(RUNTIME_DIR), Some(OsStr::new("/run/x")));
        for other in OTHERS {
            assert_eq!(value(other), None, "{other}");
        }
    }
}
