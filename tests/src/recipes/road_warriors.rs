//! Recipe B: road warriors who reach each other through the hub, from wherever they are.
//!
//! ```text
//!  alice 10.6.0.2 ═══╗
//!  bob   10.6.0.3 ═══╬═══ internet ═══ hub 10.6.0.1
//!  mallory, no peer ═╝
//! ```

use anyhow::{Result, ensure};

use super::internet::{HERE, HOME, HUB, THERE};
use super::{Deployment, Findings, SILENCE, answers, sees, silent};
use crate::node::Keys;
use crate::traffic::ping::Pinger;
use crate::traffic::service::Service;

pub(super) fn build(lab: &mut Deployment) -> Result<()> {
    lab.add_machine("hub", HUB)?;
    lab.add_machine("alice", HERE)?;
    lab.add_machine("bob", THERE)?;
    lab.add_machine("mallory", HOME)?;
    lab.start_node("hub", "hub")?;
    lab.start_node("alice", "alice")?;
    lab.start_node("bob", "bob")
}

pub(super) fn check(lab: &mut Deployment, findings: &mut Findings<'_>) {
    for (name, from, to) in [
        ("alice reaches the hub", "alice", ["10.6.0.1", "fd06::1"]),
        ("bob reaches the hub", "bob", ["10.6.0.1", "fd06::1"]),
        (
            "alice reaches bob through the hub",
            "alice",
            ["10.6.0.3", "fd06::3"],
        ),
        (
            "bob reaches alice through the hub",
            "bob",
            ["10.6.0.2", "fd06::2"],
        ),
        ("the hub reaches both", "hub", ["10.6.0.2", "fd06::3"]),
    ] {
        findings.look(name, || {
            let from = lab.namespace(from)?;
            Ok(format!(
                "{}, {}",
                answers(from, to[0])?,
                answers(from, to[1])?
            ))
        });
    }
    findings.look("bob's service sees alice, untranslated", || {
        let bob = lab.namespace("bob")?;
        let _service = Service::start(bob, "10.6.0.3:8080".parse()?)?;
        sees(lab.namespace("alice")?, "10.6.0.3:8080", "10.6.0.2")
    });
    findings.look("alice can't send as bob", || {
        let alice = lab.namespace("alice")?;
        let before = lab.node("hub")?.stats()?.dropped("inner_source");
        alice.ip("addr add 10.6.0.3/32 dev taltun0")?;
        let mut pinger = Pinger::from_source(alice, "10.6.0.3".parse()?, "10.6.0.1".parse()?)?;
        let answered = pinger.count_answers(3, SILENCE)?;
        alice.ip("addr del 10.6.0.3/32 dev taltun0")?;
        ensure!(answered == 0, "{answered} of 3 pings were answered");
        let dropped = lab.node("hub")?.stats()?.dropped("inner_source") - before;
        ensure!(dropped == 3, "{dropped} of 3 packets were counted");
        Ok("all 3 were dropped and counted as inner_source".into())
    });
    findings.look("mallory, whose key nobody knows, isn't let in", || {
        let keys = Keys::generate(&lab.taltun)?;
        let text: String = lab
            .files
            .text("alice")?
            .lines()
            .map(|line| match line.split_once('=') {
                Some(("private_key ", _)) => format!("private_key = \"{}\"\n", keys.private),
                _ => format!("{line}\n"),
            })
            .collect();
        lab.start_node_with("mallory", &text)?;
        let outcome = silent(lab.namespace("mallory")?, "10.6.0.1");
        let status = lab.node("mallory")?.status()?;
        ensure!(status.peers[0].handshakes == 0, "the hub shook hands");
        outcome
    });
    findings.look("and has taken alice's place from nobody", || {
        answers(lab.namespace("bob")?, "10.6.0.2")
    });
}
