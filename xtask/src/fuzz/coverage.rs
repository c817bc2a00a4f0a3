//! `cargo xtask fuzz --coverage`: which places of the program no input of a corpus reaches.
//!
//! The compiler of the pinned toolchain writes profiles in a form that no Debian's llvm-profdata reads
//! yet, so this goes by the counters that libFuzzer goes by: one for each edge between blocks. Debian's
//! llvm-symbolizer says in which file each is. `tests/fuzz/coverage.txt` has the files that each target
//! is about, and a ceiling: at most so many places of it aren't reached by the target's corpus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::corpora::corpus;
use crate::setup;
use crate::workspace::root;

/// What says in which line of which file an address is.
const SYMBOLIZER: setup::Program = ("llvm-symbolizer", "llvm");

/// Places of a file: how many there are, and how many of them no input reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Places {
    all: u32,
    unreached: u32,
}

/// A line of the ceilings: a target, a file that it is about, and the ceiling.
#[derive(Debug, PartialEq, Eq)]
struct Ceiling {
    target: String,
    file: String,
    most: u32,
}

/// Compares the targets' places with their ceilings, or writes these anew; whether all is within them.
pub fn run(program: &Path, directory: &Path, targets: &[String], bless: bool) -> Result<bool> {
    setup::programs(&[SYMBOLIZER])?;
    let path = root().join("tests/fuzz/coverage.txt");
    let text = fs::read_to_string(&path).context("can't read tests/fuzz/coverage.txt")?;
    let mut ceilings = parse(&text)?;
    for target in targets {
        ensure!(
            ceilings.iter().any(|it| it.target == *target),
            "{target} has no ceiling: add a line for each file that it is about to \
             tests/fuzz/coverage.txt"
        );
    }
    let mut files: Option<Vec<String>> = None;
    let mut good = true;
    for target in targets {
        let reached = reached(program, directory, target)?;
        // The program is the same for all, and naming its places takes long.
        if files.is_none() {
            files = Some(named(program, &reached)?);
        }
        let places = by_file(&reached, files.as_deref().unwrap_or_default());
        for ceiling in ceilings.iter_mut().filter(|it| it.target == *target) {
            let found = places.get(&ceiling.file).copied().unwrap_or_default();
            let Places { all, unreached } = found;
            ensure!(
                all > 0,
                "{target}: nothing of {} is in the program",
                ceiling.file
            );
            let percent = 100.0 - 100.0 * f64::from(unreached) / f64::from(all);
            println!(
                "{target}: {}: {unreached} of {all} places not reached ({percent:.0} % are), \
                 at most {}",
                ceiling.file, ceiling.most
            );
            good &= unreached <= ceiling.most;
            ceiling.most = if bless { unreached } else { ceiling.most };
        }
    }
    if bless {
        fs::write(&path, written(&text, &ceilings))?;
        return Ok(true);
    }
    if !good {
        println!(
            "a corpus reaches less than it did: add inputs to it, or commit other ceilings by \
             `cargo xtask fuzz --coverage --bless`"
        );
    }
    Ok(good)
}

/// All places of the program as addresses, and whether a target's corpus reaches each.
fn reached(program: &Path, directory: &Path, target: &str) -> Result<Vec<(String, bool)>> {
    let out: PathBuf = directory.join("coverage");
    fs::create_dir_all(&out)?;
    let out = out.join(target);
    let status = Command::new(program)
        .arg(corpus(target))
        .env("TALTUN_FUZZ_TARGET", target)
        .env("TALTUN_FUZZ_COVERAGE", &out)
        .status()
        .context("can't run the fuzzer")?;
    ensure!(
        status.success(),
        "{target} breaks at an input of its corpus"
    );
    let text = fs::read_to_string(&out)?;
    let place = |line: &str| {
        let (address, reached) = line.split_once(' ')?;
        Some((address.to_owned(), reached == "1"))
    };
    text.lines()
        .map(|line| place(line).with_context(|| format!("the fuzzer says {line:?}")))
        .collect()
}

/// The file of each place, below the repository's top; empty for those of others.
fn named(program: &Path, places: &[(String, bool)]) -> Result<Vec<String>> {
    let mut child = Command::new(SYMBOLIZER.0)
        .arg(format!("--obj={}", program.display()))
        .args(["--output-style=GNU", "--functions=none", "--no-inlines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("can't run llvm-symbolizer")?;
    let mut stdin = child.stdin.take().context("a child without stdin")?;
    let addresses: String = places.iter().flat_map(|(at, _)| [at, "\n"]).collect();
    // Beside reading what it answers, or both would wait.
    let writer = std::thread::spawn(move || stdin.write_all(addresses.as_bytes()));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    let text = String::from_utf8_lossy(&output.stdout);
    let top = format!("{}/", root().display());
    let files: Vec<String> = text
        .lines()
        .map(|line| file_of(line, &top).to_owned())
        .collect();
    let (named, asked) = (files.len(), places.len());
    ensure!(
        named == asked,
        "llvm-symbolizer names {named} of {asked} places"
    );
    Ok(files)
}

/// The file in a line `FILE:LINE`, below this directory.
fn file_of<'a>(line: &'a str, top: &str) -> &'a str {
    let file = line.rsplit_once(':').map_or("", |(file, _)| file);
    file.strip_prefix(top).unwrap_or_default()
}

fn by_file(reached: &[(String, bool)], files: &[String]) -> BTreeMap<String, Places> {
    let mut places: BTreeMap<String, Places> = BTreeMap::new();
    for ((_, reached), file) in reached.iter().zip(files) {
        if !file.is_empty() {
            let places = places.entry(file.clone()).or_default();
            places.all += 1;
            places.unreached += u32::from(!reached);
        }
    }
    places
}

fn parse(text: &str) -> Result<Vec<Ceiling>> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let ceiling = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Ceiling {
            target: words.next()?.to_owned(),
            file: words.next()?.to_owned(),
            most: words.next()?.parse().ok()?,
        })
    };
    lines
        .map(|line| ceiling(line).with_context(|| format!("coverage.txt: not a ceiling: {line}")))
        .collect()
}

/// The ceilings as a file, with the comments of what was there.
fn written(before: &str, ceilings: &[Ceiling]) -> String {
    let mut text = String::new();
    for line in before
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with('#'))
    {
        let _ = writeln!(text, "{line}");
    }
    for Ceiling { target, file, most } in ceilings {
        let _ = writeln!(text, "{target} {file} {most}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_written_as_they_are_read() {
        let text = "# What isn't reached.\n\ninner taltun/protocol/src/ip.rs 3\n";
        let ceilings = parse(text).unwrap();
        assert_eq!(ceilings.len(), 1);
        assert_eq!(ceilings[0].most, 3);
        assert_eq!(written(text, &ceilings), text);
        assert!(parse("inner ip.rs many\n").is_err());
    }

    /// Else what a corpus no longer reaches of it would never be seen.
    #[test]
    fn each_target_has_a_ceiling() {
        let text = fs::read_to_string(root().join("tests/fuzz/coverage.txt")).unwrap();
        let ceilings = parse(&text).unwrap();
        for target in super::super::corpora::targets().unwrap() {
            let has_one = ceilings.iter().any(|it| it.target == target);
            assert!(has_one, "{target} has no line in coverage.txt");
        }
    }

    /// Else a file that moved would have no ceiling, which is only seen by a run that takes long.
    #[test]
    fn ceilings_are_of_files_that_are_there() {
        let text = fs::read_to_string(root().join("tests/fuzz/coverage.txt")).unwrap();
        for Ceiling { target, file, .. } in parse(&text).unwrap() {
            assert!(root().join(&file).is_file(), "{target}: there is no {file}");
        }
    }

    #[test]
    fn places_are_counted_by_the_file_below_the_top() {
        assert_eq!(file_of("/x/taltun/src/a.rs:7", "/x/"), "taltun/src/a.rs");
        assert_eq!(file_of("/rustc/1/library/a.rs:7", "/x/"), "");
        assert_eq!(file_of("??:0", "/x/"), "");
        let reached = [true, false, true].map(|it| (String::new(), it));
        let files = ["a.rs", "a.rs", ""].map(str::to_owned);
        let places = by_file(&reached, &files);
        let expected = Places {
            all: 2,
            unreached: 1,
        };
        assert_eq!(
            places.into_iter().collect::<Vec<_>>(),
            [("a.rs".to_owned(), expected)]
        );
    }
}
