//! A hub relays as its kernel would route: what the host has on interfaces of its own isn't a
//! peer's, and where relaying is off, the kernel sees every packet.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;
use taltun_tests::traffic::ping::Pinger;

use crate::support::{Case, ensure_answers, ensure_silent, eventually, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "the host's own network is reached although a peer owns a wider one",
        programs: &[],
        run: own_network,
    },
    Case {
        name: "without relay packets between peers pass the kernel's firewall",
        programs: &["nft"],
        run: through_the_kernel,
    },
];

/// How long a change of routes may take to be noticed.
const LIMIT: Duration = Duration::from_secs(10);

fn own_network() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    // B says that it owns all of it, and a sends all of it to the hub.
    let vips = format!("vip = {:?}\nallowed_ips = ", Role::B.vips());
    change(
        &lab.hub,
        &format!("{vips}[]"),
        &format!("{vips}[\"192.168.0.0/16\"]"),
    )?;
    change(
        &lab.a,
        "\"10.200.0.0/24\"",
        "\"10.200.0.0/24\", \"192.168.0.0/16\"",
    )?;
    lab.net.a.ip("route add 192.168.0.0/16 dev taltun0")?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let address: IpAddr = "192.168.77.1".parse()?;
    ensure!(is_relayed(&lab, address)?, "not relayed to who owns it");
    // The hub itself has a part of it, and then hasn't any more.
    lab.net.hub.ip("link add own type veth peer name own-far")?;
    lab.net.hub.ip("addr add 192.168.77.1/24 dev own")?;
    lab.net.hub.ip("link set own up")?;
    lab.net.hub.ip("link set own-far up")?;
    eventually("the hub's own network is reached", LIMIT, || {
        let mut pinger = Pinger::new(&lab.net.a, address)?;
        Ok(pinger.count_answers(1, Duration::from_millis(200))? == 1)
    })?;
    ensure_answers(&lab.net.a, address)?;
    ensure!(
        !is_relayed(&lab, "192.168.77.9".parse()?)?,
        "what is on the hub's own link is relayed"
    );
    lab.net.hub.ip("link del own")?;
    eventually("it is b's again", LIMIT, || is_relayed(&lab, address))?;
    lab.net.a.ip("route del 192.168.0.0/16 dev taltun0")?;
    take_down(lab)
}

/// Whether what a sends there, and nobody answers, is relayed by the hub.
fn is_relayed(lab: &Lab, to: IpAddr) -> Result<bool> {
    let before = lab.hub.stats()?.traffic.relayed_packets;
    ensure_silent(&lab.net.a, to)?;
    Ok(lab.hub.stats()?.traffic.relayed_packets >= before + 5)
}

fn through_the_kernel() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    let forwarding = lab.net.hub.run(|| fs::read_to_string(forward))??;
    lab.net.hub.run(|| fs::write(forward, "0"))??;
    change(&lab.hub, "[interface]\n", "[interface]\nrelay = false\n")?;
    ensure_silent(&lab.net.a, Role::B.v4())?;
    let says = |what: &str| -> Result<bool> { Ok(lab.hub.tell(&["status"])?.contains(what)) };
    ensure!(says("IPv4 NOT RELAYED")?, "{}", lab.hub.tell(&["status"])?);
    let file = lab.hub.directory().join("config.toml");
    let checked = lab
        .hub
        .command()
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()?;
    let checked = String::from_utf8_lossy(&checked.stderr);
    let passes = "no IPv4 passes between peers: relay = false leaves it to the kernel";
    ensure!(checked.contains(passes), "{checked}");
    eventually("the log says it", LIMIT, || {
        Ok(lab.hub.log().contains(passes))
    })?;
    lab.net.hub.run(|| fs::write(forward, "1"))??;
    ensure!(!says("IPv4 NOT RELAYED")?, "the kernel forwards");
    change(&lab.hub, "relay = false\n", "")?;
    nft(
        &lab.net.hub,
        "table ip seen { chain forward { type filter hook forward priority 0; \
         iifname \"taltun0\" oifname \"taltun0\" counter; }\n }\n",
    )?;
    for (old, new, kernels) in [
        ("[interface]\n", "[interface]\nrelay = false\n", true),
        ("relay = false", "relay = true", false),
    ] {
        change(&lab.hub, old, new)?;
        let relayed = lab.hub.stats()?.traffic.relayed_packets;
        let before = seen(&lab.net.hub)?;
        ensure_answers(&lab.net.a, Role::B.v4())?;
        let relayed = lab.hub.stats()?.traffic.relayed_packets - relayed;
        let seen = seen(&lab.net.hub)? - before;
        ensure!(
            (seen >= 10, relayed >= 10) == (kernels, !kernels),
            "with {new:?} the kernel saw {seen} packets and {relayed} were relayed"
        );
    }
    nft(&lab.net.hub, "delete table ip seen")?;
    lab.net.hub.run(|| fs::write(forward, forwarding))??;
    take_down(lab)
}

/// Changes a node's file and has it read again.
fn change(node: &Node, old: &str, new: &str) -> Result<()> {
    let path = node.directory().join("config.toml");
    let text = fs::read_to_string(&path)?;
    ensure!(text.contains(old), "no {old:?} in {text}");
    fs::write(&path, text.replace(old, new))?;
    node.tell(&["reload"]).map(drop)
}

fn nft(namespace: &Namespace, rules: &str) -> Result<String> {
    output_of(namespace.command("nft").arg(rules))
}

/// Packets that the rule has counted.
fn seen(namespace: &Namespace) -> Result<u64> {
    let text = nft(namespace, "list table ip seen")?;
    let (_, rest) = text.split_once("packets ").context("no counter")?;
    let number = rest.split_whitespace().next().context("no number")?;
    Ok(number.parse()?)
}
