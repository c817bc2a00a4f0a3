//! Recipe C: everything goes through the hub, and nothing around it.
//!
//! ```text
//!  printer 192.168.1.9 ─┐
//!  router  192.168.1.1 ─┴─ laptop 10.8.0.2 ═══ internet ═══ hub 10.8.0.1 ─── world 198.18.0.80
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};

use super::internet::{HOME, HUB, WORLD};
use super::{ANSWER_LIMIT, Deployment, Findings, answers, closed, sees, silent};
use crate::traffic::capture::{Capture, Packet};
use crate::traffic::dns::{self, Resolver};
use crate::traffic::service::Service;

const WEB: &str = "198.18.0.80:80";
const WEB_V6: &str = "[2001:db8:18::80]:80";
const PRINTER: &str = "192.168.1.9:9100";
const HUB_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const HUB_PORT: u16 = 9000;
/// What the two resolvers say, so that it shows who was asked.
const INSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 80);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
/// Datagrams that a few pings and visits take at the most. A loop makes thousands a second.
const FEW: u64 = 500;

pub(super) fn build(lab: &mut Deployment) -> Result<()> {
    lab.add_machine("hub", HUB)?;
    lab.add_machine("world", WORLD)?;
    lab.add_machine("laptop", HOME)?;
    lab.internet.ip("addr add 192.168.1.9/24 dev to-laptop")?;
    lab.start_node("hub", "hub")?;
    lab.start_node("laptop", "laptop")
}

pub(super) fn check(lab: &mut Deployment, findings: &mut Findings<'_>) {
    findings.look("the laptop reaches the hub", || {
        let laptop = lab.namespace("laptop")?;
        Ok(format!(
            "{}, {}",
            answers(laptop, "10.8.0.1")?,
            answers(laptop, "fd08::1")?
        ))
    });
    findings.look("the world sees the hub in the laptop's place", || {
        let _web = web(lab)?;
        let laptop = lab.namespace("laptop")?;
        let v4 = sees(laptop, WEB, "203.0.113.1")?;
        Ok(format!("{v4}, {}", sees(laptop, WEB_V6, "2001:db8:1::1")?))
    });
    findings.look("the local network stays reachable", || {
        let _printer = Service::start(&lab.internet, PRINTER.parse()?)?;
        sees(lab.namespace("laptop")?, PRINTER, "192.168.1.2")
    });
    findings.look("names are asked for inside the tunnel", || {
        let (inside, outside) = resolvers(lab)?;
        let laptop = lab.namespace("laptop")?;
        let (address, server) =
            dns::look_up(laptop, &lab.resolv_conf(), "www.example.org", ANSWER_LIMIT)?;
        ensure!(address == INSIDE, "the answer is {address}, from {server}");
        ensure!(
            (inside.asked(), outside.asked()) == (1, 0),
            "inside {} questions, outside {}",
            inside.asked(),
            outside.asked()
        );
        Ok(format!("{server} was asked, the router at home was not"))
    });
    findings.look(
        "nothing but the tunnel's datagrams leaves the laptop",
        || no_leak(lab),
    );
    findings.look("no datagram of the tunnel's goes into the tunnel", || {
        no_loop(lab)
    });
    findings.look(
        "connections through the hub announce what fits the tunnel",
        || {
            let _web = web(lab)?;
            let laptop = lab.namespace("laptop")?;
            let inside = Capture::start(laptop, "taltun0")?;
            sees(laptop, WEB, "203.0.113.1")?;
            let segments: Vec<u16> = inside
                .finish()
                .keys()
                .filter_map(|packet| packet.segment)
                .collect();
            let largest = segments.iter().max().copied().unwrap_or_default();
            ensure!(segments.len() >= 2, "too few connections: {segments:?}");
            ensure!(largest <= 1380, "one announces {largest} bytes");
            Ok(format!("segments of {largest} bytes at most"))
        },
    );
    findings.look(
        "without its hub the laptop reaches no more than the local network",
        || {
            let _web = web(lab)?;
            let _printer = Service::start(&lab.internet, PRINTER.parse()?)?;
            lab.namespace("hub")?.ip("link set eth0 down")?;
            let laptop = lab.namespace("laptop")?;
            let outcome = closed(laptop, WEB).and_then(|world| {
                Ok(format!(
                    "{world}, {}",
                    sees(laptop, PRINTER, "192.168.1.2")?
                ))
            });
            bring_back(lab)?;
            outcome
        },
    );
    kill_switch(lab, findings);
}

fn kill_switch(lab: &mut Deployment, findings: &mut Findings<'_>) {
    findings.look(
        "with the kill switch, and routes in halves, the world is reached",
        || {
            lab.start_node("laptop", "laptop-kill-switch")?;
            let _web = web(lab)?;
            let laptop = lab.namespace("laptop")?;
            answers(laptop, "10.8.0.1")?;
            let v4 = sees(laptop, WEB, "203.0.113.1")?;
            Ok(format!("{v4}, {}", sees(laptop, WEB_V6, "2001:db8:1::1")?))
        },
    );
    findings.look("with the kill switch not even the local network is", || {
        let _printer = Service::start(&lab.internet, PRINTER.parse()?)?;
        closed(lab.namespace("laptop")?, PRINTER)
    });
    findings.look("killed, it lets nothing out", || {
        let _web = web(lab)?;
        let outside = Capture::start(lab.namespace("laptop")?, "eth0")?;
        let machine = lab
            .machines
            .iter_mut()
            .find(|machine| machine.name == "laptop");
        if let Some(node) = machine.and_then(|machine| machine.node.as_mut()) {
            node.kill()?;
        }
        let laptop = lab.namespace("laptop")?;
        let shown = [closed(laptop, WEB)?, closed(laptop, WEB_V6)?];
        silent(laptop, "198.18.0.80")?;
        let leaked = other_packets(outside.finish());
        ensure!(leaked.is_empty(), "{}", leaked.join(", "));
        Ok(format!(
            "{}, and not a packet to be seen outside",
            shown.join(", ")
        ))
    });
    findings.look("started again, it is as before", || {
        let machine = lab
            .machines
            .iter_mut()
            .find(|machine| machine.name == "laptop");
        if let Some(machine) = machine
            && let Some(node) = &mut machine.node
        {
            node.start_again(&machine.namespace)?;
        }
        let _web = web(lab)?;
        answers(lab.namespace("laptop")?, "10.8.0.1")?;
        sees(lab.namespace("laptop")?, WEB, "203.0.113.1")
    });
    findings.look("stopped in order, it lets go", || {
        lab.start_node("laptop", "laptop")?;
        let _printer = Service::start(&lab.internet, PRINTER.parse()?)?;
        sees(lab.namespace("laptop")?, PRINTER, "192.168.1.2")
    });
}

/// Does all that a user does, and looks at the underlay meanwhile.
fn no_leak(lab: &Deployment) -> Result<String> {
    let _web = web(lab)?;
    let _resolvers = resolvers(lab)?;
    let laptop = lab.namespace("laptop")?;
    let outside = Capture::start(laptop, "eth0")?;
    answers(laptop, "198.18.0.80")?;
    answers(laptop, "2001:db8:18::80")?;
    sees(laptop, WEB, "203.0.113.1")?;
    sees(laptop, WEB_V6, "2001:db8:1::1")?;
    dns::look_up(laptop, &lab.resolv_conf(), "www.example.org", ANSWER_LIMIT)?;
    silent(laptop, "192.0.2.99")?;
    let seen = outside.finish();
    let ours: u64 = seen
        .iter()
        .filter(|(packet, _)| is_tunnel(packet))
        .map(|(_, count)| count)
        .sum();
    let leaked = other_packets(seen);
    ensure!(leaked.is_empty(), "{}", leaked.join(", "));
    ensure!(
        ours >= 20,
        "only {ours} datagrams to and from the hub: was anything captured?"
    );
    ensure!(ours < FEW, "{ours} datagrams to and from the hub");
    Ok(format!(
        "{ours} datagrams to and from the hub, and nothing else"
    ))
}

fn no_loop(lab: &Deployment) -> Result<String> {
    let laptop = lab.namespace("laptop")?;
    let inside = Capture::start(laptop, "taltun0")?;
    answers(laptop, "198.18.0.80")?;
    let seen = inside.finish();
    ensure!(!seen.is_empty(), "nothing was captured");
    let looped: Vec<String> = seen
        .keys()
        .filter(|packet| is_tunnel(packet))
        .map(ToString::to_string)
        .collect();
    ensure!(looped.is_empty(), "{}", looped.join(", "));
    Ok("none among what was captured inside".into())
}

/// Lets the hub's wire, which lost its routes when it went down, be as it was.
fn bring_back(lab: &Deployment) -> Result<()> {
    let hub = lab.namespace("hub")?;
    hub.ip("link set eth0 up")?;
    hub.ip("route add default via 203.0.113.254")?;
    hub.ip("addr add 2001:db8:1::1/64 dev eth0 nodad")?;
    hub.ip("-6 route add default via 2001:db8:1::ff")?;
    crate::topology::wait_until_settled(hub, "eth0")?;
    answers(lab.namespace("laptop")?, "10.8.0.1")?;
    Ok(())
}

fn web(lab: &Deployment) -> Result<[Service; 2]> {
    let world = lab.namespace("world")?;
    Ok([
        Service::start(world, WEB.parse()?)?,
        Service::start(world, WEB_V6.parse()?)?,
    ])
}

/// The one on the hub, and the one that the router at home is.
fn resolvers(lab: &Deployment) -> Result<(Resolver, Resolver)> {
    Ok((
        Resolver::start(lab.namespace("hub")?, "10.8.0.1".parse()?, INSIDE)?,
        Resolver::start(&lab.internet, "192.168.1.1".parse()?, OUTSIDE)?,
    ))
}

fn is_tunnel(packet: &Packet) -> bool {
    let is_udp = i32::from(packet.protocol) == libc::IPPROTO_UDP;
    let to = packet.to == HUB_ADDRESS && packet.to_port == HUB_PORT;
    let from = packet.from == HUB_ADDRESS && packet.from_port == HUB_PORT;
    is_udp && (to || from)
}

/// What is neither the tunnel's nor the wire's own business: finding neighbours and routers.
fn other_packets(seen: BTreeMap<Packet, u64>) -> Vec<String> {
    let is_local = |address: IpAddr| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified(),
    };
    let is_neighbours = |packet: &Packet| {
        let between_neighbours = is_home(packet.from) && is_home(packet.to);
        let is_icmp = i32::from(packet.protocol) == libc::IPPROTO_ICMPV6;
        // Reports of who listens to which group come behind a hop-by-hop header.
        let is_report = packet.protocol == 0;
        is_icmp && (is_local(packet.from) || is_local(packet.to) || between_neighbours)
            || is_report && is_local(packet.to)
    };
    seen.into_keys()
        .filter(|packet| !is_tunnel(packet) && !is_neighbours(packet))
        .map(|packet| packet.to_string())
        .collect()
}

fn is_home(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.segments()[..4] == [0x2001, 0xdb8, 4, 0],
    }
}
