//! `cargo xtask kani`: proofs by Kani, a model checker for Rust: a harness holds for all values at once.
//!
//! Kani brings a toolchain of its own. Where there is none, it says so and what would have run: that is a
//! skip and no failure. What it proves is proved over as much as time allows by `cargo test -p taltun-proofs`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::step;
use crate::workspace::{cargo, has_subcommand, target};

/// The crate that has the harnesses, in `src/kani.rs`.
const PACKAGE: &str = "taltun-proofs";

/// The arguments of `cargo xtask kani`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the harness of this name [default: all].
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Runs them, where there is Kani.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !has_subcommand("kani")? {
        println!(
            "skipped: kani: this machine has no Kani (`cargo install --locked kani-verifier`, then \
             `cargo kani setup`), for the harnesses of {PACKAGE}"
        );
        return Ok(ExitCode::SUCCESS);
    }
    step("proving by Kani, which takes long");
    let mut kani = cargo()?;
    kani.args(["kani", "--package", PACKAGE, "--target-dir"]);
    kani.arg(target().join("kani"));
    if let Some(name) = &arguments.only {
        kani.args(["--harness", name]);
    }
    let status = kani.status().context("can't run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
