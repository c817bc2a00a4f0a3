//! One measurement: a lab made for it, the load, and what it came to.
//!
//! Every measurement has new namespaces and new processes, so that nothing of the one before
//! is left in it: neither memory that grew nor a queue that filled.

use std::net::IpAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use taltun_tests::netns::Namespace;
use taltun_tests::node::XdpMode;
use taltun_tests::sys;
use taltun_tests::topology::{Star, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use super::configs::{Shielding, Wanted};
use super::contender::{Contender, Kind};
use super::iperf::{Load, Received, Transfer};
use super::row::{Row, Test};
use super::statistics::percentile;
use super::tunnel::Tunnel;
use super::usage;
use super::wires;

/// The pause between an answer and the next echo request.
const PING_PAUSE: Duration = Duration::from_millis(5);
/// How long an echo may take; one that is lost counts as having taken as long.
const PING_LIMIT: Duration = Duration::from_secs(1);
/// How long a stream may take to get going before it is pinged beside.
const RAMP: Duration = Duration::from_millis(200);

/// What is the same for all measurements.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The `taltun` that is measured, and that makes the keys for all.
    pub taltun: &'a Path,
    /// How long to send, or to ping.
    pub seconds: u64,
    /// What Taltun is told in `[dataplane]`.
    pub dataplane: &'a str,
}

/// What a measurement came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// In the row's unit.
    pub value: f64,
    /// CPU seconds of all the tunnel's processes for each gigabit that arrived.
    pub cpu_seconds_per_gigabit: Option<f64>,
    /// Resident memory of the largest of them under load.
    pub resident_mb: Option<f64>,
}

/// Measures `contender` in `row`.
pub fn measure(contender: &Contender, row: Row, settings: Settings<'_>) -> Result<Sample> {
    let net = Star::create(&private_prefix())?;
    let relay = row.test == Test::Relay;
    let _programs = if row.xdp == XdpMode::Driver {
        wires::switch_gro_on(&net)?;
        if matches!(contender.kind, Kind::Taltun | Kind::NullCipher) {
            Vec::new() // it brings its own
        } else {
            wires::attach_pass(&net)?
        }
    } else {
        Vec::new()
    };
    let wanted = Wanted {
        relay,
        shield: Shielding::Everyone(row.xdp),
        dataplane: settings.dataplane,
        port_range: None,
        rules: "",
    };
    let tunnel = Tunnel::start(contender, &net, wanted, settings.taltun)?;
    let bench = Bench {
        from: &net.a,
        to: if relay { &net.b } else { &net.hub },
        address: tunnel.address(relay),
        pids: tunnel.pids(),
        seconds: settings.seconds,
    };
    let sample = bench.sample(row.test)?;
    tunnel.stop()?;
    net.delete()?;
    Ok(sample)
}

/// Pings until the time is up or `go_on` says no; the times in µs.
pub fn pings(
    from: &Namespace,
    address: IpAddr,
    seconds: u64,
    mut go_on: impl FnMut() -> Result<bool>,
) -> Result<Vec<f64>> {
    let mut pinger = Pinger::new(from, address)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) && go_on()? {
        if sys::stop_requested().is_some() {
            bail!("interrupted");
        }
        let time = pinger.ping(PING_LIMIT)?.unwrap_or(PING_LIMIT);
        times.push(time.as_secs_f64() * 1e6);
        sleep(PING_PAUSE);
    }
    Ok(times)
}

/// A tunnel ready for a load.
struct Bench<'a> {
    from: &'a Namespace,
    to: &'a Namespace,
    address: IpAddr,
    pids: Vec<u32>,
    seconds: u64,
}

impl Bench<'_> {
    fn sample(&self, test: Test) -> Result<Sample> {
        match test {
            Test::Tcp(streams) => self.transfer(Load::Tcp(streams), Received::gbps),
            Test::Relay => self.transfer(Load::Tcp(1), Received::gbps),
            Test::UdpRate(length) => self.transfer(Load::Udp(length), Received::gbps),
            Test::UdpPackets(length) => {
                self.transfer(Load::Udp(length), |received| received.kpps(length))
            }
            Test::Ping => {
                let times = self.pings(|| Ok(true))?;
                self.echoes(percentile(&times, 50))
            }
            Test::PingUnderLoad => {
                let mut transfer = self.start(Load::Tcp(1))?;
                sleep(RAMP);
                let times = self.pings(|| transfer.is_running())?;
                let sample = self.echoes(percentile(&times, 99));
                transfer.finish(|| {})?;
                sample
            }
        }
    }

    fn start(&self, load: Load) -> Result<Transfer> {
        Transfer::start(load, self.from, self.to, self.address, self.seconds)
    }

    /// Sends `load` and values what arrived by `value`.
    fn transfer(&self, load: Load, value: impl FnOnce(Received) -> f64) -> Result<Sample> {
        let cpu_before = usage::cpu_seconds(&self.pids)?;
        let transfer = self.start(load)?;
        let mut resident = None;
        let received = transfer.finish(|| {
            // The largest seen; `None` is less than anything.
            let now = usage::largest_resident_mb(&self.pids);
            if now > resident {
                resident = now;
            }
        })?;
        let cpu = usage::cpu_seconds(&self.pids)? - cpu_before;
        ensure!(received.bytes > 0.0, "nothing arrived");
        Ok(Sample {
            value: value(received),
            cpu_seconds_per_gigabit: (!self.pids.is_empty()).then(|| cpu / received.gigabits()),
            resident_mb: resident,
        })
    }

    fn pings(&self, go_on: impl FnMut() -> Result<bool>) -> Result<Vec<f64>> {
        pings(self.from, self.address, self.seconds, go_on)
    }

    fn echoes(&self, value: Option<f64>) -> Result<Sample> {
        Ok(Sample {
            value: value.context("nothing was pinged")?,
            cpu_seconds_per_gigabit: None,
            resident_mb: usage::largest_resident_mb(&self.pids),
        })
    }
}
