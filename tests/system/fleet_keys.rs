//! Keys of a fleet: a hub that was stolen, with the admin's key on its disk, and hubs that are removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::etcd::Etcd;
use taltun_tests::node::Node;
use taltun_tests::topology::{Lan, private_prefix};

use crate::fleet_mesh::{Hubs, answer_keys, fleet_dir, status};
use crate::support::{Case, eventually};

pub const CASES: &[Case] = &[Case {
    name: "fleet keys: who stole a hub adds no peer once the admin's key is rotated, and can't take that back",
    programs: &["etcd", "etcdctl"],
    run: stolen_hub,
}];

const PREFIX: &str = "/taltun/v1/example/";
/// What a change may take to be everywhere.
const SPREAD: Duration = Duration::from_secs(20);
const MADRID: u8 = 0;
const PARIS: u8 = 1;
const ROME: u8 = 2;

fn stolen_hub() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 3)?;
    let etcd = Etcd::start(&lan.bridge, 1)?;
    let mut hubs = Hubs::joined(&lan, &etcd, 3, "group = \"eu\"\n")?;
    for name in ["ana", "bea"] {
        hubs.peer(name)?;
    }
    for node in &hubs.nodes {
        eventually("all are admins, with the group's key", SPREAD, || {
            Ok(status(node)?["admin"] == true && answers_as(node)?.len() == 1)
        })?;
    }
    let group = answers_as(hubs.node(MADRID))?;
    let token = hubs.fleet(MADRID, &["token", "paris", "--replace"])?;
    eventually("Paris has it on its disk", SPREAD, || {
        let snapshot = fleet_dir(hubs.node(PARIS)).join("snapshot");
        Ok(fs::read_to_string(snapshot).is_ok_and(|text| text.contains("bea")))
    })?;
    // Rome is away meanwhile, and somebody has the disk of Paris.
    hubs.nodes[usize::from(ROME)].kill()?;
    hubs.nodes[usize::from(PARIS)].kill()?;
    let stolen = tempfile::tempdir()?;
    copy(&fleet_dir(hubs.node(PARIS)), stolen.path())?;
    let old = etcd.ctl(
        0,
        &[
            "get",
            "--prefix",
            "--print-value-only",
            &format!("{PREFIX}peers/"),
        ],
    )?;
    let before = status(hubs.node(MADRID))?["admin_key"].clone();

    let said = hubs
        .node(MADRID)
        .tell(&["fleet", "key", "rotate", "--without", "paris"])?;
    println!("{said}");
    ensure!(
        said.contains("has a new key") && said.contains("rome"),
        "{said}"
    );
    eventually("all is signed anew", SPREAD, || {
        let status = status(hubs.node(MADRID))?;
        Ok(status["to_sign"] == 0
            && status["pending"] == 0
            && names(&status)? == ["madrid", "rome"])
    })?;
    let after = status(hubs.node(MADRID))?["admin_key"].clone();
    ensure!(after != before, "{after}");
    ensure!(
        answers_as(hubs.node(MADRID))? == group,
        "clients know another key"
    );
    // The one that was away believes the same, and gets the new key.
    hubs.nodes[usize::from(ROME)].start_again(&lan.hosts[usize::from(ROME)])?;
    eventually("rome has the new key", SPREAD, || {
        let status = status(hubs.node(ROME))?;
        Ok(status["admin"] == true
            && status["admin_key"] == after
            && names(&status)? == ["madrid", "rome"])
    })?;
    ensure!(
        answers_as(hubs.node(ROME))? == group,
        "clients know another key"
    );
    hubs.node(ROME).tell(&["peer", "new", "carla"])?;
    eventually("what the new key signs counts", SPREAD, || {
        Ok(peers(hubs.node(MADRID))? == ["ana", "bea", "carla"])
    })?;
    let refused = hubs.fleet(PARIS, &["join", token.trim()]).err();
    let refused = refused
        .context("a token of the old key is good")?
        .to_string();
    ensure!(refused.contains("already"), "{refused}");
    fs::remove_dir_all(fleet_dir(hubs.node(PARIS)))?;
    let refused = hubs.fleet(PARIS, &["join", token.trim()]).err();
    let refused = refused
        .context("a token of the old key is good")?
        .to_string();
    ensure!(refused.contains("was rotated"), "{refused}");

    steal(&mut hubs, &etcd, stolen.path(), &after)?;
    bring_back(&hubs, &etcd, &old, &group)?;
    let said = hubs
        .node(MADRID)
        .tell(&["fleet", "hub", "remove", "rome"])?;
    ensure!(said.contains("had the admin's key"), "{said}");
    eventually("rome is no hub any more, and says so", SPREAD, || {
        let problems = status(hubs.node(ROME))?["problems"].to_string();
        Ok(names(&status(hubs.node(MADRID))?)? == ["madrid"]
            && problems.contains("removed this hub"))
    })?;
    // It was killed above.
    drop(hubs.nodes.remove(usize::from(PARIS)));
    hubs.stop()
}

/// Who has the disk of Paris has etcd for itself: it takes the rotation away, brings back what was, signs a peer, and
/// rotates the old key to one of its own.
fn steal(hubs: &mut Hubs<'_>, etcd: &Etcd<'_>, disk: &Path, after: &Value) -> Result<()> {
    let lan = hubs.lan;
    for hub in [MADRID, ROME] {
        hubs.nodes[usize::from(hub)].kill()?;
    }
    etcd.ctl(0, &["del", "--prefix", &format!("{PREFIX}admins/")])?;
    copy(disk, &fleet_dir(hubs.node(PARIS)))?;
    hubs.nodes[usize::from(PARIS)].start_again(&lan.hosts[usize::from(PARIS)])?;
    eventually("the thief is admin of what it has", SPREAD, || {
        let status = status(hubs.node(PARIS))?;
        Ok(status["etcd"]["connected"] == true && status["admin"] == true)
    })?;
    hubs.node(PARIS)
        .tell(&["peer", "new", "thief", "--address", "10.200.0.77"])?;
    hubs.node(PARIS).tell(&["fleet", "key", "rotate"])?;
    eventually("the thief has signed all anew", SPREAD, || {
        Ok(status(hubs.node(PARIS))?["to_sign"] == 0)
    })?;
    for hub in [MADRID, ROME] {
        hubs.nodes[usize::from(hub)].start_again(&lan.hosts[usize::from(hub)])?;
    }
    for hub in [MADRID, ROME] {
        eventually("the thief is told", SPREAD, || {
            let status = status(hubs.node(hub))?;
            ensure!(!peers(hubs.node(hub))?.contains(&"thief".to_owned()));
            Ok(status["etcd"]["connected"] == true
                && status["problems"]
                    .to_string()
                    .contains("had another rotation of the admin's key"))
        })?;
    }
    hubs.nodes[usize::from(PARIS)].kill()?;
    eventually("etcd has the first rotation again", SPREAD, || {
        let rotation = etcd.ctl(
            0,
            &[
                "get",
                "--print-value-only",
                &format!("{PREFIX}admins/00000001"),
            ],
        )?;
        let after = after.as_str().context("no key")?;
        Ok(rotation.contains(after))
    })?;
    Ok(())
}

/// Somebody writes records of the old key into etcd.
fn bring_back(hubs: &Hubs<'_>, etcd: &Etcd<'_>, old: &str, group: &[String]) -> Result<()> {
    hubs.node(MADRID).tell(&["peer", "remove", "ana"])?;
    for (number, record) in old.lines().filter(|line| !line.is_empty()).enumerate() {
        etcd.ctl(
            0,
            &[
                "put",
                &format!("{PREFIX}peers/{}", format!("{number:02}").repeat(32)),
                record,
            ],
        )?;
    }
    for hub in [MADRID, ROME] {
        eventually("without ana", SPREAD, || {
            Ok(peers(hubs.node(hub))? == ["bea", "carla"])
        })?;
        ensure!(
            answers_as(hubs.node(hub))? == group,
            "clients know another key"
        );
    }
    Ok(())
}

fn names(status: &Value) -> Result<Vec<String>> {
    let hubs = status["hubs"].as_array().context("no hubs")?;
    let name = |hub: &Value| hub["name"].as_str().unwrap_or_default().to_owned();
    Ok(hubs.iter().map(name).collect())
}

/// The public keys that the hubs answer as by what a hub knows, each once.
fn answers_as(node: &Node) -> Result<Vec<String>> {
    let mut keys = answer_keys(node)?;
    keys.retain(|key| !key.is_empty());
    keys.sort();
    keys.dedup();
    Ok(keys)
}

/// The names of the fleet's peers at a hub.
fn peers(node: &Node) -> Result<Vec<String>> {
    let status: Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
    let peers = status["peers"].as_array().context("no peers")?;
    let peers = peers.iter().filter(|peer| peer["hub"] == false);
    let mut names: Vec<String> = peers
        .filter_map(|peer| peer["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
