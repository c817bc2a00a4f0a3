//! What one look at the lab shows: that pings are answered, how XDP is attached, who was counted.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::node::XdpMode;
use taltun_tests::report::{Stats, Status};
use taltun_tests::traffic::ping::Pinger;

use super::units;

/// How many pings prove that pings work.
pub const PINGS: usize = 5;
/// How long a tunnel may take to come up.
const UP_LIMIT: Duration = Duration::from_secs(10);
/// How long the answer to a ping may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Waits until pings are answered at all and then wants every one answered.
pub fn first_pings(from: &Namespace, to: IpAddr) -> Result<String> {
    let mut pinger = Pinger::new(from, to)?;
    let start = Instant::now();
    pinger.wait_until_answered(UP_LIMIT)?;
    let up = start.elapsed();
    let mut fastest = ANSWER_LIMIT;
    for number in 1..=PINGS {
        match pinger.ping(ANSWER_LIMIT)? {
            Some(time) => fastest = fastest.min(time),
            None => bail!("ping {number} of {PINGS} wasn't answered"),
        }
    }
    Ok(format!(
        "first answer after {}, {PINGS} of {PINGS}, fastest {}",
        units::span(up),
        units::span(fastest)
    ))
}

/// Checks how the XDP program is attached to the hub's two interfaces; returns the mode and
/// a sentence.
pub fn attached(status: &Status, wanted: XdpMode) -> Result<(String, String)> {
    let mut modes = Vec::new();
    let mut details = Vec::new();
    for interface in ["to-a", "to-b"] {
        // With XDP off there may be one entry for all of them.
        let entry = status
            .xdp
            .iter()
            .find(|entry| entry.interface == interface || entry.interface.is_empty());
        let (mode, reason) = match (entry, wanted) {
            (Some(entry), _) => (entry.mode.as_str(), entry.reason.as_str()),
            (None, XdpMode::Off) => (XdpMode::Off.name(), "as asked"),
            (None, _) => bail!("status says nothing of {interface}"),
        };
        let fits = match wanted {
            XdpMode::Auto => mode != XdpMode::Off.name(),
            _ => mode == wanted.name(),
        };
        ensure!(
            fits,
            "{} was asked for, {interface} is {mode}: {reason}",
            wanted.name()
        );
        modes.push(mode.to_owned());
        details.push((interface, format!("{mode} ({reason})")));
    }
    let [(first, one), (second, other)] = [details.swap_remove(0), details.swap_remove(0)];
    ensure!(
        modes[0] == modes[1],
        "not the same: {first} {one}, {second} {other}"
    );
    let detail = if one == other {
        format!("{first} and {second}: {one}")
    } else {
        format!("{first} {one}, {second} {other}")
    };
    Ok((modes.swap_remove(0), detail))
}

/// Checks that at least `sent` packets were counted of `addr`, which is what we know it sent;
/// handshakes and acknowledgements come on top.
pub fn counted(stats: &Stats, addr: IpAddr, sent: u64) -> Result<String> {
    let source = stats
        .source(addr)
        .with_context(|| format!("{addr} isn't among the sources"))?;
    ensure!(
        source.packets >= sent,
        "{addr} sent {} at the least, {} counted",
        units::counted(sent, "packet"),
        units::count(source.packets)
    );
    // The shortest message, a keepalive, with its headers.
    let shortest = 32 + 8 + 20 + 14;
    ensure!(
        source.bytes >= source.packets * shortest,
        "{} packets of {addr} can't have only {} bytes",
        source.packets,
        source.bytes
    );
    Ok(format!(
        "{addr} {}, {} (at least {} expected)",
        units::counted(source.packets, "packet"),
        units::bytes(source.bytes),
        units::count(sent)
    ))
}
