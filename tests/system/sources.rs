//! What the XDP program counts, in each way of attaching it.

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::lab::{Options, PORT, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{ANSWER_LIMIT, Case, ensure_answers, lab, take_down, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "XDP in the driver counts both spokes",
        programs: &[],
        run: || both_are_counted(XdpMode::Driver),
    },
    Case {
        name: "XDP on finished packets counts both spokes",
        programs: &[],
        run: || both_are_counted(XdpMode::Generic),
    },
    Case {
        name: "without the right to have programs the tunnel runs, and the verifier's log is kept",
        programs: &["setpriv"],
        run: refused_by_the_verifier,
    },
    Case {
        name: "what is relayed is counted by its inner sources",
        programs: &[],
        run: relayed_are_counted,
    },
    Case {
        name: "XDP that is off is not attached",
        programs: &[],
        run: off_is_off,
    },
];

/// Neither spoke sends anything to the hub's own addresses.
fn relayed_are_counted() -> Result<()> {
    let lab = lab(Options::default())?;
    for _ in 0..10 {
        ensure_answers(&lab.net.a, Role::B.v4())?;
    }
    let stats: serde_json::Value = serde_json::from_str(&lab.hub.tell(&["stats", "--json"])?)?;
    for role in [Role::A, Role::B] {
        let address = role.v4().to_string();
        let sources = stats["sources_inner"].as_array().context("no sources")?;
        let source = sources.iter().find(|source| source["addr"] == *address);
        let source = source.with_context(|| format!("{address} isn't in {sources:?}"))?;
        let count = |field: &str| source[field].as_u64().unwrap_or_default();
        // An echo request is at least 28 bytes.
        let (packets, bytes) = (count("packets"), count("bytes"));
        ensure!(packets >= 10 && bytes >= 28 * packets, "{source}");
        ensure!(packets < 1000, "counted more than once: {source}");
    }
    take_down(lab)
}

/// Without `CAP_PERFMON` the verifier is stricter than our programs can be.
fn refused_by_the_verifier() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let taltun = taltun()?;
    let keys = [Keys::generate(&taltun)?, Keys::generate(&taltun)?];
    let config = |ours: usize, mode, endpoint| Config {
        mode,
        vip: vec![format!("10.200.0.{}/24", ours + 1)],
        local_addr: format!("[::]:{PORT}"),
        private_key: keys[ours].private.clone(),
        xdp: XdpMode::Auto,
        af_xdp: AfXdp::Auto,
        more: "",
        peers: vec![Peer {
            name: "other",
            public_key: keys[1 - ours].public.clone(),
            vip: vec![format!("10.200.0.{}", 2 - ours)],
            endpoint,
            allowed_ips: Vec::new(),
        }],
    };
    let through = [
        "setpriv",
        "--bounding-set=-perfmon,-sys_admin",
        "--inh-caps=-perfmon,-sys_admin",
    ];
    let text = config(0, "server", None).to_toml();
    let hub = Node::start_through(&pair.left, &taltun, &text, &through)?;
    let to_hub = format!("{}:{PORT}", WIRE_A.near_v4());
    let spoke = Node::start(&pair.right, &taltun, &config(1, "client", Some(to_hub)))?;
    ensure_answers(&pair.right, Role::Hub.v4())?;

    let status = hub.status()?;
    let [shown] = &status.xdp[..] else {
        bail!("status says of XDP {:?}", status.xdp);
    };
    ensure!(
        shown.mode == "off",
        "XDP is {}: {}",
        shown.mode,
        shown.reason
    );
    let log = hub.directory().join("taltun0.verifier.log");
    for word in ["verifier", &*log.to_string_lossy()] {
        ensure!(
            shown.reason.contains(word),
            "the reason doesn't say {word}: {}",
            shown.reason
        );
    }
    let pages = std::fs::read_to_string(&log).context("there is no log of the verifier's")?;
    ensure!(
        pages.contains("processed"),
        "that is no verifier's log: {pages}"
    );
    hub.stop(Signal::Terminate)?;
    spoke.stop(Signal::Terminate)
}

fn both_are_counted(xdp: XdpMode) -> Result<()> {
    let lab = lab(Options {
        xdp,
        ..Options::default()
    })?;
    for interface in ["to-a", "to-b"] {
        let status = lab.hub.status()?;
        let shown = status
            .xdp
            .iter()
            .find(|entry| entry.interface == interface)
            .with_context(|| format!("status says nothing of {interface}"))?;
        ensure!(
            shown.mode == xdp.name(),
            "{interface} is in mode {}: {}",
            shown.mode,
            shown.reason
        );
        // What status says is one thing, what the kernel says another.
        let link = lab.net.hub.ip(&format!("link show {interface}"))?;
        let expected = match xdp {
            XdpMode::Driver => " xdp ",
            _ => " xdpgeneric ",
        };
        ensure!(link.contains(expected), "the kernel says {link}");
    }
    for (role, wire, other) in [(Role::A, WIRE_A, WIRE_B), (Role::B, WIRE_B, WIRE_A)] {
        let namespace = lab.namespace(role);
        ensure_answers(namespace, Role::Hub.v4())?;
        let before = lab.hub.stats()?;
        let answered = Pinger::new(namespace, Role::Hub.v4())?.count_answers(100, ANSWER_LIMIT)?;
        ensure!(answered == 100, "{answered} of 100 pings were answered");
        let after = lab.hub.stats()?;

        let count = |stats: &taltun_tests::report::Stats, wire: taltun_tests::topology::Wire| {
            stats
                .source(wire.far_v4())
                .map_or((0, 0), |source| (source.packets, source.bytes))
        };
        let (packets, bytes) = {
            let (before, after) = (count(&before, wire), count(&after, wire));
            (after.0 - before.0, after.1 - before.1)
        };
        // A handshake or keepalive may fall among them.
        ensure!(
            (100..=110).contains(&packets),
            "{role}'s 100 pings were counted as {packets} packets"
        );
        // 84 bytes of ping padded to 96, 32 around it, UDP, IP and Ethernet.
        let expected = 100 * (96 + 32 + 8 + 20 + 14);
        ensure!(
            (expected..expected + 10 * 200).contains(&bytes),
            "{role}'s 100 pings were counted as {bytes} bytes"
        );
        let others = count(&after, other).0 - count(&before, other).0;
        ensure!(
            others <= 10,
            "{others} packets of the other spoke were counted meanwhile"
        );
    }
    take_down(lab)
}

fn off_is_off() -> Result<()> {
    let lab = lab(Options {
        xdp: XdpMode::Off,
        ..Options::default()
    })?;
    let status = lab.hub.status()?;
    ensure!(
        status.xdp.iter().all(|entry| entry.mode == "off"),
        "status says {:?}",
        status.xdp
    );
    let links = lab.net.hub.ip("link show")?;
    ensure!(!links.contains("xdp"), "the kernel says {links}");
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    take_down(lab)
}
