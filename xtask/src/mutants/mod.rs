//! `cargo xtask mutants`: does the model find faults? Each of a list is put into a copy of the sources, and
//! the model runs: it has to fail. What passes with a fault in it proves nothing about that.

mod faults;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::{output_of, wait_for};

use crate::setup;
use crate::workspace::{cargo, root, target};
use faults::{MUTANTS, Mutant};

/// What goes on for longer has no end, which is a failure, too.
const LONGEST: Duration = Duration::from_secs(300);
/// Events of the model, if it finds nothing before.
const EVENTS: &str = "1000000";

/// The arguments of `cargo xtask mutants`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only faults in whose names this is.
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
}

/// Makes them, one after the other.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let only = arguments.only.as_deref().unwrap_or_default();
    let wanted = MUTANTS.iter().filter(|mutant| mutant.what.contains(only));
    let wanted: Vec<_> = wanted.collect();
    ensure!(!wanted.is_empty(), "no fault has {only:?} in its name");
    let tree = copy()?;
    setup::step("the model without a fault");
    let Outcome::Passed = judge(&tree)? else {
        bail!("the model fails without any fault");
    };
    let mut missed = Vec::new();
    for mutant in &wanted {
        let original = fs::read_to_string(root().join(mutant.file))?;
        fs::write(tree.join(mutant.file), with(mutant, &original)?)?;
        let outcome = judge(&tree)?;
        fs::write(tree.join(mutant.file), original)?;
        match outcome {
            Outcome::Passed => {
                println!("{}: NOT FOUND", mutant.what);
                missed.push(mutant.what);
            }
            Outcome::Failed(why) => println!("{}: {why}", mutant.what),
        }
    }
    println!("{} faults, {} not found", wanted.len(), missed.len());
    Ok(if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the model says.
enum Outcome {
    Passed,
    /// With the first line of why.
    Failed(String),
}

/// The text with the fault in it.
fn with(mutant: &Mutant, original: &str) -> Result<String> {
    let count = original.matches(mutant.from).count();
    ensure!(
        count == 1,
        "{}: what is to be changed is {count} times in {}",
        mutant.what,
        mutant.file
    );
    Ok(original.replacen(mutant.from, mutant.to, 1))
}

/// Copies what git knows of, and what it doesn't yet, to where it may be changed.
fn copy() -> Result<PathBuf> {
    let tree = target().join("mutants");
    let mut git = Command::new("git");
    git.current_dir(root());
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    for file in output_of(&mut git)?.split('\0') {
        let from = root().join(file);
        if !from.is_file() {
            continue;
        }
        let to = tree.join(file);
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        // What is the same stays, so that it isn't built anew.
        let bytes = fs::read(&from)?;
        if fs::read(&to).ok().as_ref() != Some(&bytes) {
            fs::write(&to, bytes)?;
        }
    }
    Ok(tree)
}

/// Builds the model there, and runs it.
fn judge(tree: &Path) -> Result<Outcome> {
    let mut build = cargo()?;
    build
        .current_dir(tree)
        .args(["test", "--profile", "lab", "--no-run"]);
    build.args(["--package", "taltun-model", "--test", "model"]);
    build.arg("--target-dir").arg(target()).stdin(Stdio::null());
    let built = build.output().context("can't run cargo")?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "it doesn't compile:\n{said}");
    // `Executable tests/model.rs (/…/deps/model-0123456789abcdef)`
    let program = said.lines().find_map(|line| {
        line.trim()
            .strip_prefix("Executable")?
            .split(['(', ')'])
            .nth(1)
    });
    let program = tree.join(program.context("cargo doesn't say what it built")?);
    let log = target().join("mutants/model.log");
    let file = fs::File::create(&log)?;
    let mut child = Command::new(program)
        .current_dir(tree)
        .env("TALTUN_MODEL_EVENTS", EVENTS)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("can't run the model")?;
    let Some(status) = wait_for(&mut child, LONGEST)? else {
        child.kill()?;
        child.wait()?;
        return Ok(Outcome::Failed("it doesn't come to an end".into()));
    };
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(reason(&fs::read_to_string(&log)?))
    })
}

/// What the model's panic said first.
fn reason(log: &str) -> String {
    let mut lines = log.lines();
    lines
        .find(|line| line.contains("panicked at"))
        .and_then(|_| lines.next())
        .unwrap_or("it failed without a word")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a change of the sources would take a fault away unnoticed.
    #[test]
    fn each_fault_has_its_place_in_the_sources() {
        for mutant in MUTANTS {
            let original = fs::read_to_string(root().join(mutant.file)).unwrap();
            let changed = with(mutant, &original).unwrap();
            assert_ne!(changed, original, "{}", mutant.what);
        }
    }
}
