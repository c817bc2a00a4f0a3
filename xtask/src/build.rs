//! The `taltun` to work with.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::setup;
use crate::workspace::{cargo, must_succeed, target};

/// The `taltun` to work with: `$TALTUN_BIN`, or a release build made now.
pub fn taltun() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TALTUN_BIN") {
        // Absolute, because tests are run in another directory.
        return PathBuf::from(&path)
            .canonicalize()
            .with_context(|| format!("TALTUN_BIN names {}", path.display()));
    }
    setup::ebpf_toolchain()?;
    setup::step("building taltun");
    must_succeed(
        cargo()?.args(["build", "--release", "--package", "taltun"]),
        "build taltun",
    )?;
    Ok(target().join("release/taltun"))
}
