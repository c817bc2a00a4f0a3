//! Limits of peers and of the uplink: how fast real packets go, on a machine that has other
//! things to do. How exact the rates are is shown on a virtual clock, in `taltun/shaping`.
//!
//! The hub has two peers, ana and luis.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, private_prefix};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, UP_LIMIT, ensure_answers, eventually, taltun};

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
/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// What a queue that is full, and a TCP that starts, may take before.
const SETTLED: Duration = Duration::from_secs(1);
/// Of what the rate counts, TCP's payload is this.
const PAYLOAD: f64 = 1368.0 / 1420.0;
const PINGS: u64 = 5;

const HUB: &str = "10.200.0.1";
const ANA: &str = "10.200.0.2";
const LUIS: &str = "10.200.0.3";

struct Hub {
    star: Star,
    keys: [Keys; 3],
    node: Node,
    _spokes: [Node; 2],
}

impl Hub {
    /// With these lines for ana, and these at the end.
    fn start(of_ana: &str, rest: &str) -> Result<Self> {
        let star = Star::create(&private_prefix())?;
        let generate = || Keys::generate(&taltun()?);
        let keys = [generate()?, generate()?, generate()?];
        let node = Node::start_with_text(&star.hub, &taltun()?, &text(&keys, of_ana, rest))?;
        let spoke = |place: usize, hub: &str| {
            let namespace = [&star.a, &star.b][place - 1];
            let text = format!(
                "[interface]\nmode = \"client\"\nlocal_addr = \"0.0.0.0:9100\"\n\
                 vip = \"10.200.0.{}/24\"\nprivate_key = \"{}\"\n\
                 [[peers]]\npublic_key = \"{}\"\nallowed_ips = [\"10.200.0.0/24\"]\n\
                 endpoint = \"{hub}\"\npersistent_keepalive = 25\n",
                place + 1,
                keys[place].private,
                keys[0].public
            );
            Node::start_with_text(namespace, &taltun()?, &text)
        };
        let spokes = [spoke(1, "10.99.1.1:9100")?, spoke(2, "10.99.2.1:9100")?];
        let hub = Self {
            star,
            keys,
            node,
            _spokes: spokes,
        };
        eventually("both peers are up", UP_LIMIT, || {
            let status = hub.status()?;
            let peers = status["peers"].as_array().context("no peers")?;
            let is_up = |peer: &Value| !peer["latest_handshake_seconds"].is_null();
            Ok(peers.iter().all(is_up) && peers.len() == 2)
        })?;
        Ok(hub)
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.node.tell(&["status", "--json"])?,
        )?)
    }

    fn shaped(&self) -> Result<u64> {
        let status = self.status()?;
        Ok(status["drops"]["shaped"].as_u64().unwrap_or(0))
    }

    fn reload(&self, of_ana: &str, rest: &str) -> Result<String> {
        fs::write(self.node.config(), text(&self.keys, of_ana, rest))?;
        self.node.tell(&["reload"])
    }

    fn streams(&self, from: &Namespace, to: &str, count: usize) -> Result<Vec<Stream>> {
        let receiver = match to {
            HUB => &self.star.hub,
            ANA => &self.star.a,
            _ => &self.star.b,
        };
        let address = SocketAddr::new(to.parse()?, 0);
        let start = |_| Stream::start(from, receiver, address);
        (0..count).map(start).collect()
    }

    fn end(mut self) -> Result<()> {
        self.node.end(Signal::Terminate)
    }
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
    Ok(measure_each(streams)?.iter().sum())
}

fn measure_each(streams: &[Stream]) -> Result<Vec<f64>> {
    sleep(SETTLED);
    let received = || streams.iter().map(Stream::received).collect::<Vec<_>>();
    let (start, before) = (Instant::now(), received());
    sleep(MEASURED);
    let (elapsed, after) = (start.elapsed(), received());
    ensure!(!streams.iter().any(Stream::is_broken), "a connection broke");
    let rate = |(before, after): (&u64, &u64)| {
        (after - before) as f64 * 8.0 / 1e6 / elapsed.as_secs_f64() / PAYLOAD
    };
    Ok(before.iter().zip(&after).map(rate).collect())
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
    let hub = Hub::start(OF_ANA, "")?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    for (from, to, mbits, what) in [
        (&hub.star.hub, ANA, 10.0, "from the hub to ana"),
        (ana, HUB, 5.0, "from ana to the hub"),
        (luis, ANA, 10.0, "from luis to ana"),
        (ana, LUIS, 5.0, "from ana to luis"),
    ] {
        for flows in [1, 20] {
            let streams = hub.streams(from, to, flows)?;
            let what = format!("{flows} flows {what}");
            ensure_rate(&what, measure(&streams)?, mbits)?;
            if flows == 20 {
                // Beside them all, luis goes as fast as he may.
                let free = hub.streams(luis, HUB, 1)?;
                let rate = measure(&free)?;
                ensure!(rate > 40.0, "luis has {rate} Mbit/s beside {what}");
            }
        }
    }
    ensure!(hub.shaped()? > 0, "TCP was never told to go slower");
    hub.end()
}

fn rates_by_af_xdp() -> Result<()> {
    let hub = Hub::start(OF_ANA, "[accel]\naf_xdp = \"on\"")?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    for (from, to, mbits, what) in [
        (ana, HUB, 5.0, "from ana to the hub"),
        (luis, ANA, 10.0, "from luis to ana"),
    ] {
        let streams = hub.streams(from, to, 2)?;
        ensure_rate(what, measure(&streams)?, mbits)?;
    }
    let stats = hub.node.tell(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&stats)?;
    ensure!(status["af_xdp"] != Value::Null, "{status}");
    hub.end()
}

fn reload() -> Result<()> {
    let hub = Hub::start("", "")?;
    let streams = hub.streams(&hub.star.b, ANA, 1)?;
    streams[0].wait_for_more_than(1 << 20, LIMIT)?;
    let same = hub.reload("", "")?;
    ensure!(same.contains("nothing has changed"), "{same}");
    for mbits in [5, 20, 2] {
        let said = hub.reload(&format!("rate_down = \"{mbits} Mbit/s\""), "")?;
        ensure!(said.contains("1 peer changed"), "{said}");
        // What was sent before the limit came waits, or is sent again.
        sleep(SETTLED);
        let what = format!("after a reload to {mbits}");
        ensure_rate(&what, measure(&streams)?, mbits.into())?;
    }
    let said = hub.reload("", "[shaping]\nuplink = \"8 Mbit/s\"")?;
    ensure!(said.contains("uplink 8 Mbit/s"), "{said}");
    sleep(SETTLED);
    let rate = measure(&streams)?;
    ensure!(rate > 4.0 && rate < 8.2, "{rate} Mbit/s by the uplink");
    hub.reload("", "")?;
    let rate = measure(&streams)?;
    ensure!(rate > 30.0, "{rate} Mbit/s without a limit");
    for stream in streams {
        stream.finish()?;
    }
    hub.end()
}

fn uplink() -> Result<()> {
    let hub = Hub::start("", "[shaping]\nuplink = \"20 Mbit/s\"")?;
    // One of them has five streams to the other's one.
    let mut streams = hub.streams(&hub.star.hub, ANA, 5)?;
    streams.extend(hub.streams(&hub.star.hub, LUIS, 1)?);
    let each = measure_each(&streams)?;
    let (luis, ana) = each.split_last().context("no streams")?;
    let ana: f64 = ana.iter().sum();
    // The headers outside take 60 of 1480 bytes, and acknowledgements some.
    ensure_rate("both", ana + luis, 18.8)?;
    let share = luis / (ana + luis);
    ensure!((0.35..0.65).contains(&share), "{ana} and {luis} Mbit/s");
    // What comes in isn't what is short.
    let rate = measure(&hub.streams(&hub.star.a, HUB, 1)?)?;
    ensure!(rate > 20.0, "{rate} Mbit/s from ana");
    hub.end()
}

fn flood() -> Result<()> {
    let hub = Hub::start(OF_ANA, "")?;
    let sink = hub.star.a.udp((ANA, 5000))?;
    let source = hub.star.hub.udp((HUB, 0))?;
    let before = hub.shaped()?;
    // 25 Mbit/s for two seconds, of which ten pass.
    let start = Instant::now();
    let mut sent = 0_u64;
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..25 {
            source.send_to(&[7; 1200], (ANA, 5000))?;
            sent += 1;
        }
        if sent.is_multiple_of(500) {
            let ping = Pinger::new(&hub.star.hub, ANA.parse()?)?.ping(LIMIT)?;
            slowest = slowest.max(ping.context("no answer beside the flood")?);
        }
        sleep(Duration::from_millis(10));
    }
    ensure!(slowest < Duration::from_millis(200), "{slowest:?}");
    eventually("drops are counted", LIMIT, || {
        Ok(hub.shaped()? > before + sent / 10)
    })?;
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
    let generate = || Keys::generate(&taltun()?);
    let keys = [generate()?, generate()?, generate()?];
    let name = private_prefix();
    let said = |of_ana: &str, rest: &str| -> Result<String> {
        let file = std::env::temp_dir().join(format!("{name}.toml"));
        fs::write(&file, text(&keys, of_ana, rest))?;
        let output = Command::new(taltun()?)
            .args(["check", "--config"])
            .arg(&file)
            .output()?;
        fs::remove_file(&file)?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&said).into_owned())
    };
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
    let hub = Hub::start("dscp = \"copy\"", &rest)?;
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
