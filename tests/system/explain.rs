//! `taltun explain`: what it foretells of a packet is what becomes of it.
//!
//! Each reason is foretold, then provoked by pings or a connection, and has to be counted as often
//! as packets were sent.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Keys;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::service::{Service, visit};

use crate::support::{Case, SILENCE, UP_LIMIT, ensure_answers, eventually};
use crate::two_peers::TwoPeers;

pub const CASES: &[Case] = &[
    Case {
        name: "explain: what it foretells is what happens and what is counted",
        programs: &[],
        run: foretells,
    },
    Case {
        name: "explain: what can't be asked is said",
        programs: &[],
        run: mistakes,
    },
];

const HUB: &str = "10.200.0.1";
const ANA: &str = "10.200.0.2";
const LUIS: &str = "10.200.0.3";
const LUIS_V6: &str = "fd00:200::3";
/// Pings that provoke a drop.
const PINGS: u64 = 3;

/// What ana may not do.
const MORE: &str = r#"
[[rules]]
from = "ana"
to = "luis"
deny = "tcp/81"
[[rules]]
from = "hub"
to = "luis"
deny = "icmp"
"#;

/// One who is never heard from.
const EVA: &str = "[[peers]]\nname = \"eva\"\n\
     public_key = \"/8hzEf4JYBAFaC0aWrhM2w5LYMLlBf5CCi/vXdjHFhA=\"\nvip = \"10.200.0.4\"\n";

/// A hub with ana, luis and eva.
fn start() -> Result<TwoPeers> {
    let hub = TwoPeers::start(|keys| text(keys, "", MORE))?;
    hub.reload(&text(&hub.keys, EVA, MORE))?;
    Ok(hub)
}

/// What the hub's file says.
pub fn text(keys: &[Keys; 3], luis: &str, more: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nlocal_addr = \":9100\"\nvip = [\"10.200.0.1/24\", \"fd00:200::1/64\"]\n\
         private_key = \"{}\"\n\
         [[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = [\"10.200.0.2\", \"fd00:200::2\"]\n\
         [[peers]]\nname = \"luis\"\npublic_key = \"{}\"\nvip = [\"10.200.0.3\", \"fd00:200::3\"]\n{luis}\
         {more}",
        keys[0].private, keys[1].public, keys[2].public
    )
}

fn foretells() -> Result<()> {
    let hub = start()?;
    let (ana, host) = (&hub.star.a, &hub.star.hub);

    let _service = Service::start(&hub.star.b, format!("{LUIS}:80").parse()?)?;
    let told = asked(&hub, &["ana", "luis", "tcp/80"])?;
    ensure!(told["passes"] == true, "{told}");
    ensure!(last(&told)?["step"] == "session", "{told}");
    visit(ana, format!("{LUIS}:80").parse()?, UP_LIMIT)?;
    for passes in [
        ["ana", LUIS_V6, "icmp"],
        ["ana", "hub", "icmp"],
        ["hub", "ana", "icmp"],
    ] {
        let told = asked(&hub, &passes)?;
        ensure!(told["passes"] == true, "{told}");
        let from = if passes[0] == "hub" { host } else { ana };
        ensure_answers(
            from,
            told["destination"]
                .as_str()
                .context("no destination")?
                .parse()?,
        )?;
    }

    // By a rule, of which the line is said.
    let told = asked(&hub, &["ana", "luis", "tcp/81"])?;
    ensure!(told["reason"] == "rule", "{told}");
    let origin = last(&told)?["origin"]
        .as_str()
        .context("no origin")?
        .to_owned();
    let file = std::fs::read_to_string(hub.node.config())?;
    let line: usize = origin.rsplit(':').next().context("no line")?.parse()?;
    let written = file.lines().nth(line - 1).context("no such line")?;
    ensure!(written.contains("[[rules]]"), "{origin} is {written:?}");
    provoked(&hub, "rule", || {
        // A connection isn't tried again within the moment that this waits.
        let visited = visit(ana, format!("{LUIS}:81").parse()?, SILENCE);
        ensure!(visited.is_err(), "it got through");
        Ok(None)
    })?;

    let steps: &[(&[&str], &str, &Namespace, &str, &str)] = &[
        (&["hub", "luis", "icmp"], "rule", host, HUB, LUIS),
        (
            &["hub", "10.200.0.77", "icmp"],
            "no_peer",
            host,
            HUB,
            "10.200.0.77",
        ),
        (
            &["hub", "eva", "icmp"],
            "no_endpoint",
            host,
            HUB,
            "10.200.0.4",
        ),
        (
            &["ana", "hub", "icmp", "--source", "10.200.0.9"],
            "inner_source",
            ana,
            "10.200.0.9",
            HUB,
        ),
    ];
    ana.ip("addr add 10.200.0.9/32 dev lo")?;
    for (question, reason, namespace, source, destination) in steps {
        foretold(&hub, question, reason)?;
        pinged(&hub, reason, namespace, source, destination)?;
    }

    hub.node.tell(&["ban", "--inner", ANA])?;
    foretold(&hub, &["ana", "luis", "icmp"], "inner_denied")?;
    pinged(&hub, "inner_denied", ana, ANA, LUIS)?;
    hub.node.tell(&["unban", "--inner", ANA])?;

    hub.node.tell(&["ban", "10.99.1.2"])?;
    foretold(&hub, &["ana", "luis", "icmp"], "denied")?;
    pinged(&hub, "denied", ana, ANA, LUIS)?;
    hub.node.tell(&["unban", "10.99.1.2"])?;
    let told = asked(&hub, &["ana", "luis", "icmp", "--outer", "203.0.113.9"])?;
    ensure!(told["passes"] == true, "{told}");

    hub.reload(&text(&hub.keys, "quota = \"1 KB/day\"\n", MORE))?;
    eventually("luis has used up his quota", UP_LIMIT, || {
        Ok(asked(&hub, &["ana", "luis", "icmp"])?["reason"] == "peer_refused")
    })?;
    pinged(&hub, "peer_refused", ana, ANA, LUIS)?;
    hub.end()
}

fn mistakes() -> Result<()> {
    let hub = start()?;
    for (question, says) in [
        (
            ["nobody", "luis", "icmp"],
            "neither an address nor a peer's name",
        ),
        (["ana", "luis", "tcp"], "name a port"),
        (["ana", "luis", "tcp/80-81"], "one port"),
        (["ana", "luis", "any"], "one protocol"),
        (["eva", LUIS_V6, "icmp"], "no addresses of the same family"),
    ] {
        let output = hub.node.command().arg("explain").args(question).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2), "{question:?}: {said}");
        ensure!(said.contains(says), "{question:?}: {said}");
    }
    let told = output_of(hub.node.command().args(["explain", "ana", "hub", "icmp"]))?;
    ensure!(
        told.contains("passes") && told.contains("to this host"),
        "{told}"
    );
    hub.end()
}

/// What it says about a packet.
fn asked(hub: &TwoPeers, question: &[&str]) -> Result<Value> {
    let output = hub
        .node
        .command()
        .arg("explain")
        .args(question)
        .arg("--json")
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let code = i32::from(told["passes"] != true);
    ensure!(
        output.status.code() == Some(code),
        "{}: {told}",
        output.status
    );
    Ok(told)
}

fn last(told: &Value) -> Result<&Value> {
    told["steps"]
        .as_array()
        .and_then(|steps| steps.last())
        .context("no steps")
}

/// It says that a packet is dropped, and why.
pub fn foretold(hub: &TwoPeers, question: &[&str], reason: &str) -> Result<()> {
    let told = asked(hub, question)?;
    ensure!(
        told["passes"] == false && told["reason"] == reason,
        "{question:?}: {told}"
    );
    ensure!(last(&told)?["passes"] == false, "{question:?}: {told}");
    Ok(())
}

/// Pings are dropped for this reason.
fn pinged(hub: &TwoPeers, reason: &str, from: &Namespace, source: &str, to: &str) -> Result<()> {
    let (source, to): (IpAddr, IpAddr) = (source.parse()?, to.parse()?);
    provoked(hub, reason, || {
        let answered =
            Pinger::from_source(from, source, to)?.count_answers(PINGS as usize, SILENCE)?;
        ensure!(answered == 0, "{reason}: {answered} pings were answered");
        Ok(Some(PINGS))
    })
    .with_context(|| format!("{source} to {to}"))
}

/// What is done is counted by this reason, as often as packets were sent, where that is known.
fn provoked(hub: &TwoPeers, reason: &str, act: impl FnOnce() -> Result<Option<u64>>) -> Result<()> {
    let count = || -> Result<u64> {
        let stats: Value = serde_json::from_str(&hub.node.tell(&["stats", "--json"])?)?;
        stats["drops"][reason].as_u64().context("no such reason")
    };
    let before = count()?;
    let sent = act()?.unwrap_or(1);
    let counted = count()? - before;
    // Others may be dropped for the same: of keepalives and handshakes there are few.
    ensure!(counted >= sent, "{reason}: {counted} counted of {sent}");
    Ok(())
}
