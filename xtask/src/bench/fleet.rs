//! `cargo xtask bench fleet`: how a fleet behaves on bad days. For how long WireGuard clients that aren't Taltun have
//! no answer while the hub of their group that they are at is killed, hangs, or gives them up; what is noticed while
//! etcd is stopped; what a split leaves behind; how long 10,000 peers take.
//!
//! It is the whole-system tests of that, for longer and with more clients and peers. The tests print the figures, and
//! fail only if a client stays away for all the time for which it is watched.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum as _;
use taltun_tests::sys;

use crate::build;
use crate::setup::{self, Program};
use crate::workspace::{cargo, must_succeed};

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("nft", "nftables"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
];

/// How often a stream is measured.
const ROUNDS: u8 = 5;

/// The arguments of `cargo xtask bench fleet`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Measure this alone. May be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,

    /// How many clients of wireguard-go there are, 1 to 150.
    #[arg(long, value_name = "N", default_value_t = 50)]
    clients: u8,

    /// For how long etcd is stopped.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    outage: u32,

    /// For how long the hubs are split.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    split: u32,

    /// How many peers the fleet has.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    peers: u16,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A hub is killed, stopped where it is, and drained.
    Moves,
    /// etcd is stopped.
    Outage,
    /// One hub is kept from the others and from etcd.
    Split,
    /// There are many peers.
    Peers,
    /// A stream between peers of two hubs, beside one between peers of one hub.
    Relay,
}

impl Part {
    /// The name of its test, or the part of it that no other has.
    fn test(self) -> &'static str {
        match self {
            Self::Moves => "fleet group",
            Self::Outage => "fleet outage: while etcd is stopped",
            Self::Split => "fleet outage: a split",
            Self::Peers => "fleet outage: a backup of many peers",
            Self::Relay => "fleet relay",
        }
    }

    /// What the test takes from the environment.
    fn setting(self, arguments: &Arguments) -> (&'static str, String) {
        match self {
            Self::Moves => ("TALTUN_FLEET_CLIENTS", arguments.clients.to_string()),
            Self::Outage => ("TALTUN_FLEET_SECONDS", arguments.outage.to_string()),
            Self::Split => ("TALTUN_FLEET_SECONDS", arguments.split.to_string()),
            Self::Peers => ("TALTUN_FLEET_PEERS", arguments.peers.to_string()),
            Self::Relay => ("TALTUN_FLEET_ROUNDS", ROUNDS.to_string()),
        }
    }
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !sys::is_root() {
        bail!("the bench makes network namespaces and needs root: run this as root");
    }
    setup::programs(PROGRAMS)?;
    let taltun = build::taltun()?;
    for part in Part::value_variants().iter().copied() {
        if !arguments.only.is_empty() && !arguments.only.contains(&part) {
            continue;
        }
        let mut test = cargo()?;
        let (variable, value) = part.setting(arguments);
        test.args(["test", "--profile", "lab", "--package", "taltun-tests"])
            .args(["--test", "system", "--", part.test(), "--nocapture"])
            .env("TALTUN_BIN", &taltun)
            .env(variable, value);
        must_succeed(&mut test, "measure a fleet")?;
    }
    Ok(ExitCode::SUCCESS)
}
