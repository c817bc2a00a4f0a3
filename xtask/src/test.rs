//! `cargo xtask test`: every test there is, counted, and nothing skipped in silence.
//!
//! One `cargo test` for all of the workspace, of which the whole-system tests are a part, then what
//! threads share in each order that they can come in, and the instructions that a packet costs. The first
//! is one command, in the profile that the lab and this program have too, so that nothing is built twice:
//! cargo builds a package anew wherever another choice of packages asks for other features of it. All
//! print in libtest's format, which is passed on and read for the count.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use taltun_tests::sys;

use crate::backports;
use crate::build;
use crate::instructions;
use crate::setup;
use crate::vm;

const NO_PACKAGE: &str = "boringtun-cli is in no distribution's packages";
/// What stands for all that is run in virtual machines, where there can't be any.
const IN_MACHINES: &str = "the tests in virtual machines";
const IN_THE_VM: &str = "not every kernel has WireGuard; `cargo xtask vm` runs it on some that do";

/// What is in the names of tests that CI may skip, with the reason why it may.
const MAY_SKIP: &[(&str, &str)] = &[
    ("boringtun", NO_PACKAGE),
    ("the kernel's WireGuard", IN_THE_VM),
    (IN_MACHINES, "kernels can't be fetched everywhere"),
    (
        instructions::TESTS,
        "they are counted by valgrind on a CPU with AVX2; .ci/run installs valgrind",
    ),
    (
        "half a second in one place",
        "not every kernel has netem; `cargo xtask vm --only vagrant` runs it on some that do",
    ),
    (
        "chaos: a clock that",
        "a clock can't be moved for one namespace alone; `cargo xtask vm --only clock` moves a machine's",
    ),
    (
        "memory of a running tunnel isn't swapped",
        "a container's root may not lift the limit; `cargo xtask vm --only swapped` has a machine's",
    ),
    (
        "are what promtool takes",
        "promtool comes with Prometheus alone, a service of its own; who has it on PATH runs it",
    ),
    (
        "AF_XDP: zero copy: ",
        "few network cards do it; `cargo xtask vm --only af_xdp --kernel 7` has one",
    ),
];

/// The arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only tests whose names contain this: `interop` for those against other
    /// implementations, `wg` tools and all that their users rely on; `recipes` for the
    /// deployments of the manual; `vagrant` for the lab of the talk; `instructions` for what a
    /// packet costs. `soak` adds two that take
    /// minutes and are left out otherwise: TCP through hub and relay across several rekeys, and
    /// 10 GB over a bad wire.
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// A test that may be skipped even under CI=true; can be given several times.
    #[arg(long, value_name = "NAME")]
    skip_ok: Vec<String>,
    /// Then, in virtual machines: what the oldest kernel says to the eBPF programs, and the
    /// kernel's own WireGuard. Where kernels can't be fetched, that is a skipped test.
    #[arg(long)]
    vm: bool,
}

/// Runs the tests.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut tally = Tally::default();
    // taltun-ebpf is no program for this machine; building taltun builds it.
    setup::ebpf_toolchain()?;
    let root = sys::is_root();
    if root {
        setup::programs(setup::LAB)?;
        for missing in [setup::programs(setup::TESTS), backports::wireguard_go()] {
            if let Err(error) = missing {
                setup::step(&format!("{error:#}"));
            }
        }
    }
    let mut tests = build::tests()?;
    tests.arg("--no-fail-fast");
    if root {
        tests.env("TALTUN_BIN", build::tested_taltun()?);
    } else {
        setup::step("the system tests need root, to make network namespaces: run this as root");
    }
    tally.add("the tests", filtered(tests, arguments))?;
    let interleavings = filtered(build::interleavings()?, arguments);
    tally.add("each order of threads", interleavings)?;
    for line in instructions::as_tests(arguments.only.as_deref()) {
        println!("{line}");
        tally.read(&line);
    }
    if arguments.vm {
        in_virtual_machines(&mut tally)?;
    }
    Ok(verdict(&tally, arguments))
}

/// Runs what of `cargo xtask vm` takes few minutes. What runs there isn't skipped any more.
fn in_virtual_machines(tally: &mut Tally) -> Result<()> {
    let machines = match vm::Short::prepare() {
        Ok(machines) => machines,
        Err(error) => {
            tally.skip(IN_MACHINES, &format!("{error:#}"));
            return Ok(());
        }
    };
    for run in machines.run()? {
        let failed_before = tally.failed;
        for line in run.stdout.lines() {
            println!("{line}");
            tally.read(line);
            tally.ran_after_all(line);
        }
        if let Some(trouble) = run.trouble
            && tally.failed == failed_before
        {
            tally.failed += 1;
            tally.failed_tests.push(format!("{}: {trouble}", run.what));
        }
    }
    Ok(())
}

/// Prints the sum and decides.
fn verdict(tally: &Tally, arguments: &Arguments) -> ExitCode {
    let mut ok = tally.failed == 0;
    let strict = env::var("CI").is_ok_and(|value| value == "true");
    for (name, reason) in &tally.skipped_tests {
        println!("skipped: {name}: {reason}");
        if strict && !may_skip(name, arguments) {
            println!("  which CI doesn't allow");
            ok = false;
        }
    }
    for name in &tally.failed_tests {
        println!("failed: {name}");
    }
    if tally.passed + tally.failed + tally.skipped == 0 {
        println!("no test was run");
        ok = false;
    }
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn may_skip(name: &str, arguments: &Arguments) -> bool {
    MAY_SKIP.iter().any(|(allowed, _)| name.contains(allowed))
        || arguments.skip_ok.iter().any(|allowed| allowed == name)
}

fn filtered(mut command: Command, arguments: &Arguments) -> Command {
    if let Some(filter) = &arguments.only {
        command.arg("--").arg(filter);
    }
    command
}

/// What the test programs have reported so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Name and reason.
    skipped_tests: Vec<(String, String)>,
    failed_tests: Vec<String>,
}

impl Tally {
    /// Runs `command`, passes on what it prints and counts. One that fails without having
    /// counted a failure (it didn't compile, or died) counts as one.
    fn add(&mut self, what: &str, mut command: Command) -> Result<()> {
        setup::step(&format!("running {what}"));
        let failed_before = self.failed;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {what}"))?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            self.read(&line);
        }
        let status = child.wait()?;
        if !status.success() && self.failed == failed_before {
            self.failed += 1;
            self.failed_tests
                .push(format!("{what} didn't run to the end ({status})"));
        }
        Ok(())
    }

    /// Counts a test that couldn't be run.
    fn skip(&mut self, name: &str, reason: &str) {
        println!("test {name} ... ignored ({reason})");
        self.skipped += 1;
        self.skipped_tests
            .push((name.to_owned(), reason.to_owned()));
    }

    /// Takes a line of another run into account, on another kernel: a test that was skipped here
    /// and run there wasn't skipped.
    fn ran_after_all(&mut self, line: &str) {
        // What a test prints itself may stand behind its name, and its outcome below.
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            return;
        };
        let name = name.trim();
        if outcome.starts_with("ignored") {
            return;
        }
        let skipped = self.skipped_tests.len();
        self.skipped_tests.retain(|(other, _)| other != name);
        self.skipped -= (skipped - self.skipped_tests.len()) as u64;
    }

    /// Takes a line of libtest's output into account.
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …"
            self.passed += count_before(counts, "passed");
            self.failed += count_before(counts, "failed");
            self.skipped += count_before(counts, "ignored");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, outcome)) = test.rsplit_once(" ... ")
        {
            let name = name.trim().to_owned();
            if let Some(reason) = outcome.strip_prefix("ignored") {
                // libtest writes ", reason", libtest-mimic " (reason)".
                let reason = reason.trim_start_matches([',', ' ']);
                let reason = reason
                    .strip_prefix('(')
                    .and_then(|reason| reason.strip_suffix(')'))
                    .unwrap_or(reason);
                let reason = match reason {
                    "" => "no reason is given",
                    reason => reason,
                };
                self.skipped_tests.push((name, reason.to_owned()));
            } else if outcome == "FAILED" {
                self.failed_tests.push(name);
            }
        }
    }
}

/// The number in front of `word`.
fn count_before(counts: &str, word: &str) -> u64 {
    let words: Vec<_> = counts
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_prints_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test protocol::noise::tests::works ... ok",
            "test a::b ... ignored, needs the moon",
            "test a::c ... ignored",
            "test a::d ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test a name with ... dots   ... ignored (needs root (really))",
            "test result: ok. 20 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            tally.read(line);
        }
        let skipped = [
            ("a::b", "needs the moon"),
            ("a::c", "no reason is given"),
            ("a name with ... dots", "needs root (really)"),
        ];
        assert_eq!(
            tally,
            Tally {
                passed: 21,
                failed: 1,
                skipped: 3,
                skipped_tests: skipped
                    .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
                    .to_vec(),
                failed_tests: vec!["a::d".to_owned()],
            }
        );
    }

    #[test]
    fn what_runs_in_a_virtual_machine_is_not_skipped() {
        let mut tally = Tally::default();
        for line in [
            "test interop: a   ... ignored (needs a kernel)",
            "test interop: b   ... ignored (needs a kernel)",
            "test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured",
        ] {
            tally.read(line);
        }
        for line in [
            "test interop: a ... $ wg show",
            "ok",
            "test interop: b ... ignored (needs wg)",
            "test c ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured",
        ] {
            tally.read(line);
            tally.ran_after_all(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.skipped), (7, 0, 2));
        let names: Vec<&str> = tally
            .skipped_tests
            .iter()
            .map(|(name, _)| &**name)
            .collect();
        assert_eq!(names, ["interop: b", "interop: b"]);
    }

    #[test]
    fn only_named_tests_may_be_skipped() {
        let arguments = Arguments {
            only: None,
            vm: false,
            skip_ok: vec!["this one".to_owned()],
        };
        assert!(may_skip("this one", &arguments));
        let kernel = "interop: Taltun starts with the kernel's WireGuard, over IPv4";
        assert!(may_skip(kernel, &arguments));
        assert!(may_skip(IN_MACHINES, &arguments));
        assert!(!may_skip("interop: wireguard-go starts", &arguments));
        assert!(!may_skip("another", &arguments));
    }
}
