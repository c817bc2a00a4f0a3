//! A hub with several interfaces: an answer has the address that was addressed, and leaves by the
//! interface that the rules of routing name for it, whatever the way in was.
//!
//! ```text
//!        ┌── to-a ───────── to-hub ──┐
//!   hub ─┤                           a   (the client, reaches the hub's second address by b)
//!        └── to-b ── b ──── to-b ────┘
//! ```

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};

use crate::led_ports::{Hub, RANGE};
use crate::support::Case;

pub const CASES: &[Case] = &[
    Case {
        name: "hop: a hub of two interfaces answers by the one it was addressed at, with a strict check of reverse paths",
        programs: &["wireguard-go", "wg"],
        run: by_the_same,
    },
    Case {
        name: "hop: where answers leave by another interface than questions come in by, they have the address that was addressed",
        programs: &["wireguard-go", "wg"],
        run: by_another,
    },
];

/// The client's side of the wire to b, and b's.
const CLIENT: (&str, &str) = ("10.99.4.1", "fd99:4::1");
const B: (&str, &str) = ("10.99.4.2", "fd99:4::2");
/// For so long after a change of the host's network, as its start is one, the hub takes what comes
/// to another address for what was under way, and more.
const UNDER_WAY: Duration = Duration::from_secs(12);
/// The hub looks once a second at where routes lead.
const LOOK: Duration = Duration::from_millis(1500);
/// How long what it sends must go on to have the right address.
const LONG: Duration = Duration::from_secs(4);

/// The client reaches the hub's second addresses by b, whereas the hub's main routes lead straight
/// to it.
pub(crate) fn two_homes() -> Result<Star> {
    let net = Star::create(&private_prefix())?;
    let words = format!(
        "link add to-b type veth peer name to-client netns {}",
        net.b.name()
    );
    net.a.ip(&words)?;
    for (namespace, interface, (v4, v6)) in [(&net.a, "to-b", CLIENT), (&net.b, "to-client", B)] {
        namespace.ip(&format!("address add {v4}/24 dev {interface}"))?;
        namespace.ip(&format!("address add {v6}/64 dev {interface}"))?;
        namespace.ip(&format!("link set {interface} up"))?;
    }
    for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        net.b
            .run(|| fs::write(format!("/proc/sys/net/{file}"), "1"))??;
    }
    check_reverse_paths(&net.a, &["to-hub", "to-b"], 0)?;
    check_reverse_paths(&net.b, &["to-hub", "to-client"], 0)?;
    net.a
        .ip(&format!("route add {} via {}", WIRE_B.near_v4(), B.0))?;
    net.a
        .ip(&format!("route add {} via {}", WIRE_B.near_v6(), B.1))?;
    net.hub.ip(&format!(
        "route add {}/32 via {}",
        CLIENT.0,
        WIRE_A.far_v4()
    ))?;
    net.hub.ip(&format!(
        "route add {}/128 via {}",
        CLIENT.1,
        WIRE_A.far_v6()
    ))?;
    Ok(net)
}

pub(crate) fn check_reverse_paths(
    namespace: &Namespace,
    interfaces: &[&str],
    how: u8,
) -> Result<()> {
    for interface in ["all"].iter().chain(interfaces) {
        let file = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        namespace.run(|| fs::write(file, how.to_string()))??;
    }
    Ok(())
}

fn start(net: Star) -> Result<Hub> {
    let hub = Hub::start_with(net, "nftables", RANGE, XdpMode::Generic, AfXdp::Off)?;
    ensure!(hub.range()?["by"] == "xdp", "{}", hub.range()?);
    Ok(hub)
}

/// A rule for each address of the hub's second interface.
pub(crate) fn lead_by_rules(net: &Star) -> Result<()> {
    for (family, address, gateway) in [
        ("-4", WIRE_B.near_v4(), WIRE_B.far_v4()),
        ("-6", WIRE_B.near_v6(), WIRE_B.far_v6()),
    ] {
        for words in [
            format!("{family} route add default via {gateway} dev to-b table 102"),
            format!("{family} rule add from {address} lookup 102"),
        ] {
            net.hub.ip(&words)?;
        }
    }
    Ok(())
}

/// With a rule for each address.
fn by_the_same() -> Result<()> {
    let net = two_homes()?;
    lead_by_rules(&net)?;
    check_reverse_paths(&net.hub, &["to-a", "to-b"], 1)?;
    let hub = start(net)?;
    for address in [WIRE_B.near_v4(), WIRE_B.near_v6()] {
        let before = sent(&hub, "to-b")?;
        answers_for_long(&hub, address)?;
        let after = sent(&hub, "to-b")?;
        ensure!(
            after >= before + 5,
            "{address}: {} left by to-b",
            after - before
        );
    }
    // And its other address by the other interface.
    let before = sent(&hub, "to-a")?;
    hub.answers_from(WIRE_A.near_v4(), 5000)?;
    ensure!(sent(&hub, "to-a")? >= before + 5);
    Ok(())
}

/// Without such rules, where all is let in that has a way back by some interface.
fn by_another() -> Result<()> {
    let net = two_homes()?;
    check_reverse_paths(&net.hub, &["to-a", "to-b"], 2)?;
    let hub = start(net)?;
    std::thread::sleep(UNDER_WAY);
    for address in [WIRE_B.near_v4(), WIRE_B.near_v6()] {
        let before = sent(&hub, "to-a")?;
        answers_for_long(&hub, address)?;
        let after = sent(&hub, "to-a")?;
        ensure!(
            after >= before + 5,
            "{address}: {} left by to-a",
            after - before
        );
    }
    Ok(())
}

fn answers_for_long(hub: &Hub, address: IpAddr) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < LONG {
        hub.answers_from(address, 7777)
            .with_context(|| format!("after {:?}", start.elapsed()))?;
        std::thread::sleep(LOOK);
        hub.asks_from(address, 7777)
            .with_context(|| format!("after {:?}", start.elapsed()))?;
    }
    Ok(())
}

/// Packets that left by an interface of the hub so far.
fn sent(hub: &Hub, interface: &str) -> Result<u64> {
    let text = hub
        .net
        .hub
        .ip(&format!("-s -j link show dev {interface}"))?;
    let links: Value = serde_json::from_str(&text)?;
    let packets = links[0]["stats64"]["tx"]["packets"].as_u64();
    packets.context("ip doesn't say how many packets left")
}
