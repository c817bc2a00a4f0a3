//! Recipe F: an office with staff, guests, a camera and a network behind a gateway, under rules and
//! limits.
//!
//! ```text
//!  ana     10.4.0.2  ═══╗                                         ┌─ world 198.18.0.80
//!  guest   10.4.0.20 ═══╬═══ internet ═══ hub 10.4.0.1 ═══ internet
//!  visitor 10.4.0.21 ═══╣
//!  gate    10.4.0.30 ═══╣
//!                       ╚═══ office 10.4.0.10 ─ eth1 192.168.50.1 ─┬─ printer  192.168.50.16
//!                                                                  └─ recorder 192.168.50.40
//! ```

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::internet::{HERE, HOME, HUB, Link, THERE, WORLD, connect};
use super::{ANSWER_LIMIT, Deployment, Findings, SILENCE, UP_LIMIT, answers, closed, sees, silent};
use crate::netns::Namespace;
use crate::topology::wait_until_settled;
use crate::traffic::dns::{self, Resolver};
use crate::traffic::service::Service;
use crate::traffic::stream::{Stream, packet_rates};

const WEB: &str = "198.18.0.80:80";
const WEB_V6: &str = "[2001:db8:18::80]:80";
const IPP: &str = "192.168.50.16:631";
const SNMP: &str = "192.168.50.16:161";
const RECORDER: &str = "192.168.50.40";
const RTSP: &str = "192.168.50.40:554";
const SSH_OF_HUB: &str = "10.4.0.1:22";
const SSH_OF_ANA: &str = "10.4.0.2:22";
/// Who knows the names of the world.
const UPSTREAM: &str = "192.0.2.53";
const OFFICE: Link = Link {
    v4: "198.18.4.2/24",
    v4_gateway: "198.18.4.254",
    v6: "",
    v6_gateway: "",
};
const VISITOR: Link = Link {
    v4: "198.18.5.2/24",
    v4_gateway: "198.18.5.254",
    v6: "",
    v6_gateway: "",
};

/// What the file gives guests, Mbit/s.
const GUEST_DOWN: f64 = 20.0;
const GUEST_UP: f64 = 5.0;

pub(super) fn build(lab: &mut Deployment) -> Result<()> {
    lab.add_machine("hub", HUB)?;
    let world = Namespace::create(&format!("{}-world", lab.prefix))?;
    connect((&world, "eth0"), (&lab.internet, "to-world"), WORLD, true)?;
    world.ip(&format!("addr add {UPSTREAM}/32 dev lo"))?;
    let via = WORLD.v4.trim_end_matches("/24");
    lab.internet
        .ip(&format!("route add {UPSTREAM}/32 via {via}"))?;
    lab.adopt("world", world)?;
    lab.add_machine("ana", HERE)?;
    lab.add_machine("guest", HOME)?;
    lab.add_machine("visitor", VISITOR)?;
    lab.add_machine("gate", THERE)?;
    let office = Namespace::create(&format!("{}-office", lab.prefix))?;
    connect(
        (&office, "eth0"),
        (&lab.internet, "to-office"),
        OFFICE,
        true,
    )?;
    office.ip("link add eth1 type bridge")?;
    office.ip("addr add 192.168.50.1/24 dev eth1")?;
    office.ip("link set eth1 up")?;
    for (name, address) in [("printer", "192.168.50.16"), ("recorder", RECORDER)] {
        let machine = Namespace::create(&format!("{}-{name}", lab.prefix))?;
        put_behind(&office, &machine, name, address)?;
        lab.adopt(name, machine)?;
    }
    lab.adopt("office", office)?;
    for name in ["hub", "office", "ana", "guest", "visitor", "gate"] {
        lab.start_node(name, name)?;
    }
    Ok(())
}

/// Connects a machine to the office's own network.
fn put_behind(office: &Namespace, machine: &Namespace, name: &str, address: &str) -> Result<()> {
    let end = format!("to-{name}");
    office.ip(&format!(
        "link add {end} type veth peer name eth0 netns {}",
        machine.name()
    ))?;
    machine.ip(&format!("addr add {address}/24 dev eth0"))?;
    machine.ip("link set eth0 up")?;
    office.ip(&format!("link set {end} master eth1 up"))?;
    wait_until_settled(machine, "eth0")?;
    machine.ip("route add default via 192.168.50.1")?;
    Ok(())
}

pub(super) fn check(lab: &mut Deployment, findings: &mut Findings<'_>) {
    staff(lab, findings);
    camera(lab, findings);
    guests(lab, findings);
    findings.look("names are told to all, those of the world too", || {
        names(lab)
    });
    findings.look("a guest has its rates, and ana beside it has none", || {
        rates(lab)
    });
    findings.look("a visitor whose day is used up is refused", || used_up(lab));
    findings.look("and is back with a larger quota, by a reload", || {
        let text = lab.files.text("hub")?;
        reload(lab, text)?;
        let _web = serve(lab, "world", WEB)?;
        let visitor = lab.namespace("visitor")?;
        eventually("the visitor is back", || {
            sees(visitor, WEB, "203.0.113.1").is_ok()
        })?;
        Ok("the world saw it again".into())
    });
}

fn staff(lab: &Deployment, findings: &mut Findings<'_>) {
    findings.look("ana prints, and the printer sees who she is", || {
        let ana = lab.namespace("ana")?;
        let pings = answers(ana, "192.168.50.16")?;
        let _printer = serve(lab, "printer", IPP)?;
        let seen = sees(ana, IPP, "10.4.0.2")?;
        ensure!(
            echoes(lab, "ana", "printer", SNMP, ANSWER_LIMIT)?,
            "no SNMP"
        );
        Ok(format!("{pings}, {seen}, {SNMP} answered by UDP"))
    });
    findings.look("nothing else of the printer is open to her", || {
        let ana = lab.namespace("ana")?;
        let web = never(lab, "printer", ana, "192.168.50.16:80")?;
        let udp = "192.168.50.16:5353";
        ensure!(!echoes(lab, "ana", "printer", udp, SILENCE)?, "{udp}");
        Ok(format!("{web}; {udp} by UDP: no answer"))
    });
    findings.look(
        "the recorder isn't a printer, and is watched by https",
        || {
            let ana = lab.namespace("ana")?;
            let _recorder = serve(lab, "recorder", "192.168.50.40:443")?;
            let seen = sees(ana, "192.168.50.40:443", "10.4.0.2")?;
            let closed = never(lab, "recorder", ana, "192.168.50.40:631")?;
            Ok(format!("{seen}; {closed}"))
        },
    );
    findings.look("ana reaches ssh of the hub, and by IPv6 as well", || {
        let ana = lab.namespace("ana")?;
        let _v4 = serve(lab, "hub", SSH_OF_HUB)?;
        let _v6 = serve(lab, "hub", "[fd04::1]:22")?;
        let v4 = sees(ana, SSH_OF_HUB, "10.4.0.2")?;
        Ok(format!("{v4}, {}", sees(ana, "[fd04::1]:22", "fd04::2")?))
    });
    findings.look("what is in the office starts nothing with her", || {
        let printer = lab.namespace("printer")?;
        let closed = never(lab, "ana", printer, SSH_OF_ANA)?;
        Ok(format!("{closed}; {}", silent(printer, "10.4.0.2")?))
    });
}

fn camera(lab: &mut Deployment, findings: &mut Findings<'_>) {
    findings.look("the camera reaches the recorder", || {
        let _recorder = serve(lab, "recorder", RTSP)?;
        sees(lab.namespace("gate")?, RTSP, "10.4.0.30")
    });
    findings.look("the recorder starts nothing with the camera", || {
        let recorder = lab.namespace("recorder")?;
        never(lab, "gate", recorder, "10.4.0.30:80")
    });
    findings.look("a camera that somebody took over gets no further", || {
        let text = lab.files.text("gate")?;
        let own = "allowed_ips = [\"192.168.50.40/32\"]";
        let greedy = text.replace(own, "allowed_ips = [\"0.0.0.0/0\"]");
        ensure!(greedy != text, "the camera's file has no {own}");
        lab.start_node_with("gate", &greedy)?;
        let gate = lab.namespace("gate")?;
        gate.ip("route add 192.168.50.0/24 dev taltun0")?;
        gate.ip("route add 198.18.0.80/32 dev taltun0")?;
        // It does have its tunnel.
        let recorder = serve(lab, "recorder", RTSP)?;
        sees(gate, RTSP, "10.4.0.30")?;
        drop(recorder);
        let mut seen = Vec::new();
        for (machine, service) in [
            ("recorder", "192.168.50.40:22"),
            ("printer", IPP),
            ("ana", SSH_OF_ANA),
            ("hub", SSH_OF_HUB),
            ("guest", "10.4.0.20:80"),
            ("world", WEB),
        ] {
            seen.push(never(lab, machine, gate, service)?);
        }
        lab.start_node("gate", "gate")?;
        Ok(seen.join("; "))
    });
}

fn guests(lab: &Deployment, findings: &mut Findings<'_>) {
    findings.look("a guest reaches the world, as the hub", || {
        let _v4 = serve(lab, "world", WEB)?;
        let _v6 = serve(lab, "world", WEB_V6)?;
        let guest = lab.namespace("guest")?;
        let v4 = sees(guest, WEB, "203.0.113.1")?;
        Ok(format!("{v4}, {}", sees(guest, WEB_V6, "2001:db8:1::1")?))
    });
    findings.look("and nothing inside, which the log tells", || {
        let guest = lab.namespace("guest")?;
        let mut seen = Vec::new();
        for (machine, service) in [
            ("printer", IPP),
            ("ana", SSH_OF_ANA),
            ("ana", "[fd04::2]:22"),
            ("visitor", "10.4.0.21:80"),
            ("hub", SSH_OF_HUB),
            ("hub", "203.0.113.1:22"),
        ] {
            seen.push(never(lab, machine, guest, service)?);
        }
        silent(guest, "10.4.0.1")?;
        let log = lab.node("hub")?.log();
        let line = "denies 10.4.0.20 -> 10.4.0.2 tcp/22";
        ensure!(log.contains(line), "the hub's log has no {line:?}");
        Ok(seen.join("; "))
    });
    findings.look("nobody starts anything with a guest", || {
        let ana = never(lab, "guest", lab.namespace("ana")?, "10.4.0.20:80")?;
        let hub = never(lab, "guest", lab.namespace("hub")?, "10.4.0.20:80")?;
        Ok(format!("ana: {ana}; the hub: {hub}"))
    });
    findings.look("the hub tells what each rule did", || {
        let status = status(lab)?;
        let rules = status["policy"]["rules"].as_array().context("no rules")?;
        let count = |rule: usize, what: &str| rules[rule][what].as_u64().unwrap_or_default();
        let printed = count(0, "allowed");
        let denied = count(4, "denied");
        ensure!(printed >= 3 && denied >= 6, "{rules:?}");
        let by_default = status["policy"]["by_default"]["denied"].as_u64();
        ensure!(by_default >= Some(5), "{status}");
        Ok(format!(
            "{printed} starts to printers allowed, {denied} packets of guests denied"
        ))
    });
}

fn names(lab: &Deployment) -> Result<String> {
    let known = vec![("www.example.org", "198.18.0.80".parse()?)];
    let upstream = UPSTREAM.parse()?;
    let _resolver = Resolver::with_names(lab.namespace("world")?, upstream, known, 60)?;
    let mut said = Vec::new();
    for (from, server, name, v6, expected) in [
        ("ana", "10.4.0.1", "office.vpn", false, Some("10.4.0.10")),
        ("ana", "fd04::1", "gate.vpn", true, Some("fd04::30")),
        (
            "guest",
            "10.4.0.1",
            "www.example.org",
            false,
            Some("198.18.0.80"),
        ),
        ("guest", "10.4.0.1", "nobody.vpn", false, None),
    ] {
        let expected: Option<IpAddr> = expected.map(str::parse).transpose()?;
        let server: IpAddr = server.parse()?;
        let found = dns::ask(lab.namespace(from)?, server, name, v6, ANSWER_LIMIT)?;
        ensure!(found == expected, "{name} is {found:?}, {from} heard");
        said.push(match found {
            Some(address) => format!("{name} is {address}"),
            None => format!("{name} is nowhere"),
        });
    }
    Ok(said.join(", "))
}

fn rates(lab: &Deployment) -> Result<String> {
    let (guest, world) = (lab.namespace("guest")?, lab.namespace("world")?);
    let (ana, hub) = (lab.namespace("ana")?, lab.namespace("hub")?);
    let streams = [
        Stream::download(guest, world, WEB.parse()?)?,
        Stream::start(guest, world, "198.18.0.80:443".parse()?)?,
        Stream::start(ana, hub, SSH_OF_HUB.parse()?)?,
    ];
    let rates = packet_rates(&streams)?;
    let text = format!(
        "the guest has {:.1} Mbit/s down and {:.1} up, ana {:.0}",
        rates[0], rates[1], rates[2]
    );
    // A machine that is busy may let a sender wait until its queue is empty.
    let near = |rate: f64, limit: f64| rate > limit * 0.7 && rate < limit * 1.1;
    ensure!(near(rates[0], GUEST_DOWN), "{text}");
    ensure!(near(rates[1], GUEST_UP), "{text}");
    ensure!(rates[2] > 2.0 * GUEST_DOWN, "{text}");
    Ok(text)
}

fn used_up(lab: &Deployment) -> Result<String> {
    let text = lab.files.text("hub")?;
    let small = text.replace("\"2 GB/day\"", "\"1 MB/day\"");
    ensure!(small != text, "the hub's file has no quota of 2 GB/day");
    reload(lab, &small)?;
    let (visitor, world) = (lab.namespace("visitor")?, lab.namespace("world")?);
    let stream = Stream::download(visitor, world, WEB.parse()?)?;
    eventually("the visitor is refused", || {
        is_refused(lab).unwrap_or_default()
    })?;
    drop(stream);
    let _web = serve(lab, "world", WEB)?;
    let closed = closed(visitor, WEB)?;
    // Another guest isn't concerned.
    sees(lab.namespace("guest")?, WEB, "203.0.113.1")?;
    let told = lab.node("hub")?.tell(&["status"])?;
    let line = told.lines().find(|line| line.contains("REFUSED"));
    let line = line.with_context(|| format!("status doesn't tell: {told}"))?;
    Ok(format!("{closed}; status: {}", line.trim()))
}

fn is_refused(lab: &Deployment) -> Result<bool> {
    let status = status(lab)?;
    let mut peers = status["peers"].as_array().into_iter().flatten();
    Ok(peers.any(|peer| peer["name"] == "visitor" && peer["refused"] == "quota"))
}

fn status(lab: &Deployment) -> Result<Value> {
    let text = lab.node("hub")?.tell(&["status", "--json"])?;
    Ok(serde_json::from_str(&text)?)
}

/// Has the hub read another file.
fn reload(lab: &Deployment, text: &str) -> Result<()> {
    let hub = lab.node("hub")?;
    fs::write(hub.config(), text)?;
    hub.tell(&["reload"])?;
    Ok(())
}

/// Waits until something is so, which may take a few handshakes.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < 3 * UP_LIMIT, "not within time: {what}");
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn serve(lab: &Deployment, machine: &str, service: &str) -> Result<Service> {
    Service::start(lab.namespace(machine)?, service.parse()?)
}

/// A service that runs on `machine` isn't reached by `from`.
fn never(lab: &Deployment, machine: &str, from: &Namespace, service: &str) -> Result<String> {
    let _service = serve(lab, machine, service)?;
    closed(from, service)
}

/// Whether a datagram gets to a machine and its answer back, within `limit`.
fn echoes(lab: &Deployment, from: &str, to: &str, at: &str, limit: Duration) -> Result<bool> {
    let at: SocketAddr = at.parse()?;
    let server = lab.namespace(to)?.udp(at)?;
    let client = lab
        .namespace(from)?
        .run(|| UdpSocket::bind("0.0.0.0:0"))??;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(limit))?;
    }
    let mut buffer = [0; 16];
    client.send_to(b"how much toner?", at)?;
    let Ok((length, asker)) = server.recv_from(&mut buffer) else {
        return Ok(false);
    };
    server.send_to(&buffer[..length], asker)?;
    Ok(client.recv(&mut buffer).is_ok())
}
