//! `cargo xtask vm`: the system tests on other kernels, each in a virtual machine.
//!
//! The machine itself is not ours: `$TALTUN_VM` names a program that runs a command in one,
//! as root, with a directory of this machine as its working directory:
//!
//! ```text
//! $TALTUN_VM -s DIRECTORY -t SECONDS KERNEL -- COMMAND
//! ```
//!
//! `COMMAND` is for a shell; its output and its exit code are to come back. `KERNEL` is
//! whatever names one there, such as `6.12`. The guest needs the C library that we were built
//! with, `ip`, `wg`, `ping`, and a kernel with WireGuard; what else a test needs and isn't
//! there makes it skip.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::output_of;

use crate::setup;
use crate::workspace;

/// The variable that names the program.
const VARIABLE: &str = "TALTUN_VM";

/// The arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only tests whose names contain this.
    #[arg(long, value_name = "FILTER", default_value = "interop")]
    only: String,
    /// A kernel to run them on, as the program that `TALTUN_VM` names calls it; can be given
    /// several times.
    #[arg(long, value_name = "KERNEL", default_values = ["5.10", "6.12"])]
    kernel: Vec<String>,
    /// How long one kernel may take, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    limit: u32,
}

/// Runs the tests on each kernel.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Some(vm) = env::var_os(VARIABLE) else {
        bail!(
            "{VARIABLE} isn't set: it has to name a program that runs `-s DIRECTORY -t SECONDS \
             KERNEL -- COMMAND` in a virtual machine, with DIRECTORY as its working directory"
        );
    };
    let share = workspace::target().join("vm");
    std::fs::create_dir_all(&share).with_context(|| format!("can't make {}", share.display()))?;
    copy(&workspace::taltun()?, &share.join("taltun"))?;
    copy(&system_tests()?, &share.join("system"))?;
    let filter = arguments.only.replace('\'', r"'\''");
    let mut failed = Vec::new();
    for kernel in &arguments.kernel {
        setup::step(&format!("running the system tests on {kernel}"));
        let status = Command::new(&vm)
            .arg("-s")
            .arg(&share)
            .args(["-t", &arguments.limit.to_string(), kernel, "--"])
            .arg(format!(
                "TALTUN_BIN=$PWD/taltun ./system --nocapture '{filter}'"
            ))
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("can't run {}", Path::new(&vm).display()))?;
        println!("{kernel}: {status}");
        if !status.success() {
            failed.push(kernel.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed on {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Builds the program of the system tests and says where it is.
fn system_tests() -> Result<PathBuf> {
    setup::step("building the system tests");
    let messages = output_of(workspace::cargo()?.args([
        "test",
        "--package",
        "taltun-tests",
        "--test",
        "system",
        "--no-run",
        "--message-format",
        "json",
    ]))?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "system";
        message["executable"]
            .as_str()
            .filter(|_| is_it)
            .map(PathBuf::from)
    });
    executable.context("cargo didn't say where the system tests are")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // Another machine may still have the old one open.
    let _ = std::fs::remove_file(to);
    std::fs::copy(from, to)
        .with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
    ensure!(to.is_file(), "{} is gone", to.display());
    Ok(())
}
