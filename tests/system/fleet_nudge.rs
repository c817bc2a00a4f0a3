//! The nudge: a client whose packets come to another hub of its group than its own is called there, and who sends in its
//! name moves nothing else.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::etcd::Etcd;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Lan, private_prefix};

use crate::fleet_group::{EACH, show, stock_client, watch};
use crate::fleet_mesh::{Hubs, homes, status, vip};
use crate::support::{Case, ensure_answers, eventually};

pub const CASES: &[Case] = &[Case {
    name: "fleet nudge: a stock client is called by the hub that its packets come to, and nobody else is",
    programs: &["etcd", "etcdctl", "wireguard-go", "wg", "sysctl"],
    run: nudge,
}];

/// An address that all hubs have, and that is led to one or the other, as a router would.
const LED: Ipv4Addr = Ipv4Addr::new(10, 99, 9, 201);
/// The client's port outside.
const CLIENT_PORT: u16 = 51820;
const SOON: Duration = Duration::from_secs(20);
/// Until hubs know where peers are, which they look up each second.
const TOLD: Duration = Duration::from_secs(3);
/// Datagrams of somebody else, and how long they take.
const FORGED: u32 = 400;
const FORGED_EACH: Duration = Duration::from_millis(5);

fn nudges(hubs: &Hubs<'_>, hub: u8) -> Result<u64> {
    let status = status(hubs.node(hub))?;
    status["nudges"].as_u64().context("no count of nudges")
}

/// Sends what looks like data of sessions that nobody has.
fn forge(socket: &UdpSocket, to: Ipv4Addr) -> Result<()> {
    for number in 0..FORGED {
        let mut message = [0x5a; 96];
        message[..4].copy_from_slice(&[4, 0, 0, 0]);
        message[4..8].copy_from_slice(&(0x7000_0000 + number).to_le_bytes());
        socket.send_to(&message, (to, 9000))?;
        sleep(FORGED_EACH);
    }
    Ok(())
}

fn nudge() -> Result<()> {
    let lan = Lan::create(&private_prefix(), 5)?;
    let etcd = Etcd::start(&lan.bridge, 1)?;
    let mut hubs = Hubs::joined(&lan, &etcd, 3, "group = \"eu\"\n")?;
    let key = hubs.wait_for_one_key()?;
    hubs.wait_until_whole()?;
    let (client_host, other_host) = (&lan.hosts[3], &lan.hosts[4]);
    for hub in &lan.hosts[..3] {
        hub.ip(&format!("addr add {LED}/32 dev eth0"))?;
    }
    let led = |hub: u8| -> Result<()> {
        let hardware = lan.hosts[usize::from(hub)].hardware("eth0")?;
        client_host.ip(&format!(
            "neigh replace {LED} lladdr {hardware} dev eth0 nud permanent"
        ))?;
        Ok(())
    };
    led(1)?;
    let client = stock_client(&hubs, "ana", client_host, &key, LED)?;
    ensure_answers(client_host, vip(0))?;
    for node in &hubs.nodes {
        eventually("at home", SOON, || Ok(homes(node, "paris")? == 1))?;
    }
    sleep(TOLD);

    // Its address leads to another hub, as a router would have it, and before its own dies: else the others might
    // notice that first, and call its peers without being led to.
    let found = watch(&lan.hosts[3..4], vip(0), EACH, || {
        led(2)?;
        hubs.nodes[1].kill()
    })?;
    show("led to another hub", &found);
    eventually("it is at home there", SOON, || {
        Ok(homes(hubs.node(0), "rome")? == 1)
    })?;
    ensure_answers(client_host, vip(0))?;
    ensure!(nudges(&hubs, 2)? >= 1, "it wasn't called");
    ensure!(client.endpoint()? == format!("{LED}:9000"));

    // Who sends from elsewhere is nobody's peer.
    sleep(TOLD);
    let before = nudges(&hubs, 0)?;
    let other = other_host.udp((IpAddr::from(Lan::address(4)), CLIENT_PORT))?;
    forge(&other, Lan::address(0))?;
    ensure!(nudges(&hubs, 0)? == before, "a stranger moved a hub");
    other.set_read_timeout(Some(Duration::from_millis(500)))?;
    ensure!(
        other.recv(&mut [0; 2048]).is_err(),
        "a stranger was answered"
    );
    // Who sends in the client's name has it called where it is, and once a second at the most.
    let forged = Lan::address(3);
    // Without taking the client's place among neighbours.
    for setting in ["arp_ignore=1", "arp_announce=2"] {
        let mut sysctl = other_host.command("sysctl");
        sysctl.args(["-qw", &format!("net.ipv4.conf.all.{setting}")]);
        ensure!(sysctl.status()?.success(), "{setting}");
    }
    other_host.ip(&format!("addr add {forged}/32 dev lo"))?;
    let other = other_host.udp((IpAddr::from(forged), CLIENT_PORT))?;
    let begun = Instant::now();
    forge(&other, Lan::address(0))?;
    let called = nudges(&hubs, 0)? - before;
    let took = begun.elapsed();
    println!("{FORGED} forged datagrams in {took:.1?}: called {called} times");
    ensure!(
        (1..=took.as_secs() + 2).contains(&called),
        "called {called} times"
    );
    other.set_read_timeout(Some(Duration::from_millis(500)))?;
    ensure!(
        other.recv(&mut [0; 2048]).is_err(),
        "it was called elsewhere"
    );
    ensure_answers(client_host, vip(0))?;
    drop(client);
    for (number, node) in hubs.nodes.into_iter().enumerate() {
        if number != 1 {
            node.stop(Signal::Terminate)?;
        }
    }
    Ok(())
}
