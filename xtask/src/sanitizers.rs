//! `cargo xtask tsan` and `cargo xtask asan`: tests of the libraries with rustc's sanitizers.
//!
//! `ThreadSanitizer` sees two threads touch one place without an order between them, even where
//! nothing came of it; `AddressSanitizer` sees memory read or written that isn't there any more, or never
//! was. All code has to be built for them, the standard library too, so each has a directory of
//! its own in `target` and is no part of `cargo xtask test`. Without ring, into whose assembler they can't
//! see, and without eBPF.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::setup;
use crate::workspace::{cargo, host, target};

/// One of them, as rustc calls it.
#[derive(Debug, Clone, Copy)]
pub enum Sanitizer {
    /// Of data races.
    Thread,
    /// Of memory.
    Address,
}

/// Where there are both for.
const TARGETS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
/// The crates whose library tests run: all that a program is made of.
const PACKAGES: &[&str] = &[
    "taltun",
    "taltun-capture",
    "taltun-common",
    "taltun-crypto",
    "taltun-fleet",
    "taltun-policy",
    "taltun-protocol",
    "taltun-shaping",
    "taltun-udpgw",
    "taltun-usage",
];

/// The arguments of both.
#[derive(clap::Args)]
pub struct Arguments {
    /// Library tests whose names contain this; an empty one stands for all of them [default: for tsan
    /// those of what threads share, for asan all].
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
}

impl Sanitizer {
    /// What people call it, and its directory.
    fn short(self) -> &'static str {
        match self {
            Self::Thread => "tsan",
            Self::Address => "asan",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Address => "address",
        }
    }

    /// What is in the names of the tests that run if nobody asks for others: one of these.
    fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Thread => &["thread", "crew"],
            Self::Address => &[],
        }
    }

    /// The first finding ends the test, so that it fails. At the end some threads are still
    /// there, with what is theirs: that is no leak.
    fn options(self) -> [(&'static str, &'static str); 1] {
        match self {
            Self::Thread => [("TSAN_OPTIONS", "halt_on_error=1")],
            Self::Address => [("ASAN_OPTIONS", "halt_on_error=1:detect_leaks=0")],
        }
    }
}

/// Builds and runs them; what the sanitizer finds is a failure.
pub fn run(sanitizer: Sanitizer, arguments: &Arguments) -> Result<ExitCode> {
    let (host, name) = (host()?, sanitizer.name());
    ensure!(
        TARGETS.contains(&host.as_str()),
        "rustc has no {name} sanitizer for {host}"
    );
    let filters = match arguments.only.as_deref() {
        Some(filter) => vec![filter],
        None => sanitizer.tests().to_vec(),
    };
    setup::rust_src()?;
    setup::step(&format!(
        "building the libraries and the standard library for the {name} sanitizer"
    ));
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let status = cargo()?
        .arg("test")
        .args(packages)
        .args(["--lib", "--no-fail-fast", "--no-default-features"])
        .args(["--features", "taltun/fleet"])
        .args(["-Zbuild-std", "--target", &host])
        .arg("--target-dir")
        .arg(target().join(sanitizer.short()))
        .arg("--")
        .args(filters)
        // What the pinned toolchain calls unstable: the sanitizer, and building its library.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("-Zsanitizer={name}"))
        .envs(sanitizer.options())
        .status()
        .context("can't run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
