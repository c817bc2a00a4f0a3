//! A server's range of ports by ways that are out of the ordinary: in fragments, by an interface
//! without the XDP program, and beside programs that come later.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use taltun_tests::command::output_of;
use taltun_tests::lab::Role;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::led_ports::{Hub, RANGE, hears};
use crate::led_ports_homes::{check_reverse_paths, lead_by_rules, two_homes};
use crate::support::{Case, UP_LIMIT, eventually};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: without XDP, what comes to the range and leaves from it in fragments arrives",
        programs: &["nft", "wireguard-go", "wg", "ping"],
        run: || fragments(XdpMode::Off),
    },
    Case {
        name: "hop: by XDP in generic mode, what comes to the range and leaves from it in fragments arrives",
        programs: &["nft", "wireguard-go", "wg", "ping"],
        run: || fragments(XdpMode::Generic),
    },
    Case {
        name: "hop: by XDP in driver mode, what comes to the range and leaves from it in fragments arrives",
        programs: &["nft", "wireguard-go", "wg", "ping"],
        run: || fragments(XdpMode::Driver),
    },
    Case {
        name: "hop: an interface without the XDP program has the range by nftables",
        programs: &["nft", "wireguard-go", "wg"],
        run: || beside_xdp("nftables"),
    },
    Case {
        name: "hop: an interface without the XDP program has the range by iptables",
        programs: &["iptables", "wireguard-go", "wg"],
        run: || beside_xdp("iptables"),
    },
    Case {
        name: "hop: a redirected range leaves the port of a program alone that starts later",
        programs: &["nft", "wireguard-go", "wg"],
        run: later_program,
    },
];

/// The hub looks each five seconds, and a port counts when it was there twice.
const LOOKS: Duration = Duration::from_secs(30);

/// Both ends know of a way that takes no more than 1,300 bytes at once.
fn fragments(xdp: XdpMode) -> Result<()> {
    let net = Star::create(&private_prefix())?;
    let ends = [
        (&net.a, "to-hub", "10.99.1.1/32", "fd99:1::1/128"),
        (&net.hub, "to-a", "10.99.1.2/32", "fd99:1::2/128"),
    ];
    for (namespace, interface, v4, v6) in ends {
        for to in [v4, v6] {
            namespace.ip(&format!("route add {to} dev {interface} mtu lock 1300"))?;
        }
    }
    let hub = Hub::start_with(net, "nftables", RANGE, xdp, AfXdp::Off)?;
    for (address, port) in [
        (WIRE_A.near_v4(), 9000),
        (WIRE_A.near_v4(), 5001),
        (WIRE_A.near_v6(), 6001),
    ] {
        hub.answers_from(address, port)?;
        large_pings(hub.place(), Role::Hub.v4())
            .with_context(|| format!("to port {port} of {address}"))?;
        // Its answers in fragments came from there, too.
        let heard = hub.heard()?;
        ensure!(heard.ends_with(&format!(":{port}")), "{heard}, not {port}");
    }
    Ok(())
}

fn large_pings(from: &Namespace, to: IpAddr) -> Result<()> {
    let to = to.to_string();
    let words = ["-c", "5", "-i", "0.2", "-W", "10", "-s", "1300", &to];
    output_of(from.command("ping").args(words))?;
    Ok(())
}

/// The second network card of the manual: auto leaves it alone, as the default route leads through
/// the first.
fn beside_xdp(tool: &str) -> Result<()> {
    let net = two_homes()?;
    lead_by_rules(&net)?;
    net.hub
        .ip(&format!("route add default via {}", WIRE_A.far_v4()))?;
    check_reverse_paths(&net.hub, &["to-a", "to-b"], 1)?;
    let hub = Hub::start_with(net, tool, RANGE, XdpMode::Auto, AfXdp::Off)?;
    let range = hub.range()?;
    ensure!(
        range["by"] == "xdp"
            && range["interfaces"] == json!(["to-a"])
            && range["elsewhere"] == tool,
        "{range}"
    );
    let status = hub.node.tell(&["status"])?;
    let told = format!("4096-8191: xdp on to-a, {tool} elsewhere");
    ensure!(status.contains(&told), "{status}");
    for address in [WIRE_B.near_v4(), WIRE_B.near_v6()] {
        hub.answers_from(address, 7777)?;
        hub.asks_from(address, 7777)?;
    }
    // What XDP turns has one entry, whatever the port.
    let mut pinger = Pinger::new(hub.place(), Role::Hub.v4())?;
    let mut go_to = |port| -> Result<u32> {
        hub.go_to(WIRE_A.near_v4(), port)?;
        pinger.wait_until_answered(UP_LIMIT)?;
        connections(&hub.net.hub)
    };
    let before = go_to(4096)?;
    for port in 4100..4120 {
        go_to(port)?;
    }
    let after = go_to(8191)?;
    ensure!(after < before + 5, "{before} entries, then {after}");
    Ok(())
}

/// Entries of the kernel's table of connections.
fn connections(namespace: &Namespace) -> Result<u32> {
    let file = "/proc/sys/net/netfilter/nf_conntrack_count";
    let count = namespace.run(|| fs::read_to_string(file))??;
    Ok(count.trim().parse()?)
}

fn later_program() -> Result<()> {
    let net = Star::create(&private_prefix())?;
    let hub = Hub::start_with(net, "nftables", RANGE, XdpMode::Off, AfXdp::Off)?;
    ensure!(hub.range()?["left"] == json!([]), "{}", hub.range()?);
    // Somebody sends to it all the while, from one port.
    let early = hub.net.a.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    early.send_to(b"early", (WIRE_A.near_v4(), 5353))?;
    let near = hub.net.hub.run(|| UdpSocket::bind("127.0.0.1:6000"))??;
    let taken = hub.net.hub.run(|| UdpSocket::bind("0.0.0.0:5353"))??;
    eventually("the port is the program's", LOOKS, || {
        Ok(hub.range()?["left"] == json!([5353]))
    })?;
    let sender = hub.net.a.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    sender.send_to(b"for the other", (WIRE_A.near_v4(), 5353))?;
    ensure!(hears(&taken)? == b"for the other");
    early.send_to(b"early", (WIRE_A.near_v4(), 5353))?;
    ensure!(hears(&taken)? == b"early");
    // The one that nobody reaches from outside is in nobody's way.
    hub.answers_from(WIRE_A.near_v4(), 6000)?;
    drop(near);
    // A reload looks at once.
    let second = hub.net.hub.run(|| UdpSocket::bind("0.0.0.0:7001"))??;
    hub.node.tell(&["reload"])?;
    ensure!(
        hub.range()?["left"] == json!([5353, 7001]),
        "{}",
        hub.range()?
    );
    drop((taken, second));
    eventually("the ports are the hub's", LOOKS, || {
        Ok(hub.range()?["left"] == json!([]))
    })?;
    hub.answers_from(WIRE_A.near_v4(), 5353)
}
