//! `cargo xtask tsan`: the tests of what threads share, with `ThreadSanitizer`.
//!
//! It sees two threads touch one place without an order between them, even where nothing came
//! of it. All code has to be built for it, the standard library too, so it has a directory of
//! its own in `target` and is no part of `cargo xtask test`. Without ring, whose assembler it
//! can't see into, and without eBPF.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::setup;
use crate::workspace::{cargo, host, target};

/// What is in the names of tests of what threads share: one of these.
const THREADS: &[&str] = &["thread", "crew"];
/// Where there is `ThreadSanitizer` for.
const TARGETS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// The arguments of `cargo xtask tsan`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Library tests whose names contain this, and not only those of what threads share; an
    /// empty one stands for all of them.
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
}

/// Builds and runs them; a race is a failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let host = host()?;
    ensure!(
        TARGETS.contains(&host.as_str()),
        "rustc has no ThreadSanitizer for {host}"
    );
    let filters = match arguments.only.as_deref() {
        Some(filter) => vec![filter],
        None => THREADS.to_vec(),
    };
    setup::rust_src()?;
    setup::step("building the library and the standard library for ThreadSanitizer");
    let status = cargo()?
        .args([
            "test",
            "--package",
            "taltun",
            "--package",
            "taltun-protocol",
            "--lib",
        ])
        .args(["--no-default-features", "-Zbuild-std", "--target", &host])
        .arg("--target-dir")
        .arg(target().join("tsan"))
        .arg("--")
        .args(filters)
        // What the pinned toolchain calls unstable: the sanitizer, and building its library.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=thread")
        .env("TSAN_OPTIONS", "halt_on_error=1")
        .status()
        .context("can't run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
