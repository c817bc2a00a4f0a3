//! Where things are in this repository, and `cargo` the way every task calls it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::output_of;

/// The repository's top directory.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |path| root().join(path))
}

/// Where [`crate::setup`] installs programs: `bin` below it.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// PATH with our own tools first.
pub fn path() -> Result<OsString> {
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(tools().join("bin")).chain(env::split_paths(&others)))
        .context("PATH can't be extended")
}

/// `cargo`, in the top directory, with our tools on PATH.
pub fn cargo() -> Result<Command> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env("PATH", path()?);
    // What `cargo run` told us about this package is not so of others: build scripts that
    // watch these variables would run anew each time, and all that stands on them.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    Ok(cargo)
}

/// Whether cargo has a subcommand of this name that works.
pub fn has_subcommand(name: &str) -> Result<bool> {
    let said = cargo()?.args([name, "--version"]).output();
    Ok(said.is_ok_and(|said| said.status.success()))
}

/// Runs `command`, its output going where ours goes, stdout to stderr so that our own stdout
/// stays clean.
pub fn must_succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("can't {what}"))?;
    ensure!(status.success(), "couldn't {what} ({status})");
    Ok(())
}

/// The target that rustc builds for by itself.
pub fn host() -> Result<String> {
    let version = output_of(Command::new("rustc").current_dir(root()).arg("-vV"))?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    match line {
        Some(host) => Ok(host.to_owned()),
        None => bail!("rustc -vV doesn't say what it builds for: {version}"),
    }
}

/// Has this be in the file, and leaves it alone where it is: another machine may read it just now.
pub fn keep_written(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(file, text).with_context(|| format!("can't write {}", file.display()))
}
