//! `--shell NODE`: a shell in one node's namespace, with `taltun` talking to that node.

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use taltun_tests::lab::{Lab, Role};
use taltun_tests::node::RUNTIME_DIR;
use taltun_tests::sys::{self, Signal};

use crate::setup::step;

/// Opens `$SHELL` for `role` and returns its exit code when it ends. It is ended when we are
/// asked to stop, except by Ctrl-C, which on a terminal is meant for what runs in the shell.
pub fn open(lab: &Lab, role: Role, taltun: &Path) -> Result<ExitCode> {
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let directory = taltun.parent().context("taltun is in no directory")?;
    let others = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths(std::iter::once(directory.to_owned()).chain(env::split_paths(&others)))?;
    step(&format!(
        "a shell on {role}; the hub is {}, a {}, b {}; `taltun status` shows this node; leave with `exit`",
        Role::Hub.v4(),
        Role::A.v4(),
        Role::B.v4()
    ));
    let mut child = lab
        .namespace(role)
        .command(shell)
        .env("PATH", path)
        .env(RUNTIME_DIR, lab.node(role).directory())
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
