//! The model by random inputs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{panic, thread};

use libtest_mimic::{Arguments, Failed, Trial};
use taltun_model::Tally;
use taltun_tests::random::Random;

/// Events of a run.
const EVENTS: u64 = 10_000_000;
/// The variable that says otherwise.
const EVENTS_VARIABLE: &str = "TALTUN_MODEL_EVENTS";
/// The variable that says which inputs there are.
const SEED_VARIABLE: &str = "TALTUN_MODEL_SEED";
/// Bytes of an input: enough for all of its transitions.
const INPUT: usize = 2400;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![Trial::test(
        "model: a hub and its spokes keep their promises",
        random,
    )];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Worlds, one after the other on each core, until so many events are over.
fn random() -> Result<(), Failed> {
    let events = number(EVENTS_VARIABLE).unwrap_or(EVENTS);
    let seed = number(SEED_VARIABLE).unwrap_or(1);
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let total = Mutex::new((Tally::default(), 0_u64));
    let failed = Mutex::new(None);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while failed.lock().expect("nobody panics with it").is_none() {
                    let world = next.fetch_add(1, Ordering::Relaxed);
                    let input = input(seed, world);
                    match panic::catch_unwind(|| taltun_model::run(&input)) {
                        Ok(tally) => {
                            let mut total = total.lock().expect("nobody panics with it");
                            total.0 += tally;
                            total.1 += 1;
                            if total.0.events() >= events {
                                return;
                            }
                        }
                        Err(why) => {
                            let kept = keep(&input);
                            let why = text(&*why);
                            let why = format!(
                                "world {world} of the seed {seed}, kept in {}: {why}",
                                kept.display()
                            );
                            *failed.lock().expect("nobody panics with it") = Some(why);
                        }
                    }
                }
            });
        }
    });
    if let Some(why) = failed.into_inner()? {
        return Err(why.into());
    }
    let (tally, worlds) = total.into_inner()?;
    report(&tally, worlds, begun.elapsed());
    let never = tally.never();
    if never.is_empty() {
        Ok(())
    } else {
        Err(format!("it never came about: {never:?}").into())
    }
}

fn report(tally: &Tally, worlds: u64, taken: Duration) {
    println!(
        "{} events in {worlds} worlds, {:.1} s: {tally:?}",
        tally.events(),
        taken.as_secs_f64()
    );
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// The input of a world, the same in each run.
fn input(seed: u64, world: u64) -> Vec<u8> {
    let begin =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ world.wrapping_mul(0xd1b5_4a32_d192_ed03);
    Random::new(begin).bytes(INPUT)
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// Writes an input where `cargo xtask fuzz` has those that it finds.
fn keep(input: &[u8]) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target =
        target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let file = target.join("fuzz/found/hub_and_spokes/random");
    let written = file.parent().map_or(Ok(()), fs::create_dir_all);
    match written.and_then(|()| fs::write(&file, input)) {
        Ok(()) => file,
        Err(error) => PathBuf::from(format!("no file: {error}")),
    }
}
