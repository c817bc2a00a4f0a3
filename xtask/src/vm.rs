//! `cargo xtask vm`: tests inside virtual machines, on the kernels that Taltun supports.
//!
//! What the eBPF verifier accepts and what the network stack offers differs from kernel to
//! kernel, and this machine has only one. So the test programs are built here and run there.
//! The machine itself is not ours: `$TALTUN_VM` names a program that runs a command in one,
//! as root, with a directory of this machine as its working directory:
//!
//! ```text
//! $TALTUN_VM -s DIRECTORY -t SECONDS KERNEL -- COMMAND
//! ```
//!
//! `COMMAND` is for a shell; its output and its exit code are to come back. `KERNEL` is
//! whatever names one there, such as `6.12`. Where the variable isn't set, it is `vmrun` in
//! the directory that `$TALTUN_VM_DIR` names, or else in `../shared/vm`; a `get-kernels`
//! beside it is called first, to fetch kernels that are missing.
//!
//! Zero copy takes network cards whose driver does it, and a second one at the other end. The
//! system tests that need such a pair find it by its addresses ([`taltun_tests::cards`]) and
//! are skipped where it isn't. It is asked for by `$VMRUN_QEMU` ([`qemu`]), which `vmrun` heeds;
//! another program may do likewise, or know nothing of it.
//!
//! The guest needs the C library that we were built with, `ip`, `ethtool`, `wg`, `ping`, and
//! for the system tests a kernel with WireGuard; what else one of these needs and isn't there
//! makes it skip. The eBPF tests skip nothing: there, that is a failure.

mod qemu;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::output_of;

use crate::{build, setup, workspace};

/// The variable that names the program which runs a virtual machine.
const VM_VARIABLE: &str = "TALTUN_VM";
/// The variable that names the directory with that program.
const VM_DIR_VARIABLE: &str = "TALTUN_VM_DIR";
/// What `--only` calls the tests of the eBPF programs.
const EBPF: &str = "ebpf";
/// What `--only` calls those of AF_XDP, and what is in their names. The matrix, in which the
/// tests of other things run over AF_XDP, isn't among them: an emulated machine takes too long.
const AF_XDP: &str = "af_xdp";
const AF_XDP_NAMES: (&str, &str) = ("AF_XDP: ", "over AF_XDP: ");
/// The system tests that are run if nothing else is asked for.
const INTEROP: &str = "interop";

/// The arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only `ebpf`, the tests of the eBPF programs; only `af_xdp`, the system tests of AF_XDP,
    /// with zero copy where the kernel's virtio-net does it; or only system tests whose names
    /// contain this. Without it: `ebpf`, then `interop`.
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// A kernel to run them on, as the program that runs the machine calls it; can be given
    /// several times. Default: 5.10, 6.1, 6.12 and 7 for `ebpf` and `af_xdp`, else 5.10 and
    /// 6.12.
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// How long one kernel may take, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    limit: u32,
}

/// What is tested there.
enum Suite {
    /// The eBPF programs: loaded, run over the corpus, attached.
    Ebpf,
    /// AF_XDP: with copies on veths, without on network cards where there are some.
    AfXdp,
    /// The system tests whose names contain this.
    System(String),
}

impl Suite {
    fn name(&self) -> &str {
        match self {
            Self::Ebpf => EBPF,
            Self::AfXdp => AF_XDP,
            Self::System(filter) => filter,
        }
    }

    fn kernels(&self) -> &'static [&'static str] {
        match self {
            Self::Ebpf | Self::AfXdp => &["5.10", "6.1", "6.12", "7"],
            Self::System(_) => &["5.10", "6.12"],
        }
    }

    /// Builds what it consists of, into the directory that the machine sees.
    fn build(&self, share: &Path) -> Result<()> {
        setup::step(&format!("building the tests for {}", self.name()));
        match self {
            Self::Ebpf => {
                setup::ebpf_toolchain()?;
                copy(&test_program("taltun", "xdp_verdicts")?, &share.join(EBPF))
            }
            Self::AfXdp | Self::System(_) => {
                copy(&build::taltun()?, &share.join("taltun"))?;
                let program = test_program("taltun-tests", "system")?;
                copy(&program, &share.join("system"))
            }
        }
    }

    /// The command to run there.
    fn command(&self) -> String {
        match self {
            Self::Ebpf => format!("./{EBPF} --color=never"),
            Self::AfXdp => {
                let (names, others) = AF_XDP_NAMES;
                system(&format!("--skip {} {}", quoted(others), quoted(names)))
            }
            Self::System(filter) => system(&quoted(filter)),
        }
    }

    fn may_skip(&self) -> bool {
        !matches!(self, Self::Ebpf)
    }
}

/// Runs system tests, which of them these arguments say.
fn system(arguments: &str) -> String {
    // The driver of the network cards: nothing in the machine loads it by itself.
    format!(
        "modprobe -q virtio_net; \
         TALTUN_BIN=$PWD/taltun ./system --color=never --nocapture {arguments}"
    )
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs the tests on each kernel.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let machine = machine()?;
    let suites = match arguments.only.as_deref() {
        None => vec![Suite::Ebpf, Suite::System(INTEROP.into())],
        Some(EBPF) => vec![Suite::Ebpf],
        Some(AF_XDP) => vec![Suite::AfXdp],
        Some(filter) => vec![Suite::System(filter.into())],
    };
    let share = workspace::target().join("vm");
    fs::create_dir_all(&share).with_context(|| format!("can't make {}", share.display()))?;
    for suite in &suites {
        suite.build(&share)?;
    }
    fetch_kernels(&machine);
    let qemu = qemu::with_cards(&share);

    let mut table = String::new();
    let mut ok = true;
    for suite in &suites {
        let kernels = match &arguments.kernel[..] {
            [] => suite.kernels().iter().map(ToString::to_string).collect(),
            chosen => chosen.to_vec(),
        };
        for kernel in kernels {
            setup::step(&format!("running {} on {kernel}", suite.name()));
            let outcome = run_in(&machine, &kernel, suite, (&share, &qemu), arguments.limit)?;
            ok &= outcome.ok;
            // Writing to a String can't fail.
            let _ = writeln!(
                table,
                "{kernel:<6} {:<10} {:<6} {}",
                suite.name(),
                if outcome.ok { "ok" } else { "FAILED" },
                outcome.summary
            );
            for line in &outcome.notable {
                let _ = writeln!(table, "    {line}");
            }
        }
    }
    print!("{table}");
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How a suite went on a kernel.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    ok: bool,
    /// libtest's last line, or what ended the machine instead.
    summary: String,
    /// Tests that failed or were skipped.
    notable: Vec<String>,
}

/// Runs a suite in a virtual machine with this kernel.
fn run_in(
    machine: &Path,
    kernel: &str,
    suite: &Suite,
    (share, qemu): (&Path, &str),
    limit: u32,
) -> Result<Outcome> {
    let output = Command::new(machine)
        .arg("-s")
        .arg(share)
        .args(["-t", &limit.to_string(), kernel, "--"])
        .arg(suite.command())
        .env(qemu::VARIABLE, qemu)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {}", machine.display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    eprint!("{stdout}{stderr}");
    let success = output.status.success();
    Ok(outcome(&stdout, &stderr, success, suite.may_skip()))
}

/// Reads what a test program printed.
fn outcome(stdout: &str, stderr: &str, success: bool, may_skip: bool) -> Outcome {
    let result = stdout
        .lines()
        .find_map(|line| line.strip_prefix("test result: "));
    let notable: Vec<String> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test "))
        .filter(|line| line.contains(" ... FAILED") || line.contains(" ... ignored"))
        .map(str::to_owned)
        .collect();
    let last_words = || {
        let mut lines = stderr.lines().rev();
        let line = lines.find(|line| !line.trim().is_empty());
        line.unwrap_or("it ended without a word")
    };
    Outcome {
        ok: success && result.is_some() && (may_skip || notable.is_empty()),
        summary: result.unwrap_or_else(last_words).to_owned(),
        notable,
    }
}

/// Builds a package's integration test and says where it is.
fn test_program(package: &str, test: &str) -> Result<PathBuf> {
    let messages = output_of(workspace::cargo()?.args([
        "test",
        "--profile",
        build::LAB,
        "--package",
        package,
        "--test",
        test,
        "--no-run",
        "--message-format",
        "json",
    ]))?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == test;
        message["executable"]
            .as_str()
            .filter(|_| is_it)
            .map(PathBuf::from)
    });
    executable.with_context(|| format!("cargo didn't say where the tests `{test}` are"))
}

/// The program that runs a virtual machine.
fn machine() -> Result<PathBuf> {
    if let Some(program) = env::var_os(VM_VARIABLE) {
        return Ok(program.into());
    }
    let directory = env::var_os(VM_DIR_VARIABLE)
        .map_or_else(|| workspace::root().join("../shared/vm"), PathBuf::from);
    let program = directory.join("vmrun");
    if !program.is_file() {
        bail!(
            "{VM_VARIABLE} isn't set, and there is no {}: one of them has to be a program that \
             runs `-s DIRECTORY -t SECONDS KERNEL -- COMMAND` in a virtual machine, with \
             DIRECTORY as its working directory",
            program.display()
        );
    }
    Ok(program)
}

/// Fetches kernels that are missing, where there is a program for it. Those that are there
/// can be tested on in any case.
fn fetch_kernels(machine: &Path) {
    let fetch = machine.with_file_name("get-kernels");
    if !fetch.is_file() {
        return;
    }
    setup::step("fetching kernels that are missing");
    if let Err(error) = workspace::must_succeed(&mut Command::new(fetch), "fetch kernels") {
        setup::step(&format!("{error:#}"));
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // Another machine may still have the old one open.
    let _ = fs::remove_file(to);
    fs::copy(from, to)
        .with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
    ensure!(to.is_file(), "{} is gone", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_to_the_end_without_a_gap_is_ok() {
        let fine = "running 2 tests\ntest a ... ok\ntest result: ok. 2 passed; 0 failed";
        let read = outcome(fine, "", true, false);
        assert!(read.ok);
        assert_eq!(read.summary, "ok. 2 passed; 0 failed");

        assert!(!outcome(fine, "", false, false).ok);
        let gap = "test a ... ignored (needs root)\ntest result: ok. 1 passed";
        assert_eq!(
            outcome(gap, "", true, false),
            Outcome {
                ok: false,
                summary: "ok. 1 passed".into(),
                notable: vec!["a ... ignored (needs root)".into()],
            }
        );
        assert!(outcome(gap, "", true, true).ok);
        let dead = outcome("running 2 tests", "vmrun: time limit 9s\n\n", false, true);
        assert!(!dead.ok);
        assert_eq!(dead.summary, "vmrun: time limit 9s");
    }

    #[test]
    fn a_filter_is_one_word_for_the_shell() {
        let command = Suite::System("it's; rm".into()).command();
        assert!(command.ends_with(r"'it'\''s; rm'"), "{command}");
        let command = Suite::AfXdp.command();
        assert!(
            command.ends_with("--skip 'over AF_XDP: ' 'AF_XDP: '"),
            "{command}"
        );
    }
}
