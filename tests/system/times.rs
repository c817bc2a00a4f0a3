//! How long each test takes, so that a run says at its end which of them it waited for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many are told.
const TOLD: usize = 20;

static TAKEN: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// Does `work` and takes down how long that takes.
pub fn taken<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = work();
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    taken.push((start.elapsed(), name.to_owned()));
    outcome
}

/// Tells of the longest, on stderr.
pub fn tell() {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Of few, everybody has seen how long they take.
    if taken.len() <= TOLD {
        return;
    }
    taken.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    eprintln!("What took longest:");
    for (time, name) in taken.iter().take(TOLD) {
        eprintln!("{:7.1} s  {name}", time.as_secs_f64());
    }
}
