//! A client in a network that has IPv6 only, and a hub whose endpoint is an IPv4 address: the
//! network's translator (NAT64) is found by its name server (RFC 7050) and leads there.
//!
//! The hub itself stands in for the translator: it has the address that one makes of its own.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use taltun_tests::node::{Keys, Node};
use taltun_tests::programs;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::dns::Resolver;

use crate::support::{Case, UP_LIMIT, ensure_answers_within, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "NAT64: a literal IPv4 endpoint is reached by the prefix of the network's translator",
        programs: &["unshare", "mount"],
        run: || reached("", ""),
    },
    Case {
        name: "NAT64: so it is where everything goes into the tunnel, name servers and kill switch included",
        programs: &["unshare", "mount", "nft"],
        run: || reached(FULL, ALL),
    },
    Case {
        name: "NAT64: so are several, at any of their ports",
        programs: &["unshare", "mount"],
        run: several,
    },
    Case {
        name: "NAT64: without a translator the endpoint's problem is told, until there is one",
        programs: &["unshare", "mount", "nft"],
        run: no_translator,
    },
];

/// The hub as its clients know it, and as this network's translator writes that. Its prefix isn't
/// the usual one, which could be guessed.
const THE_HUB: &str = "203.0.113.1";
const TRANSLATED: &str = "2001:db8:64::203.0.113.1";
const KNOWN_NAME: &str = "ipv4only.arpa";
const KNOWN: [&str; 2] = ["192.0.0.170", "2001:db8:64::192.0.0.170"];
const HUB_VIP: &str = "10.4.0.1";

const FULL: &str = "routes = [\"0.0.0.0/0\", \"::/0\"]\nkill_switch = true\ndns = [\"10.4.0.1\"]\n";
const ALL: &str = "allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n";

/// A translator is asked for each 30 s, and the answer is taken and tried within 10 s more; the rest
/// is for a busy machine.
const ASKED_AGAIN: Duration = Duration::from_secs(90);

fn reached(interface: &str, peer: &str) -> Result<()> {
    let lab = lab()?;
    lab.connect()?;
    let _resolver = lab.translating_resolver()?;
    let node = lab.start(interface, peer)?;
    ensure_answers_within(&lab.pair.left, HUB_VIP.parse()?, UP_LIMIT)
        .map_err(|error| error.context(node.log()))?;
    let seen = peer_of(&node)?;
    ensure!(
        seen["endpoint"] == format!("[{}]:9000", TRANSLATED.parse::<IpAddr>()?),
        "{seen}"
    );
    lab.stop(node)
}

/// Of which the first isn't there.
fn several() -> Result<()> {
    let lab = lab()?;
    lab.connect()?;
    let _resolver = lab.translating_resolver()?;
    let list = format!("endpoints = [\"203.0.113.77:9000\", \"{THE_HUB}:8998-9000\"]\n");
    let node = lab.start_at("", &list)?;
    ensure_answers_within(&lab.pair.left, HUB_VIP.parse()?, ASKED_AGAIN)
        .map_err(|error| error.context(node.log()))?;
    let endpoint = format!("[{}]:9000", TRANSLATED.parse::<IpAddr>()?);
    ensure!(peer_of(&node)?["endpoint"] == endpoint, "{}", node.log());
    lab.stop(node)
}

/// First without the network at all, then without its translator.
fn no_translator() -> Result<()> {
    let lab = lab()?;
    let node = lab.start(FULL, ALL)?;
    let expected = format!("no route to {THE_HUB}");
    let is_told = || Ok(peer_of(&node)?["unreachable"] == expected);
    eventually("it is told without a network", UP_LIMIT, is_told)?;
    lab.connect()?;
    let resolver = Resolver::with_names(&lab.pair.right, name_server(), Vec::new(), 60)?;
    eventually("the name server is asked", ASKED_AGAIN, || {
        Ok(resolver.asked() > 0)
    })?;
    ensure!(is_told()?, "{}", peer_of(&node)?);
    let status = node.tell(&["status"])?;
    ensure!(
        status.contains(&format!("endpoint: {expected}")),
        "{status}"
    );
    ensure!(node.log().contains(&expected), "{}", node.log());
    drop(resolver);
    let _resolver = lab.translating_resolver()?;
    ensure_answers_within(&lab.pair.left, HUB_VIP.parse()?, ASKED_AGAIN)
        .map_err(|error| error.context(node.log()))?;
    eventually("nothing is told any more", UP_LIMIT, || {
        Ok(peer_of(&node)?["unreachable"].is_null())
    })?;
    lab.stop(node)
}

fn name_server() -> IpAddr {
    WIRE_A.far_v6()
}

fn peer_of(node: &Node) -> Result<Value> {
    let status: Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
    Ok(status["peers"][0].clone())
}

/// The client is on the left.
struct Lab {
    pair: Pair,
    hub: Node,
    ours: Keys,
    theirs: Keys,
    files: tempfile::TempDir,
}

fn lab() -> Result<Lab> {
    let pair = Pair::create(&private_prefix())?;
    pair.left.ip("-4 addr flush dev to-right")?;
    pair.right
        .ip(&format!("addr add {TRANSLATED}/128 dev lo nodad"))?;
    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let hub = format!(
        "[interface]\nmode = \"server\"\nvip = \"{HUB_VIP}/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.4.0.2\"\n",
        theirs.private, ours.public
    );
    let hub = Node::start_with_text(&pair.right, &taltun()?, &hub)?;
    let files = tempfile::tempdir()?;
    fs::write(
        files.path().join("resolv.conf"),
        format!("nameserver {}\noptions timeout:1\n", WIRE_A.far_v6()),
    )?;
    programs::write(
        &files.path().join("resolvconf"),
        "#!/bin/sh\n[ \"$1\" != -a ] || cat > /etc/resolv.conf\n",
    )?;
    Ok(Lab {
        pair,
        hub,
        ours,
        theirs,
        files,
    })
}

impl Lab {
    fn connect(&self) -> Result<()> {
        let gateway = WIRE_A.far_v6();
        let route = format!("-6 route add default via {gateway} dev to-right");
        self.pair.left.ip(&route).map(drop)
    }

    fn translating_resolver(&self) -> Result<Resolver> {
        let mut names = Vec::new();
        for address in KNOWN {
            names.push((KNOWN_NAME, address.parse()?));
        }
        Resolver::with_names(&self.pair.right, name_server(), names, 60)
    }

    /// Starts the client, whose `/etc/resolv.conf` is its own.
    fn start(&self, interface: &str, peer: &str) -> Result<Node> {
        self.start_at(interface, &format!("endpoint = \"{THE_HUB}:9000\"\n{peer}"))
    }

    fn start_at(&self, interface: &str, peer: &str) -> Result<Node> {
        let text = format!(
            "[interface]\nmode = \"client\"\nvip = \"10.4.0.2/24\"\nprivate_key = \"{}\"\n{interface}\
             [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = \"{HUB_VIP}\"\n\
             {peer}",
            self.ours.private, self.theirs.public
        );
        let script = format!(
            "mount --make-rprivate / && mount --bind {0}/resolv.conf /etc/resolv.conf && \
             PATH={0}:$PATH && export PATH && exec \"$@\"",
            self.files.path().display()
        );
        let through = ["unshare", "-m", "sh", "-c", &script, "sh"];
        Node::start_through(&self.pair.left, &taltun()?, &text, &through)
    }

    fn stop(self, node: Node) -> Result<()> {
        node.stop(Signal::Terminate)?;
        self.hub.stop(Signal::Terminate)
    }
}
