//! The `taltun` to work with: the one that `$TALTUN_BIN` names, or one that is built now.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::setup;
use crate::workspace::{cargo, must_succeed, target};

/// The profile that the lab and all tests share: see the workspace's `Cargo.toml`.
pub const LAB: &str = "lab";

/// For the lab and the tests.
pub fn taltun() -> Result<PathBuf> {
    built(LAB)
}

/// As users get it, for figures.
pub fn released_taltun() -> Result<PathBuf> {
    built("release")
}

fn built(profile: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os("TALTUN_BIN") {
        // Absolute, because tests are run in another directory.
        return PathBuf::from(&path)
            .canonicalize()
            .with_context(|| format!("TALTUN_BIN names {}", path.display()));
    }
    setup::ebpf_toolchain()?;
    setup::step("building taltun");
    must_succeed(
        cargo()?.args(["build", "--profile", profile, "--package", "taltun"]),
        "build taltun",
    )?;
    Ok(target().join(profile).join("taltun"))
}
