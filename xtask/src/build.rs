//! The `taltun` to work with: the one that `$TALTUN_BIN` names, or one that is built now.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup;
use crate::workspace::{cargo, must_succeed, target};

/// The profile that the lab, all tests and this program share: see the workspace's `Cargo.toml`.
const LAB: &str = "lab";

/// The profile of which taltun's build script takes a cipher that does nothing.
const NULL_CIPHER: &str = "null-cipher";

/// For the lab.
pub fn taltun() -> Result<PathBuf> {
    built(LAB)
}

/// As users get it, for figures.
pub fn released_taltun() -> Result<PathBuf> {
    built("release")
}

/// As users get it but for the cipher, which does nothing: for what a bench compares with, and nothing
/// else. The program says so in red whenever it is started.
pub fn taltun_without_cipher() -> Result<PathBuf> {
    const CFG: &str = "--cfg=taltun_null_cipher";
    setup::ebpf_toolchain()?;
    setup::step("building taltun with a cipher that does nothing");
    let mut cargo = cargo()?;
    match env::var("RUSTFLAGS") {
        // These replace those of .cargo/config.toml, and those would be joined with others.
        Ok(flags) => cargo.env("RUSTFLAGS", format!("{flags} {CFG}")),
        Err(_) => cargo.arg("--config").arg(format!(
            "target.'cfg(target_arch = \"x86_64\")'.rustflags = [\"{CFG}\"]"
        )),
    };
    cargo.args(["build", "--profile", NULL_CIPHER, "--package", "taltun"]);
    must_succeed(&mut cargo, "build taltun")?;
    Ok(target().join(NULL_CIPHER).join("taltun"))
}

/// The one that the tests run, which [`tests`] builds with them.
pub fn tested_taltun() -> Result<PathBuf> {
    Ok(match given()? {
        Some(path) => path,
        None => target().join(LAB).join("taltun"),
    })
}

/// `cargo test` for all that runs on this machine: always the same packages, so that each is
/// built with the same features, and once. taltun-ebpf is no program for this machine; building
/// taltun builds it, and takes [`setup::ebpf_toolchain`].
pub fn tests() -> Result<Command> {
    let mut cargo = cargo()?;
    cargo.args(["test", "--profile", LAB]);
    cargo.args(["--workspace", "--exclude", "taltun-ebpf"]);
    Ok(cargo)
}

/// `cargo test` for what threads share, in each order that they can come in: a workspace of its own.
pub fn interleavings() -> Result<Command> {
    let mut cargo = cargo()?;
    cargo.args(["test", "--locked", "--manifest-path"]);
    cargo.arg("tests/interleavings/Cargo.toml");
    cargo
        .arg("--target-dir")
        .arg(target().join("interleavings"));
    Ok(cargo)
}

fn built(profile: &str) -> Result<PathBuf> {
    if let Some(path) = given()? {
        return Ok(path);
    }
    setup::ebpf_toolchain()?;
    setup::step("building taltun");
    must_succeed(
        cargo()?.args(["build", "--profile", profile, "--package", "taltun"]),
        "build taltun",
    )?;
    Ok(target().join(profile).join("taltun"))
}

/// What `$TALTUN_BIN` names; absolute, because tests are run in another directory.
fn given() -> Result<Option<PathBuf>> {
    let path = env::var_os("TALTUN_BIN").map(PathBuf::from);
    let found = path.map(|path| {
        path.canonicalize()
            .with_context(|| format!("TALTUN_BIN names {}", path.display()))
    });
    found.transpose()
}
