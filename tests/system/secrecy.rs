//! What is in a process's memory, keys among it, is nobody else's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::Options;
use taltun_tests::node::{Keys, Node};
use taltun_tests::programs;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{Case, MEMORY_LOCK, eventually, lab, take_down, taltun};

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
    Case {
        name: "the memory of a running tunnel isn't swapped",
        programs: &["prlimit", MEMORY_LOCK],
        run: memory_is_locked,
    },
    Case {
        name: "a tunnel that may not lock its memory runs and says so",
        programs: &["setpriv", "prlimit"],
        run: memory_cannot_be_locked,
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

fn memory_is_locked() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let node = Node::start_with_text(&pair.left, &taltun()?, &hub()?)?;
    let memory = node.status()?.rights.memory;
    ensure!(memory.locked && memory.reason.is_none(), "{memory:?}");
    // What a tunnel uses at the least.
    let least = 4 << 10;
    let locked = locked_kib(node.pid())?;
    ensure!(locked > least, "{locked} KiB");
    // Which gives back what it took to read the file.
    node.tell(&["reload"])?;
    let locked = locked_kib(node.pid())?;
    ensure!(locked > least, "{locked} KiB after a reload");
    node.stop(Signal::Terminate)
}

fn memory_cannot_be_locked() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let through = [
        "prlimit",
        "--memlock=65536:65536",
        "setpriv",
        "--bounding-set=-sys_resource",
        "--",
    ];
    let node = Node::start_through(&pair.left, &taltun()?, &hub()?, &through)?;
    let memory = node.status()?.rights.memory;
    let reason = memory.reason.context("it says no reason")?;
    ensure!(!memory.locked, "with a limit");
    ensure!(
        reason.contains("the limit of locked memory is 64 KiB"),
        "{reason}"
    );
    ensure!(locked_kib(node.pid())? == 0);
    let shown = node.tell(&["status", "--long"])?;
    ensure!(
        shown.contains("memory:           may be swapped (the limit"),
        "{shown}"
    );
    node.stop(Signal::Terminate)
}

fn hub() -> Result<String> {
    Ok(format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         local_addr = \"0.0.0.0:9100\"\nprivate_key = \"{}\"\n",
        Keys::generate(&taltun()?)?.private
    ))
}

/// `VmLck`: the address space that is locked.
fn locked_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kib.context("no such line")?.trim().parse()?)
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
