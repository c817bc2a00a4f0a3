//! The list of proofs, `taltun/docs/proofs.md`, against the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// As many as there are to be, at least.
const LEAST: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// File and test of each row: a heading names the file, the first cell of each row below it a test.
fn listed() -> Vec<(String, String)> {
    let page = read("taltun/docs/proofs.md");
    let mut file = String::new();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(of) = line.strip_prefix("## `") {
            of.trim_end_matches('`').clone_into(&mut file);
        } else if let Some(row) = line.strip_prefix("| `") {
            let name = row.split('`').next().unwrap_or_default();
            rows.push((file.clone(), name.to_owned()));
        }
    }
    rows
}

/// The names of a file's tests.
fn tests(file: &str) -> BTreeSet<String> {
    let text = read(file);
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
            names.insert(rest.split('(').next().unwrap_or_default().to_owned());
            is_test = false;
        }
    }
    names
}

#[test]
fn each_proof_of_the_list_is_a_test_and_there_are_enough() {
    let rows = listed();
    let unique: BTreeSet<_> = rows.iter().collect();
    assert_eq!(unique.len(), rows.len(), "one is listed twice");
    for (file, name) in &rows {
        assert!(tests(file).contains(name), "{file} has no test {name}");
    }
    assert!(rows.len() >= LEAST, "{} proofs", rows.len());
}

#[test]
fn each_proof_here_is_in_the_list() {
    let rows = listed();
    for of in ["common", "crypto", "policy", "protocol"] {
        let file = format!("tests/proofs/tests/{of}.rs");
        for name in tests(&file) {
            let row = (file.clone(), name);
            assert!(rows.contains(&row), "{} isn't listed", row.1);
        }
    }
}
