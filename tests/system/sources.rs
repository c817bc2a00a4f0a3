//! What the XDP program counts, in each way of attaching it.

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{Options, Role};
use taltun_tests::node::XdpMode;
use taltun_tests::topology::{WIRE_A, WIRE_B};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{ANSWER_LIMIT, Case, ensure_answers, lab, take_down};

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
        name: "XDP that is off is not attached",
        programs: &[],
        run: off_is_off,
    },
];

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
