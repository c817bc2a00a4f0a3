//! A fleet: two hubs with the same peers and bans by way of a real etcd, in good days and bad ones.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::control::keep_in;
use taltun_tests::etcd::Etcd;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::fleet_mesh::fleet_dir;
use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, eventually, taltun,
};

const PROGRAMS: &[&str] = &["etcd", "etcdctl"];

pub const CASES: &[Case] = &[
    Case {
        name: "fleet: a peer that is made at one hub is one of all of them, and so is each change",
        programs: PROGRAMS,
        run: peers,
    },
    Case {
        name: "fleet: without etcd all goes on, nothing half changes, and a hub starts from its disk",
        programs: PROGRAMS,
        run: without_etcd,
    },
    Case {
        name: "fleet: all hubs obey a ban with an end, and its lifting",
        programs: PROGRAMS,
        run: bans,
    },
    Case {
        name: "fleet: what a stolen or restored etcd says adds no peer and brings none back",
        programs: PROGRAMS,
        run: stolen,
    },
    Case {
        name: "fleet: commands that can't be done say why",
        programs: PROGRAMS,
        run: refused,
    },
];

/// The hubs' addresses in the tunnel.
const MADRID: [u8; 4] = [10, 200, 0, 1];
const PARIS: [u8; 4] = [10, 200, 0, 2];
/// What a change may take to be everywhere: it is a tenth of that.
const SPREAD: Duration = Duration::from_secs(10);

/// Two hubs, and where their etcd is. Declared before the etcd that they use, so that they end first.
struct Fleet<'s> {
    star: &'s Star,
    madrid: Node,
    paris: Node,
    /// Their public keys.
    keys: [Keys; 2],
}

impl<'s> Fleet<'s> {
    /// Starts both, of which neither is in a fleet yet.
    fn start(star: &'s Star, etcd: &Etcd<'_>, more: &str) -> Result<Self> {
        let keys = [Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?];
        let hub = |namespace,
                   name: &str,
                   at: [u8; 4],
                   wire: taltun_tests::topology::Wire,
                   keys: &Keys| {
            let etcd = etcd.endpoints(&wire.near_v4().to_string());
            let [a, b, c, d] = at;
            let own = wire.far_v4();
            let text = format!(
                "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"{a}.{b}.{c}.{d}/24\"\n\
                 local_addr = \"0.0.0.0:9000\"\nprivate_key = \"{}\"\npublic_endpoint = \"{own}\"\n\n\
                 [fleet]\nname = \"example\"\nhub = \"{name}\"\netcd = {etcd:?}\n\
                 endpoint = \"{own}:9000\"\n{more}",
                keys.private
            );
            Node::start_with_text(namespace, &taltun()?, &text)
        };
        Ok(Self {
            star,
            madrid: hub(&star.a, "madrid", MADRID, WIRE_A, &keys[0])?,
            paris: hub(&star.b, "paris", PARIS, WIRE_B, &keys[1])?,
            keys,
        })
    }

    /// The same, and makes a fleet of them.
    fn joined(star: &'s Star, etcd: &Etcd<'_>, more: &str) -> Result<Self> {
        let fleet = Self::start(star, etcd, more)?;
        let said = done(&fleet.on(&fleet.madrid, &["init"])?)?;
        ensure!(said.contains("made the fleet example"), "{said}");
        let token = done(&fleet.on(&fleet.madrid, &["token", "paris"])?)?;
        ensure!(token.starts_with("taltun-join-1."), "{token}");
        let said = done(&fleet.join(&token)?)?;
        ensure!(
            said.contains("the hub paris of the fleet example"),
            "{said}"
        );
        for node in [&fleet.madrid, &fleet.paris] {
            eventually("both hubs know each other", UP_LIMIT, || {
                let status = status(node)?;
                let hubs = status["hubs"].as_array().context("no hubs")?;
                let live = hubs.iter().filter(|hub| hub["live"] == true).count();
                Ok(live == 2 && status["admin"] == true)
            })?;
        }
        Ok(fleet)
    }

    fn namespace(&self, node: &Node) -> &Namespace {
        if std::ptr::eq(node, &raw const self.madrid) {
            &self.star.a
        } else {
            &self.star.b
        }
    }

    /// `taltun fleet` with the file of a hub, in its namespace.
    fn command(&self, node: &Node, words: &[&str]) -> Result<Command> {
        let mut command = self.namespace(node).command(taltun()?);
        command
            .arg("fleet")
            .args(words)
            .arg("--config")
            .arg(node.config());
        keep_in(&mut command, node.directory());
        Ok(command)
    }

    fn on(&self, node: &Node, words: &[&str]) -> Result<Output> {
        Ok(self.command(node, words)?.stdin(Stdio::null()).output()?)
    }

    /// Joins by a token that nobody sees among the processes.
    fn join(&self, token: &str) -> Result<Output> {
        let mut command = self.command(&self.paris, &["join", "-"])?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(token.as_bytes())?;
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    fn stop(self) -> Result<()> {
        self.madrid.stop(Signal::Terminate)?;
        self.paris.stop(Signal::Terminate)
    }
}

/// Waits until a hub's peers are so, and prints how long it took.
fn wait(what: &str, node: &Node, is_so: impl Fn(&[Peer]) -> bool) -> Result<()> {
    let begun = Instant::now();
    eventually(what, SPREAD, || Ok(is_so(&peers_of(node)?)))?;
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// A peer's name, key and networks.
#[derive(Debug, PartialEq, Eq)]
struct Peer {
    name: String,
    key: String,
    nets: Vec<String>,
}

fn peers_of(node: &Node) -> Result<Vec<Peer>> {
    let status: Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
    let peers = status["peers"].as_array().context("no peers")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let peers = peers.iter().filter(|peer| peer["hub"] == false);
    let peers = peers.map(|peer| Peer {
        name: text(&peer["name"]),
        key: text(&peer["public_key"]),
        nets: peer["allowed_ips"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect(),
    });
    Ok(peers.collect())
}

fn has(peers: &[Peer], name: &str) -> bool {
    peers.iter().any(|peer| peer.name == name)
}

fn status(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(
        &node.tell(&["fleet", "status", "--json"])?,
    )?)
}

fn done(output: &Output) -> Result<String> {
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{err}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a command says that must not do it, in one line.
fn refusal(output: &Output) -> Result<String> {
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "it did it");
    ensure!(err.trim_end().lines().count() == 1, "{err}");
    Ok(err)
}

/// Runs `taltun peer`, which must refuse it.
fn peer_refused(node: &Node, words: &[&str]) -> Result<String> {
    let mut command = node.command();
    command.arg("peer").args(words).stdin(Stdio::null());
    refusal(&command.output()?)
}

/// A client with the file that `peer new` prints, in the middle.
fn client(star: &Star, text: &str, endpoint: &str, hub_key: (&str, &str)) -> Result<Node> {
    let text = text.replace(hub_key.0, hub_key.1);
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("endpoint", _)) => format!("endpoint = \"{endpoint}\""),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    Node::start_with_text(&star.hub, &taltun()?, &text)
}

fn peers() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let etcd = Etcd::start(&star.hub, 3)?;
    let local = Keys::generate(&taltun()?)?;
    let more = format!(
        "[groups]\nstaff = [\"ana\", \"nobody-yet\"]\n[[peers]]\nname = \"local\"\npublic_key = \
         \"{}\"\nvip = \"10.200.0.9\"\n",
        local.public
    );
    let fleet = Fleet::joined(&star, &etcd, &more)?;
    let (madrid, paris) = (&fleet.madrid, &fleet.paris);
    let file = madrid.tell(&["peer", "new", "ana"])?;
    // Neither of the hubs' own addresses.
    ensure!(file.contains("10.200.0.3"), "{file}");
    wait("a new peer at the other hub", paris, |peers| {
        has(peers, "ana")
    })?;
    // She comes in at either hub.
    let keys = (fleet.keys[0].public.as_str(), fleet.keys[1].public.as_str());
    let at_madrid = client(&star, &file, "10.99.1.2:9000", (keys.0, keys.0))?;
    ensure_answers(&star.hub, MADRID.into())?;
    at_madrid.stop(Signal::Terminate)?;
    let at_paris = client(&star, &file, "10.99.2.2:9000", keys)?;
    ensure_answers(&star.hub, PARIS.into())?;

    // Both at once don't get the same address or name.
    let at_once = std::thread::scope(|scope| {
        let new = |node: &Node, name: &'static str| {
            let mut command = node.command();
            command.args(["peer", "new", name]).stdin(Stdio::null());
            scope.spawn(move || command.output())
        };
        let all = [new(madrid, "berta"), new(paris, "carla")];
        all.map(|one| one.join().map(|it| it.map_err(anyhow::Error::from)))
    });
    for output in at_once {
        let output = output.map_err(|_| anyhow::anyhow!("it panicked"))??;
        done(&output)?;
    }
    for node in [madrid, paris] {
        wait("two more", node, |peers| {
            let mut nets: Vec<_> = peers.iter().flat_map(|peer| &peer.nets).collect();
            nets.sort();
            nets.dedup();
            // Ana, both of these and the file's own.
            peers.len() == 4 && nets.len() == 4
        })?;
    }
    let refused = peer_refused(paris, &["new", "berta"])?;
    ensure!(refused.contains("is called \"berta\" already"), "{refused}");
    let refused = peer_refused(paris, &["new", "Dora's phone"])?;
    ensure!(refused.contains("small letters"), "{refused}");
    let refused = peer_refused(paris, &["new", "dora", "--psk"])?;
    ensure!(refused.contains("preshared"), "{refused}");

    // Each change, at the hub where it wasn't made.
    let key = |node: &Node, name: &str| -> Result<String> {
        let peers = peers_of(node)?;
        let found = peers.into_iter().find(|peer| peer.name == name);
        Ok(found.context("no such peer")?.key)
    };
    paris.tell(&["peer", "rename", "berta", "bea"])?;
    wait("another name", madrid, |peers| {
        has(peers, "bea") && !has(peers, "berta")
    })?;
    madrid.tell(&[
        "peer",
        "set",
        "bea",
        "--allowed",
        "192.168.77.0/24",
        "--rate-down",
        "5 Mbit/s",
    ])?;
    wait("another network", paris, |peers| {
        let bea = peers.iter().find(|peer| peer.name == "bea");
        bea.is_some_and(|bea| bea.nets.iter().any(|net| net == "192.168.77.0/24"))
    })?;
    let old = key(paris, "bea")?;
    paris.tell(&["peer", "rotate", "bea"])?;
    wait("another key", madrid, |peers| {
        peers
            .iter()
            .any(|peer| peer.name == "bea" && peer.key != old)
    })?;
    madrid.tell(&["peer", "remove", "bea"])?;
    wait("removed", paris, |peers| !has(peers, "bea"))?;
    // The file's own peer is of one hub alone, and is changed in its file.
    madrid.tell(&["peer", "rename", "local", "of-madrid"])?;
    ensure!(has(&peers_of(paris)?, "local"));
    ensure!(std::fs::read_to_string(madrid.config())?.contains("of-madrid"));
    let said = madrid.tell(&["reload"])?;
    ensure!(said.contains("nothing has changed"), "{said}");
    // She is let go, and that at once.
    madrid.tell(&["peer", "remove", "ana"])?;
    wait("the last one removed", paris, |peers| !has(peers, "ana"))?;
    ensure_silent(&star.hub, PARIS.into())?;
    at_paris.stop(Signal::Terminate)?;
    fleet.stop()
}

fn without_etcd() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let mut etcd = Etcd::start(&star.hub, 3)?;
    let mut fleet = Fleet::joined(&star, &etcd, "")?;
    let file = fleet.madrid.tell(&["peer", "new", "ana"])?;
    wait("the peer", &fleet.paris, |peers| has(peers, "ana"))?;
    let keys = (fleet.keys[0].public.as_str(), fleet.keys[1].public.as_str());
    let ana = client(&star, &file, "10.99.2.2:9000", keys)?;
    ensure_answers(&star.hub, PARIS.into())?;
    eventually("it is on the disk", SPREAD, || {
        Ok(status(&fleet.paris)?["saved_at"].is_number())
    })?;

    // A minority is no quorum.
    etcd.kill(0)?;
    etcd.kill(1)?;
    let before = peers_of(&fleet.madrid)?;
    let refused = peer_refused(&fleet.madrid, &["new", "berta"])?;
    println!("without a quorum: {refused}");
    ensure!(refused.contains("etcd"), "{refused}");
    ensure!(peers_of(&fleet.madrid)? == before);
    etcd.kill(2)?;
    eventually("etcd is missed", Duration::from_secs(30), || {
        let status = status(&fleet.paris)?;
        Ok(status["etcd"]["connected"] == false && status["etcd"]["error"].is_string())
    })?;
    let refused = peer_refused(&fleet.paris, &["new", "berta"])?;
    println!("without etcd: {refused}");
    ensure!(refused.contains("nothing was changed"), "{refused}");
    let answered =
        Pinger::new(&star.hub, PARIS.into())?.count_answers(5, Duration::from_secs(2))?;
    ensure!(answered == 5, "{answered} of 5 pings while etcd is away");
    // A ban waits.
    fleet
        .madrid
        .tell(&["ban", "198.51.100.0/24", "--for", "10m"])?;
    ensure!(status(&fleet.madrid)?["pending"] == 1);

    // A hub that is killed starts from its disk.
    fleet.paris.kill()?;
    fleet.paris.start_again(&star.b)?;
    wait("the peer from the disk", &fleet.paris, |peers| {
        has(peers, "ana")
    })?;
    ensure_answers_within(&star.hub, PARIS.into(), Duration::from_secs(40))?;
    let shown = fleet.paris.tell(&["fleet", "status"])?;
    ensure!(shown.contains("as its disk has it, saved"), "{shown}");

    for at in 0..3 {
        etcd.run(at)?;
    }
    for node in [&fleet.madrid, &fleet.paris] {
        eventually("etcd is back", Duration::from_secs(60), || {
            let status = status(node)?;
            Ok(status["etcd"]["connected"] == true && status["pending"] == 0)
        })?;
    }
    eventually("the ban that waited", SPREAD, || {
        Ok(fleet
            .paris
            .stats()?
            .denied
            .iter()
            .any(|net| net == "198.51.100.0/24"))
    })?;
    fleet.paris.tell(&["peer", "new", "berta"])?;
    wait("a change as before", &fleet.madrid, |peers| {
        has(peers, "berta")
    })?;
    ana.stop(Signal::Terminate)?;
    fleet.stop()
}

fn bans() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let etcd = Etcd::start(&star.hub, 1)?;
    let fleet = Fleet::joined(&star, &etcd, "")?;
    let (madrid, paris) = (&fleet.madrid, &fleet.paris);
    let file = madrid.tell(&["peer", "new", "ana"])?;
    wait("the peer", paris, |peers| has(peers, "ana"))?;
    let keys = (fleet.keys[0].public.as_str(), fleet.keys[1].public.as_str());
    let ana = client(&star, &file, "10.99.2.2:9000", keys)?;
    ensure_answers(&star.hub, PARIS.into())?;
    let is_denied = |node: &Node, net: &str| -> Result<bool> {
        let stats = node.stats()?;
        let all = stats.denied.iter().chain(&stats.denied_inner);
        Ok(all.into_iter().any(|denied| denied == net))
    };
    // Outside, where she comes from.
    let net = format!("{}/32", WIRE_B.near_v4());
    let begun = Instant::now();
    let said = madrid.tell(&["ban", &net, "--for", "10m"])?;
    ensure!(said.contains("all hubs of the fleet"), "{said}");
    eventually("the other hub obeys", SPREAD, || is_denied(paris, &net))?;
    println!(
        "a ban at the other hub: {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    ensure_silent(&star.hub, PARIS.into())?;
    // One that starts later has it as well, and what one hub lifts is lifted.
    let said = paris.tell(&["unban", &net])?;
    ensure!(said.contains("all hubs of the fleet"), "{said}");
    eventually("it is lifted", SPREAD, || Ok(!is_denied(madrid, &net)?))?;
    ensure_answers(&star.hub, PARIS.into())?;
    // Inside, by her name; and one without an end, which is nobody else's.
    madrid.tell(&["ban", "ana", "--for", "10m"])?;
    eventually("inside", SPREAD, || is_denied(paris, "10.200.0.3/32"))?;
    ensure_silent(&star.hub, PARIS.into())?;
    let said = madrid.tell(&["ban", "203.0.113.0/24"])?;
    ensure!(said.contains("on this hub alone"), "{said}");
    // A short one ends everywhere.
    madrid.tell(&["ban", "203.0.113.7/32", "--for", "3s"])?;
    eventually("a short one", SPREAD, || is_denied(paris, "203.0.113.7/32"))?;
    eventually("it ends", SPREAD, || {
        Ok(!is_denied(paris, "203.0.113.7/32")?)
    })?;
    ensure!(!is_denied(paris, "203.0.113.0/24")?);
    ensure!(is_denied(paris, "10.200.0.3/32")?);
    ana.stop(Signal::Terminate)?;
    fleet.stop()
}

fn stolen() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let etcd = Etcd::start(&star.hub, 1)?;
    let fleet = Fleet::joined(&star, &etcd, "")?;
    let (madrid, paris) = (&fleet.madrid, &fleet.paris);
    for name in ["ana", "berta"] {
        madrid.tell(&["peer", "new", name])?;
    }
    wait("both peers", paris, |peers| {
        has(peers, "ana") && has(peers, "berta")
    })?;
    let prefix = "/taltun/v1/example/";
    let keys = etcd.ctl(
        0,
        &["get", "--prefix", "--keys-only", &format!("{prefix}peers/")],
    )?;
    let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
    ensure!(keys.len() == 2, "{keys:?}");
    let value = |key: &str| etcd.ctl(0, &["get", "--print-value-only", key]);
    let (old, record) = (keys[0], value(keys[0])?);
    // Records under other keys, changed ones, garbage.
    let thief = format!("{prefix}peers/{}", "ab".repeat(32));
    let changed = record.replace("10.200.0.", "10.200.1.");
    for (key, value) in [
        (thief.as_str(), record.trim()),
        (keys[1], changed.trim()),
        (&format!("{prefix}hubs/thief"), "{\"version\":1}"),
        (&format!("{prefix}config"), "[[[["),
        (&format!("{prefix}bans/0.0.0.0/0"), "{\"version\":9}"),
    ] {
        etcd.ctl(0, &["put", key, value])?;
    }
    let before = peers_of(madrid)?;
    eventually("it is told", SPREAD, || {
        let problems = status(paris)?["problems"].to_string();
        Ok(problems.contains("doesn't count"))
    })?;
    ensure!(peers_of(paris)? == before, "{:?}", peers_of(paris)?);
    // A removed peer doesn't come back with an old record, and is removed again in etcd.
    let name = if record.contains("berta") {
        "berta"
    } else {
        "ana"
    };
    madrid.tell(&["peer", "remove", name])?;
    wait("removed", paris, |peers| !has(peers, name))?;
    etcd.ctl(0, &["put", old, record.trim()])?;
    eventually("etcd has the removal again", SPREAD, || {
        Ok(value(old)?.contains("\"removed\":true"))
    })?;
    ensure!(!has(&peers_of(madrid)?, name) && !has(&peers_of(paris)?, name));
    // All of it deleted: the hubs have it, and bring it back.
    etcd.ctl(0, &["del", "--prefix", prefix])?;
    eventually("etcd has it again", SPREAD, || {
        let keys = etcd.ctl(
            0,
            &["get", "--prefix", "--keys-only", &format!("{prefix}peers/")],
        )?;
        Ok(keys.lines().filter(|line| !line.is_empty()).count() == 2)
    })?;
    ensure!(peers_of(madrid)?.len() == 1 && peers_of(paris)?.len() == 1);
    // What doesn't count is gone, and so is what was told of it.
    eventually("no problem is told any more", SPREAD, || {
        Ok(status(paris)?["problems"]
            .as_array()
            .is_some_and(Vec::is_empty))
    })?;
    fleet.stop()
}

fn refused() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let etcd = Etcd::start(&star.hub, 1)?;
    let fleet = Fleet::start(&star, &etcd, "")?;
    let (madrid, paris) = (&fleet.madrid, &fleet.paris);
    let refused = peer_refused(madrid, &["new", "ana"])?;
    ensure!(refused.contains("isn't in its fleet yet"), "{refused}");
    let refused = refusal(&fleet.on(madrid, &["token", "paris"])?)?;
    ensure!(refused.contains("isn't in the fleet"), "{refused}");
    done(&fleet.on(madrid, &["init"])?)?;
    for (node, words, reason) in [
        (
            madrid,
            &["init"][..],
            "is the hub madrid of the fleet example already",
        ),
        (paris, &["init"], "a fleet called example already"),
        (paris, &["join", "taltun-join-1.x"], "no whole token"),
        (madrid, &["token", "Paris"], "small letters"),
        (madrid, &["token", "madrid"], "a hub called madrid already"),
    ] {
        let refused = refusal(&fleet.on(node, words)?)?;
        ensure!(refused.contains(reason), "{words:?}: {refused}");
    }
    // A token is for one hub, once.
    let rome = done(&fleet.on(madrid, &["token", "rome"])?)?;
    let refused = refusal(&fleet.join(&rome)?)?;
    ensure!(refused.contains("for the hub rome"), "{refused}");
    let token = done(&fleet.on(madrid, &["token", "paris", "--serve-only"])?)?;
    // Another fleet's key isn't this one's, and nobody throws it away; the token is still good afterwards.
    let state = fleet_dir(paris);
    let foreign = state.join("admin.key");
    std::fs::create_dir_all(&state)?;
    std::fs::write(&foreign, "07".repeat(32))?;
    let refused = refusal(&fleet.join(&token)?)?;
    ensure!(
        refused.contains("is no admin's key of the fleet example"),
        "{refused}"
    );
    std::fs::remove_file(&foreign)?;
    done(&fleet.join(&token)?)?;
    let kept = std::fs::read(state.join("member.json"))?;
    std::fs::remove_dir_all(&state)?;
    let refused = refusal(&fleet.join(&token)?)?;
    ensure!(refused.contains("was used already"), "{refused}");
    std::fs::create_dir_all(&state)?;
    std::fs::write(state.join("member.json"), kept)?;
    for node in [madrid, paris] {
        eventually("it notices", SPREAD, || {
            let status = status(node)?;
            Ok(status["joined"] == true && status["etcd"]["connected"] == true)
        })?;
    }
    // A hub that only serves has the peers and changes none.
    madrid.tell(&["peer", "new", "ana"])?;
    wait("the peer", paris, |peers| has(peers, "ana"))?;
    let refused = peer_refused(paris, &["remove", "ana"])?;
    ensure!(refused.contains("hasn't the admin's key"), "{refused}");
    // One that lost its disk joins again under its name, by a token for that.
    let refused = refusal(&fleet.on(madrid, &["token", "paris"])?)?;
    ensure!(refused.contains("--replace"), "{refused}");
    let refused = refusal(&fleet.on(madrid, &["token", "rome", "--replace"])?)?;
    ensure!(refused.contains("no hub called rome"), "{refused}");
    let token = done(&fleet.on(madrid, &["token", "paris", "--replace"])?)?;
    std::fs::remove_file(state.join("member.json"))?;
    done(&fleet.join(&token)?)?;
    let text = paris.tell(&["fleet", "status"])?;
    ensure!(
        text.contains("fleet example, hub paris") && text.contains("madrid  connected"),
        "{text}"
    );
    fleet.stop()
}
