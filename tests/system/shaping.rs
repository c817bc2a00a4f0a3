//! Limits of peers and of the uplink: how fast real packets go, on a machine that has other
//! things to do. How exact the rates are is shown on a virtual clock, in `taltun/shaping`.
//!
//! The hub has two peers, ana and luis.

use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Keys;
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::{SETTLED, Stream, packet_rates};

use crate::support::{Case, ensure_answers, eventually};
use crate::two_peers::{TwoPeers, checked, generate};

pub const CASES: &[Case] = &[
    Case {
        name: "limits: a peer has its rates, by one flow and by twenty, and others have none",
        programs: &[],
        run: rates,
    },
    Case {
        name: "limits: the same by AF_XDP",
        programs: &[],
        run: rates_by_af_xdp,
    },
    Case {
        name: "limits: a reload changes rates under way",
        programs: &[],
        run: reload,
    },
    Case {
        name: "limits: peers share the uplink",
        programs: &[],
        run: uplink,
    },
    Case {
        name: "limits: a flood is dropped and counted, and a ping passes by",
        programs: &[],
        run: flood,
    },
    Case {
        name: "limits: check says which can't be meant so",
        programs: &[],
        run: check,
    },
    Case {
        name: "dscp: copied for who wants it",
        programs: &["nft", "ping"],
        run: || dscp("off"),
    },
    Case {
        name: "dscp: copied for who wants it, by AF_XDP",
        programs: &["nft", "ping"],
        run: || dscp("on"),
    },
];

const LIMIT: Duration = Duration::from_secs(30);
const PINGS: u64 = 5;

const HUB: &str = "10.200.0.1";
const ANA: &str = "10.200.0.2";
const LUIS: &str = "10.200.0.3";

/// A hub with these lines for ana, and these at the end.
fn start(of_ana: &str, rest: &str) -> Result<TwoPeers> {
    TwoPeers::start(|keys| text(keys, of_ana, rest))
}

/// Has it read other ones.
fn reload_with(hub: &TwoPeers, of_ana: &str, rest: &str) -> Result<String> {
    hub.reload(&text(&hub.keys, of_ana, rest))
}

fn shaped(hub: &TwoPeers) -> Result<u64> {
    let status = hub.status()?;
    Ok(status["drops"]["shaped"].as_u64().unwrap_or(0))
}

/// Packets that wait for ana.
fn waiting(hub: &TwoPeers) -> Result<u64> {
    let status = hub.status()?;
    let ana = &status["peers"][0];
    ana["rate_down"]["waiting_packets"].as_u64().context("none")
}

fn begin_streams(hub: &TwoPeers, from: &Namespace, to: &str, count: usize) -> Result<Vec<Stream>> {
    let receiver = match to {
        HUB => &hub.star.hub,
        ANA => &hub.star.a,
        _ => &hub.star.b,
    };
    let address = SocketAddr::new(to.parse()?, 0);
    let start = |_| Stream::start(from, receiver, address);
    (0..count).map(start).collect()
}

fn text(keys: &[Keys; 3], of_ana: &str, rest: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nlocal_addr = \":9100\"\nvip = \"10.200.0.1/24\"\n\
         private_key = \"{}\"\n\
         [[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n{of_ana}\n\
         [[peers]]\nname = \"luis\"\npublic_key = \"{}\"\nvip = \"10.200.0.3\"\n{rest}\n",
        keys[0].private, keys[1].public, keys[2].public
    )
}

/// Megabits a second of packets, that all of the streams carry for a while.
fn measure(streams: &[Stream]) -> Result<f64> {
    Ok(packet_rates(streams)?.iter().sum())
}

/// Megabits a second of packets that come out of a peer's tunnel for a while.
fn arriving(namespace: &Namespace) -> Result<f64> {
    let bytes = || -> Result<u64> {
        let table = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        let line = table
            .lines()
            .find_map(|line| line.trim().strip_prefix("taltun0:"));
        let bytes = line.and_then(|line| line.split_whitespace().next());
        Ok(bytes.context("no tunnel")?.parse()?)
    };
    let (start, before) = (Instant::now(), bytes()?);
    sleep(4 * SETTLED);
    let (elapsed, after) = (start.elapsed(), bytes()?);
    Ok((after - before) as f64 * 8.0 / 1e6 / elapsed.as_secs_f64())
}

/// A rate is never much above what it should be. A machine that is busy may let a sender wait
/// until its queue is empty.
fn ensure_rate(what: &str, found: f64, mbits: f64) -> Result<()> {
    ensure!(
        found > mbits * 0.75 && found < mbits * 1.1,
        "{what}: {found:.2} Mbit/s, not {mbits}"
    );
    Ok(())
}

const OF_ANA: &str = "rate_up = \"5 Mbit/s\"\nrate_down = \"10 Mbit/s\"";

fn rates() -> Result<()> {
    let hub = start(OF_ANA, "")?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    for (from, to, mbits, what) in [
        (&hub.star.hub, ANA, 10.0, "from the hub to ana"),
        (ana, HUB, 5.0, "from ana to the hub"),
        (luis, ANA, 10.0, "from luis to ana"),
        (ana, LUIS, 5.0, "from ana to luis"),
    ] {
        for flows in [1, 20] {
            let streams = begin_streams(&hub, from, to, flows)?;
            let what = format!("{flows} flows {what}");
            ensure_rate(&what, measure(&streams)?, mbits)?;
            if flows == 20 {
                // Beside them all, luis goes as fast as he may.
                let free = begin_streams(&hub, luis, HUB, 1)?;
                let rate = measure(&free)?;
                ensure!(rate > 40.0, "luis has {rate} Mbit/s beside {what}");
            }
        }
    }
    ensure!(shaped(&hub)? > 0, "TCP was never told to go slower");
    hub.end()
}

fn rates_by_af_xdp() -> Result<()> {
    let hub = start(OF_ANA, "[accel]\naf_xdp = \"on\"")?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    for (from, to, mbits, what) in [
        (ana, HUB, 5.0, "from ana to the hub"),
        (luis, ANA, 10.0, "from luis to ana"),
    ] {
        let streams = begin_streams(&hub, from, to, 2)?;
        ensure_rate(what, measure(&streams)?, mbits)?;
    }
    let stats = hub.node.tell(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&stats)?;
    ensure!(status["af_xdp"] != Value::Null, "{status}");
    hub.end()
}

fn reload() -> Result<()> {
    let hub = start("", "")?;
    let streams = begin_streams(&hub, &hub.star.b, ANA, 1)?;
    streams[0].wait_for_more_than(1 << 20, LIMIT)?;
    let same = reload_with(&hub, "", "")?;
    ensure!(same.contains("nothing has changed"), "{same}");
    for mbits in [5, 20, 2] {
        let said = reload_with(&hub, &format!("rate_down = \"{mbits} Mbit/s\""), "")?;
        ensure!(said.contains("1 peer changed"), "{said}");
        // What was sent before the limit came waits, or is sent again. Where that fills a hole, a reader
        // gets all behind it at once: so it is counted what comes in, not what is read.
        sleep(2 * SETTLED);
        let what = format!("after a reload to {mbits}");
        ensure_rate(&what, arriving(&hub.star.a)?, mbits.into())?;
    }
    let said = reload_with(&hub, "", "[shaping]\nuplink = \"8 Mbit/s\"")?;
    ensure!(said.contains("uplink 8 Mbit/s"), "{said}");
    sleep(SETTLED);
    let rate = measure(&streams)?;
    ensure!(rate > 4.0 && rate < 8.2, "{rate} Mbit/s by the uplink");
    reload_with(&hub, "", "")?;
    let rate = measure(&streams)?;
    ensure!(rate > 30.0, "{rate} Mbit/s without a limit");
    for stream in streams {
        stream.finish()?;
    }
    hub.end()
}

fn uplink() -> Result<()> {
    let hub = start("", "[shaping]\nuplink = \"20 Mbit/s\"")?;
    // One of them has five streams to the other's one.
    let mut streams = begin_streams(&hub, &hub.star.hub, ANA, 5)?;
    streams.extend(begin_streams(&hub, &hub.star.hub, LUIS, 1)?);
    let each = packet_rates(&streams)?;
    let (luis, ana) = each.split_last().context("no streams")?;
    let ana: f64 = ana.iter().sum();
    // The headers outside take 60 of 1480 bytes, and acknowledgements some.
    ensure_rate("both", ana + luis, 18.8)?;
    let share = luis / (ana + luis);
    ensure!((0.35..0.65).contains(&share), "{ana} and {luis} Mbit/s");
    // What comes in isn't what is short.
    let rate = measure(&begin_streams(&hub, &hub.star.a, HUB, 1)?)?;
    ensure!(rate > 20.0, "{rate} Mbit/s from ana");
    hub.end()
}

fn flood() -> Result<()> {
    let hub = start(OF_ANA, "")?;
    let sink = hub.star.a.udp((ANA, 5000))?;
    let source = hub.star.hub.udp((HUB, 0))?;
    let before = shaped(&hub)?;
    // 25 Mbit/s for two seconds, of which ten pass.
    let start = Instant::now();
    let mut sent = 0_u64;
    let mut slowest = Duration::ZERO;
    let mut most_waiting = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..25 {
            source.send_to(&[7; 1200], (ANA, 5000))?;
            sent += 1;
        }
        if sent.is_multiple_of(500) {
            most_waiting = most_waiting.max(waiting(&hub)?);
            let ping = Pinger::new(&hub.star.hub, ANA.parse()?)?.ping(LIMIT)?;
            slowest = slowest.max(ping.context("no answer beside the flood")?);
        }
        sleep(Duration::from_millis(10));
    }
    ensure!(slowest < Duration::from_millis(200), "{slowest:?}");
    eventually("drops are counted", LIMIT, || {
        Ok(shaped(&hub)? > before + sent / 10)
    })?;
    ensure!(most_waiting > 10, "{most_waiting} packets waited at most");
    let status = hub.status()?;
    let ana = &status["peers"][0];
    let dropped = ana["rate_down"]["dropped_packets"].as_u64();
    ensure!(dropped == status["drops"]["shaped"].as_u64(), "{status}");
    ensure!(ana["rate_down"]["bits_per_second"] == 10_000_000, "{ana}");
    ensure!(ana["rate_up"]["dropped_packets"] == 0, "{ana}");
    ensure!(status["peers"][1]["rate_down"].is_null(), "{status}");
    let told = hub.node.tell(&["status", "--long"])?;
    ensure!(told.contains("10 Mbit/s to it: "), "{told}");
    let metric = hub.node.tell(&["stats"])?;
    ensure!(metric.contains("shaped"), "{metric}");
    sink.set_nonblocking(true)?;
    let mut received = 0;
    while sink.recv(&mut [0; 2000]).is_ok() {
        received += 1;
    }
    ensure!(received > 0 && received < sent, "{received} of {sent}");
    ensure_answers(&hub.star.hub, ANA.parse()?)?;
    hub.end()
}

fn check() -> Result<()> {
    let keys = generate()?;
    let name = private_prefix();
    let said = |of_ana: &str, rest: &str| checked(&name, &text(&keys, of_ana, rest));
    for (of_ana, rest, expected) in [
        (
            "rate_up = \"0 Mbit/s\"",
            "",
            ".toml:10: peers.rate_up: expected a rate from 64 kbit/s to 100 Gbit/s, found \"0 Mbit/s\"",
        ),
        (
            "rate_down = \"20 MB/s\"",
            "",
            "peers.rate_down: \"MB/s\" is no unit of a rate; expected bit/s, kbit/s, Mbit/s, Gbit/s \
             (a byte is 8 bits)",
        ),
        ("rate_down = \"20 mbit/s\"", "", "did you mean Mbit/s?"),
        (
            "rate_down = \"20\"",
            "",
            "the unit is missing: bit/s, kbit/s",
        ),
        (
            "rate_down = \"200 Mbit/s\"",
            "[shaping]\nuplink = \"100 Mbit/s\"",
            ".toml:10: peers.rate_down: 200 Mbit/s is more than the uplink of all peers has, 100 Mbit/s (",
        ),
        ("", "[shaping]\nuplink = 5", "shaping.uplink: expected "),
        (
            "dscp = \"keep\"",
            "",
            "peers.dscp: expected \"none\" or \"copy\"",
        ),
    ] {
        let said = said(of_ana, rest)?;
        ensure!(said.contains(expected), "{of_ana} {rest}: {said}");
    }
    let fine = said(
        "rate_up = \"1.5Mbit/s\"\ndscp = \"copy\"",
        "[shaping]\nuplink = \"1 Gbit/s\"",
    )?;
    ensure!(!fine.contains("expected"), "{fine}");
    Ok(())
}

fn dscp(af_xdp: &str) -> Result<()> {
    let rest = format!("dscp = \"none\"\n[accel]\naf_xdp = \"{af_xdp}\"");
    let hub = start("dscp = \"copy\"", &rest)?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    for namespace in [ana, luis] {
        let rules = "table ip seen { chain outer { type filter hook prerouting priority -200; \
                     udp sport 9100 ip dscp ef counter; }\n }\n";
        nft(namespace, rules)?;
    }
    // EF, with a congestion mark that must stay inside.
    for (from, to) in [
        (&hub.star.hub, ANA),
        (luis, ANA),
        (&hub.star.hub, LUIS),
        (ana, LUIS),
    ] {
        let namespace = if to == ANA { ana } else { luis };
        let before = counted(namespace)?;
        let mut ping = from.command("ping");
        ping.args(["-q", "-n", "-i", "0.05", "-W", "2", "-c"]);
        ping.args([&PINGS.to_string(), "-Q", "0xb8", to]);
        output_of(&mut ping)?;
        let seen = counted(namespace)? - before;
        let expected = if to == ANA { PINGS } else { 0 };
        ensure!(seen == expected, "{seen} datagrams to {to} had the DSCP");
    }
    for namespace in [ana, luis] {
        nft(namespace, "delete table ip seen")?;
    }
    hub.end()
}

fn nft(namespace: &Namespace, rules: &str) -> Result<String> {
    output_of(namespace.command("nft").arg(rules))
}

/// Packets that the rule has counted.
fn counted(namespace: &Namespace) -> Result<u64> {
    let text = nft(namespace, "list chain ip seen outer")?;
    let (_, rest) = text.split_once("packets ").context("no counter")?;
    let number = rest.split_whitespace().next().context("no number")?;
    Ok(number.parse()?)
}
