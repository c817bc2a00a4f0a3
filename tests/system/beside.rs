//! Tests that do little but wait, for minutes. They run beside the others from the start,
//! in namespaces of their own, so that all of them take as long as the longest. They print
//! nothing: it would come in the middle of what others print.

use std::thread;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use taltun_tests::topology;

use crate::support::Case;
use crate::times;

/// Starts the cases that are asked for; their trials wait for how they end. Put them last.
pub fn start(cases: &[Case], arguments: &Arguments) -> Vec<Trial> {
    let start = |case: &Case| {
        let case = *case;
        if !is_asked_for(case.name, arguments) {
            return Trial::test(case.name, || Err("it was not to be run".into()));
        }
        if let Some(reason) = case.missing() {
            return Trial::ignorable_test(case.name, || Ok(Completion::ignored_with(reason)));
        }
        let running = thread::spawn(move || {
            topology::start_test();
            times::taken(case.name, case.run)
        });
        Trial::test(case.name, move || {
            let outcome: Result<()> = running
                .join()
                .unwrap_or_else(|_| Err(anyhow!("it panicked")));
            outcome.map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    cases.iter().map(start).collect()
}

/// What libtest-mimic is going to decide about a test of this name.
fn is_asked_for(name: &str, arguments: &Arguments) -> bool {
    let matches = |pattern: &String| {
        if arguments.exact {
            name == pattern
        } else {
            name.contains(pattern.as_str())
        }
    };
    !arguments.list
        && !arguments.ignored
        && arguments.filter.as_ref().is_none_or(matches)
        && !arguments.skip.iter().any(matches)
}
