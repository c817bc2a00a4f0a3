//! A server's range of ports among what else uses ports: connections of others behind the hub's
//! host, questions of its own, NATs on the way to it, and a reload while packets flow.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{self, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::random::Random;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::led_ports::{Hub, RANGE, asks_a_server};
use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ensure_silent};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: XDP in generic mode leaves answers of name servers and others' WireGuard that is translated alone",
        programs: &["nft", "wireguard-go", "wg"],
        run: || neighbours(XdpMode::Generic),
    },
    Case {
        name: "hop: XDP in driver mode leaves answers of name servers and others' WireGuard that is translated alone",
        programs: &["nft", "wireguard-go", "wg"],
        run: || neighbours(XdpMode::Driver),
    },
    Case {
        name: "hop: a NAT on the way has an entry for each port that was used, and the hub has none",
        programs: &["nft", "wireguard-go", "wg"],
        run: behind_a_nat,
    },
    Case {
        name: "hop: a client that asks at a port before it leads anywhere is heard once it does, with nftables",
        programs: &["nft", "wireguard-go", "wg"],
        run: || asked_before("nftables"),
    },
    Case {
        name: "hop: a client that asks at a port before it leads anywhere is heard once it does, with iptables",
        programs: &["iptables", "wireguard-go", "wg"],
        run: || asked_before("iptables"),
    },
    Case {
        name: "hop: a reload that changes the range loses no packet to a port of both, with XDP",
        programs: &["wireguard-go", "wg"],
        run: || changed_under_way(XdpMode::Generic),
    },
    Case {
        name: "hop: a reload that changes the range loses no packet to a port of both, with nftables",
        programs: &["nft", "wireguard-go", "wg"],
        run: || changed_under_way(XdpMode::Off),
    },
];

/// How many ports a client behind a NAT goes through.
const PORTS_USED: u64 = 48;
/// Entries of other origin: discovery of names and neighbours.
const OTHERS: u64 = 4;

fn neighbours(xdp: XdpMode) -> Result<()> {
    let net = Star::create(&private_prefix())?;
    let hub = Hub::start_with(net, "nftables", RANGE, xdp, AfXdp::Off)?;
    ensure!(hub.range()?["by"] == "xdp", "{}", hub.range()?);
    hub.answers_from(WIRE_A.near_v4(), 5000)?;
    asks_a_server(&hub.net)?;
    translated_wireguard(&hub.net)?;
    hub.answers_from(WIRE_A.near_v4(), 5000)
}

/// b's WireGuard leaves by the hub's host to a server in a, which answers to a port of the range.
fn translated_wireguard(net: &Star) -> Result<()> {
    let forward = "/proc/sys/net/ipv4/ip_forward";
    net.hub.run(|| fs::write(forward, "1"))??;
    let wire_b = format!("{}/32", WIRE_B.far_v4());
    load_rules(
        &net.hub,
        &format!(
            "table ip others {{ chain leaving {{ type nat hook postrouting priority srcnat; \
             ip saddr {wire_b} udp dport 7000 masquerade to :5000-5000; }}; }}"
        ),
    )?;
    net.b.ip(&format!(
        "route add {} via {}",
        WIRE_A.far_v4(),
        WIRE_B.near_v4()
    ))?;
    let server = net.a.run(|| UdpSocket::bind("0.0.0.0:7000"))??;
    server.set_read_timeout(Some(ANSWER_LIMIT))?;
    let client = net.b.run(|| UdpSocket::bind("0.0.0.0:51820"))??;
    for message in foreign_messages() {
        client.send_to(&message, (WIRE_A.far_v4(), 7000))?;
        let mut bytes = [0; 2048];
        let (length, from) = server.recv_from(&mut bytes).context("nothing left")?;
        let translated = SocketAddr::new(WIRE_A.near_v4(), 5000);
        ensure!(from == translated, "from {from}");
        ensure!(bytes[..length] == message);
        // The same back: also one of each kind comes in to the port of the range.
        server.send_to(&message, from)?;
        ensure!(hears_all(&client)? == message);
    }
    Ok(())
}

/// Messages as WireGuard's, of each kind, between others.
fn foreign_messages() -> Vec<Vec<u8>> {
    let lengths = [(1, 148), (2, 92), (3, 64), (4, 32), (4, 1432)];
    let message = |(kind, length): (u8, usize)| {
        let mut message = Random::new(u64::from(kind)).bytes(length);
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message
    };
    lengths.into_iter().map(message).collect()
}

/// What comes to a socket, however long.
fn hears_all(socket: &UdpSocket) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut bytes = [0; 2048];
    let (length, _) = socket.recv_from(&mut bytes).context("nothing came back")?;
    Ok(bytes[..length].to_vec())
}

fn behind_a_nat() -> Result<()> {
    let prefix = private_prefix();
    let net = Star::create(&prefix)?;
    let far = Namespace::create(&format!("{prefix}-far"))?;
    let words = format!(
        "link add to-far type veth peer name to-nat netns {}",
        far.name()
    );
    net.a.ip(&words)?;
    net.a.ip("address add 10.99.5.1/24 dev to-far")?;
    net.a.ip("link set to-far up")?;
    far.ip("address add 10.99.5.2/24 dev to-nat")?;
    far.ip("link set to-nat up")?;
    far.ip("route add default via 10.99.5.1")?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    net.a.run(|| fs::write(forward, "1"))??;
    load_rules(
        &net.a,
        "table ip nat_of_a { chain leaving { type nat hook postrouting priority srcnat; \
         oifname \"to-hub\" masquerade; }; }",
    )?;
    let modes = (XdpMode::Generic, AfXdp::Off);
    let hub = Hub::start_for(net, Some(far), "nftables", RANGE, modes)?;
    ensure!(hub.range()?["by"] == "xdp", "{}", hub.range()?);
    let mut random = Random::new(7);
    let mut used = std::collections::BTreeSet::new();
    while (used.len() as u64) < PORTS_USED {
        let bytes = random.bytes(2);
        used.insert(4096 + u16::from_be_bytes([bytes[0], bytes[1]]) % 4096);
    }
    for port in used {
        // The NAT lets in nothing else than an answer from there.
        hub.answers_from(WIRE_A.near_v4(), port)?;
    }
    let (nat, own) = (entries(&hub.net.a)?, entries(&hub.net.hub)?);
    // The client's first one went to the port that the hub listens on.
    ensure!(
        (PORTS_USED..=PORTS_USED + 1 + OTHERS).contains(&nat),
        "{nat} entries at the NAT for {PORTS_USED} ports"
    );
    ensure!(own <= OTHERS, "{own} entries at the hub");
    Ok(())
}

/// Connections that the kernel tracks for this namespace.
fn entries(namespace: &Namespace) -> Result<u64> {
    let file = "/proc/sys/net/netfilter/nf_conntrack_count";
    let text = namespace.run(|| fs::read_to_string(file))??;
    Ok(text.trim().parse()?)
}

/// The kernel takes all datagrams of a client that asks again and again for one connection, whose first
/// packet came before there was a rule.
fn asked_before(firewall: &str) -> Result<()> {
    let net = Star::create(&private_prefix())?;
    let hub = Hub::start_with(net, firewall, "", XdpMode::Off, AfXdp::Off)?;
    hub.answers_from(WIRE_A.near_v4(), lab::PORT)?;
    // The host's own firewall has the kernel track connections.
    if firewall == "nftables" {
        load_rules(
            &hub.net.hub,
            "table inet others { chain in { type filter hook input priority 0; ct state new counter; }; }",
        )?;
    } else {
        let mut iptables = hub.net.hub.command("iptables");
        output_of(iptables.args(["-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW"]))?;
    }
    hub.go_to(WIRE_A.near_v4(), 5000)?;
    ensure_silent(&hub.net.a, Role::Hub.v4())?;
    let file = hub.node.config();
    fs::write(&file, fs::read_to_string(&file)? + RANGE)?;
    hub.node.tell(&["reload"])?;
    hub.answers_from(WIRE_A.near_v4(), 5000)
}

fn changed_under_way(xdp: XdpMode) -> Result<()> {
    const PINGS: u32 = 300;
    let net = Star::create(&private_prefix())?;
    let hub = Hub::start_with(net, "nftables", RANGE, xdp, AfXdp::Off)?;
    hub.answers_from(WIRE_A.near_v4(), 5000)?;
    let mut pinger = Pinger::new(&hub.net.a, Role::Hub.v4())?;
    pinger.wait_until_answered(UP_LIMIT)?;
    let answered = thread::scope(|scope| -> Result<u32> {
        let pinging = scope.spawn(|| {
            let mut answered = 0;
            for _ in 0..PINGS {
                answered += u32::from(pinger.ping(ANSWER_LIMIT)?.is_some());
                thread::sleep(std::time::Duration::from_millis(5));
            }
            Ok(answered)
        });
        let ranges = ["[4096, 8191]", "[4096, 6000]", "[5000, 5100]"];
        for turn in 0..6 {
            hub.reload(ranges[turn % 3], ranges[(turn + 1) % 3])?;
        }
        pinging.join().expect("it doesn't panic")
    })?;
    ensure!(answered == PINGS, "{answered} of {PINGS} pings answered");
    hub.answers_from(WIRE_A.near_v4(), 5000)
}

fn load_rules(namespace: &Namespace, rules: &str) -> Result<()> {
    let mut nft = namespace.command("nft");
    output_of(nft.arg(rules))?;
    Ok(())
}
