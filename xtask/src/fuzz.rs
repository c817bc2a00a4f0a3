//! `cargo xtask fuzz`: inputs that nobody thought of, by libFuzzer, for what reads bytes of others.
//!
//! The targets are in `tests/fuzz`, a workspace of its own. They are built with the pinned toolchain:
//! coverage is a pass of LLVM's, and without a sanitizer nothing of it is unstable. What is
//! found is a file that runs again: `cargo xtask fuzz TARGET --input FILE`.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::find;

use crate::setup;
use crate::workspace::{cargo, host, must_succeed, root, target};

/// Has LLVM count edges and tell libFuzzer what is compared with what.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// The arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to fuzz, by the name of its file in `tests/fuzz/fuzz_targets` [default: all, in turn].
    target: Option<String>,

    /// How long each runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Run this input once, instead of making some.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// Builds and runs them; an input that breaks a target is a failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let all = targets()?;
    let chosen = match &arguments.target {
        Some(name) => {
            ensure!(
                all.contains(name),
                "there is no target {name}; there are {}",
                all.join(", ")
            );
            vec![name.clone()]
        }
        None => all,
    };
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    ensure!(
        find(&compiler).is_some(),
        "libFuzzer is built with a C++ compiler, and there is no {compiler}; install one \
         (apt-get install g++), or name it in CXX"
    );
    // Relative to here, as the shell completed it; the target runs there.
    let input = arguments.input.as_ref().map(fs::canonicalize).transpose();
    let input = input.context("can't read the input")?;
    let (host, directory) = (host()?, target().join("fuzz"));
    for name in chosen {
        setup::step(&format!("building {name}"));
        let mut build = cargo()?;
        build
            // Not locked: what the program began to use since then is added by itself.
            .args(["build", "--release", "--bin", &name, "--features", &name])
            .args([
                "--manifest-path",
                "tests/fuzz/Cargo.toml",
                "--target",
                &host,
            ])
            .arg("--target-dir")
            .arg(&directory)
            .env("RUSTFLAGS", COVERAGE.join(" "));
        must_succeed(&mut build, "build it")?;
        let corpus = directory.join("corpus").join(&name);
        let found = directory.join("found").join(&name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        let mut command =
            std::process::Command::new(directory.join(&host).join("release").join(&name));
        // A slash at its end makes it a directory.
        command.arg(format!("-artifact_prefix={}/", found.display()));
        command.args(["-timeout=10", "-rss_limit_mb=2048"]);
        if let Some(input) = &input {
            command.arg(input);
        } else {
            setup::step(&format!("fuzzing {name} for {} s", arguments.seconds));
            command
                .arg(format!("-max_total_time={}", arguments.seconds))
                .args(["-print_final_stats=1", "-max_len=140000"])
                .arg(&corpus);
        }
        let status = command.status().context("can't run it")?;
        if !status.success() {
            eprintln!(
                "{name} failed; the input is in {}, and `cargo xtask fuzz {name} --input FILE` \
                 runs it again",
                found.display()
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("tests/fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).context("can't read tests/fuzz/fuzz_targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "rs") {
            let name = path.file_stem().context("a file without a name")?;
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
