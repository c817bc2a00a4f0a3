//! The static program: one file that runs on any Linux of its CPU, whatever C library that has.
//!
//! There is no built standard library for these targets on a machine without rustup's, so it is built
//! with the program, from the source that the eBPF programs are built with too; the compiler
//! for C and the linker is [`Zig`].

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::zig::{Tools, Zig};
use crate::setup::{self, step};
use crate::workspace::{cargo, host, must_succeed, target, tools};

/// The CPUs that there are programs for.
pub const CPUS: [&str; 2] = ["x86_64", "aarch64"];

/// What builds static programs.
pub struct Musl {
    zig: Zig,
}

impl Musl {
    /// Makes sure that all that it takes is there.
    pub fn prepare() -> Result<Self> {
        setup::rust_src()?;
        Ok(Self {
            zig: Zig::find_or_install()?,
        })
    }

    /// Builds the program for a CPU.
    pub fn build(&self, cpu: &str, profile: &str) -> Result<PathBuf> {
        step(&format!("building taltun for {cpu}, static ({profile})"));
        let triple = triple(cpu);
        must_succeed(
            self.cargo("rustc", cpu)?
                .args(["--package", "taltun", "--bin", "taltun"])
                .args(["--profile", profile])
                // As cargo-deb does it for its package.
                .args(["--", "-Cstrip=symbols"]),
            &format!("build the static program for {cpu}"),
        )?;
        Ok(target().join(triple).join(profile).join("taltun"))
    }

    /// Licences of what is in it besides packages.
    pub fn licenses(&self) -> Vec<(PathBuf, &'static str)> {
        self.zig.licenses()
    }

    /// `cargo` for a CPU.
    pub fn cargo(&self, command: &str, cpu: &str) -> Result<Command> {
        let Tools { cc, ar } = self.zig.write_tools(cpu, &tools().join("zig-cc"))?;
        let triple = triple(cpu);
        let suffix = triple.replace('-', "_");
        let mut cargo = cargo()?;
        cargo
            .args([command, "--locked", "--target", &triple])
            .args(["-Z", "build-std=std,panic_abort"])
            // The pinned stable release then takes `-Z`.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(variable(cpu, "LINKER"), &cc)
            // The C library and its start files are Zig's.
            .env(
                variable(cpu, "RUSTFLAGS"),
                "-Clink-self-contained=no -Ctarget-feature=+crt-static",
            )
            .env(format!("CC_{suffix}"), &cc)
            .env(format!("AR_{suffix}"), &ar);
        Ok(cargo)
    }
}

/// Whether this machine's own CPU is this one.
pub fn is_native(cpu: &str) -> Result<bool> {
    Ok(host()?.starts_with(&format!("{cpu}-")))
}

/// Rust's name for Linux with musl on a CPU.
fn triple(cpu: &str) -> String {
    format!("{cpu}-unknown-linux-musl")
}

/// The variable that names what runs programs for a CPU.
pub fn runner(cpu: &str) -> String {
    variable(cpu, "RUNNER")
}

/// A setting of cargo's for programs for a CPU.
fn variable(cpu: &str, name: &str) -> String {
    let triple = triple(cpu).to_uppercase().replace('-', "_");
    format!("CARGO_TARGET_{triple}_{name}")
}
