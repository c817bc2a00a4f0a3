//! Outer headers, as the kernel's WireGuard writes and reads them: what they say of
//! congestion, and that routers may cut what is too long for a link of theirs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Options, PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Chain, Link, WIRE_C, private_prefix};
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, ensure_answers, lab, take_down, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "a router's congestion mark comes through the tunnel, relayed too, and only to who understands it",
        programs: &["nft", "ping"],
        run: congestion_marks,
    },
    Case {
        name: "a stream passes a narrow link whose router says nothing",
        programs: &["nft"],
        run: narrow_link,
    },
];

const LIMIT: Duration = Duration::from_secs(30);
/// A traffic class that says "congestion is understood": ECT(0).
const CAPABLE: u8 = 2;
const PINGS: u64 = 5;

fn congestion_marks() -> Result<()> {
    // By the kernel's network stack, where the marks are made.
    let lab = lab(Options {
        xdp: XdpMode::Off,
        af_xdp: AfXdp::Off,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    // Before the hub's socket a router's mark; and who sees what.
    let outer = format!("udp dport {PORT} ip ecn ect0 counter");
    nft(
        &lab.net.hub,
        &format!(
            "table ip seen {{ chain outer {{ type filter hook prerouting priority -200; \
             iifname \"to-a\" {outer}; \
             iifname \"to-a\" udp dport {PORT} ip ecn != not-ect ip ecn set ce; }}\n \
             chain inner {{ type filter hook input priority 0; \
             iifname \"taltun0\" ip ecn ce counter; }}\n }}\n"
        ),
    )?;
    nft(
        &lab.net.b,
        &format!(
            "table ip seen {{ chain outer {{ type filter hook prerouting priority -200; {outer}; }}\n \
             chain inner {{ type filter hook input priority 0; \
             iifname \"taltun0\" ip ecn ce counter; }}\n }}\n"
        ),
    )?;
    for (class, to, capable) in [
        (CAPABLE, Role::Hub, true),
        (CAPABLE, Role::B, true),
        (0, Role::Hub, false),
        (0, Role::B, false),
    ] {
        let namespace = lab.namespace(to);
        let at_hub = counted(&lab.net.hub, "outer")?;
        let before = counted(namespace, "inner")?;
        ping(&lab.net.a, &to.v4().to_string(), class)?;
        let at_hub = counted(&lab.net.hub, "outer")? - at_hub;
        let marked = counted(namespace, "inner")? - before;
        let expected = if capable { PINGS } else { 0 };
        ensure!(
            at_hub >= expected && (capable || at_hub == 0),
            "class {class} to {to}: {at_hub} outer headers said so"
        );
        ensure!(
            marked == expected,
            "class {class} to {to}: {marked} packets arrived marked"
        );
    }
    ensure!(
        counted(&lab.net.b, "outer")? >= PINGS,
        "what was relayed doesn't say that congestion is understood"
    );
    for namespace in [&lab.net.hub, &lab.net.b] {
        nft(namespace, "delete table ip seen")?;
    }
    take_down(lab)
}

fn ping(from: &Namespace, to: &str, class: u8) -> Result<()> {
    let mut ping = from.command("ping");
    ping.args(["-q", "-n", "-i", "0.05", "-W", "2", "-c"]);
    ping.args([&PINGS.to_string(), "-Q", &class.to_string(), to]);
    output_of(&mut ping).map(drop)
}

fn nft(namespace: &Namespace, rules: &str) -> Result<String> {
    output_of(namespace.command("nft").arg(rules))
}

/// Packets that the only rule with a counter has counted in this chain.
fn counted(namespace: &Namespace, chain: &str) -> Result<u64> {
    let text = nft(namespace, &format!("list chain ip seen {chain}"))?;
    let (_, rest) = text.split_once("packets ").context("no counter")?;
    let number = rest.split_whitespace().next().context("no number")?;
    Ok(number.parse()?)
}

fn narrow_link() -> Result<()> {
    let taltun = taltun()?;
    let chain = Chain::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, Keys::generate(&taltun)?);
    let end = |mode, role: Role, own: &Keys, other: &Keys, peer: Role, endpoint| Config {
        more: "",
        mode,
        vip: role.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: own.private.clone(),
        xdp: XdpMode::Auto,
        af_xdp: AfXdp::Auto,
        peers: vec![Peer {
            name: "other",
            public_key: other.public.clone(),
            vip: peer.vips(),
            endpoint,
            allowed_ips: Vec::new(),
        }],
    };
    let endpoint = SocketAddr::new(WIRE_C.far_v4(), PORT).to_string();
    let hub = end("server", Role::Hub, &ours, &theirs, Role::A, None);
    let hub = Node::start(&chain.wire, &taltun, &hub)?;
    let spoke = end("client", Role::A, &theirs, &ours, Role::Hub, Some(endpoint));
    let spoke = Node::start(&chain.left, &taltun, &spoke)?;
    ensure_answers(&chain.left, Role::Hub.v4())?;
    // Whoever sends too much is told nothing.
    chain.set_mtu(Link::Second, 1280)?;
    nft(
        &chain.router,
        "table ip mute { chain out { type filter hook output priority 0; \
         icmp type destination-unreachable drop; }\n }\n",
    )?;
    for (from, to, role) in [
        (&chain.left, &chain.wire, Role::Hub),
        (&chain.wire, &chain.left, Role::A),
    ] {
        let stream = Stream::start(from, to, SocketAddr::new(role.v4(), 0))?;
        stream
            .wait_for_more_than(4 << 20, LIMIT)
            .with_context(|| format!("towards {role}"))?;
        stream.finish()?;
    }
    spoke.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}
