//! One measurement: a lab made for it, a stream through the tunnel, and a flood beside it.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use taltun_tests::lab::PORT;
use taltun_tests::topology::{Star, WIRE_B, private_prefix};
use taltun_tests::traffic::flood::{Flood, Kind, SOURCES, Target};

use super::plan::{Case, Column};
use crate::bench::configs::{Shielding, Wanted};
use crate::bench::iperf::{Load, Transfer};
use crate::bench::tunnel::Tunnel;
use crate::bench::wires::{attach_drop, link_address, received};

/// The flood's end of its wire, and the hub's.
const ATTACKER: &str = "to-hub";
const VICTIM: &str = "to-b";
/// How long a flood lasts before the stream begins.
const LEAD: Duration = Duration::from_millis(300);
/// However long a stream hangs, no flood outlasts it by more.
const GRACE: Duration = Duration::from_secs(20);
/// A flood that is thinner than this part of what was asked for, or of which less arrives, is
/// not the one that was to be measured.
const LEAST: f64 = 0.97;

/// What is the same for all measurements.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The `taltun` that is measured, and that makes the keys for all.
    pub taltun: &'a Path,
    /// How long the stream is.
    pub seconds: u64,
}

/// What a measurement came to.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// What the stream carried, Gbit/s.
    pub gbps: f64,
    /// The flood beside it, if there was one.
    pub flood: Option<Arrived>,
    /// What Taltun's hub has dropped meanwhile, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// A flood as it came in.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Arrived {
    /// Packets sent in a second.
    pub packets_per_second: f64,
    /// How many of those sent the hub's interface counted, of one.
    pub received: f64,
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} Gbit/s", self.gbps)?;
        if let Some(flood) = self.flood {
            let (rate, received) = (flood.packets_per_second, flood.received * 100.0);
            write!(f, " ({rate:.0}/s, {received:.1} % received)")?;
        }
        Ok(())
    }
}

/// Measures `column` under `case`.
pub fn measure(column: &Column, case: Case, settings: Settings<'_>) -> Result<Sample> {
    let net = Star::create(&private_prefix())?;
    accept_strangers(&net)?;
    let eaten = matches!(case, Case::Eaten(_));
    let eat = || attach_drop(&net.hub, VICTIM, column.eater());
    let _eater = eaten.then(eat).transpose()?;
    let wanted = Wanted {
        relay: false,
        shield: if eaten {
            Shielding::HubTowardsA(column.xdp)
        } else {
            Shielding::Hub(column.xdp)
        },
        dataplane: "",
        port_range: None,
        rules: "",
    };
    let tunnel = Tunnel::start(&column.contender, &net, wanted, settings.taltun)?;
    let sample = stream(&net, &tunnel, case, settings.seconds)?;
    tunnel.stop()?;
    net.delete()?;
    Ok(sample)
}

/// Has the hub take packets from the flood's sources, and know where to answer them. The
/// answers end at b, which has no such address.
fn accept_strangers(net: &Star) -> Result<()> {
    for interface in ["all", VICTIM] {
        let file = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        net.hub.run(|| fs::write(file, "0"))??;
    }
    net.hub
        .ip(&format!("route add {SOURCES} via {}", WIRE_B.far_v4()))?;
    Ok(())
}

/// Measures a stream, beside a flood if the case has one.
fn stream(net: &Star, tunnel: &Tunnel, case: Case, seconds: u64) -> Result<Sample> {
    let kind = match case {
        Case::Flood(name, _) => name.meaning().0,
        // All are of one length, so it doesn't matter what is in it.
        Case::Quiet | Case::Eaten(_) => Kind::Random,
    };
    let received_before = received(&net.hub, VICTIM)?;
    let dropped_before = tunnel.hub_drops()?;
    let limit = LEAD + Duration::from_secs(seconds) + GRACE;
    let start = |rate| Flood::start(&net.b, ATTACKER, &target(net, tunnel)?, kind, rate, limit);
    let flood = case.rate().map(start).transpose()?;
    sleep(LEAD);
    let address = tunnel.address(false);
    let transfer = Transfer::start(Load::Tcp(1), &net.a, &net.hub, address, seconds)?;
    let stream = transfer.finish(|| {})?;
    let arrived = match (flood, case.rate()) {
        (Some(flood), Some(rate)) => {
            let sent = flood.stop()?;
            let arrived = Arrived {
                packets_per_second: sent.rate(),
                received: (received(&net.hub, VICTIM)? - received_before) as f64
                    / sent.packets as f64,
            };
            ensure_real(arrived, rate)?;
            Some(arrived)
        }
        _ => None,
    };
    ensure!(stream.bytes > 0.0, "nothing arrived");
    Ok(Sample {
        gbps: stream.gbps(),
        flood: arrived,
        dropped: increase(&dropped_before, tunnel.hub_drops()?),
    })
}

fn ensure_real(flood: Arrived, rate: u32) -> Result<()> {
    ensure!(
        flood.packets_per_second >= LEAST * f64::from(rate),
        "only {:.0} packets/s of {rate} were sent",
        flood.packets_per_second
    );
    ensure!(
        flood.received >= LEAST,
        "only {:.1} % of the flood arrived",
        flood.received * 100.0
    );
    Ok(())
}

fn target(net: &Star, tunnel: &Tunnel) -> Result<Target> {
    let hardware = hardware_address(&link_address(&net.hub, VICTIM)?);
    let IpAddr::V4(address) = WIRE_B.near_v4() else {
        bail!("the flood is an IPv4 one");
    };
    Ok(Target {
        hardware: hardware.context("ip doesn't say the hardware address")?,
        address,
        port: PORT,
        public_key: tunnel.hub_key()?,
    })
}

/// `02:00:5e:10:00:01` as bytes.
fn hardware_address(text: &str) -> Option<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<Vec<_>, _>>().ok()?;
    bytes.try_into().ok()
}

/// By how much each counter has grown, as far as it has.
fn increase(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = after.into_iter().map(|(reason, count)| {
        let before = before.get(&reason).copied().unwrap_or_default();
        (reason, count.saturating_sub(before))
    });
    grown.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read() {
        assert_eq!(
            hardware_address("02:00:5e:10:00:ff"),
            Some([2, 0, 0x5e, 0x10, 0, 0xff])
        );
        assert_eq!(hardware_address("02:00:5e:10:00"), None);
        assert_eq!(hardware_address("none"), None);
    }

    #[test]
    fn a_thin_flood_is_no_result() {
        let flood = |packets_per_second, received| Arrived {
            packets_per_second,
            received,
        };
        assert!(ensure_real(flood(99_000.0, 1.0), 100_000).is_ok());
        assert!(ensure_real(flood(90_000.0, 1.0), 100_000).is_err());
        assert!(ensure_real(flood(100_000.0, 0.9), 100_000).is_err());
    }

    #[test]
    fn counters_count_from_where_they_stood() {
        let map = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), *value))
                .collect()
        };
        let grown = increase(
            &map(&[("a", 1), ("b", 2)]),
            map(&[("a", 5), ("b", 2), ("c", 3)]),
        );
        assert_eq!(grown, map(&[("a", 4), ("c", 3)]));
    }
}
