//! `cargo xtask test`: every test there is, counted, and nothing skipped in silence.
//!
//! One `cargo test` for all of the workspace, of which the whole-system tests are a part, then what
//! threads share in each order that they can come in, and the instructions that a packet costs. The first
//! is one command, in the profile that the lab and this program have too, so that nothing is built twice:
//! cargo builds a package anew wherever another choice of packages asks for other features of it. All
//! print in libtest's format, which is passed on and read for the count.

mod tally;

use std::env;
use std::process::{Command, ExitCode};

use anyhow::Result;
use taltun_tests::sys;

use crate::backports;
use crate::build;
use crate::instructions;
use crate::setup;
use crate::vm;

use tally::Tally;

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
        for line in tally.reason(name) {
            println!("    {line}");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
