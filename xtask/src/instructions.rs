//! `cargo xtask instructions`: how many instructions a packet costs, held against limits that
//! are committed.
//!
//! Times depend on the machine and its neighbours, instructions don't. `taltun-instructions`
//! does a piece of a packet's work so many times under callgrind, twice with different
//! numbers: in the difference nothing is left of starting and setting up. It is the release
//! build, so the code is what runs in the program; and as valgrind shows every CPU as one with
//! AVX2 and no more, the back ends that are chosen at run time are the same everywhere.

mod limits;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use taltun_tests::command::output_of;

use crate::setup;
use crate::workspace::{cargo, must_succeed, root, target};
use limits::{Limit, Limits, Verdict};

/// The program, and its package.
const PROGRAM: &str = "taltun-instructions";
/// The Debian package that valgrind is in.
const VALGRIND: &[setup::Program] = &[("valgrind", "valgrind")];
/// Relative to the repository's top directory.
const LIMITS: &str = "taltun/benches/instructions/limits.txt";
/// How often a piece is done, once and once more.
const TIMES: [u64; 2] = [10, 60];
/// How the names of these tests begin.
pub const TESTS: &str = "instructions: ";

/// The arguments of `cargo xtask instructions`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Make what is counted now the limits, after a change that is worth it. Commit the file.
    #[arg(long)]
    bless: bool,
}

/// Counts, and prints what is above its limit.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(reason) = missing() {
        return Err(anyhow!(reason));
    }
    let counts = count()?;
    if arguments.bless {
        let limits = read_limits().unwrap_or_default().blessed(&counts);
        std::fs::write(limits_file(), limits.to_string())
            .with_context(|| format!("can't write {LIMITS}"))?;
        println!("{limits}");
        return Ok(ExitCode::SUCCESS);
    }
    let limits = read_limits()?;
    let mut ok = true;
    for (piece, verdict) in limits.judge(&counts) {
        println!("{}", told(&piece, &verdict));
        ok &= verdict.is_ok();
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The same as tests, in libtest's format; only those whose names contain `filter`.
pub fn as_tests(filter: Option<&str>) -> Vec<String> {
    let is_asked_for = |name: &String| filter.is_none_or(|filter| name.contains(filter));
    let limits = match read_limits() {
        Ok(limits) => limits,
        Err(error) => {
            let lines = [format!("{error:#}"), failed(LIMITS), result(0, 1, 0)];
            return lines.to_vec();
        }
    };
    let names: Vec<String> = limits
        .pieces()
        .map(test_name)
        .filter(is_asked_for)
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    if let Some(reason) = missing() {
        let skipped = |name: &String| format!("test {name} ... ignored, {reason}");
        let mut lines: Vec<_> = names.iter().map(skipped).collect();
        lines.push(result(0, 0, names.len()));
        return lines;
    }
    let counts = match count() {
        Ok(counts) => counts,
        Err(error) => {
            let mut lines = vec![format!("{error:#}")];
            lines.extend(names.iter().map(failed));
            lines.push(result(0, names.len(), 0));
            return lines;
        }
    };
    let (mut lines, mut right, mut wrong) = (Vec::new(), 0, 0);
    for (piece, verdict) in limits.judge(&counts) {
        let name = test_name(&piece);
        if !is_asked_for(&name) {
            continue;
        }
        lines.push(told(&piece, &verdict));
        if verdict.is_ok() {
            lines.push(format!("test {name} ... ok"));
            right += 1;
        } else {
            lines.push(failed(&name));
            wrong += 1;
        }
    }
    lines.push(result(right, wrong, 0));
    lines
}

fn test_name(piece: impl AsRef<str>) -> String {
    format!(
        "{TESTS}{} takes no more of them than allowed",
        piece.as_ref()
    )
}

fn failed(name: impl AsRef<str>) -> String {
    format!("test {} ... FAILED", name.as_ref())
}

fn result(passed: usize, failed: usize, ignored: usize) -> String {
    let outcome = if failed == 0 { "ok" } else { "FAILED" };
    format!("test result: {outcome}. {passed} passed; {failed} failed; {ignored} ignored")
}

/// What is to be said of a piece.
fn told(piece: &str, verdict: &Verdict) -> String {
    let change = |count: f64, limit: f64| 100.0 * (count - limit) / limit;
    match verdict {
        Verdict::Within(count, Limit { count: limit, .. }) => {
            format!("{piece}: {count:.0} instructions a packet, limit {limit:.0}")
        }
        Verdict::Above(
            count,
            Limit {
                count: limit,
                tolerance,
            },
        ) => format!(
            "{piece}: {count:.0} instructions a packet are {:+.1} % on the limit of {limit:.0}, more than the {tolerance} % allowed; if the change is worth it: `cargo xtask instructions --bless`, and commit {LIMITS}",
            change(*count, *limit)
        ),
        Verdict::Alike(count, Limit { count: limit, .. }, other) => {
            format!("{piece}: {count:.0} instructions a packet, {other} {limit:.0} in the same run")
        }
        Verdict::Dearer(
            count,
            Limit {
                count: limit,
                tolerance,
            },
            other,
        ) => format!(
            "{piece}: {count:.0} instructions a packet are {:+.1} % on the {limit:.0} of {other} in the same run, more than the {tolerance} % allowed: it mustn't cost more than that",
            change(*count, *limit)
        ),
        Verdict::FarBelow(count, Limit { count: limit, .. }) => format!(
            "{piece}: {count:.0} instructions a packet are {:+.1} % on the limit of {limit:.0}: keep it so by `cargo xtask instructions --bless`, and commit {LIMITS}",
            change(*count, *limit)
        ),
        Verdict::NoLimit(count) => format!(
            "{piece}: {count:.0} instructions a packet, and {LIMITS} has no limit for it: `cargo xtask instructions --bless`"
        ),
        Verdict::NotCounted => {
            format!(
                "{piece}: has a limit in {LIMITS}, but {PROGRAM} doesn't know it or what it is compared with"
            )
        }
    }
}

/// Why this machine can't count, if it can't.
fn missing() -> Option<String> {
    if !has_avx2() {
        return Some("the limits are for an x86-64 CPU with AVX2".to_owned());
    }
    let error = setup::programs(VALGRIND).err()?;
    Some(format!("needs valgrind: {error:#}"))
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Instructions a packet, for each piece.
fn count() -> Result<BTreeMap<String, f64>> {
    setup::ebpf_toolchain()?;
    setup::step("building taltun-instructions");
    must_succeed(
        cargo()?.args(["build", "--release", "--package", PROGRAM]),
        "build taltun-instructions",
    )?;
    let pieces = output_of(&mut Command::new(program()))?;
    let pieces = pieces.lines().map(str::to_owned);
    pieces
        .map(|piece| {
            let count = per_packet(&piece).with_context(|| format!("can't count {piece}"))?;
            Ok((piece, count))
        })
        .collect()
}

fn per_packet(piece: &str) -> Result<f64> {
    let run = |times: u64| move || instructions(piece, times);
    let [few, many] = thread::scope(|scope| {
        let running = TIMES.map(|times| scope.spawn(run(times)));
        running.map(|run| run.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))))
    });
    let ((few, few_packets), (many, many_packets)) = (few?, many?);
    ensure!(
        many_packets > few_packets && many > few,
        "{many} instructions for {many_packets} packets and {few} for {few_packets}"
    );
    Ok((many - few) as f64 / (many_packets - few_packets) as f64)
}

/// Instructions of a whole run, and how many packets that was.
fn instructions(piece: &str, times: u64) -> Result<(u64, u64)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program())
        .args([piece, &times.to_string()])
        .output()
        .context("can't run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let count = collected(&said).with_context(|| format!("valgrind didn't count: {said}"))?;
    let packets = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok((count, packets))
}

/// The number in callgrind's line `==1234== Collected : 567`.
fn collected(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("Collected : ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn program() -> PathBuf {
    target().join("release").join(PROGRAM)
}

fn limits_file() -> PathBuf {
    root().join(LIMITS)
}

fn read_limits() -> Result<Limits> {
    let text =
        std::fs::read_to_string(limits_file()).with_context(|| format!("can't read {LIMITS}"))?;
    text.parse().with_context(|| format!("in {LIMITS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_count_is_found() {
        let said = "==9== Events    : Ir\n==9== Collected : 8777698\n==9== \n==9== I   refs:      8,777,698\n";
        assert_eq!(collected(said), Some(8_777_698));
        assert_eq!(collected("==9== no such tool"), None);
    }

    #[test]
    fn the_committed_limits_can_be_read() {
        assert!(read_limits().unwrap().pieces().count() >= 6);
    }
}
