//! What went wrong with a peer, and when: `taltun status PEER`.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use taltun_tests::node::Keys;

use crate::raw_peer::RawPeer;
use crate::support::{Case, UP_LIMIT, eventually, taltun};
use crate::two_peers::TwoPeers;

pub const CASES: &[Case] = &[Case {
    name: "status: of one peer it tells what went wrong last, and that it is over",
    programs: &[],
    run: of_one,
}];

fn of_one() -> Result<()> {
    let keys = Keys::generate(&taltun()?)?;
    let more = format!(
        "[[peers]]\nname = \"eva\"\npublic_key = \"{}\"\nvip = \"10.200.0.4\"\n",
        keys.public
    );
    let hub = TwoPeers::start(|own| crate::explain::text(own, "", &more))?;
    let (from, to) = ("10.99.1.2:0".parse()?, "10.99.1.1:9100".parse()?);
    let mut eva = RawPeer::new(&hub.star.a, from, &keys, to, &hub.keys[0].public)?;
    let peer = || -> Result<Value> {
        let told = hub.node.tell(&["status", "eva", "--json"])?;
        let status: Value = serde_json::from_str(&told)?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        ensure!(peers.len() == 1 && peers[0]["name"] == "eva", "{status}");
        Ok(peers[0].clone())
    };
    ensure!(peer()?["problem"].is_null() && peer()?["last_problem"].is_null());

    // It begins a handshake, and again by a clock of two hours before.
    for ago in [0, 7200] {
        let message = eva.initiation(Duration::from_secs(ago))?.1;
        eva.send(&message)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    eventually("its clock is the problem", UP_LIMIT, || {
        Ok(peer()?["problem"]["cause"] == "clock")
    })?;
    let text = hub.node.tell(&["status", "--peer", "eva"])?;
    ensure!(text.contains("its clock went backwards"), "{text}");
    ensure!(!text.contains("peer: ana"), "{text}");

    eva.connect()?;
    eventually("it is over", UP_LIMIT, || {
        let peer = peer()?;
        Ok(peer["problem"].is_null() && peer["last_problem"]["cause"] == "clock")
    })?;
    let text = hub.node.tell(&["status", "eva"])?;
    ensure!(text.starts_with("peer: eva\n"), "{text}");
    ensure!(
        text.contains("last problem") && text.contains("ago, over)"),
        "{text}"
    );

    // An interface and a peer are told apart, and what is neither is said.
    let text = hub.node.tell(&["status", "taltun0"])?;
    ensure!(text.starts_with("taltun0  server  up "), "{text}");
    for (words, says) in [
        (
            &["nobody"][..],
            "is neither a running tunnel nor a peer of taltun0",
        ),
        (&["--peer", "nobody"], "is no peer's name or key"),
        (&["taltun0", "--peer", "nobody"], "is no peer's name or key"),
    ] {
        let output = hub.node.command().arg("status").args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && said.contains(says),
            "{words:?}: {said}"
        );
    }
    hub.end()
}
