//! Whatever hangs meanwhile, a tunnel answers and ends in order: a hook that waits for a pipe that
//! nobody writes to, and a log that nobody reads.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{output_of, wait_for};
use taltun_tests::node::{Keys, Node, RUNTIME_DIR, Site};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{Case, UP_LIMIT, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "hooks: while one waits for a pipe the tunnel answers, and SIGTERM ends it in order",
        programs: &["mkfifo", "pgrep"],
        run: hook_on_a_pipe,
    },
    Case {
        name: "a tunnel whose log nobody reads any more answers, and SIGTERM ends it in order",
        programs: &[],
        run: closed_log,
    },
];

/// What hooks may take to be killed, one after the other, and the end after them.
const LIMIT: Duration = Duration::from_secs(40);

fn config(more: &str) -> Result<String> {
    let keys = Keys::generate(&taltun()?)?;
    Ok(format!(
        "[interface]\nmode = \"server\"\nvip = \"10.0.0.1/24\"\nprivate_key = \"{}\"\n\
         mss_clamp = true\n{more}",
        keys.private
    ))
}

fn hook_on_a_pipe() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let before = Snapshot::take(&net.left)?;
    let directory = tempfile::tempdir()?;
    let pipe = directory.path().join("pipe");
    output_of(Command::new("mkfifo").arg(&pipe))?;
    let ended = directory.path().join("ended");
    let hooks = format!(
        "on_up = \"cat {pipe}\"\non_down = \"cat {pipe}\"\nafter_down = \"echo $? > {}\"\n",
        ended.display(),
        pipe = pipe.display()
    );
    let mut node = Node::start_with_text(&net.left, &taltun()?, &config(&hooks)?)?;
    let waits = || -> Result<bool> {
        let pids =
            output_of(Command::new("pgrep").args(["-f", &format!("^cat {}", pipe.display())]));
        Ok(pids.is_ok_and(|pids| !pids.trim().is_empty()))
    };
    eventually("on_up waits for the pipe", UP_LIMIT, waits)?;
    // It is asked while the hook hangs.
    for words in [&["status"][..], &["stats", "--json"], &["reload"]] {
        node.tell(words)?;
    }
    ensure!(waits()?, "the hook ended by itself");
    node.end_within(Signal::Terminate, LIMIT)?;
    ensure!(!waits()?, "a hook outlived the tunnel");
    ensure!(ended.exists(), "after_down wasn't run: {}", node.log());
    let log = node.log();
    let killed = "was still running after 10 s and was killed";
    for hook in ["on_up: `cat ", "on_down: `cat "] {
        let mut lines = log.lines().filter(|line| line.contains(hook));
        ensure!(lines.any(|line| line.contains(killed)), "{hook}: {log}");
    }
    let changes = before.difference(&Snapshot::take(&net.left)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

/// Standard output and standard error are pipes whose other end goes.
fn closed_log() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let before = Snapshot::take(&net.left)?;
    let site = Site::prepare(&net.left, &taltun()?, &config("debug = true\n")?)?;
    let mut process = site
        .run_command(&net.left, &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let outcome = without_reader(&mut process, &site);
    if outcome.is_err() {
        let _ = process.kill();
        let _ = process.wait();
    }
    outcome?;
    let changes = before.difference(&Snapshot::take(&net.left)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

fn without_reader(process: &mut Child, site: &Site) -> Result<()> {
    drop((process.stdout.take(), process.stderr.take()));
    let ask = |words: &[&str]| {
        let mut command = Command::new(taltun()?);
        output_of(command.args(words).env(RUNTIME_DIR, site.directory()))
    };
    eventually("it answers", UP_LIMIT, || Ok(ask(&["status"]).is_ok()))?;
    // Each of these is told in the log, too.
    for words in [&["ban", "203.0.113.7"][..], &["reload"]] {
        ask(words)?;
    }
    // A reader that has seen enough is no failure of a command either.
    for words in ["status", "stats", "status --json"] {
        let mut command = Command::new(taltun()?);
        let mut child = command
            .args(words.split(' '))
            .env(RUNTIME_DIR, site.directory())
            .stdout(Stdio::piped())
            .spawn()?;
        drop(child.stdout.take());
        let status = wait_for(&mut child, UP_LIMIT)?.context("it didn't end")?;
        ensure!(status.success(), "{words}: {status}");
    }
    send_signal(process.id(), Signal::Terminate)?;
    let status = wait_for(process, UP_LIMIT)?.context("it didn't end")?;
    ensure!(status.success(), "{status}");
    let left = fs::read_dir(site.directory())?.filter_map(Result::ok);
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name != "config.toml" && name != "state" && name != "wireguard")
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
