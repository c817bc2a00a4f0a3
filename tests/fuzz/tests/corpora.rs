//! Each target with each input of its corpus, and some time with inputs made of those: the part of
//! fuzzing that every `cargo xtask test` does, without instrumentation and without a C++ compiler.
//!
//! Which input breaks a target is said with the failure, and is kept in `target/fuzz/found`; such a
//! file becomes one of the corpus with the fix. `TALTUN_FUZZ_SECONDS` makes the second part longer.

mod mutations;

use std::env;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use mutations::Mutations;
use taltun_fuzz::{TARGETS, Target, verdicts};

/// How long each is tried with inputs that are made.
const SECONDS: u64 = 1;
/// The variable that says otherwise.
const SECONDS_VARIABLE: &str = "TALTUN_FUZZ_SECONDS";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("fuzz: each target has a corpus", || {
        all_have_one()
    })];
    for target in TARGETS {
        trials.push(trial(target, "its corpus", replay));
        trials.push(trial(target, "inputs made of it", burst));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(target: &'static Target, what: &str, run: fn(&Target) -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(format!("fuzz: {}: {what}", target.name), move || {
        if let Some(obstacle) = target.loads_programs.then(verdicts::obstacle).flatten() {
            return Ok(Completion::ignored_with(obstacle));
        }
        run(target).map(|()| Completion::Completed)
    })
}

/// No target without inputs, and no inputs without a target.
fn all_have_one() -> Result<(), Failed> {
    let mut found = Vec::new();
    for entry in fs::read_dir(corpora())? {
        found.push(entry?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    if found != names {
        return Err(format!("corpora of {found:?}, and targets {names:?}").into());
    }
    for target in TARGETS {
        if corpus(target)?.len() < 2 {
            return Err(format!("{} has no corpus to begin with", target.name).into());
        }
    }
    Ok(())
}

fn replay(target: &Target) -> Result<(), Failed> {
    for (name, input) in corpus(target)? {
        check(target, &input).map_err(|why| format!("corpus/{}/{name}: {why}", target.name))?;
    }
    Ok(())
}

fn burst(target: &Target) -> Result<(), Failed> {
    let seconds = env::var(SECONDS_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let inputs: Vec<_> = corpus(target)?
        .into_iter()
        .map(|(_, input)| input)
        .collect();
    let mut mutations = Mutations::of(target.name, &inputs);
    while Instant::now() < end {
        // A clock for each would cost more than many targets.
        for _ in 0..16 {
            let input = mutations.input();
            check(target, &input).map_err(|why| {
                let kept = keep(target, &input);
                format!("{why}; the input is in {}", kept.display())
            })?;
        }
    }
    Ok(())
}

/// Runs a target with an input; the error is what it panicked with.
fn check(target: &Target, input: &[u8]) -> Result<(), String> {
    catch_unwind(|| (target.run)(input)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it panicked").to_owned()
    })
}

/// The names and bytes of the inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Result<Vec<(String, Vec<u8>)>, Failed> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(corpora().join(target.name))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        inputs.push((name, fs::read(entry.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Writes an input where `cargo xtask fuzz` has those that it finds.
fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let target_dir = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target_dir = target_dir.unwrap_or_else(|| corpora().join("../../../target"));
    let found = target_dir.join("fuzz/found").join(target.name);
    let file = found.join("burst");
    let written = fs::create_dir_all(&found).and_then(|()| fs::write(&file, input));
    match written {
        Ok(()) => file,
        Err(error) => PathBuf::from(format!("no file ({error}): {input:02x?}")),
    }
}
