//! Anything at all, to the UDP port and out of the TUN: counted, and the tunnel goes on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::lab::{Lab, Options, PORT, Role};
use taltun_tests::node::XdpMode;
use taltun_tests::random::Random;
use taltun_tests::topology::WIRE_A;
use taltun_tests::traffic::{datagrams, packets};

use crate::support::{Case, ensure_answers, eventually, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "junk of every length to the UDP port is counted and harmless, xdp driver",
        programs: &[],
        run: || junk_datagrams(XdpMode::Driver),
    },
    Case {
        name: "junk of every length to the UDP port is counted and harmless, xdp generic",
        programs: &[],
        run: || junk_datagrams(XdpMode::Generic),
    },
    Case {
        name: "junk of every length to the UDP port is counted and harmless, xdp off",
        programs: &[],
        run: || junk_datagrams(XdpMode::Off),
    },
    Case {
        name: "junk out of the TUN is counted and harmless",
        programs: &[],
        run: junk_packets,
    },
];

/// The types that WireGuard has, and some that it doesn't.
const TYPES: [u8; 7] = [0, 1, 2, 3, 4, 5, 255];

fn junk_datagrams(xdp: XdpMode) -> Result<()> {
    let lab = lab(Options {
        xdp,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let before = lab.hub.stats()?.dropped_in_all();
    let mut sent = 0;
    for to in [WIRE_A.near_v4(), WIRE_A.near_v6()] {
        sent += send_junk(&lab, to)?;
    }
    // A few may be lost on the way, in the fragments of the long ones or for want of a buffer.
    eventually("the junk is counted", Duration::from_secs(10), || {
        Ok(lab.hub.stats()?.dropped_in_all() - before >= sent * 95 / 100)
    })?;
    let stats = lab.hub.stats()?;
    for reason in ["shape", "unknown_index"] {
        ensure!(stats.dropped(reason) > 0, "nothing counted as {reason}");
    }
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::A.v4())?;
    take_down(lab)
}

/// Every length with each type in front, and some that have to be fragmented.
fn send_junk(lab: &Lab, to: IpAddr) -> Result<u64> {
    let mut random = Random::new(1);
    let long = [1501, 2000, 9000, 20_000, 65_000, 65_507];
    let junk = (0..=1500).chain(long).flat_map(|length| {
        let mut bodies = vec![random.bytes(length)];
        for kind in TYPES {
            let mut body = random.bytes(length);
            for (at, byte) in [kind, 0, 0, 0].into_iter().enumerate() {
                if let Some(place) = body.get_mut(at) {
                    *place = byte;
                }
            }
            bodies.push(body);
        }
        bodies
    });
    datagrams::send(&lab.net.a, SocketAddr::new(to, PORT), junk)
}

fn junk_packets() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let before = lab.hub.stats()?;
    let mut random = Random::new(2);
    let mut junk = Vec::new();
    for length in 1..=1420 {
        junk.push(random.bytes(length));
        for version in [0x40, 0x45, 0x4f, 0x60, 0x6f] {
            // Random lengths, protocols and addresses: mostly lies.
            let mut packet = random.bytes(length);
            packet[0] = version;
            junk.push(packet);
        }
    }
    let sent = packets::send(&lab.net.hub, "taltun0", junk)?;
    eventually("the junk is counted", Duration::from_secs(10), || {
        Ok(lab.hub.stats()?.dropped_in_all() - before.dropped_in_all() >= sent * 95 / 100)
    })?;
    let stats = lab.hub.stats()?;
    for reason in ["inner_malformed", "no_peer"] {
        ensure!(
            stats.dropped(reason) > before.dropped(reason),
            "nothing counted as {reason}"
        );
    }

    // Well formed to a spoke, but of a protocol that nobody speaks: it has to arrive.
    let received = lab.a.stats()?.traffic.rx_packets;
    let sent = packets::send(
        &lab.net.hub,
        "taltun0",
        (0..100).map(|_| experimental_packet()),
    )?;
    eventually("odd packets arrive", Duration::from_secs(10), || {
        Ok(lab.a.stats()?.traffic.rx_packets - received >= sent)
    })?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::A.v4())?;
    take_down(lab)
}

/// IPv4 from the hub to a, protocol 253, which RFC 3692 keeps for experiments. The header's
/// checksum isn't Taltun's concern, so it is left zero.
fn experimental_packet() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 253, 0, 0];
    packet.extend([10, 200, 0, 1]);
    packet.extend([10, 200, 0, 2]);
    packet.resize(40, 0x5a);
    packet
}
