//! A shell on a machine of a lab, in which `taltun` is found and finds the tunnel of that machine.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use taltun_tests::lab::{Lab, Role};
use taltun_tests::node::keep_in;
use taltun_tests::sys::{self, Signal};

use crate::setup::step;

/// `$SHELL` in the namespace of this name, whose Taltun has its control socket in `directory`, if it
/// has one. The prompt says where one is.
pub fn command(namespace: &str, directory: &Path, taltun: &Path) -> Result<Command> {
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let programs = taltun.parent().context("taltun is in no directory")?;
    let others = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths(std::iter::once(programs.to_owned()).chain(env::split_paths(&others)))?;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(&shell);
    keep_in(command.env("PATH", path), directory);
    command.envs(prompt(&shell, namespace));
    Ok(command)
}

/// The variables that make a shell's prompt begin with `place`. bash reads the user's prompt after
/// its environment, so there it is changed at the first prompt.
fn prompt(shell: &OsStr, place: &str) -> [(&'static str, String); 1] {
    if Path::new(shell).file_name() == Some(OsStr::new("bash")) {
        let change = format!("PS1=\"[{place}] $PS1\"; unset PROMPT_COMMAND");
        [("PROMPT_COMMAND", change)]
    } else {
        [("PS1", format!("[{place}] # "))]
    }
}

/// `--shell NODE`: opens one for `role` and returns its exit code when it ends. It is ended when we
/// are asked to stop, except by Ctrl-C, which on a terminal is meant for what runs in the shell.
pub fn open(lab: &Lab, role: Role, taltun: &Path) -> Result<ExitCode> {
    step(&format!(
        "a shell on {role}; the hub is {}, a {}, b {}; `taltun status` shows this node; leave with `exit`",
        Role::Hub.v4(),
        Role::A.v4(),
        Role::B.v4()
    ));
    let directory = lab.node(role).directory();
    let mut child = command(lab.namespace(role).name(), directory, taltun)?
        .spawn()
        .context("can't open a shell")?;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        if sys::stop_requested() == Some(Signal::Terminate) {
            child.kill()?;
        }
        sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_says_where_one_is() {
        let [(variable, text)] = prompt(OsStr::new("/bin/bash"), "taltun-a");
        assert_eq!(variable, "PROMPT_COMMAND");
        let mut bash = Command::new("bash");
        bash.args([
            "-c",
            &format!("PS1='# '; {text}; echo \"$PS1$PROMPT_COMMAND\""),
        ]);
        let output = bash.env(variable, &text).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "[taltun-a] # \n");
        let plain = prompt(OsStr::new("/bin/dash"), "taltun-a");
        assert_eq!(plain, [("PS1", "[taltun-a] # ".to_owned())]);
    }
}
