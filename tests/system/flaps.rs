//! An interface that goes down for a moment costs what is under way then, and nothing after.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::lab::{Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, ensure_answers, lab, take_down};

pub const CASES: &[Case] = &[Case {
    name: "packets are joined again after the tunnel's interface was down",
    programs: &[],
    run: joined_after_a_flap,
}];

/// How long a stream may take to go on.
const LIMIT: Duration = Duration::from_secs(20);
const MEGABYTES: u64 = 4 << 20;
/// Bytes of the largest packet that isn't joined.
const MTU: u64 = 1500;

fn joined_after_a_flap() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let to = SocketAddr::new(Role::Hub.v4(), 0);
    let stream = Stream::start(&lab.net.a, &lab.net.hub, to)?;
    stream.wait_for_more_than(MEGABYTES, LIMIT)?;
    ensure!(
        mean_packet(&lab.net.hub, &stream)? > 2 * MTU,
        "never joined"
    );
    for _ in 0..3 {
        lab.net.hub.ip("link set taltun0 down")?;
        sleep(Duration::from_millis(100));
        lab.net.hub.ip("link set taltun0 up")?;
        stream.wait_for_more_than(stream.received() + MEGABYTES, LIMIT)?;
    }
    let mean = mean_packet(&lab.net.hub, &stream)?;
    ensure!(mean > 2 * MTU, "{mean} bytes a packet after the flap");
    stream.finish()?;
    take_down(lab)
}

/// Bytes a packet that the interface gets of what comes next.
fn mean_packet(hub: &Namespace, stream: &Stream) -> Result<u64> {
    let before = received(hub)?;
    stream.wait_for_more_than(stream.received() + MEGABYTES, LIMIT)?;
    let after = received(hub)?;
    Ok((after.0 - before.0) / (after.1 - before.1).max(1))
}

/// Bytes and packets that the interface has received.
fn received(hub: &Namespace) -> Result<(u64, u64)> {
    let links: Value = serde_json::from_str(&hub.ip("-s -j link show taltun0")?)?;
    let counters = &links[0]["stats64"]["rx"];
    let read = |name: &str| counters[name].as_u64().context("no such counter");
    Ok((read("bytes")?, read("packets")?))
}
