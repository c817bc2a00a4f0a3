//! `cargo xtask deny`: what cargo-deny says of all that the program is built of, by `deny.toml`.
//!
//! Licences, packages that may not come back and sources are in the lock file, so these are looked at
//! wherever cargo-deny can be had. Known weaknesses (advisories) are in a database of others: where that
//! can't be fetched, it says so, which is a skip and no failure.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::setup::{self, step};
use crate::workspace::{cargo, root, tools};

/// The version whose words `deny.toml` speaks.
const CARGO_DENY: &str = "0.20.2";

/// The arguments of `cargo xtask deny`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave known weaknesses out, so that no database is fetched.
    #[arg(long)]
    no_advisories: bool,
}

/// Installs cargo-deny where it is missing, and asks it.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::cargo_tool("cargo-deny", CARGO_DENY)?;
    let mut policy = deny(&["check", "licenses", "bans", "sources"])?;
    let mut good = policy.status().context("can't run cargo-deny")?.success();
    if !arguments.no_advisories {
        good &= advisories()?;
    }
    Ok(ExitCode::from(u8::from(!good)))
}

/// Whether nothing is known against a package, or nobody can tell here.
fn advisories() -> Result<bool> {
    step("fetching the database of known weaknesses");
    let fetched = deny(&["fetch", "db"])?.output();
    let fetched = fetched.context("can't run cargo-deny")?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
        let why = said.lines().rfind(|line| !line.trim().is_empty());
        println!(
            "skipped: advisories: the database of known weaknesses can't be fetched: {}",
            why.unwrap_or("cargo-deny didn't say why").trim()
        );
        return Ok(true);
    }
    let status = deny(&["check", "--disable-fetch", "advisories"])?.status();
    Ok(status.context("can't run cargo-deny")?.success())
}

/// cargo-deny in the top directory, where its file is.
fn deny(arguments: &[&str]) -> Result<Command> {
    // It asks cargo for the packages, by this.
    let cargo = cargo()?.get_program().to_owned();
    let mut deny = Command::new(tools().join("bin/cargo-deny"));
    deny.current_dir(root())
        .env("CARGO", cargo)
        .args(["--all-features", "--locked"])
        .args(arguments);
    Ok(deny)
}
