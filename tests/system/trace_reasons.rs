//! Each reason to drop a packet that there is: foretold by `explain` where it can know, provoked,
//! told by `trace --drops`, and counted as often.
//!
//! The reasons are those that the hub itself lists: a new one without a row here fails.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::node::Keys;
use taltun_tests::sys::{PausedThread, Signal, send_signal};
use taltun_tests::traffic::datagrams;

use crate::explain::foretold;
use crate::raw_peer::RawPeer;
use crate::support::{Case, eventually, taltun};
use crate::tracer::Tracer;
use crate::two_peers::TwoPeers;

pub const CASES: &[Case] = &[
    Case {
        name: "trace: each reason is provoked, told and counted, and foretold where it can be",
        programs: &[],
        run: all,
    },
    Case {
        name: "trace: data of a session past its lifetime is told as expired",
        programs: &[],
        run: expired,
    },
];

const HUB: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const LUIS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 3);
const EVA: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 4);
const PAZ: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 6);
const LENTA: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 9);
/// How long a drop may take to be counted and told: handshakes are tried again every five seconds.
const COUNTED: Duration = Duration::from_secs(20);
/// How long a session may be used.
const LIFETIME: Duration = Duration::from_secs(181);

/// What drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Workers and the controller, of a hub without XDP.
    UserSpace,
    /// XDP or TC, or what AF_XDP has no room for.
    Kernel,
}

/// A way to have something dropped.
struct Row {
    reason: &'static str,
    by: By,
    /// What `explain` is asked that foretells it, where it can know.
    foretold: Option<&'static [&'static str]>,
    /// Does it: at the least so many packets are to be counted.
    provoke: fn(&mut Lab) -> Result<u64>,
}

/// A hub, and those who send to it.
struct Lab {
    hub: TwoPeers,
    eva: RawPeer,
    lenta: RawPeer,
    /// A peer whose last day is over.
    old: RawPeer,
    /// One that is no peer.
    stranger: RawPeer,
    /// The same where no peer was ever heard.
    faraway: RawPeer,
}

const fn row(
    reason: &'static str,
    by: By,
    foretold: Option<&'static [&'static str]>,
    provoke: fn(&mut Lab) -> Result<u64>,
) -> Row {
    Row {
        reason,
        by,
        foretold,
        provoke,
    }
}

/// In this order: the last of each hub leave it in a state in which others are dropped differently.
const ROWS: &[Row] = &[
    row(
        "denied",
        By::UserSpace,
        Some(&["eva", "luis", "icmp"]),
        banned,
    ),
    row("denied", By::Kernel, Some(&["eva", "luis", "icmp"]), banned),
    row("shape", By::UserSpace, None, shapeless),
    row("shape", By::Kernel, None, shapeless),
    row("unknown_index", By::UserSpace, None, to_nobody),
    row("unknown_index", By::Kernel, None, to_nobody),
    row("mac1", By::UserSpace, None, without_mac),
    row("mac1", By::Kernel, None, without_mac),
    row("handshake", By::UserSpace, None, |lab| {
        initiations(&mut lab.stranger, 3)
    }),
    row(
        "peer_refused",
        By::UserSpace,
        Some(&["old", "hub", "icmp"]),
        |lab| initiations(&mut lab.old, 3),
    ),
    row("authentication", By::UserSpace, None, |lab| {
        for _ in 0..3 {
            let mut message = lab.eva.seal(&udp(EVA, HUB, 64))?;
            *message.last_mut().context("a message is empty")? ^= 1;
            lab.eva.send(&message)?;
        }
        Ok(3)
    }),
    row("replay", By::UserSpace, None, |lab| {
        let message = lab.eva.seal(&udp(EVA, HUB, 64))?;
        for _ in 0..4 {
            lab.eva.send(&message)?;
        }
        Ok(3)
    }),
    row("control", By::UserSpace, None, |lab| {
        lab.eva.say(b"\0tlt\x09\0\0\0\0\0\0\0\0\0\0\0", 3)
    }),
    row("inner_malformed", By::UserSpace, None, |lab| {
        lab.eva.say(&[0xff; 40], 3)
    }),
    row(
        "inner_source",
        By::UserSpace,
        Some(&["eva", "hub", "icmp", "--source", "10.200.0.99"]),
        |lab| lab.eva.say(&udp(Ipv4Addr::new(10, 200, 0, 99), HUB, 64), 3),
    ),
    row(
        "inner_denied",
        By::UserSpace,
        Some(&["eva", "luis", "icmp"]),
        |lab| lab.eva.say(&udp(EVA, LUIS, 64), 3),
    ),
    row("hop_limit", By::UserSpace, None, |lab| {
        lab.eva.say(&udp(EVA, LUIS, 1), 3)
    }),
    row(
        "rule",
        By::UserSpace,
        Some(&["eva", "luis", "tcp/81"]),
        |lab| lab.eva.say(&syn(EVA, LUIS, 81), 3),
    ),
    row("lost_fragment", By::UserSpace, None, |lab| {
        let mut packet = udp(EVA, LUIS, 64);
        // Behind the first.
        packet[6..8].copy_from_slice(&20_u16.to_be_bytes());
        lab.eva.say(&packet, 3)
    }),
    row("oversized", By::UserSpace, None, |lab| {
        let mut packet = udp(EVA, PAZ, 64);
        packet.resize(1500, 0);
        packet[2..4].copy_from_slice(&1500_u16.to_be_bytes());
        lab.eva.say(&packet, 3)
    }),
    row(
        "no_peer",
        By::UserSpace,
        Some(&["hub", "10.200.0.77", "icmp"]),
        |lab| from_host(lab, "10.200.0.77:9", 3, 20),
    ),
    row(
        "no_peer",
        By::Kernel,
        Some(&["hub", "10.200.0.77", "icmp"]),
        |lab| {
            // Some of them: user space answers the others.
            from_host(lab, "10.200.0.77:9", 30, 20).map(|sent| sent / 2)
        },
    ),
    row(
        "no_endpoint",
        By::UserSpace,
        Some(&["hub", "zoe", "icmp"]),
        |lab| from_host(lab, "10.200.0.5:9", 3, 20),
    ),
    row("staged_queue_full", By::UserSpace, None, |lab| {
        from_host(lab, "10.200.0.6:9", 600, 1000).map(|_| 100)
    }),
    row("udp_send", By::UserSpace, None, |lab| {
        from_host(lab, "10.200.0.7:9", 1, 20)
    }),
    row("routing_loop", By::UserSpace, None, |lab| {
        let socket: UdpSocket = lab.hub.star.hub.udp((HUB, 0))?;
        // As if it had been carried by four others.
        socket.set_ttl(252)?;
        for _ in 0..3 {
            socket.send_to(&[4, 0, 0, 0, 1, 2, 3, 4], (LUIS, 9))?;
        }
        Ok(3)
    }),
    row("shaped", By::UserSpace, None, |lab| {
        lab.lenta.connect()?;
        from_host(lab, &format!("{LENTA}:9"), 3000, 1000).map(|_| 100)
    }),
    row("unverified", By::Kernel, None, |lab| {
        let mut message = lab.faraway.initiation(Duration::ZERO)?.1;
        message[116..132].fill(0x5a);
        // Faster than so many could be verified.
        for _ in 0..20_000 {
            lab.faraway.send(&message)?;
        }
        Ok(1)
    }),
    row("rate_limited", By::Kernel, None, |lab| {
        let message = lab.stranger.initiation(Duration::ZERO)?.1;
        flood(&lab.stranger, &message, 1000)
    }),
    row("no_cookie", By::UserSpace, None, |lab| {
        let message = lab.stranger.initiation(Duration::ZERO)?.1;
        flood(&lab.stranger, &message, 20_000)
    }),
    row("ring_full", By::Kernel, None, |lab| {
        send_signal(lab.hub.node.pid(), Signal::Pause)?;
        let message = lab.eva.seal(&udp(EVA, HUB, 64))?;
        let sent = flood(&lab.eva, &message, 6000);
        send_signal(lab.hub.node.pid(), Signal::Resume)?;
        sent
    }),
    row("handshake_queue_full", By::UserSpace, None, |lab| {
        let message = lab.stranger.initiation(Duration::ZERO)?.1;
        // What was asked for before is no load any more.
        sleep(Duration::from_secs(3));
        // The controller takes nothing, and so doesn't notice that it is under load.
        let paused = PausedThread::pause(lab.hub.node.pid())?;
        let sent = flood(&lab.stranger, &message, 9000);
        // Workers have tried to hand over all that they got.
        sleep(Duration::from_secs(1));
        drop(paused);
        sent
    }),
    row("tun_write", By::UserSpace, None, |lab| {
        lab.hub.star.hub.ip("link set taltun0 down")?;
        lab.eva.say(&udp(EVA, HUB, 64), 3)
    }),
];

/// Reasons that have no row here, and the case that provokes them.
const ELSEWHERE: &[&str] = &["expired"];

fn all() -> Result<()> {
    for by in [By::UserSpace, By::Kernel] {
        let mut lab = Lab::start(by)?;
        let tracer = Tracer::start(&lab.hub.node, &["--drops", "--rate", "1000000"])?;
        for row in ROWS.iter().filter(|row| row.by == by) {
            lab.try_row(row, &tracer)
                .with_context(|| format!("{}, by {by:?}", row.reason))?;
        }
        let left_out = tracer.count(|line| line["verdict"] == "left_out");
        ensure!(left_out == 0, "{left_out} left out");
        let stats = lab.stats()?;
        let known = stats["drops"].as_object().context("no drops")?;
        let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
        let rows = ROWS.iter().map(|row| row.reason);
        let rows: BTreeSet<&str> = rows.chain(ELSEWHERE.iter().copied()).collect();
        ensure!(rows == known, "rows {rows:?}\nreasons {known:?}");
    }
    Ok(())
}

fn expired() -> Result<()> {
    let mut lab = Lab::start(By::UserSpace)?;
    let since = Instant::now();
    let tracer = Tracer::start(&lab.hub.node, &["eva", "--drops"])?;
    sleep(LIFETIME.saturating_sub(since.elapsed()));
    let row = row("expired", By::UserSpace, None, |lab| {
        lab.eva.say(&udp(EVA, HUB, 64), 3)
    });
    lab.try_row(&row, &tracer)?;
    let of_eva = tracer.count(|line| line["reason"] == "expired" && line["from"] == "eva");
    ensure!(of_eva == 3, "{:?}", tracer.told());
    Ok(())
}

impl Lab {
    /// With a hub that drops in user space alone, or in the kernel where it can.
    fn start(by: By) -> Result<Self> {
        let generate = || Keys::generate(&taltun()?);
        let keys: Vec<Keys> = (0..7).map(|_| generate()).collect::<Result<_>>()?;
        let accel = match by {
            By::UserSpace => "xdp = \"off\"\naf_xdp = \"off\"",
            By::Kernel => "xdp = \"auto\"\naf_xdp = \"on\"",
        };
        let peer = |name: &str, keys: &Keys, last: u8, more: &str| {
            format!(
                "[[peers]]\nname = \"{name}\"\npublic_key = \"{}\"\nvip = \"10.200.0.{last}\"\n{more}\n",
                keys.public
            )
        };
        let more = [
            peer("eva", &keys[0], 4, ""),
            peer("zoe", &keys[1], 5, ""),
            peer("paz", &keys[2], 6, "endpoint = \"10.99.1.2:9\""),
            peer("pia", &keys[3], 7, "endpoint = \"203.0.113.9:9\""),
            peer("old", &keys[4], 8, "expires = 2020-01-01"),
            peer("lenta", &keys[5], 9, "rate_down = \"64 kbit/s\""),
            "[[rules]]\nfrom = \"eva\"\nto = \"luis\"\ndeny = \"tcp/81\"\n".to_owned(),
            format!("[accel]\n{accel}\nhandshakes_per_second = 20\n"),
        ];
        let hub = TwoPeers::start(|own| crate::explain::text(own, "", &more.concat()))?;
        hub.star.hub.ip("route add prohibit 203.0.113.0/24")?;
        hub.star.a.ip("addr add 10.99.1.77/24 dev to-hub")?;
        let to = "10.99.1.1:9100".parse()?;
        let raw = |keys: &Keys, from: &str| {
            let key = &hub.keys[0].public;
            RawPeer::new(&hub.star.a, from.parse()?, keys, to, key)
        };
        let mut lab = Self {
            eva: raw(&keys[0], "10.99.1.2:0")?,
            lenta: raw(&keys[5], "10.99.1.2:0")?,
            old: raw(&keys[4], "10.99.1.2:0")?,
            stranger: raw(&keys[6], "10.99.1.2:0")?,
            faraway: raw(&keys[6], "10.99.1.77:0")?,
            hub,
        };
        lab.eva.connect()?;
        Ok(lab)
    }

    fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.hub.node.tell(&["stats", "--json"])?,
        )?)
    }

    fn counted(&self, reason: &str) -> Result<u64> {
        self.stats()?["drops"][reason]
            .as_u64()
            .context("no such reason")
    }

    fn try_row(&mut self, row: &Row, tracer: &Tracer) -> Result<()> {
        let reason = row.reason;
        let ban: Option<&[&str]> = match reason {
            "denied" => Some(&["10.99.1.2"]),
            "inner_denied" => Some(&["--inner", "10.200.0.4"]),
            _ => None,
        };
        if let Some(ban) = ban {
            self.hub.node.tell(&[&["ban"], ban].concat())?;
        }
        if let Some(question) = row.foretold {
            foretold(&self.hub, question, reason)?;
        }
        let told = || tracer.count(|line| line["reason"] == reason);
        let (counted_before, told_before) = (self.counted(reason)?, told());
        let sent = (row.provoke)(self)?;
        let mut last = (0, 0);
        eventually("it is counted and told as often", COUNTED, || {
            last = (self.counted(reason)? - counted_before, told() - told_before);
            Ok(last.0 >= sent && last.0 == last.1)
        })
        .with_context(|| format!("sent {sent}, counted {} and told {}", last.0, last.1))?;
        println!("{reason} by {:?}: {} counted and told", row.by, last.0);
        let in_kernel = tracer.count(|line| {
            line["reason"] == reason && (line["place"] == "xdp" || line["place"] == "tc")
        });
        match row.by {
            By::UserSpace => ensure!(in_kernel == 0, "{in_kernel} in the kernel"),
            By::Kernel => ensure!(in_kernel > 0 || reason == "ring_full"),
        }
        if let Some(ban) = ban {
            self.hub.node.tell(&[&["unban"], ban].concat())?;
        }
        Ok(())
    }
}

fn banned(lab: &mut Lab) -> Result<u64> {
    lab.eva.say(&udp(EVA, LUIS, 64), 3)
}

fn shapeless(lab: &mut Lab) -> Result<u64> {
    flood(&lab.eva, &[9; 40], 3).map(|_| 3)
}

fn to_nobody(lab: &mut Lab) -> Result<u64> {
    let mut message = lab.eva.seal(&udp(EVA, HUB, 64))?;
    message[4..8].fill(0xfe);
    flood(&lab.eva, &message, 3).map(|_| 3)
}

fn without_mac(lab: &mut Lab) -> Result<u64> {
    let mut message = lab.eva.initiation(Duration::ZERO)?.1;
    message[116..132].fill(0);
    flood(&lab.eva, &message, 3).map(|_| 3)
}

/// Handshakes of somebody, slowly enough for none to be one too many.
fn initiations(of: &mut RawPeer, count: u64) -> Result<u64> {
    for _ in 0..count {
        let message = of.initiation(Duration::ZERO)?.1;
        of.send(&message)?;
        sleep(Duration::from_millis(120));
    }
    Ok(count)
}

/// The same datagram so many times. Most of a flood is lost elsewhere.
fn flood(from: &RawPeer, message: &[u8], count: usize) -> Result<u64> {
    for number in 0..count {
        from.send(message)?;
        if number % 64 == 63 {
            sleep(Duration::from_millis(1));
        }
    }
    Ok(1)
}

/// Datagrams from the hub into the tunnel.
fn from_host(lab: &Lab, to: &str, count: usize, len: usize) -> Result<u64> {
    datagrams::send(&lab.hub.star.hub, to.parse()?, vec![vec![0; len]; count])
}

/// An IPv4 packet.
fn packet(from: Ipv4Addr, to: Ipv4Addr, hops: u8, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + content.len() as u16).to_be_bytes());
    packet.extend([0, 7, 0, 0, hops, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(content);
    packet
}

fn udp(from: Ipv4Addr, to: Ipv4Addr, hops: u8) -> Vec<u8> {
    let mut content = vec![0x13, 0x88, 0, 9, 0, 16, 0, 0];
    content.extend([0; 8]);
    packet(from, to, hops, 17, &content)
}

fn syn(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut content = vec![0x13, 0x88];
    content.extend(port.to_be_bytes());
    content.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    packet(from, to, 64, 6, &content)
}
