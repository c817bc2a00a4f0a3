//! Many clients, each of which uses every port of the range: what the hub needs for them.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use taltun_tests::lab::PORT;
use taltun_tests::node::{AfXdp, XdpMode};

use super::{Ports, RANGE, figure};
use crate::bench::contender::Contender;
use crate::bench::small::Candidate;
use crate::bench::small::field::Field;
use crate::bench::small::hub::Hub;
use crate::bench::small::load::{self, Load, Phase};
use crate::bench::{Xdp, usage};

/// Bytes of a packet, inside.
const BYTES: u64 = 64;
/// Packets a second: well below what a hub loses any at.
const RATE: u64 = 30_000;
/// Packets that each client sends before the hub's memory is looked at for the first time.
const FIRST: u64 = 100;
/// How long what is still under way may take.
const REST: Duration = Duration::from_millis(300);

/// What a hub needed.
#[derive(Debug, Serialize)]
pub struct Crowd {
    /// Packets that the clients sent, and how many of them were relayed.
    sent: u64,
    arrived: u64,
    /// CPU time of the hub for each, its share of the kernel's included.
    cpu_us: f64,
    /// UDP sockets of its namespace.
    sockets: usize,
    /// Its memory when all had sessions, and when each had used every port.
    before_mb: f64,
    after_mb: f64,
}

impl Crowd {
    /// Its columns of the table.
    pub fn cells(&self) -> Vec<String> {
        let arrived = self.arrived as f64 / self.sent as f64 * 100.0;
        vec![
            format!("{arrived:.2} %"),
            figure(Some(self.cpu_us), 2),
            self.sockets.to_string(),
            figure(Some(self.before_mb), 1),
            figure(Some(self.after_mb), 1),
        ]
    }
}

impl Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} packets, {:.2} µs of CPU each, {} UDP sockets, {:.1} MB before and {:.1} MB after",
            self.arrived, self.sent, self.cpu_us, self.sockets, self.before_mb, self.after_mb
        )
    }
}

/// Measures a hub in this mode with so many clients.
pub fn measure(
    contender: &Contender,
    xdp: Xdp,
    ports: Ports,
    clients: u16,
    player: &Path,
) -> Result<Crowd> {
    let candidate = Candidate {
        name: "hub".to_owned(),
        contender: contender.clone(),
        xdp: XdpMode::from(xdp),
        af_xdp: AfXdp::Off,
        port_range: ports.range(),
    };
    let field = Field::lay()?;
    let keys = load::keys(player, clients)?;
    let hub = Hub::start(&field, &candidate, &keys, &contender.program, true)?;
    let range = ports.range().unwrap_or((PORT, PORT));
    let mut load = Load::start(&field, player, clients, hub.public_key(), range, true)?;
    let field = field.ready(true)?;
    let memory = || usage::largest_resident_mb(&hub.pids()).context("the hub is gone");
    let mut send = |packets: u64| -> Result<(u64, f64)> {
        load.prepare(Phase {
            bytes: BYTES,
            packets,
            rate: RATE,
            senders: clients,
        })?;
        let before = hub.cpu_seconds()? + field.cpu_seconds();
        let sent = load.send()?;
        sleep(REST);
        Ok((
            sent.packets,
            hub.cpu_seconds()? + field.cpu_seconds() - before,
        ))
    };
    let all = u64::from(clients);
    send(all * FIRST)?;
    let (before_mb, arrived) = (memory()?, field.arrived()?);
    // Each client's packets go to one port after the other.
    let width = u64::from(RANGE.1 - RANGE.0) + 1;
    let (sent, cpu) = send(all * width)?;
    let arrived = field.arrived()? - arrived;
    ensure!(arrived > 0, "nothing was relayed");
    let crowd = Crowd {
        sent,
        arrived,
        cpu_us: cpu / arrived as f64 * 1e6,
        sockets: field.hub().run(udp_sockets)??,
        before_mb,
        after_mb: memory()?,
    };
    drop(load);
    hub.stop()?;
    Ok(crowd)
}

/// UDP sockets of this thread's network namespace.
fn udp_sockets() -> Result<usize> {
    let mut count = 0;
    for table in ["udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
        count += text.lines().skip(1).count();
    }
    Ok(count)
}
