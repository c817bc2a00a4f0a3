//! Bad days of a fleet with three members of etcd: etcd is stopped, the hubs are split, there are many peers.
//!
//! `cargo xtask bench fleet` runs these for longer, and with more peers; they print their figures.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_crypto::PublicKey;
use taltun_crypto::signing::SigningKey;
use taltun_fleet::{Key, Label, Ledger, Signed, Trust, Verdict, export, record};
use taltun_tests::command::output_of;
use taltun_tests::etcd::Etcd;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Lan, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::fleet_mesh::{Hubs, fleet_dir, homes, status, vip, vip_of};
use crate::support::{Case, ensure_answers, ensure_answers_within, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "fleet outage: while etcd is stopped nobody notices, clients roam and hubs restart",
        programs: &["etcd", "etcdctl"],
        run: etcd_stopped,
    },
    Case {
        name: "fleet outage: a split that heals leaves each peer at one hub, with addresses of its own",
        programs: &["etcd", "etcdctl", "nft"],
        run: split,
    },
    Case {
        name: "fleet outage: a backup of many peers is restored, a hub joins and has them, and a change reaches all",
        programs: &["etcd", "etcdctl"],
        run: many,
    },
];

const MADRID: u8 = 0;
const PARIS: u8 = 1;
const ROME: u8 = 2;
const SOON: Duration = Duration::from_secs(20);
/// How often a client goes to another hub at the least.
const MOVES: usize = 3;
/// How often clients ping.
const EACH: Duration = Duration::from_millis(20);
/// How long etcd is stopped, or the hubs are split, at the least, unless [`SECONDS_VARIABLE`] says otherwise.
const SECONDS: u64 = 15;
/// `cargo xtask bench fleet` asks for longer by it.
const SECONDS_VARIABLE: &str = "TALTUN_FLEET_SECONDS";

/// How many peers there are, unless [`PEERS_VARIABLE`] says otherwise.
const PEERS: u16 = 300;
/// `cargo xtask bench fleet` asks for more by it.
const PEERS_VARIABLE: &str = "TALTUN_FLEET_PEERS";

fn duration() -> Result<Duration> {
    let seconds = match std::env::var(SECONDS_VARIABLE) {
        Ok(seconds) => seconds.parse().context(SECONDS_VARIABLE)?,
        Err(_) => SECONDS,
    };
    Ok(Duration::from_secs(seconds))
}

/// The longest time without an answer between two ends while `act` is done.
fn gap_while<T>(
    from: &Namespace,
    to: std::net::IpAddr,
    act: impl FnOnce() -> Result<T>,
) -> Result<(Duration, T)> {
    let ends = AtomicBool::new(false);
    let ends = &ends;
    std::thread::scope(|scope| {
        let pinging = scope.spawn(move || -> Result<Duration> {
            let mut pinger = Pinger::new(from, to)?;
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !ends.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if pinger.ping(Duration::from_millis(200))?.is_some() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                sleep(EACH.saturating_sub(begun.elapsed()));
            }
            Ok(longest.max(last.elapsed()))
        });
        let acted = act();
        ends.store(true, Ordering::Relaxed);
        let gap = pinging
            .join()
            .map_err(|_| anyhow::anyhow!("a pinger panicked"))?;
        Ok((gap?, acted?))
    })
}

/// A client of a hub, in the place of the one before.
fn at_hub(hubs: &Hubs<'_>, before: Option<Node>, host: u8, file: &str, hub: u8) -> Result<Node> {
    if let Some(before) = before {
        before.stop(Signal::Terminate)?;
    }
    let node = Node::start_with_text(hubs.host(host), &taltun()?, &hubs.for_hub(file, hub))?;
    ensure_answers(hubs.host(host), vip(hub))?;
    Ok(node)
}

fn etcd_stopped() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 7)?;
    let mut etcd = Etcd::start(&lan.bridge, 3)?;
    let mut hubs = Hubs::joined(&lan, &etcd, 3, "")?;
    let files = ["ana", "bea", "carla", "dora"].map(|name| hubs.peer(name));
    let [ana, bea, carla, dora] = files;
    let (ana, bea, carla, dora) = (ana?, bea?, carla?, dora?);
    let bea_at = vip_of(&bea)?;
    let ana = at_hub(&hubs, None, 3, &ana, MADRID)?;
    let bea = at_hub(&hubs, None, 4, &bea, PARIS)?;
    // This one roams, and that one is at the hub that restarts.
    let mut roamer = Some(at_hub(&hubs, None, 5, &carla, PARIS)?);
    let dora = at_hub(&hubs, None, 6, &dora, ROME)?;
    ensure_answers(&lan.hosts[3], bea_at)?;
    let snapshot = fleet_dir(hubs.node(ROME)).join("snapshot");
    eventually("all peers are on the disk", SOON, || {
        Ok(std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("dora")))
    })?;
    let lasting = duration()?;
    let (gap, (roamed, restarted)) = gap_while(&lan.hosts[3], bea_at, || {
        for member in 0..3 {
            etcd.kill(member)?;
        }
        let begun = Instant::now();
        eventually("etcd is missed", Duration::from_secs(30), || {
            Ok(status(hubs.node(MADRID))?["etcd"]["connected"] == false)
        })?;
        hubs.nodes[usize::from(ROME)].kill()?;
        let killed = Instant::now();
        hubs.nodes[usize::from(ROME)].start_again(&lan.hosts[usize::from(ROME)])?;
        ensure_answers_within(&lan.hosts[6], vip(ROME), Duration::from_secs(60))?;
        let restarted = killed.elapsed();
        let shown = hubs.node(ROME).tell(&["fleet", "status"])?;
        println!("{shown}");
        ensure!(shown.contains("as its disk has it"), "{shown}");
        let mut roamed = Duration::ZERO;
        let mut moves = 0;
        while begun.elapsed() < lasting || moves < MOVES {
            let hub = [MADRID, PARIS][moves % 2];
            moves += 1;
            roamer = Some(at_hub(&hubs, roamer.take(), 5, &carla, hub)?);
            let begun = Instant::now();
            ensure_answers(&lan.hosts[5], bea_at)?;
            roamed = roamed.max(begun.elapsed());
            sleep(Duration::from_secs(1));
        }
        Ok((roamed, restarted))
    })?;
    println!(
        "etcd stopped for {lasting:.0?}: {gap:.0?} without an answer at the most between peers of two hubs; a client \
         that went to another hub reached a peer of a third after {roamed:.0?} at the most; the client of the hub that \
         was killed and restarted was back after {restarted:.1?}"
    );
    ensure!(gap < Duration::from_secs(8), "a gap of {gap:?}");
    for member in 0..3 {
        etcd.run(member)?;
    }
    for node in &hubs.nodes {
        eventually("etcd is back", Duration::from_secs(60), || {
            let status = status(node)?;
            Ok(status["etcd"]["connected"] == true && status["pending"] == 0)
        })?;
    }
    for client in [ana, bea, dora].into_iter().chain(roamer) {
        client.stop(Signal::Terminate)?;
    }
    hubs.stop()
}

/// Keeps a hub from the others and from etcd, or lets it reach them again.
fn set_split(lan: &Lan, hub: u8, is_split: bool) -> Result<()> {
    let host = &lan.hosts[usize::from(hub)];
    let rules = if is_split {
        let others = [Lan::address(MADRID), Lan::address(PARIS), Lan::BRIDGE];
        let others = others.map(|other| other.to_string()).join(", ");
        format!(
            "table ip split {{\nchain in {{ type filter hook input priority 0; ip saddr {{ {others} }} drop; }}\n\
             chain out {{ type filter hook output priority 0; ip daddr {{ {others} }} drop; }}\n}}"
        )
    } else {
        "delete table ip split".to_owned()
    };
    output_of(host.command("nft").arg(rules))?;
    Ok(())
}

fn split() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 6)?;
    let etcd = Etcd::start(&lan.bridge, 3)?;
    let hubs = Hubs::joined(&lan, &etcd, 3, "")?;
    let (ana, bea, carla) = (hubs.peer("ana")?, hubs.peer("bea")?, hubs.peer("carla")?);
    let (ana_at, bea_at) = (vip_of(&ana)?, vip_of(&bea)?);
    let ana_file = ana;
    let ana = at_hub(&hubs, None, 3, &ana_file, MADRID)?;
    let bea_node = at_hub(&hubs, None, 4, &bea, PARIS)?;
    let carla = at_hub(&hubs, None, 5, &carla, ROME)?;
    let lasting = duration()?;
    set_split(&lan, ROME, true)?;
    let begun = Instant::now();
    eventually("both sides notice", Duration::from_secs(30), || {
        Ok(status(hubs.node(ROME))?["etcd"]["connected"] == false)
    })?;
    // One side can add peers, the other one can't; both serve those that there are.
    hubs.node(MADRID).tell(&["peer", "new", "dora"])?;
    let refused = hubs
        .node(ROME)
        .command()
        .args(["peer", "new", "eva"])
        .output()?;
    ensure!(!refused.status.success(), "it allocates without a quorum");
    // Bea goes to the other side.
    let bea = at_hub(&hubs, Some(bea_node), 4, &bea, ROME)?;
    ensure_answers(&lan.hosts[5], bea_at)?;
    sleep(lasting.saturating_sub(begun.elapsed()));
    ensure!(homes(hubs.node(MADRID), "paris")? == 1 && homes(hubs.node(ROME), "rome")? == 2);
    set_split(&lan, ROME, false)?;
    let healed = Instant::now();
    let is_right = |node: &Node| -> Result<bool> {
        Ok(homes(node, "madrid")? == 1 && homes(node, "paris")? == 0 && homes(node, "rome")? == 2)
    };
    for node in &hubs.nodes {
        eventually("homes are right", SOON, || is_right(node))?;
    }
    let right = healed.elapsed();
    ensure_answers(&lan.hosts[3], bea_at)?;
    ensure_answers(&lan.hosts[4], ana_at)?;
    let reached = healed.elapsed();
    eventually("etcd is back", Duration::from_secs(60), || {
        let status = status(hubs.node(ROME))?;
        Ok(status["etcd"]["connected"] == true && status["peers"] == 4)
    })?;
    println!(
        "split for {lasting:.0?} and healed: all homes right after {right:.1?}, peers of both sides reach each other \
         after {reached:.1?}, what was added meanwhile known after {:.1?}",
        healed.elapsed()
    );
    hubs.node(ROME).tell(&["peer", "new", "eva"])?;
    for node in &hubs.nodes {
        eventually("five peers", SOON, || Ok(status(node)?["peers"] == 5))?;
        let nets = nets(node)?;
        let each: BTreeSet<&String> = nets.iter().collect();
        ensure!(nets.len() == 5 && each.len() == 5, "{nets:?}");
    }
    for client in [ana, bea, carla] {
        client.stop(Signal::Terminate)?;
    }
    hubs.stop()
}

/// The text of a backup with so many peers of the fleet of a hub, which has the admin's key.
fn backup_of(hub: &Node, peers: u16) -> Result<String> {
    let file = hub.directory().join("state/taltun0/fleet/admin.key");
    let mut seed = [0; 32];
    base16ct::lower::decode(std::fs::read_to_string(file)?.trim(), &mut seed)
        .map_err(|error| anyhow::anyhow!("admin.key: {error}"))?;
    let admin = SigningKey::from_seed(seed);
    let network: Label = "example".parse()?;
    let mut ledger = Ledger::new(Trust::new(network.clone(), admin.verifying_key()));
    for number in 0..peers {
        let [high, low] = number.to_be_bytes();
        let mut key = [0x55; 32];
        key[..2].copy_from_slice(&[high, low]);
        let peer = record::Peer {
            name: format!("peer-{number}").parse()?,
            // In the network of the hubs, after what they give by themselves.
            vips: vec![[10, 200, high + 1, low].into()],
            networks: Vec::new(),
            limits: record::Limits::default(),
            extra: record::Extra::new(),
        };
        let key = Key::Peer(PublicKey(key));
        let signed = Signed::new(&admin, &network, &key, 1, &peer);
        ensure!(ledger.take(&key, signed) == Verdict::New);
    }
    Ok(export::write(&ledger))
}

/// The revision of etcd.
fn revision(etcd: &Etcd<'_>) -> Result<u64> {
    let text = etcd.ctl(0, &["endpoint", "status", "-w", "json"])?;
    let status: Value = serde_json::from_str(&text)?;
    status[0]["Status"]["header"]["revision"]
        .as_u64()
        .context("no revision")
}

fn many() -> Result<()> {
    let peers = match std::env::var(PEERS_VARIABLE) {
        Ok(peers) => peers.parse().context(PEERS_VARIABLE)?,
        Err(_) => PEERS,
    };
    let limit = Duration::from_secs(60);
    let lan = Lan::create(&private_prefix(), 5)?;
    let etcd = Etcd::start(&lan.bridge, 3)?;
    let hubs = Hubs::start(&lan, &etcd, 3, "")?;
    hubs.fleet(MADRID, &["init"])?;
    let token = hubs.fleet(MADRID, &["token", "paris"])?;
    hubs.fleet(PARIS, &["join", token.trim()])?;
    eventually("it follows etcd", SOON, || {
        Ok(status(hubs.node(MADRID))?["etcd"]["connected"] == true)
    })?;
    // Who was removed before the backup is brought back isn't.
    let ana = hubs.node(MADRID).tell(&["peer", "new", "ana"])?;
    let old = hubs.fleet(MADRID, &["export"])?;
    hubs.node(MADRID).tell(&["peer", "remove", "ana"])?;
    let file = hubs.node(MADRID).directory().join("backup");
    std::fs::write(&file, &old)?;
    let path = file.to_str().context("no text")?;
    let said = hubs.fleet(MADRID, &["import", path])?;
    ensure!(said.contains("wrote 0 records"), "{said}");
    ensure!(status(hubs.node(MADRID))?["peers"] == 0, "{ana}");
    std::fs::write(&file, backup_of(hubs.node(MADRID), peers)?)?;
    let begun = Instant::now();
    let said = hubs.fleet(MADRID, &["import", path])?;
    ensure!(said.contains(&format!("wrote {peers} records")), "{said}");
    let imported = begun.elapsed();
    let all = |node: &Node, count: u64| Ok(status(node)?["peers"] == count);
    eventually("all peers at a hub", limit, || {
        all(hubs.node(PARIS), peers.into())
    })?;
    let token = hubs.fleet(MADRID, &["token", "rome"])?;
    let begun = Instant::now();
    hubs.fleet(ROME, &["join", token.trim()])?;
    eventually("all peers at the new hub", limit, || {
        Ok(nets(hubs.node(ROME))?.len() == usize::from(peers))
    })?;
    let joined = begun.elapsed();
    hubs.wait_until_whole()?;
    let mut spread = Vec::new();
    for number in 0..5 {
        let name = format!("new-{number}");
        let begun = Instant::now();
        let file = hubs.node(MADRID).tell(&["peer", "new", &name])?;
        let made = begun.elapsed();
        let net = format!("{}/32", vip_of(&file)?);
        for node in &hubs.nodes {
            eventually("the peer everywhere", limit, || {
                Ok(nets(node)?.contains(&net))
            })?;
        }
        spread.push((begun.elapsed(), made));
    }
    spread.sort_unstable();
    let (slowest, made) = spread[spread.len() - 1];
    // With clients that go from hub to hub.
    let file = hubs.node(MADRID).tell(&["peer", "new", "roamer"])?;
    let (before, begun) = (revision(&etcd)?, Instant::now());
    let mut roamer = None;
    for hub in [MADRID, PARIS, ROME, MADRID, PARIS, ROME] {
        roamer = Some(at_hub(&hubs, roamer.take(), 3, &file, hub)?);
    }
    sleep(Duration::from_secs(12).saturating_sub(begun.elapsed()));
    let (writes, seconds) = (revision(&etcd)? - before, begun.elapsed().as_secs_f64());
    println!(
        "{peers} peers: restored from a backup in {imported:.1?}; a hub joined and had all after {joined:.1?}; a new \
         peer was at all hubs {slowest:.2?} after the command began at the latest ({made:.2?} of that the command); \
         {writes} writes to etcd in {seconds:.0} s with a client that went from hub to hub"
    );
    if let Some(client) = roamer {
        client.stop(Signal::Terminate)?;
    }
    hubs.stop()
}

/// The networks of the fleet's peers, as a hub has them.
fn nets(node: &Node) -> Result<Vec<String>> {
    let status: Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
    let peers = status["peers"].as_array().context("no peers")?;
    let peers = peers.iter().filter(|peer| peer["hub"] == false);
    let nets = peers.flat_map(|peer| peer["allowed_ips"].as_array().into_iter().flatten());
    Ok(nets
        .filter_map(|net| net.as_str().map(str::to_owned))
        .collect())
}
