//! `cargo xtask fuzz`: inputs that nobody thought of, by libFuzzer, for what reads bytes of others.
//!
//! The targets are in `tests/fuzz`, and libFuzzer around them in a workspace of its own below it. One
//! program has all of them, so that there is one build. It is built with the pinned toolchain: coverage is a
//! pass of LLVM's, and without a sanitizer nothing of it is unstable. What is found is a file
//! that runs again: `cargo xtask fuzz TARGET --input FILE`.

mod corpora;
mod coverage;

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::find;
use taltun_tests::sys;

use crate::setup;
use crate::workspace::{cargo, host, must_succeed, target};
use corpora::{corpus, targets};

/// Has LLVM count edges and tell libFuzzer what is compared with what.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// The targets that run eBPF programs.
const NEED_ROOT: [&str; 2] = ["tc_verdicts", "verdicts"];

/// The arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to fuzz, by the name of its corpus in `tests/fuzz/corpus` [default: all].
    target: Option<String>,

    /// How long all of it takes: the targets share the time and the cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "seconds")]
    minutes: Option<u32>,

    /// How long each runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// How many run at the same time [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,

    /// Run this input once, instead of making some.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,

    /// Make no inputs: run the committed corpora, and compare which places of the program they never
    /// reach with `tests/fuzz/coverage.txt`.
    #[arg(long, conflicts_with_all = ["minutes", "seconds", "input"])]
    coverage: bool,

    /// Write the places that aren't reached as the new ceilings.
    #[arg(long, requires = "coverage")]
    bless: bool,
}

/// The program, and where its inputs are.
struct Fuzzer {
    program: PathBuf,
    directory: PathBuf,
}

/// Builds and runs them; an input that breaks a target is a failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let chosen = chosen(arguments)?;
    // Relative to here, as the shell completed it; the target runs there.
    let input = arguments.input.as_ref().map(fs::canonicalize).transpose();
    let input = input.context("can't read the input")?;
    let fuzzer = Fuzzer::build()?;
    if let Some(input) = &input {
        let status = fuzzer.command(&chosen[0])?.arg(input).status()?;
        return Ok(exit_code(status.success()));
    }
    if arguments.coverage {
        return coverage::run(&fuzzer.program, &fuzzer.directory, &chosen, arguments.bless)
            .map(exit_code);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.map_or(cores, |jobs| jobs as usize);
    let jobs = jobs.min(chosen.len());
    let seconds = match arguments.minutes {
        // Rounds of so many at the same time.
        Some(minutes) => (minutes * 60 / chosen.len().div_ceil(jobs) as u32).max(1),
        None => arguments.seconds,
    };
    let failed = fuzzer.all(&chosen, jobs, seconds)?;
    for name in &failed {
        eprintln!(
            "{name} failed; the input is in {}, and `cargo xtask fuzz {name} --input FILE` runs it \
             again",
            fuzzer.found(name).display()
        );
    }
    Ok(exit_code(failed.is_empty()))
}

/// The names of the targets that are asked for.
fn chosen(arguments: &Arguments) -> Result<Vec<String>> {
    let all = targets()?;
    let Some(name) = &arguments.target else {
        return Ok(all
            .into_iter()
            .filter(|name| {
                let runs = !NEED_ROOT.contains(&name.as_str()) || sys::is_root();
                if !runs {
                    setup::step(&format!("{name} is left out: it needs root"));
                }
                runs
            })
            .collect());
    };
    let list = all.join(", ");
    ensure!(
        all.contains(name),
        "there is no target {name}; there are {list}"
    );
    Ok(vec![name.clone()])
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
        ensure!(
            find(&compiler).is_some(),
            "libFuzzer is built with a C++ compiler, and there is no {compiler}; install one \
             (apt-get install g++), or name it in CXX"
        );
        let (host, directory) = (host()?, target().join("fuzz"));
        setup::ebpf_toolchain()?;
        setup::step("building the fuzzer");
        let mut build = cargo()?;
        // Not locked: what the program began to use since then is added by itself.
        build
            .args(["build", "--release"])
            .args(["--manifest-path", "tests/fuzz/libfuzzer/Cargo.toml"])
            .args(["--target", &host])
            .arg("--target-dir")
            .arg(&directory)
            .env("RUSTFLAGS", COVERAGE.join(" "));
        must_succeed(&mut build, "build the fuzzer")?;
        let program = directory.join(&host).join("release/taltun-libfuzzer");
        Ok(Self { program, directory })
    }

    fn found(&self, name: &str) -> PathBuf {
        self.directory.join("found").join(name)
    }

    /// The program for a target.
    fn command(&self, name: &str) -> Result<Command> {
        let found = self.found(name);
        fs::create_dir_all(&found)?;
        let mut command = Command::new(&self.program);
        command.env("TALTUN_FUZZ_TARGET", name);
        // A slash at its end makes it a directory.
        command.arg(format!("-artifact_prefix={}/", found.display()));
        command.args(["-timeout=10", "-rss_limit_mb=2048"]);
        Ok(command)
    }

    /// Runs each for so long, some at a time; gives the names of those that failed.
    fn all(&self, names: &[String], jobs: usize, seconds: u32) -> Result<Vec<String>> {
        let total = names.len() as u32 * seconds;
        setup::step(&format!(
            "fuzzing {} targets for {seconds} s each, {jobs} at a time: {:.2} CPU hours",
            names.len(),
            f64::from(total) / 3600.0
        ));
        let left = Mutex::new(names.iter().cloned().collect::<VecDeque<_>>());
        let failed = Mutex::new(Vec::new());
        let lock = |of: &Mutex<VecDeque<String>>| {
            let mut of = of.lock().unwrap_or_else(PoisonError::into_inner);
            of.pop_front()
        };
        let worker = || -> Result<()> {
            while let Some(name) = lock(&left) {
                if !self.one(&name, seconds)? {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push(name);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
            for worker in workers {
                worker.join().expect("a worker doesn't panic")?;
            }
            anyhow::Ok(())
        })?;
        Ok(failed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fuzzes one; whether nothing broke it. What it prints goes to a file.
    fn one(&self, name: &str, seconds: u32) -> Result<bool> {
        let learned = self.directory.join("corpus").join(name);
        fs::create_dir_all(&learned)?;
        let log = self.found(name).join("log");
        let begun = Instant::now();
        let mut command = self.command(name)?;
        command
            .arg(format!("-max_total_time={seconds}"))
            .args(["-print_final_stats=1", "-max_len=8192"])
            .arg(&learned)
            .arg(corpus(name));
        let out = fs::File::create(&log).with_context(|| format!("{}", log.display()))?;
        let status = command.stdout(out.try_clone()?).stderr(out).status();
        let status = status.context("can't run the fuzzer")?;
        let text = fs::read_to_string(&log).unwrap_or_default();
        println!(
            "{name}: {}",
            summary(&text, begun.elapsed(), status.success())
        );
        if !status.success() {
            let tail: Vec<_> = text.lines().rev().take(30).collect();
            for line in tail.iter().rev() {
                println!("  {line}");
            }
        }
        Ok(status.success())
    }
}

/// What libFuzzer says at its end, in a line.
fn summary(log: &str, took: Duration, good: bool) -> String {
    let stat = |name: &str| {
        let line = log.lines().rev().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or("?")
            .to_owned()
    };
    let covered = log.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(" cov: ")?;
        rest.split_whitespace().next()
    });
    format!(
        "{} after {} s, {} inputs, {} edges, {} inputs kept",
        if good { "nothing found" } else { "FAILED" },
        took.as_secs(),
        stat("stat::number_of_executed_units"),
        covered.unwrap_or("?"),
        stat("stat::new_units_added"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_a_line() {
        let log = "#2\tINITED cov: 77 ft: 78 corp: 1/1b\n\
                   #9\tNEW    cov: 102 ft: 110 corp: 3/4b\n\
                   stat::number_of_executed_units: 4711\n\
                   stat::new_units_added:          3\n";
        assert_eq!(
            summary(log, Duration::from_secs(5), true),
            "nothing found after 5 s, 4711 inputs, 102 edges, 3 inputs kept"
        );
        let died = "FAILED after 0 s, ? inputs, ? edges, ? inputs kept";
        assert_eq!(summary("", Duration::ZERO, false), died);
    }

    #[test]
    fn all_targets_are_found() {
        let names = targets().unwrap();
        assert!(names.len() >= 14, "{names:?}");
        for name in NEED_ROOT {
            assert!(names.iter().any(|it| it == name), "{name}");
        }
    }
}
