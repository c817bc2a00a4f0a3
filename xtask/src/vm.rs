//! `cargo xtask vm`: tests inside virtual machines, on the kernels that Taltun supports.
//!
//! What the eBPF verifier accepts and what the network stack offers differs from kernel to
//! kernel, and this machine has only one. So the test programs are built here and run there,
//! by two scripts that are kept beside the repository rather than in it: `get-kernels`
//! unpacks distribution kernels, `vmrun` starts one with this machine's directory inside.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{setup, workspace};

/// Environment variable that names the directory with the scripts.
const VM_DIR_VARIABLE: &str = "TALTUN_VM_DIR";
/// Programs the scripts need, and the packages that have them.
const NEEDED: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("debootstrap", "debootstrap"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// The arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these tests.
    #[arg(long, value_enum, value_name = "SUITE")]
    only: Vec<Suite>,
    /// Only this kernel, by the start of its release (`6.1`); can be given several times.
    /// By default all that `get-kernels` fetches.
    #[arg(long, value_name = "RELEASE")]
    kernel: Vec<String>,
    /// Seconds for one virtual machine. Without hardware virtualization they are slow.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit: u32,
}

/// What can be tested there.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The eBPF programs: loaded, run over the corpus, attached.
    Ebpf,
}

/// Every suite there is, for when none is named.
const SUITES: &[Suite] = &[Suite::Ebpf];

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
        }
    }

    /// Builds the suite's program; where it is.
    fn build(self) -> Result<PathBuf> {
        match self {
            Self::Ebpf => test_executable("taltun", "xdp_verdicts"),
        }
    }
}

/// Runs the tests on every kernel.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let scripts = scripts()?;
    programs()?;
    let suites = if arguments.only.is_empty() {
        SUITES
    } else {
        &arguments.only
    };
    setup::ebpf_toolchain()?;
    // The directory the virtual machines see.
    let shared = workspace::target().join("vm");
    fs::create_dir_all(&shared).with_context(|| format!("can't make {}", shared.display()))?;
    for suite in suites {
        setup::step(&format!("building {}", suite.name()));
        let program = suite.build()?;
        let copy = shared.join(suite.name());
        fs::copy(&program, &copy).with_context(|| format!("can't copy {}", program.display()))?;
    }

    let kernels = kernels(&scripts, &arguments.kernel)?;
    let mut table = String::new();
    let mut ok = true;
    for kernel in &kernels {
        for suite in suites {
            setup::step(&format!("{} on {kernel}", suite.name()));
            let outcome = run_in(&scripts, kernel, *suite, &shared, arguments.limit)?;
            ok &= outcome.ok;
            // Writing to a String can't fail.
            let _ = writeln!(
                table,
                "{kernel:<28} {:<8} {:<6} {}",
                suite.name(),
                if outcome.ok { "ok" } else { "FAILED" },
                outcome.summary
            );
            for line in &outcome.failures {
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
    /// Tests that failed or were ignored: in here nothing has a reason to be.
    failures: Vec<String>,
}

/// Runs a suite in a virtual machine with this kernel.
fn run_in(
    scripts: &Path,
    kernel: &str,
    suite: Suite,
    shared: &Path,
    limit: u32,
) -> Result<Outcome> {
    let output = Command::new(scripts.join("vmrun"))
        .arg("-s")
        .arg(shared)
        .args(["-t", &limit.to_string(), kernel, "--"])
        .arg(format!("./{} --color=never", suite.name()))
        .stdin(Stdio::null())
        .output()
        .context("can't run vmrun")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    eprint!("{stderr}");
    Ok(outcome(&stdout, &stderr, output.status.success()))
}

/// Reads what a test program printed.
fn outcome(stdout: &str, stderr: &str, success: bool) -> Outcome {
    let result = stdout
        .lines()
        .find_map(|line| line.strip_prefix("test result: "));
    let failures: Vec<String> = stdout
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
        ok: success && result.is_some() && failures.is_empty(),
        summary: result.unwrap_or_else(last_words).to_owned(),
        failures,
    }
}

/// Builds a package's integration test; where it is.
fn test_executable(package: &str, test: &str) -> Result<PathBuf> {
    let output = workspace::cargo()?
        .args(["test", "--no-run", "--package", package, "--test", test])
        .args(["--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .context("can't run cargo")?;
    ensure!(output.status.success(), "couldn't build {test}");
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == test)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo didn't say where {test} is"))
}

/// The kernels to test on, fetched where they are missing.
fn kernels(scripts: &Path, wanted: &[String]) -> Result<Vec<String>> {
    setup::step("fetching kernels that are missing");
    let status = Command::new(scripts.join("get-kernels"))
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("can't run get-kernels")?;
    let list = Command::new(scripts.join("vmrun"))
        .arg("--list")
        .output()
        .context("can't run vmrun")?;
    let list = String::from_utf8_lossy(&list.stdout);
    let there: Vec<&str> = list.lines().collect();
    if !status.success() {
        // Those that are there can still be tested on.
        setup::step(&format!("get-kernels failed ({status})"));
    }
    choose(&there, wanted)
}

/// Those of `there` that are wanted, by the start of their names.
fn choose(there: &[&str], wanted: &[String]) -> Result<Vec<String>> {
    if wanted.is_empty() {
        ensure!(!there.is_empty(), "there are no kernels to test on");
        return Ok(there.iter().map(ToString::to_string).collect());
    }
    let mut chosen = Vec::new();
    for start in wanted {
        let matching = there.iter().filter(|kernel| {
            kernel
                .strip_prefix(start.as_str())
                // 6.1 isn't 6.12.
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        });
        let before = chosen.len();
        chosen.extend(matching.map(ToString::to_string));
        ensure!(
            chosen.len() > before,
            "there is no kernel {start}; there are: {}",
            there.join(", ")
        );
    }
    Ok(chosen)
}

/// Where the scripts are.
fn scripts() -> Result<PathBuf> {
    let directory = env::var_os(VM_DIR_VARIABLE)
        .map_or_else(|| workspace::root().join("../shared/vm"), PathBuf::from);
    for script in ["vmrun", "get-kernels"] {
        ensure!(
            directory.join(script).is_file(),
            "the script {script} isn't in {}; set {VM_DIR_VARIABLE} to the directory that has it",
            directory.display()
        );
    }
    Ok(directory)
}

/// Says which programs are missing, if any are.
fn programs() -> Result<()> {
    let path = workspace::path()?;
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let directories: Vec<PathBuf> = env::split_paths(&path).chain(sbin).collect();
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(program, _)| !directories.iter().any(|dir| dir.join(program).is_file()))
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    if !missing.is_empty() {
        bail!("virtual machines need {}", missing.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_chosen_by_the_start_of_its_release() {
        let there = ["5.10.0-46-amd64", "6.1.0-50-amd64", "6.12.95-amd64"];
        let chosen = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            choose(&there, &wanted)
        };
        assert_eq!(chosen(&["6.1"]).unwrap(), ["6.1.0-50-amd64"]);
        assert_eq!(
            chosen(&["6", "5.10"]).unwrap(),
            ["6.1.0-50-amd64", "6.12.95-amd64", "5.10.0-46-amd64"]
        );
        assert_eq!(chosen(&[]).unwrap(), there);
        assert!(chosen(&["7.3"]).is_err());
        assert!(choose(&[], &[]).is_err());
    }

    #[test]
    fn only_a_run_to_the_end_without_a_gap_is_ok() {
        let fine = "running 2 tests\ntest a ... ok\ntest result: ok. 2 passed; 0 failed";
        let read = outcome(fine, "", true);
        assert!(read.ok);
        assert_eq!(read.summary, "ok. 2 passed; 0 failed");

        assert!(!outcome(fine, "", false).ok);
        let gap = "test a ... ignored (needs root)\ntest result: ok. 1 passed";
        assert_eq!(
            outcome(gap, "", true),
            Outcome {
                ok: false,
                summary: "ok. 1 passed".into(),
                failures: vec!["a ... ignored (needs root)".into()],
            }
        );
        let dead = outcome("running 2 tests", "vmrun: time limit 9s\n\n", false);
        assert!(!dead.ok);
        assert_eq!(dead.summary, "vmrun: time limit 9s");
    }
}
