//! `cargo xtask vm`: tests on other kernels, each in a virtual machine.
//!
//! The kernels are Debian's, from 5.10 to 7, fetched when they are first asked for; QEMU
//! translates each instruction, so that it runs anywhere, and takes its time. The machine works in
//! a directory of this one, as root.
//!
//! Zero copy takes network cards whose driver does it, and a second one at the other end. The
//! system tests that need such a pair find it by its addresses ([`taltun_tests::cards`]) and
//! are skipped where it isn't; the machines have some ([`qemu`]).
//!
//! What a system test needs and isn't there makes it skip. The eBPF tests skip nothing: there,
//! that is a failure.
//!
//! `cargo xtask test --vm`, and so CI, runs what takes few minutes of it ([`Short`]).

mod kernels;
mod machine;
mod qemu;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use taltun_tests::command::output_of;

use crate::{build, setup, workspace};
use machine::Machines;

/// The integration tests that run there.
const SYSTEM: &str = "system";
const XDP_VERDICTS: &str = "xdp_verdicts";

/// What `--only` calls the tests of the eBPF programs.
const EBPF: &str = "ebpf";
/// What `--only` calls those of AF_XDP, and what is in their names. The matrix, in which the
/// tests of other things run over AF_XDP, isn't among them: an emulated machine takes too long.
const AF_XDP: &str = "af_xdp";
const AF_XDP_NAMES: (&str, &str) = ("AF_XDP: ", "over AF_XDP: ");
/// The system tests that are run if nothing else is asked for.
const INTEROP: &str = "interop";

/// What `--only` calls those of them that say what becomes of a frame, and what is in the names
/// of the others: they attach programs, count against time, or run frames by the ten thousand, of
/// which an emulated machine takes too much.
const VERDICTS: &str = "verdicts";
const NO_VERDICTS: &[&str] = &[
    "buckets::",
    "full::",
    "latency::",
    "load::",
    "redirect::",
    "samples::",
    "shield::",
    // What may be answered comes back after ten milliseconds, which one frame takes there now and then.
    "tunnel::out_to_nobody",
];

/// What `--only` calls what CI runs.
const SHORT: &str = "short";
/// What is in the names of those against the kernel's WireGuard, and in those of the ones of them
/// that move or flood so much that an emulated machine takes minutes, or never comes to it.
const KERNEL_WIREGUARD: &str = "the kernel's WireGuard";
const TOO_MUCH: [&str; 2] = ["200 MB of TCP", "under load"];

/// The arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only `ebpf`, the tests of the eBPF programs; only `verdicts`, those of them that take single
    /// frames; only `af_xdp`, the system tests of AF_XDP, with zero copy where the kernel's
    /// virtio-net does it; `short`, the few minutes that CI runs, on kernels of its own if none is
    /// named; or only system tests whose names contain this. Without it: `ebpf`, then `interop`.
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// A kernel to run them on: 5.10, 6.1, 6.12 or 7; can be given several times. Default: all
    /// for `ebpf` and `af_xdp`, else 5.10 and 6.12.
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// How long one kernel may take, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    limit: u32,
    /// More for the kernel's command line, such as `ipv6.disable=1`.
    #[arg(
        long,
        value_name = "WORDS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,
}

/// What is tested there.
enum Suite {
    /// The eBPF programs: loaded, run over the corpus, attached.
    Ebpf,
    /// Those of them that say what becomes of a frame.
    Verdicts,
    /// AF_XDP: with copies on veths, without on network cards where there are some.
    AfXdp,
    /// The system tests against the kernel's WireGuard, but for those that move or flood much.
    KernelWireguard,
    /// The system tests whose names contain this.
    System(String),
}

impl Suite {
    fn name(&self) -> &str {
        match self {
            Self::Ebpf => EBPF,
            Self::Verdicts => VERDICTS,
            Self::AfXdp => AF_XDP,
            Self::KernelWireguard => KERNEL_WIREGUARD,
            Self::System(filter) => filter,
        }
    }

    fn kernels(&self) -> &'static [&'static str] {
        match self {
            Self::Ebpf | Self::Verdicts | Self::AfXdp => &["5.10", "6.1", "6.12", "7"],
            Self::KernelWireguard | Self::System(_) => &["5.10", "6.12"],
        }
    }

    /// Builds what it consists of, into the directory that the machine sees.
    fn build(&self, share: &Path) -> Result<()> {
        setup::step(&format!("building the tests for {}", self.name()));
        setup::ebpf_toolchain()?;
        match self {
            Self::Ebpf | Self::Verdicts => copy(&test_program(XDP_VERDICTS)?, &share.join(EBPF)),
            Self::AfXdp | Self::KernelWireguard | Self::System(_) => {
                copy(&test_program(SYSTEM)?, &share.join(SYSTEM))?;
                copy(&build::tested_taltun()?, &share.join("taltun"))
            }
        }
    }

    /// The command to run there.
    fn command(&self) -> String {
        match self {
            Self::Ebpf => format!("./{EBPF} --color=never"),
            Self::Verdicts => {
                let skip = |name: &&str| format!(" --skip {name}");
                let skip: String = NO_VERDICTS.iter().map(skip).collect();
                format!("./{EBPF} --color=never{skip}")
            }
            Self::AfXdp => {
                let (names, others) = AF_XDP_NAMES;
                system(&format!("--skip {} {}", quoted(others), quoted(names)))
            }
            Self::KernelWireguard => {
                let skip = TOO_MUCH.map(|name| format!("--skip {} ", quoted(name)));
                system(&(skip.concat() + &quoted(KERNEL_WIREGUARD)))
            }
            Self::System(filter) => system(&quoted(filter)),
        }
    }

    fn may_skip(&self) -> bool {
        !matches!(self, Self::Ebpf | Self::Verdicts)
    }
}

/// Runs system tests, which of them these arguments say.
fn system(arguments: &str) -> String {
    // The driver of the network cards: nothing in the machine loads it by itself.
    format!(
        "modprobe -q virtio_net; \
         TALTUN_OWN_MACHINE=1 TALTUN_TESTS_PATIENCE=10 TALTUN_BIN=$PWD/taltun ./{SYSTEM} --color=never --nocapture {arguments}"
    )
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What fits into CI: what the oldest kernel says to the eBPF programs, and the kernel's own
/// WireGuard on a newer one. Both machines run at the same time.
pub struct Short {
    machines: Machines,
    share: PathBuf,
}

/// One run of [`Short`].
pub struct ShortRun {
    /// What ran where.
    pub what: String,
    /// What was printed.
    pub stdout: String,
    /// What went wrong, besides tests that say so themselves.
    pub trouble: Option<String>,
}

impl Short {
    const SUITES: [(Suite, &str); 2] =
        [(Suite::Verdicts, "5.10"), (Suite::KernelWireguard, "6.12")];
    /// How long they may take, seconds: some times as long as they do.
    const LIMIT: u32 = 900;

    /// Fetches what the machines are made of.
    ///
    /// # Errors
    /// It can't be had here.
    pub fn prepare() -> Result<Self> {
        let machines = Machines::new()?;
        for (_, kernel) in Self::SUITES {
            machines.get(kernel)?;
        }
        let share = share()?;
        Ok(Self { machines, share })
    }

    /// Runs it all.
    ///
    /// # Errors
    /// The tests don't build, or QEMU doesn't start.
    pub fn run(&self) -> Result<Vec<ShortRun>> {
        for (suite, _) in Self::SUITES {
            suite.build(&self.share)?;
        }
        thread::scope(|scope| {
            let run = |(suite, kernel)| scope.spawn(move || self.run_one(&suite, kernel));
            let running = Self::SUITES.map(run);
            let mut runs = Vec::new();
            for run in running {
                let run = run.join();
                runs.push(run.map_err(|_| anyhow!("what runs a virtual machine panicked"))??);
            }
            Ok(runs)
        })
    }

    fn run_one(&self, suite: &Suite, kernel: &str) -> Result<ShortRun> {
        let what = format!("{} on {kernel}", suite.name());
        setup::step(&format!("running {what}"));
        let start = Instant::now();
        let command = suite.command();
        let ended = self
            .machines
            .run(kernel, &self.share, &command, Self::LIMIT, "")?;
        setup::step(&format!("{what} took {} s", start.elapsed().as_secs()));
        eprint!("{}", ended.stderr);
        let outcome = outcome(
            &ended.stdout,
            &ended.stderr,
            ended.success,
            suite.may_skip(),
        );
        Ok(ShortRun {
            what,
            stdout: ended.stdout,
            trouble: (!outcome.ok).then_some(outcome.summary),
        })
    }
}

/// Runs the tests on each kernel.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let is_short = arguments.only.as_deref() == Some(SHORT);
    if is_short && arguments.kernel.is_empty() {
        return run_short();
    }
    let machines = Machines::new()?;
    let suites = match arguments.only.as_deref() {
        None => vec![Suite::Ebpf, Suite::System(INTEROP.into())],
        Some(EBPF) => vec![Suite::Ebpf],
        Some(VERDICTS) => vec![Suite::Verdicts],
        Some(AF_XDP) => vec![Suite::AfXdp],
        Some(SHORT) => vec![Suite::Verdicts, Suite::KernelWireguard],
        Some(filter) => vec![Suite::System(filter.into())],
    };
    let share = share()?;
    for suite in &suites {
        suite.build(&share)?;
    }

    let mut table = String::new();
    let mut ok = true;
    for suite in &suites {
        let kernels = match &arguments.kernel[..] {
            [] => suite.kernels().iter().map(ToString::to_string).collect(),
            chosen => chosen.to_vec(),
        };
        for kernel in kernels {
            setup::step(&format!("running {} on {kernel}", suite.name()));
            let (command, append) = (suite.command(), &arguments.append);
            let ended = machines.run(&kernel, &share, &command, arguments.limit, append)?;
            eprint!("{}{}", ended.stdout, ended.stderr);
            let outcome = outcome(
                &ended.stdout,
                &ended.stderr,
                ended.success,
                suite.may_skip(),
            );
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

/// Runs what CI does.
fn run_short() -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for run in Short::prepare()?.run()? {
        print!("{}", run.stdout);
        match run.trouble {
            None => println!("{}: ok", run.what),
            Some(trouble) => {
                println!("{}: FAILED: {trouble}", run.what);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// The directory that machines see.
fn share() -> Result<PathBuf> {
    let share = workspace::target().join("vm/share");
    fs::create_dir_all(&share).with_context(|| format!("can't make {}", share.display()))?;
    Ok(share)
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

/// Reads what a test program printed.
fn outcome(stdout: &str, stderr: &str, success: bool, may_skip: bool) -> Outcome {
    // System tests have two: those that ran side by side, and those that ran alone.
    let results: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
        .filter(|result| !result.starts_with("ok. 0 passed; 0 failed; 0 ignored"))
        .collect();
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
        ok: success && !results.is_empty() && (may_skip || notable.is_empty()),
        summary: match &results[..] {
            [] => last_words().to_owned(),
            results => results.join("; "),
        },
        notable,
    }
}

/// Builds the integration tests that run in machines, with the `taltun` that they run, and says
/// where the one of this name is. It is always both, as `cargo xtask test` builds them.
fn test_program(test: &str) -> Result<PathBuf> {
    let mut cargo = build::tests()?;
    cargo.args(["--test", SYSTEM, "--test", XDP_VERDICTS, "--no-run"]);
    let messages = output_of(cargo.args(["--message-format", "json"]))?;
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
        let dead = outcome("running 2 tests", "not done within 9 s\n\n", false, true);
        assert!(!dead.ok);
        assert_eq!(dead.summary, "not done within 9 s");
    }

    #[test]
    fn verdicts_are_the_tests_that_neither_attach_nor_count_time() {
        let command = Suite::Verdicts.command();
        assert!(command.contains(" --skip shield::"), "{command}");
        let (may_skip, kernels) = (Suite::Verdicts.may_skip(), Suite::Verdicts.kernels());
        assert!(!may_skip && kernels.contains(&"5.10"));
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
