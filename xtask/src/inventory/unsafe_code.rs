//! Where there is `unsafe`, by the sources themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace::root;

/// Directories whose code is in the program, and the crates in them.
const PROGRAM: &[&str] = &["taltun", "taltun-common", "taltun-ebpf"];
/// Directories of what tests, measures and builds it.
const TOOLS: &[&str] = &["tests", "xtask"];

/// How often a file has each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    blocks: usize,
    functions: usize,
    /// Of a trait, of a foreign block, of an attribute.
    others: usize,
}

impl Count {
    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// The page.
pub fn page() -> Result<String> {
    let mut text = String::from(
        "# Where there is `unsafe`\n\n\
         Written by `cargo xtask inventory` from the sources; a test fails until it is up to date. Each block \
         has a comment with the reason why it is right, which clippy asks for \
         (`undocumented_unsafe_blocks`). Blocks are `unsafe { … }`, functions `unsafe fn`, and others \
         `unsafe impl`, `unsafe extern` and attributes.\n",
    );
    let forbidding = forbidding()?;
    let _ = write!(
        text,
        "\nCrates that forbid it: {}.\n",
        forbidding.join(", ")
    );
    for (title, directories, tests) in [
        ("In the program", PROGRAM, false),
        ("In its tests, benches and tools", TOOLS, true),
    ] {
        let mut files = BTreeMap::new();
        for directory in directories {
            collect(&root().join(directory), &mut files)?;
        }
        if tests {
            collect(&root().join("taltun"), &mut files)?;
        }
        files.retain(|path, (count, _)| {
            let is_test = TOOLS.iter().any(|tool| path.starts_with(tool)) || is_test(path);
            is_test == tests && !count.is_none()
        });
        table(&mut text, title, &files);
    }
    Ok(text)
}

/// Whether a file below `taltun` isn't built into the program.
fn is_test(path: &str) -> bool {
    let tests = ["/tests/", "/tests.rs", "/benches/", "/examples/"];
    tests.iter().any(|part| path.contains(part))
}

fn table(text: &mut String, title: &str, files: &BTreeMap<String, (Count, String)>) {
    let sum = |of: fn(&Count) -> usize| files.values().map(|(count, _)| of(count)).sum::<usize>();
    let _ = write!(
        text,
        "\n## {title}\n\n{} blocks, {} functions and {} others in {} files.\n\n\
         | file | blocks | functions | others | what it is |\n|---|---:|---:|---:|---|\n",
        sum(|count| count.blocks),
        sum(|count| count.functions),
        sum(|count| count.others),
        files.len(),
    );
    for (path, (count, idea)) in files {
        let Count {
            blocks,
            functions,
            others,
        } = count;
        let _ = writeln!(
            text,
            "| `{path}` | {blocks} | {functions} | {others} | {idea} |"
        );
    }
}

/// Counts in all files below a directory, by their path below the repository's top.
fn collect(directory: &Path, files: &mut BTreeMap<String, (Count, String)>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("{}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != "corpus" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let source = fs::read_to_string(&path)?;
            let below = path.strip_prefix(root()).unwrap_or(&path);
            let below = below.display().to_string();
            files.insert(below, (count(&source), idea(&source)));
        }
    }
    Ok(())
}

/// Counts the word in a file's code, without comments.
fn count(source: &str) -> Count {
    let mut count = Count::default();
    for line in source.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let mut rest = code;
        while let Some(at) = rest.find("unsafe") {
            let before = rest[..at].chars().next_back();
            rest = &rest[at + "unsafe".len()..];
            let after = rest.trim_start();
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
            if before.is_some_and(is_word) || rest.starts_with(is_word) {
                continue;
            }
            if after.starts_with('{') || after.is_empty() {
                count.blocks += 1;
            } else if after.starts_with("fn") {
                count.functions += 1;
            } else if after.starts_with("impl")
                || after.starts_with("extern")
                || after.starts_with("trait")
                || after.starts_with('(')
            {
                count.others += 1;
            }
        }
    }
    count
}

/// The first sentence of a file.
fn idea(source: &str) -> String {
    let lines = source
        .lines()
        .take_while(|line| line.starts_with("//!") && line.len() > 3)
        .map(|line| line.trim_start_matches("//!").trim());
    let text = lines.collect::<Vec<_>>().join(" ");
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].trim_end_matches(':').replace('|', "\\|")
}

/// The crates in which the compiler refuses it.
fn forbidding() -> Result<Vec<String>> {
    let mut found = Vec::new();
    let taltun = root().join("taltun");
    for entry in fs::read_dir(taltun)? {
        let path = entry?.path();
        let library = path.join("src/lib.rs");
        let Ok(source) = fs::read_to_string(library) else {
            continue;
        };
        if source.contains("#![forbid(unsafe_code)]") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            found.push(format!("`taltun-{name}`"));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_and_words_in_comments_and_texts_are_not() {
        let source = "//! A file. More.\n\
                      // unsafe { }\n\
                      let a = unsafe { f() };\n\
                      let b = unsafe\n\
                      unsafe fn g() {}\n\
                      unsafe impl Send for S {}\n\
                      #[unsafe(no_mangle)]\n\
                      let text = \"unsafe\";\n\
                      undocumented_unsafe_blocks();\n";
        let expected = Count {
            blocks: 2,
            functions: 1,
            others: 2,
        };
        assert_eq!(count(source), expected);
        assert_eq!(idea(source), "A file.");
    }
}
