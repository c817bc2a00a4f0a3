//! Making programs that a test then runs.
//!
//! Tests run side by side in one process. While one of them starts a program, there is for a
//! moment a child that has all our open files, the one that another test is just writing among
//! them; and the kernel runs no file that somebody may still write (ETXTBSY). So a process of
//! its own writes them: its files are in nobody's children.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Makes `path` a program that everybody may run, with `text` in it: a script with its `#!`.
pub fn write(path: &Path, text: &str) -> Result<()> {
    install(Path::new("/dev/stdin"), path, text)
}

/// Makes `path` a program that everybody may run, a copy of `from`.
pub fn copy(from: &Path, path: &Path) -> Result<()> {
    install(from, path, "")
}

fn install(from: &Path, path: &Path, input: &str) -> Result<()> {
    let mut child = Command::new("install")
        .args(["-m", "755"])
        .args([from, path])
        .stdin(Stdio::piped())
        .spawn()
        .context("can't run install")?;
    let written = child
        .stdin
        .take()
        .context("install has no input")?
        .write_all(input.as_bytes());
    let status = child.wait()?;
    ensure!(status.success(), "can't make {}: {status}", path.display());
    written.with_context(|| format!("can't write {}", path.display()))
}
