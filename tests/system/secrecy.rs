//! What is in a process's memory, keys among it, is nobody else's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::Options;
use taltun_tests::programs;

use crate::support::{Case, eventually, lab, take_down, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "a command with a key can't be looked into by its own user, and leaves no core",
        programs: &[],
        run: nobody_looks_into_a_command,
    },
    Case {
        name: "a running tunnel leaves no core",
        programs: &[],
        run: a_tunnel_leaves_no_core,
    },
];

const NOBODY: u32 = 65_534;

fn nobody_looks_into_a_command() -> Result<()> {
    // Where that user may run it: a home isn't.
    let program = std::env::temp_dir().join(format!("taltun-{}", std::process::id()));
    programs::copy(&taltun()?, &program)?;
    let outcome = look_into(&program);
    fs::remove_file(&program)?;
    outcome
}

fn look_into(program: &Path) -> Result<()> {
    // It waits for a key on its input.
    let mut child = Command::new(program)
        .arg("pubkey")
        .uid(NOBODY)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("can't run taltun as another user")?;
    let pid = child.id();
    // A process that may be looked into by its user has its files belong to that user.
    let hidden = eventually("its files are root's", Duration::from_secs(10), || {
        Ok(fs::metadata(format!("/proc/{pid}/mem"))?.uid() == 0)
    });
    let core = ensure_no_core(pid);
    child.kill()?;
    child.wait()?;
    hidden.and(core)
}

fn a_tunnel_leaves_no_core() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_no_core(lab.hub.pid())?;
    take_down(lab)
}

fn ensure_no_core(pid: u32) -> Result<()> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file"));
    let words: Vec<&str> = line.context("no such limit")?.split_whitespace().collect();
    ensure!(words.get(4) == Some(&"0"), "{words:?}");
    Ok(())
}
