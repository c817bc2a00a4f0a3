//! `cargo xtask miri`: tests of the crates without system calls under Miri, which interprets each
//! instruction and knows what Rust doesn't allow: reads of what isn't initialised, references that
//! overlap, pointers past their end.
//!
//! Miri comes with nightly toolchains alone. Where there is none, it says so and what would have run:
//! that is a skip and no failure.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::step;
use crate::workspace::{cargo, has_subcommand, target};

/// The crates; the others ask the system for things that Miri doesn't play, or go over millions of values.
const PACKAGES: &[&str] = &["taltun-common", "taltun-policy"];
/// Tests of them that do so, too.
const SKIPPED: &[&str] = &[
    "an_updated_checksum_is_the_one_of_the_whole",
    "flows_spread_over_the_slots_as_by_chance",
    "many_flows_that_send_little_leave_the_bulk_queue_its_part",
];

/// The arguments of `cargo xtask miri`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only tests whose names contain this. Miri is some hundred times slower than the machine.
    #[arg(long, value_name = "FILTER", default_value = "")]
    only: String,
}

/// Runs them, where there is Miri.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !has_subcommand("miri")? {
        println!(
            "skipped: miri: this toolchain has no Miri (`rustup +nightly component add miri`, then \
             `rustup run nightly cargo xtask miri`), for the tests of {}",
            PACKAGES.join(", ")
        );
        return Ok(ExitCode::SUCCESS);
    }
    step("running tests under Miri, which takes long");
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let status = cargo()?
        .args(["miri", "test"])
        .args(packages)
        .arg("--target-dir")
        .arg(target().join("miri"))
        .args(["--", &arguments.only])
        .args(SKIPPED.iter().flat_map(|name| ["--skip", name]))
        // Time and files are the machine's own.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .status()
        .context("can't run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
