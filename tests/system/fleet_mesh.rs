//! The hubs of a fleet as each other's peers: what they say to each other without etcd, and packets
//! between peers of two hubs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::control::keep_in;
use taltun_tests::etcd::Etcd;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Lan, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{Case, UP_LIMIT, ensure_answers, ensure_answers_within, eventually, taltun};

const PROGRAMS: &[&str] = &["etcd", "etcdctl"];

pub const CASES: &[Case] = &[
    Case {
        name: "fleet mesh: peers of two hubs reach each other in one hop, and hubs are kept as peers",
        programs: PROGRAMS,
        run: relay,
    },
    Case {
        name: "fleet mesh: a peer that moves to another hub is found there, also without etcd",
        programs: PROGRAMS,
        run: moves,
    },
    Case {
        name: "fleet mesh: the hubs of a group answer with one key, and a Taltun client moves among them",
        programs: PROGRAMS,
        run: group,
    },
];

const NAMES: [&str; 3] = ["madrid", "paris", "rome"];
/// Ends of changes that take a tenth of that.
const SOON: Duration = Duration::from_secs(20);

/// Hubs on one Ethernet, the first hosts of it.
pub(crate) struct Hubs<'l> {
    pub lan: &'l Lan,
    pub nodes: Vec<Node>,
    pub keys: Vec<Keys>,
}

/// A hub's own address in the tunnel.
pub(crate) fn vip(hub: u8) -> IpAddr {
    Ipv4Addr::new(10, 200, 0, hub + 1).into()
}

impl<'l> Hubs<'l> {
    /// Starts so many hubs, of which the last are in no fleet yet.
    pub fn start(lan: &'l Lan, etcd: &Etcd<'_>, count: u8, more: &str) -> Result<Self> {
        let endpoints = etcd.endpoints(&Lan::BRIDGE.to_string());
        let (mut nodes, mut all) = (Vec::new(), Vec::new());
        for number in 0..count {
            let keys = Keys::generate(&taltun()?)?;
            let (own, name) = (Lan::address(number), NAMES[usize::from(number)]);
            let text = format!(
                "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"{}/16\"\n\
                 local_addr = \"0.0.0.0:9000\"\nprivate_key = \"{}\"\npublic_endpoint = \"{own}\"\n\n\
                 [fleet]\nname = \"example\"\nhub = \"{name}\"\netcd = {endpoints:?}\n\
                 endpoint = \"{own}:9000\"\n{more}",
                vip(number),
                keys.private
            );
            let host = &lan.hosts[usize::from(number)];
            nodes.push(Node::start_with_text(host, &taltun()?, &text)?);
            all.push(keys);
        }
        Ok(Self {
            lan,
            nodes,
            keys: all,
        })
    }

    /// The same, makes a fleet of them, and waits until each hears all others.
    pub fn joined(lan: &'l Lan, etcd: &Etcd<'_>, count: u8, more: &str) -> Result<Self> {
        let hubs = Self::start(lan, etcd, count, more)?;
        hubs.fleet(0, &["init"])?;
        for number in 1..count {
            let token = hubs.fleet(0, &["token", NAMES[usize::from(number)]])?;
            hubs.fleet(number, &["join", token.trim()])?;
        }
        hubs.wait_until_whole()?;
        Ok(hubs)
    }

    /// Waits until all answer with the key of their one group, by what each knows of all, and says which it is.
    pub fn wait_for_one_key(&self) -> Result<String> {
        for node in &self.nodes {
            eventually("one key", SOON, || {
                let keys = answer_keys(node)?;
                let own = own_key(node)?;
                Ok(keys.len() == self.nodes.len() && keys.iter().all(|key| *key == own))
            })?;
        }
        own_key(self.node(0))
    }

    /// Waits until each hub hears all others.
    pub fn wait_until_whole(&self) -> Result<()> {
        for node in &self.nodes {
            eventually("all hubs hear each other", UP_LIMIT, || {
                Ok(paths(node)?.iter().filter(|(_, up)| *up).count() + 1 == self.nodes.len())
            })?;
        }
        Ok(())
    }

    pub fn host(&self, number: u8) -> &Namespace {
        &self.lan.hosts[usize::from(number)]
    }

    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number)]
    }

    /// `taltun fleet` with the file of a hub.
    pub fn fleet(&self, number: u8, words: &[&str]) -> Result<String> {
        let node = self.node(number);
        let mut command = self.host(number).command(taltun()?);
        command.arg("fleet").args(words).arg("--config");
        command.arg(node.config());
        keep_in(&mut command, node.directory());
        let output = command.output()?;
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {err}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Adds a peer to the fleet, and waits until all hubs have it. Its file, for the first hub.
    pub fn peer(&self, name: &str) -> Result<String> {
        let file = self.node(0).tell(&["peer", "new", name])?;
        for node in &self.nodes {
            eventually("the peer everywhere", SOON, || {
                let status = node.status()?;
                Ok(status
                    .peers
                    .iter()
                    .any(|it| it.name.as_deref() == Some(name)))
            })?;
        }
        Ok(file)
    }

    /// The file of a peer, for another hub.
    pub fn for_hub(&self, file: &str, hub: u8) -> String {
        let (first, other) = (&self.keys[0].public, &self.keys[usize::from(hub)].public);
        let file = file.replace(first.as_str(), other);
        let lines = file.lines().map(|line| match line.split_once(" = ") {
            Some(("endpoint", _)) => format!("endpoint = \"{}:9000\"", Lan::address(hub)),
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.stop(Signal::Terminate)?;
        }
        Ok(())
    }
}

/// `taltun fleet status` of a hub.
pub(crate) fn status(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(
        &node.tell(&["fleet", "status", "--json"])?,
    )?)
}

/// The other hubs that a hub has a path to, and whether they answer.
fn paths(node: &Node) -> Result<Vec<(String, bool)>> {
    let status = status(node)?;
    let hubs = status["hubs"].as_array().cloned().unwrap_or_default();
    let hubs = hubs.iter().filter(|hub| hub["path"].is_object());
    let path = |hub: &Value| {
        let name = hub["name"].as_str().unwrap_or_default().to_owned();
        (name, hub["path"]["up"] == true)
    };
    Ok(hubs.map(path).collect())
}

/// How many peers are at home at a hub, by what another one says.
pub(crate) fn homes(node: &Node, hub: &str) -> Result<u64> {
    let status = status(node)?;
    let hubs = status["hubs"].as_array().context("no hubs")?;
    let hub = hubs.iter().find(|it| it["name"] == hub);
    hub.and_then(|hub| hub["homes"].as_u64())
        .context("no such hub")
}

/// The address in the tunnel that the file of a peer says.
pub(crate) fn vip_of(file: &str) -> Result<IpAddr> {
    let line = file.lines().find_map(|line| line.strip_prefix("vip = "));
    let vip = line.context("no vip")?.trim_matches(['"', '[', ']', ' ']);
    let vip = vip.split(['/', '"']).next().context("no vip")?;
    Ok(vip.parse()?)
}

fn relay() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 5)?;
    let etcd = Etcd::start(&lan.bridge, 1)?;
    let hubs = Hubs::joined(&lan, &etcd, 3, "")?;
    let (ana, bea) = (hubs.peer("ana")?, hubs.peer("bea")?);
    let (ana_at, bea_at) = (vip_of(&ana)?, vip_of(&bea)?);
    let (here, there) = (&lan.hosts[3], &lan.hosts[4]);
    let ana = Node::start_with_text(here, &taltun()?, &hubs.for_hub(&ana, 0))?;
    let bea = Node::start_with_text(there, &taltun()?, &hubs.for_hub(&bea, 1))?;
    ensure_answers(here, vip(0))?;
    ensure_answers(there, vip(1))?;
    // The other hub itself, and the peer behind it.
    ensure_answers(here, vip(1))?;
    ensure_answers(here, bea_at)?;
    ensure_answers(there, ana_at)?;
    // Two hubs, two hops.
    let mut pinger = Pinger::new(here, bea_at)?;
    ensure!(pinger.hop(2, Duration::from_secs(1))? != Some(bea_at));
    ensure!(pinger.hop(3, Duration::from_secs(5))? == Some(bea_at));
    for node in &hubs.nodes {
        eventually("homes everywhere", SOON, || {
            Ok(homes(node, "madrid")? == 1 && homes(node, "paris")? == 1)
        })?;
    }
    eventually("homes in etcd", SOON, || {
        let keys = ["get", "--prefix", "/taltun/v1/example/home/"];
        let stored = etcd.ctl(0, &keys)?;
        Ok(stored.contains("\"madrid\"") && stored.contains("\"paris\""))
    })?;

    // The file says nothing of hubs, and takes none away.
    let said = hubs.node(0).tell(&["reload"])?;
    ensure!(said.contains("nothing has changed"), "{said}");
    let text = hubs.node(0).tell(&["status"])?;
    ensure!(text.contains("paris") && text.contains("rome"), "{text}");
    ensure_answers(here, bea_at)?;
    let refused = hubs
        .node(0)
        .command()
        .args(["peer", "remove", "paris"])
        .output()?;
    ensure!(!refused.status.success());
    // What a reload brings doesn't lead peers back.
    let file = hubs.node(0).config();
    let text = std::fs::read_to_string(&file)?;
    let local = Keys::generate(&taltun()?)?;
    let more = format!(
        "\n[[peers]]\nname = \"local\"\npublic_key = \"{}\"\nvip = \"10.200.0.99\"\n",
        local.public
    );
    std::fs::write(&file, text + &more)?;
    hubs.node(0).tell(&["reload"])?;
    ensure_answers(here, bea_at)?;

    ana.stop(Signal::Terminate)?;
    bea.stop(Signal::Terminate)?;
    hubs.stop()
}

/// Where a hub keeps what it is in its fleet.
pub(crate) fn fleet_dir(node: &Node) -> PathBuf {
    node.directory().join("state/taltun0/fleet")
}

/// The keys that the peers of hubs know, by what a hub says.
pub(crate) fn answer_keys(node: &Node) -> Result<Vec<String>> {
    let status = status(node)?;
    let hubs = status["hubs"].as_array().context("no hubs")?;
    let key = |hub: &Value| hub["answers_as"].as_str().unwrap_or_default().to_owned();
    Ok(hubs.iter().map(key).collect())
}

/// The key that a hub answers with, by what its tunnel says.
fn own_key(node: &Node) -> Result<String> {
    let status: Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
    let key = status["public_key"].as_str();
    Ok(key.context("no key")?.to_owned())
}

fn group() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 5)?;
    let etcd = Etcd::start(&lan.bridge, 1)?;
    // The key is shared with one that can't change the fleet, too.
    let mut hubs = Hubs::start(&lan, &etcd, 2, "group = \"eu\"\n")?;
    hubs.fleet(0, &["init"])?;
    let token = hubs.fleet(0, &["token", "paris", "--serve-only"])?;
    hubs.fleet(1, &["join", token.trim()])?;
    let key = hubs.wait_for_one_key()?;
    hubs.wait_until_whole()?;
    ensure!(
        hubs.keys.iter().all(|keys| keys.public != key),
        "a key of their own"
    );
    let (ana, bea) = (hubs.peer("ana")?, hubs.peer("bea")?);
    ensure!(ana.contains(&key), "{ana}");
    let (ana_at, bea_at) = (vip_of(&ana)?, vip_of(&bea)?);
    let (here, there) = (&lan.hosts[3], &lan.hosts[4]);
    // One knows both hubs, the other one the second.
    let both = format!(
        "endpoints = [\"{}:9000\", \"{}:9000\"]",
        Lan::address(0),
        Lan::address(1)
    );
    let lines = ana.lines().map(|line| match line.split_once(" = ") {
        Some(("endpoint", _)) => both.as_str(),
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let ana = Node::start_with_text(here, &taltun()?, &text)?;
    let bea = Node::start_with_text(there, &taltun()?, &hubs.for_hub(&bea, 1))?;
    ensure_answers(here, bea_at)?;
    ensure_answers(there, ana_at)?;
    // A reload and a restart keep the key.
    let said = hubs.node(0).tell(&["reload"])?;
    ensure!(said.contains("nothing has changed"), "{said}");
    ensure_answers(here, bea_at)?;
    // She moves by herself once the first hub is gone.
    hubs.nodes[0].kill()?;
    let begun = Instant::now();
    let mut pinger = Pinger::new(here, bea_at)?;
    pinger.wait_until_answered(Duration::from_secs(60))?;
    println!("a Taltun client has moved after {:?}", begun.elapsed());
    hubs.nodes[0].start_again(&lan.hosts[0])?;
    hubs.wait_until_whole()?;
    ensure!(own_key(hubs.node(0))? == key, "another key");
    ensure_answers(here, bea_at)?;
    ensure_answers_within(here, vip(0), SOON)?;
    ana.stop(Signal::Terminate)?;
    bea.stop(Signal::Terminate)?;
    hubs.stop()
}

fn moves() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 5)?;
    let mut etcd = Etcd::start(&lan.bridge, 1)?;
    let mut hubs = Hubs::joined(&lan, &etcd, 3, "")?;
    let (ana, bea) = (hubs.peer("ana")?, hubs.peer("bea")?);
    let (ana_at, bea_at) = (vip_of(&ana)?, vip_of(&bea)?);
    let (here, there) = (&lan.hosts[3], &lan.hosts[4]);
    let ana = Node::start_with_text(here, &taltun()?, &hubs.for_hub(&ana, 0))?;
    let node = Node::start_with_text(there, &taltun()?, &hubs.for_hub(&bea, 1))?;
    ensure_answers(there, ana_at)?;
    ensure_answers(here, bea_at)?;
    etcd.kill(0)?;
    // From hub to hub, without etcd.
    let mut node = node;
    for hub in [2, 0, 1, 2] {
        node.stop(Signal::Terminate)?;
        node = Node::start_with_text(there, &taltun()?, &hubs.for_hub(&bea, hub))?;
        let begun = Instant::now();
        ensure_answers(there, ana_at)?;
        ensure_answers(here, bea_at)?;
        println!("at home at hub {hub} after {:?}", begun.elapsed());
        for node in &hubs.nodes {
            eventually("all know", SOON, || {
                Ok(homes(node, NAMES[usize::from(hub)])? >= 1)
            })?;
        }
    }
    // A hub that is killed is missed, and is there again once it is.
    hubs.nodes[1].kill()?;
    eventually("it is missed", SOON, || {
        Ok(paths(hubs.node(0))?.contains(&("paris".to_owned(), false)))
    })?;
    ensure_answers(here, bea_at)?;
    hubs.nodes[1].start_again(&lan.hosts[1])?;
    hubs.wait_until_whole()?;
    ensure_answers_within(here, vip(1), SOON)?;
    ana.stop(Signal::Terminate)?;
    node.stop(Signal::Terminate)?;
    hubs.stop()
}
