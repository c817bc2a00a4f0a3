//! The committed inputs of the targets, which also say what targets there are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::workspace::root;

/// The committed inputs of a target.
pub fn corpus(name: &str) -> PathBuf {
    corpora().join(name)
}

fn corpora() -> PathBuf {
    root().join("tests/fuzz/corpus")
}

/// The names of all targets: each has a corpus.
pub fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpora()).context("can't read tests/fuzz/corpus")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
