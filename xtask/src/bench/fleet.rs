//! `cargo xtask bench fleet`: for how long WireGuard clients that aren't Taltun have no answer while the hub of their
//! group that they are at is killed, hangs, or gives them up.
//!
//! It is the whole-system test of that, with more clients. The test prints the gaps, and fails only if a client
//! stays away for all the eight seconds for which it is watched.

use std::process::ExitCode;

use anyhow::{Result, bail};
use taltun_tests::sys;

use crate::build;
use crate::setup::{self, Program};
use crate::workspace::{cargo, must_succeed};

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
];

/// The arguments of `cargo xtask bench fleet`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many clients of wireguard-go there are, 1 to 150.
    #[arg(long, value_name = "N", default_value_t = 50)]
    clients: u8,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !sys::is_root() {
        bail!("the bench makes network namespaces and needs root: run this as root");
    }
    setup::programs(PROGRAMS)?;
    let taltun = build::taltun()?;
    let mut test = cargo()?;
    test.args(["test", "--profile", "lab", "--package", "taltun-tests"])
        .args(["--test", "system", "--", "fleet group", "--nocapture"])
        .env("TALTUN_BIN", taltun)
        .env("TALTUN_FLEET_CLIENTS", arguments.clients.to_string());
    must_succeed(&mut test, "measure a fleet")?;
    Ok(ExitCode::SUCCESS)
}
