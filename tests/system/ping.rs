//! `taltun ping`: round trips through the tunnel and past it, and what it says where none come back.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::finish_within;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;

use crate::support::{Case, UP_LIMIT};
use crate::two_peers::TwoPeers;

pub const CASES: &[Case] = &[Case {
    name: "ping: the round trip through the tunnel stands beside the path's, and silence has its reason",
    programs: &[],
    run: ping,
}];

/// One who is never heard from, and one who has a network and no address of its own.
const OTHERS: &str = "[[peers]]\nname = \"eva\"\n\
     public_key = \"/8hzEf4JYBAFaC0aWrhM2w5LYMLlBf5CCi/vXdjHFhA=\"\nvip = \"10.200.0.4\"\n\
     [[peers]]\nname = \"office\"\n\
     public_key = \"gcrUqHa1yRyAWyBE2TILyHAVRtZ8UM4x6YUYkKF6ZnE=\"\nallowed_ips = [\"10.201.0.0/24\"]\n";

fn ping() -> Result<()> {
    let hub = TwoPeers::start(|keys| crate::explain::text(keys, "", OTHERS))?;
    let host = &hub.star.hub;

    // By name, by both addresses.
    for (whom, address) in [
        ("ana", "10.200.0.2"),
        ("10.200.0.3", "10.200.0.3"),
        ("fd00:200::2", "fd00:200::2"),
    ] {
        let (told, code) = json(&hub.node, host, &[whom, "--count", "3", "--every", "0.02"])?;
        ensure!(code == 0, "{whom}: {told}");
        ensure!(told["tunnel"]["address"] == address, "{told}");
        for way in ["tunnel", "path"] {
            let way = &told[way];
            ensure!(way["sent"] == 3 && way["received"] == 3, "{told}");
            let times = ["min", "median", "p99", "max"];
            let times = times.map(|time| way[format!("{time}_seconds")].as_f64());
            let [Some(min), Some(median), Some(p99), Some(max)] = times else {
                anyhow::bail!("a time is missing: {told}");
            };
            ensure!(
                0.0 < min && min <= median && median <= p99 && p99 <= max && max < 5.0,
                "{told}"
            );
        }
    }

    // For people.
    let (text, code) = told(&hub.node, host, &["ana", "--count", "2", "--every", "0.02"])?;
    ensure!(code == 0, "{text}");
    for part in [
        "ana over ",
        "10.200.0.2 in the tunnel, 10.99.1.2 outside",
        "    2   tunnel ",
        "2 of 2",
    ] {
        ensure!(text.contains(part), "{part:?} isn't in {text}");
    }

    // What doesn't come back.
    let (text, code) = told(&hub.node, host, &["eva", "--count", "2", "--every", "0.02"])?;
    ensure!(code == 1, "{text}");
    for part in ["there was no handshake yet", "nothing came back", "0 of 2"] {
        ensure!(text.contains(part), "{part:?} isn't in {text}");
    }

    hub.node.tell(&["ban", "10.200.0.2", "--inner"])?;
    let (text, code) = told(&hub.node, host, &["ana", "--count", "2", "--every", "0.02"])?;
    ensure!(
        code == 1 && text.contains("banned: 10.200.0.2/32"),
        "{text}"
    );
    hub.node.tell(&["unban", "--inner", "10.200.0.2"])?;

    // What can't be asked.
    for (arguments, why) in [
        (&["nobody"][..], "is no peer's name or key"),
        (&["10.200.0.1"], "this machine's own address"),
        (&["192.0.2.7"], "is no peer's address"),
        (&["office"], "give the address instead of the name"),
        (&["ana", "--every", "0"], "from 0.01 to 60"),
        (&["ana", "--count", "0"], "not in 1..="),
    ] {
        let (text, code) = told(&hub.node, host, arguments)?;
        ensure!(code != 0 && text.contains(why), "{arguments:?}: {text}");
    }
    hub.end()
}

fn json(node: &Node, namespace: &Namespace, arguments: &[&str]) -> Result<(Value, i32)> {
    let arguments = [arguments, &["--json"]].concat();
    let (text, code) = told(node, namespace, &arguments)?;
    let value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
    Ok((value, code))
}

/// Both outputs, and the exit code.
fn told(node: &Node, namespace: &Namespace, arguments: &[&str]) -> Result<(String, i32)> {
    let mut command = node.command();
    command.arg("ping").args(arguments);
    let ended = namespace.run(|| finish_within(&mut command, UP_LIMIT))??;
    let text = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok((text.concat(), ended.status.code().unwrap_or(-1)))
}
