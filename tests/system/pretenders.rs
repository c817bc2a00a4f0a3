//! Machines beside the tunnel that send into it, through the hub, in the name of a peer or of the
//! hub.
//!
//! Luis's machine does, by its wire to the hub. What gets into the tunnel is seen on the hub's
//! interface, whatever rules say of it there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::topology::Star;
use taltun_tests::traffic::capture::Capture;

use crate::forwards::{ANA, Tool, at, outside, sh, text};
use crate::support::{Case, eventually};
use crate::two_peers::{TwoPeers, checked, generate};

pub const CASES: &[Case] = &[
    Case {
        name: "pretenders: nobody beside the tunnel sends in another's name, with nftables",
        programs: &["nft"],
        run: || refused(Tool::Nftables, true),
    },
    Case {
        name: "pretenders: the same where the kernel relays, with nftables",
        programs: &["nft"],
        run: || refused(Tool::Nftables, false),
    },
    Case {
        name: "pretenders: nobody beside the tunnel sends in another's name, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || refused(Tool::Iptables, false),
    },
    Case {
        name: "pretenders: without a firewall tool the hub starts and tells who can pretend",
        programs: &[],
        run: told,
    },
];

const LIMIT: Duration = Duration::from_secs(15);

/// In the name of the hub (inside, and on another of its interfaces; the kernel itself refuses
/// those of IPv4), of luis, and of the network behind him.
const PRETENDED: [&str; 7] = [
    "fd00:200::1",
    "fd99:1::1",
    "10.200.0.3",
    "fd00:200::3",
    "192.168.77.5",
    "fd77::5",
    "10.200.0.1",
];
/// In its own name, and in that of a part of luis's network that the hub has here.
const TRUE: [&str; 4] = ["10.99.2.2", "fd99:2::2", "192.168.77.200", "fd77:0:0:1::5"];

const RULES: &str = "[[rules]]\nfrom = \"luis\"\nto = \"ana\"\ndeny = \"tcp/9\"\n";
/// A port that shows ana who sent.
const FORWARD: &str = "[[forward]]\nlisten = \"udp/5000\"\nto = \"ana:6000\"\nsource = \"keep\"\n";

/// The hub's file.
fn file(text: &str, relays: bool) -> String {
    let luis = "vip = [\"10.200.0.3\", \"fd00:200::3\"]\nallowed_ips = [\"192.168.77.0/24\", \"fd77::/48\"]";
    let head = format!("mode = \"server\"\nip_forward = true\nrelay = {relays}\n");
    text.replace("mode = \"server\"\n", &head)
        .replace("vip = [\"10.200.0.3\", \"fd00:200::3\"]", luis)
}

fn refused(tool: Tool, relays: bool) -> Result<()> {
    let with = |more: &str| format!("{FORWARD}{more}");
    let of = |hub: &TwoPeers, more: &str| file(&text(&hub.keys, tool, &with(more)), relays);
    let mut hub = TwoPeers::start(|keys| file(&text(keys, tool, &with(RULES)), relays))?;
    prepare(&hub.star)?;
    let none = || all_refused(&hub.star);
    eventually("what is the hub's own here passes", LIMIT, || {
        true_ones_pass(&hub.star)
    })?;
    none()?;

    // Rules that are gone refuse nobody, and those that are back do.
    hub.reload(&of(&hub, ""))?;
    let passed = passing(&hub.star, &PRETENDED)?;
    ensure!(passed == PRETENDED[..6], "without rules pass {passed:?}");
    hub.reload(&of(&hub, RULES))?;
    none()?;
    // Kept up.
    let flush = match tool {
        Tool::Nftables => "nft flush ruleset",
        Tool::Iptables => "iptables -t mangle -F; ip6tables -t mangle -F",
    };
    sh(&hub.star.hub, flush)?;
    eventually("it is refused again", LIMIT, || {
        Ok(passing(&hub.star, &PRETENDED)?.is_empty())
    })?;
    ensure!(true_ones_pass(&hub.star)?, "true ones are refused");
    hub.node.end(taltun_tests::sys::Signal::Terminate)?;
    let left = tool.list(&hub.star.hub)?;
    ensure!(!left.contains("taltun"), "{left}");
    Ok(())
}

/// The hub takes whatever comes, as kernels do by themselves; luis's machine has all addresses, and
/// sends to ana by its wire.
fn prepare(star: &Star) -> Result<()> {
    sh(
        &star.hub,
        "for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done",
    )?;
    star.hub.ip("route add 192.168.77.128/25 via 10.99.2.2")?;
    star.hub.ip("route add fd77:0:0:1::/64 via fd99:2::2")?;
    for address in PRETENDED.iter().chain(&TRUE[2..]) {
        if !address.ends_with("200.0.3") && !address.ends_with("200::3") {
            let bits = if address.contains(':') {
                "128 nodad"
            } else {
                "32"
            };
            star.b.ip(&format!("addr add {address}/{bits} dev lo"))?;
        }
    }
    star.b.ip("route add 10.200.0.2/32 via 10.99.2.1")?;
    star.b.ip("route add fd00:200::2/128 via fd99:2::1")?;
    Ok(())
}

/// Those of these addresses from which datagrams to ana get into the tunnel.
fn passing(star: &Star, sources: &[&'static str]) -> Result<Vec<&'static str>> {
    let capture = Capture::start(&star.hub, "taltun0")?;
    for source in sources {
        let ana = ANA[usize::from(source.contains(':'))];
        send(star, source, at(ana, 6000)?)?;
    }
    sleep(Duration::from_millis(200));
    let seen = capture.finish();
    let has = |source: &&&str| {
        let source: Option<IpAddr> = source.parse().ok();
        seen.keys().any(|packet| {
            Some(packet.from) == source && packet.protocol == 17 && packet.to_port == 6000
        })
    };
    Ok(sources.iter().filter(has).copied().collect())
}

fn send(star: &Star, source: &str, to: SocketAddr) -> Result<()> {
    let socket: UdpSocket = star.b.udp(at(source, 0)?)?;
    socket
        .send_to(b"pretended", to)
        .with_context(|| format!("from {source}"))?;
    Ok(())
}

fn true_ones_pass(star: &Star) -> Result<bool> {
    let passed = passing(star, &TRUE)?;
    Ok(passed == TRUE && forwarded(star, &TRUE[..2])? == TRUE[..2])
}

fn all_refused(star: &Star) -> Result<()> {
    let passed = passing(star, &PRETENDED)?;
    ensure!(passed.is_empty(), "{passed:?} pass");
    let passed = forwarded(star, &["10.200.0.3", "fd00:200::3"])?;
    ensure!(passed.is_empty(), "{passed:?} pass by a forwarded port");
    Ok(())
}

/// Those of these addresses that get in by the hub's forwarded port.
fn forwarded(star: &Star, sources: &[&'static str]) -> Result<Vec<&'static str>> {
    let capture = Capture::start(&star.hub, "taltun0")?;
    for source in sources {
        send(
            star,
            source,
            outside(usize::from(source.contains(':')), 5000),
        )?;
    }
    sleep(Duration::from_millis(200));
    let seen = capture.finish();
    let has = |source: &&&str| {
        let source: Option<IpAddr> = source.parse().ok();
        let mut packets = seen.keys();
        packets.any(|packet| Some(packet.from) == source && packet.to_port == 6000)
    };
    Ok(sources.iter().filter(has).copied().collect())
}

fn told() -> Result<()> {
    let without = |text: String| text.replace("\"nftables\"", "\"none\"");
    let means = "what rules take for a peer's or the hub's";
    let text = |rules: &str| -> Result<String> {
        Ok(file(
            &without(text(&generate()?, Tool::Nftables, rules)),
            true,
        ))
    };
    let said = checked("pretenders", &text(RULES)?)?;
    ensure!(said.contains(means), "{said}");
    let said = checked("pretenders", &text("")?)?;
    ensure!(!said.contains(means), "{said}");

    let hub = TwoPeers::start(|keys| {
        file(
            &without(crate::forwards::text(keys, Tool::Nftables, RULES)),
            true,
        )
    })?;
    let log = hub.node.log();
    ensure!(log.contains(means), "{log}");
    hub.end()
}
