//! The program that plays the spokes: `taltun/examples/spokes.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use taltun_tests::command::output_of;
use taltun_tests::topology::WIRE_A;

use super::field::{FAR, Field, LOAD_CORE};
use crate::bench::player::Player;
use crate::workspace::{self, cargo, must_succeed};

/// Builds it.
pub fn build() -> Result<PathBuf> {
    let words = ["build", "--release", "-p", "taltun", "--example", "spokes"];
    must_succeed(cargo()?.args(words), "build the spokes")?;
    Ok(workspace::target().join("release/examples/spokes"))
}

/// The public keys of so many spokes.
pub fn keys(player: &Path, count: u16) -> Result<Vec<String>> {
    let printed = output_of(Command::new(player).args(["keys", &count.to_string()]))?;
    Ok(printed.lines().map(str::to_owned).collect())
}

/// The inner address of a spoke, as the program has it.
pub fn inner(number: usize) -> String {
    format!("10.201.{}.{}", number / 250, number % 250 + 1)
}

/// Packets to send.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// Bytes of each, inside.
    pub bytes: u64,
    /// How many.
    pub packets: u64,
    /// How many a second.
    pub rate: u64,
    /// How many of the spokes send, in turn.
    pub senders: u16,
}

/// Packets that were sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub packets: u64,
    pub seconds: f64,
}

/// The running program.
pub struct Load(Player);

impl Load {
    /// Starts it, and waits until every spoke has a session with the hub, to whose `ports` its
    /// packets go in turn.
    pub fn start(
        field: &Field,
        player: &Path,
        spokes: u16,
        hub_key: &str,
        (first, last): (u16, u16),
        pinned: bool,
    ) -> Result<Self> {
        let mut command = if pinned {
            let mut command = field.net.right.command("taskset");
            command.args(["-c", &LOAD_CORE.to_string()]).arg(player);
            command
        } else {
            field.net.right.command(player)
        };
        command
            .args(["run", &spokes.to_string(), hub_key])
            .arg(format!("{}:{first}-{last}", WIRE_A.near_v4()))
            .arg(WIRE_A.far_v4().to_string())
            .args([FAR, &field.hub_mac()?, &field.own_mac()?]);
        let mut load = Player::start(&mut command)?;
        load.expect("ready")
            .context("not every spoke has a session")?;
        Ok(Self(load))
    }

    /// Seals what is to be sent.
    pub fn prepare(&mut self, phase: Phase) -> Result<()> {
        let Phase {
            bytes,
            packets,
            rate,
            senders,
        } = phase;
        self.0
            .tell(&format!("{bytes} {packets} {rate} {senders}"))?;
        self.0.expect("sealed")
    }

    /// Sends it.
    pub fn send(&mut self) -> Result<Sent> {
        let (packets, seconds) = self.0.go()?;
        Ok(Sent { packets, seconds })
    }
}
