//! What test programs print, counted: how many passed, and of those that didn't, which and why.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::setup;

/// How many lines of a failed test are said again at the end.
const REASON_LINES: usize = 12;

/// What the test programs have reported so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many passed.
    pub passed: u64,
    /// How many failed.
    pub failed: u64,
    /// How many weren't run.
    pub skipped: u64,
    /// Names of the latter, and their reasons.
    pub skipped_tests: Vec<(String, String)>,
    /// Names of those that failed.
    pub failed_tests: Vec<String>,
    /// The first lines of what failed tests say, and their names.
    reasons: Vec<(String, Vec<String>)>,
    /// Whether the next line belongs to the last of the reasons.
    in_reason: bool,
}

impl Tally {
    /// Runs `command`, passes on what it prints and counts. One that fails without having
    /// counted a failure (it didn't compile, or died) counts as one.
    pub fn add(&mut self, what: &str, mut command: Command) -> Result<()> {
        setup::step(&format!("running {what}"));
        let failed_before = self.failed;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {what}"))?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            self.read(&line);
        }
        let status = child.wait()?;
        if !status.success() && self.failed == failed_before {
            self.failed += 1;
            self.failed_tests
                .push(format!("{what} didn't run to the end ({status})"));
        }
        Ok(())
    }

    /// Counts a test that couldn't be run.
    pub fn skip(&mut self, name: &str, reason: &str) {
        println!("test {name} ... ignored ({reason})");
        self.skipped += 1;
        self.skipped_tests
            .push((name.to_owned(), reason.to_owned()));
    }

    /// Takes a line of another run into account, on another kernel: a test that was skipped here
    /// and run there wasn't skipped.
    pub fn ran_after_all(&mut self, line: &str) {
        // What a test prints itself may stand behind its name, and its outcome below.
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            return;
        };
        let name = name.trim();
        if outcome.starts_with("ignored") {
            return;
        }
        let skipped = self.skipped_tests.len();
        self.skipped_tests.retain(|(other, _)| other != name);
        self.skipped -= (skipped - self.skipped_tests.len()) as u64;
    }

    /// The first lines of what this failed test says, where they were seen.
    pub fn reason(&self, name: &str) -> &[String] {
        let of_name = |(other, _): &&(String, Vec<String>)| other == name;
        let lines = self.reasons.iter().rev().find(of_name);
        lines.map_or(&[], |(_, lines)| lines)
    }

    /// Takes a line of libtest's output into account.
    pub fn read(&mut self, line: &str) {
        self.read_reason(line);
        if let Some(counts) = line.strip_prefix("test result: ") {
            // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …"
            self.passed += count_before(counts, "passed");
            self.failed += count_before(counts, "failed");
            self.skipped += count_before(counts, "ignored");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, outcome)) = test.rsplit_once(" ... ")
        {
            let name = name.trim().to_owned();
            if let Some(reason) = outcome.strip_prefix("ignored") {
                // libtest writes ", reason", libtest-mimic " (reason)".
                let reason = reason.trim_start_matches([',', ' ']);
                let reason = reason
                    .strip_prefix('(')
                    .and_then(|reason| reason.strip_suffix(')'))
                    .unwrap_or(reason);
                let reason = match reason {
                    "" => "no reason is given",
                    reason => reason,
                };
                self.skipped_tests.push((name, reason.to_owned()));
            } else if outcome == "FAILED" {
                self.failed_tests.push(name);
            }
        }
    }

    /// What a failed test says stands behind a line with its name, up to the next or to the list of all.
    fn read_reason(&mut self, line: &str) {
        let name = line
            .strip_prefix("---- ")
            .and_then(|line| line.strip_suffix(" ----"));
        if let Some(name) = name {
            let name = name.strip_suffix(" stdout").unwrap_or(name);
            self.reasons.push((name.to_owned(), Vec::new()));
            self.in_reason = true;
        } else if line == "failures:" {
            self.in_reason = false;
        } else if self.in_reason
            && !line.is_empty()
            && let Some((_, lines)) = self.reasons.last_mut()
            && lines.len() < REASON_LINES
        {
            lines.push(line.to_owned());
        }
    }
}

/// The number in front of `word`.
fn count_before(counts: &str, word: &str) -> u64 {
    let words: Vec<_> = counts
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_prints_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test protocol::noise::tests::works ... ok",
            "test a::b ... ignored, needs the moon",
            "test a::c ... ignored",
            "test a::d ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test a name with ... dots   ... ignored (needs root (really))",
            "test result: ok. 20 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            tally.read(line);
        }
        let skipped = [
            ("a::b", "needs the moon"),
            ("a::c", "no reason is given"),
            ("a name with ... dots", "needs root (really)"),
        ];
        assert_eq!(
            tally,
            Tally {
                passed: 21,
                failed: 1,
                skipped: 3,
                skipped_tests: skipped
                    .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
                    .to_vec(),
                failed_tests: vec!["a::d".to_owned()],
                ..Tally::default()
            }
        );
    }

    #[test]
    fn what_runs_in_a_virtual_machine_is_not_skipped() {
        let mut tally = Tally::default();
        for line in [
            "test interop: a   ... ignored (needs a kernel)",
            "test interop: b   ... ignored (needs a kernel)",
            "test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured",
        ] {
            tally.read(line);
        }
        for line in [
            "test interop: a ... $ wg show",
            "ok",
            "test interop: b ... ignored (needs wg)",
            "test c ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured",
        ] {
            tally.read(line);
            tally.ran_after_all(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.skipped), (7, 0, 2));
        let names: Vec<&str> = tally
            .skipped_tests
            .iter()
            .map(|(name, _)| &**name)
            .collect();
        assert_eq!(names, ["interop: b", "interop: b"]);
    }

    #[test]
    fn what_a_failed_test_says_is_known_by_its_name() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... FAILED",
            "test c d  ... FAILED",
            "",
            "failures:",
            "",
            "---- a::b stdout ----",
            "thread 'a::b' panicked:",
            "left: 1",
            "",
            "---- c d ----",
            "the hub is gone",
            "",
            "failures:",
            "    a::b",
            "    c d",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.reason("a::b"), ["thread 'a::b' panicked:", "left: 1"]);
        assert_eq!(tally.reason("c d"), ["the hub is gone"]);
        assert!(tally.reason("e").is_empty());
    }

    #[test]
    fn of_a_long_reason_the_first_lines_are_kept() {
        let mut tally = Tally::default();
        tally.read("---- long ----");
        for number in 0..100 {
            tally.read(&number.to_string());
        }
        assert_eq!(tally.reason("long").len(), REASON_LINES);
    }
}
