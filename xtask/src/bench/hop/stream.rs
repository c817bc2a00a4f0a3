//! A TCP stream between a client and the hub.
//!
//! The client is Taltun with one port as its endpoint. Rules in its namespace give each batch that
//! it sends the next port of the range, without any state, and give what the hub sends back the one
//! port again. So the client's work doesn't depend on the range; with one port it has the same
//! rules. The rules count: without packets from the range there is no sample.

use std::fmt::{self, Display};
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::lab::PORT;
use taltun_tests::netns::Namespace;
use taltun_tests::node::XdpMode;
use taltun_tests::topology::{Star, private_prefix};

use super::{Ports, RANGE};
use crate::bench::Xdp;
use crate::bench::configs::{Shielding, Wanted};
use crate::bench::contender::Contender;
use crate::bench::iperf::{Load, Transfer};
use crate::bench::tunnel::Tunnel;
use crate::bench::wires::switch_gro_on;

/// Where the stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the hub: XDP turns its port.
    Up,
    /// From the hub to the client: the program on the way out turns it back.
    Down,
}

impl Way {
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    pub fn words(self) -> &'static str {
        match self {
            Self::Up => "to the hub",
            Self::Down => "from the hub",
        }
    }
}

/// What a stream carried.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub gbps: f64,
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} Gbit/s", self.gbps)
    }
}

/// Measures a stream this way, with the hub's program in this mode.
pub fn measure(
    contender: &Contender,
    (xdp, way): (Xdp, Way),
    ports: Ports,
    seconds: u64,
) -> Result<Sample> {
    let net = Star::create(&private_prefix())?;
    let mode = XdpMode::from(xdp);
    if mode == XdpMode::Driver {
        switch_gro_on(&net)?;
    }
    spread(&net.a, ports)?;
    let wanted = Wanted {
        relay: false,
        shield: Shielding::Hub(mode),
        dataplane: "",
        port_range: ports.range(),
        rules: "",
    };
    let tunnel = Tunnel::start(contender, &net, wanted, &contender.program)?;
    let (address, hub) = (tunnel.address(false), &net.hub);
    let transfer = match way {
        Way::Up => Transfer::start(Load::Tcp(1), &net.a, hub, address, seconds)?,
        Way::Down => {
            let client = tunnel.client_address();
            Transfer::start(Load::Tcp(1), hub, &net.a, client, seconds)?
        }
    };
    let received = transfer.finish(|| {})?;
    ensure!(received.bytes > 0.0, "nothing arrived");
    let [sent, answered] = counted(&net.a)?;
    ensure!(
        sent > 0 && answered > 0,
        "{sent} packets went to the ports and {answered} came from there"
    );
    tunnel.stop()?;
    net.delete()?;
    Ok(Sample {
        gbps: received.gbps(),
    })
}

/// Gives what leaves for the hub the next of these ports, and what comes from them the hub's own.
fn spread(client: &Namespace, ports: Ports) -> Result<()> {
    let (first, last) = ports.range().unwrap_or((PORT, PORT));
    // As many entries for one port as for the range, as looking in a map of one costs less.
    let count = RANGE.1 - RANGE.0 + 1;
    // A number isn't taken for a port in the right order of bytes, so a map says which it is.
    let map: Vec<String> = (0..count)
        .map(|number| format!("{number} : {}", first + number % (last - first + 1)))
        .collect();
    let map = map.join(", ");
    let rules = format!(
        "table inet bench {{
           chain out {{
             type filter hook output priority raw
             udp dport {PORT} udp dport set numgen inc mod {count} map {{ {map} }} counter
           }}
           chain in {{
             type filter hook prerouting priority raw
             udp sport {first}-{last} udp sport set {PORT} counter
           }}
         }}\n"
    );
    let file = std::env::temp_dir().join(format!("{}.nft", client.name()));
    fs::write(&file, rules)?;
    let loaded = output_of(client.command("nft").arg("-f").arg(&file));
    fs::remove_file(&file)?;
    loaded
        .context("this kernel can't spread packets over ports")
        .map(drop)
}

/// Packets that the rules changed on their way out and in.
fn counted(client: &Namespace) -> Result<[u64; 2]> {
    let text = output_of(
        client
            .command("nft")
            .args(["-j", "list", "table", "inet", "bench"]),
    )?;
    let listed: Value = serde_json::from_str(&text)?;
    let of = |chain: &str| -> Result<u64> {
        let rules = listed["nftables"].as_array().into_iter().flatten();
        let rule = rules
            .map(|entry| &entry["rule"])
            .find(|rule| rule["chain"] == chain)
            .with_context(|| format!("no rule in {chain}: {text}"))?;
        let parts = rule["expr"].as_array().into_iter().flatten();
        let counts = parts.filter_map(|part| part["counter"]["packets"].as_u64());
        Ok(counts.sum())
    };
    Ok([of("out")?, of("in")?])
}
