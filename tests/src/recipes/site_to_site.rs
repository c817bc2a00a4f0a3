//! Recipe D: a server in the cloud reaches the network behind the gateway of an office.
//!
//! ```text
//!  cloud 10.9.0.1 ═══ internet ═══ office 10.9.0.2
//!                                    └─ eth1 192.168.50.1 ─── desktop 192.168.50.10
//!                                                             (and 192.168.60.10 behind it)
//! ```

use anyhow::{Result, ensure};

use super::internet::{HERE, HUB, Link, connect};
use super::{Deployment, Findings, answers, closed, sees};
use crate::netns::Namespace;
use crate::traffic::capture::Capture;
use crate::traffic::service::Service;

const DESKTOP: &str = "192.168.50.10:8080";
const CLOUD: &str = "10.9.0.1:8080";
const ELSEWHERE: &str = "192.168.60.10:8080";
const OFFICE_NETWORK: Link = Link {
    v4: "192.168.50.10/24",
    v4_gateway: "192.168.50.1",
    v6: "",
    v6_gateway: "",
};

pub(super) fn build(lab: &mut Deployment) -> Result<()> {
    lab.add_machine("cloud", HUB)?;
    let desktop = Namespace::create(&format!("{}-desktop", lab.prefix))?;
    let office = Namespace::create(&format!("{}-office", lab.prefix))?;
    connect((&desktop, "eth0"), (&office, "eth1"), OFFICE_NETWORK, true)?;
    desktop.ip("addr add 192.168.60.10/32 dev lo")?;
    office.ip("route add 192.168.60.0/24 via 192.168.50.10")?;
    connect((&office, "eth0"), (&lab.internet, "to-office"), HERE, true)?;
    lab.adopt("desktop", desktop)?;
    lab.adopt("office", office)?;
    lab.start_node("cloud", "cloud")?;
    lab.start_node("office", "office")
}

pub(super) fn check(lab: &mut Deployment, findings: &mut Findings<'_>) {
    findings.look("the office has its tunnel to the cloud", || {
        answers(lab.namespace("office")?, "10.9.0.1")
    });
    findings.look(
        "the cloud reaches the desktop, which sees who it is",
        || {
            let _service = Service::start(lab.namespace("desktop")?, DESKTOP.parse()?)?;
            sees(lab.namespace("cloud")?, DESKTOP, "10.9.0.1")
        },
    );
    findings.look(
        "the desktop reaches the cloud, which sees who it is",
        || {
            let _service = Service::start(lab.namespace("cloud")?, CLOUD.parse()?)?;
            sees(lab.namespace("desktop")?, CLOUD, "192.168.50.10")
        },
    );
    findings.look(
        "connections of the desktop announce what fits the tunnel",
        || {
            let cloud = lab.namespace("cloud")?;
            let _service = Service::start(cloud, CLOUD.parse()?)?;
            let inside = Capture::start(cloud, "taltun0")?;
            sees(lab.namespace("desktop")?, CLOUD, "192.168.50.10")?;
            let announced = |packet: &crate::traffic::capture::Packet| {
                packet
                    .segment
                    .filter(|_| packet.to.to_string() == "10.9.0.1")
            };
            let segment = inside.finish().keys().find_map(announced);
            ensure!(
                segment == Some(1380),
                "it announces {segment:?}, not 1380 bytes"
            );
            Ok("1380 bytes, though the desktop's own wire takes 1460".into())
        },
    );
    findings.look("another network of the office isn't reached", || {
        let cloud = lab.namespace("cloud")?;
        let _service = Service::start(lab.namespace("desktop")?, ELSEWHERE.parse()?)?;
        // Even by somebody who sends it into the tunnel: it is in nobody's allowed_ips.
        cloud.ip("route add 192.168.60.0/24 dev taltun0")?;
        let dropped = || {
            lab.node("cloud")?
                .stats()
                .map(|stats| stats.dropped("no_peer"))
        };
        let before = dropped()?;
        let outcome = closed(cloud, ELSEWHERE);
        cloud.ip("route del 192.168.60.0/24 dev taltun0")?;
        ensure!(dropped()? > before, "nothing was counted as no_peer");
        outcome
    });
    findings.look("a desktop without a route back can't be reached", || {
        let desktop = lab.namespace("desktop")?;
        let _service = Service::start(desktop, DESKTOP.parse()?)?;
        desktop.ip("route del default")?;
        closed(lab.namespace("cloud")?, DESKTOP)
    });
    findings.look(
        "with address translation it can, and sees the gateway",
        || {
            lab.start_node("office", "office-nat")?;
            answers(lab.namespace("office")?, "10.9.0.1")?;
            let _service = Service::start(lab.namespace("desktop")?, DESKTOP.parse()?)?;
            sees(lab.namespace("cloud")?, DESKTOP, "192.168.50.1")
        },
    );
    findings.look("and can start nothing itself", || {
        let _service = Service::start(lab.namespace("cloud")?, CLOUD.parse()?)?;
        closed(lab.namespace("desktop")?, CLOUD)
    });
    findings.look(
        "stopped, the office goes on forwarding, as others may rely on it",
        || {
            lab.namespace("desktop")?
                .ip("route add default via 192.168.50.1")?;
            let office = lab.namespace("office")?;
            let on = forwarding(office)?;
            lab.start_node("office", "office")?;
            let machine = lab
                .machines
                .iter_mut()
                .find(|machine| machine.name == "office");
            let node = machine.and_then(|machine| machine.node.take());
            node.map(|node| node.stop(crate::sys::Signal::Terminate))
                .transpose()?;
            let off = forwarding(lab.namespace("office")?)?;
            lab.start_node("office", "office")?;
            ensure!(
                (on.as_str(), off.as_str()) == ("1", "1"),
                "ip_forward was {on}, then {off}"
            );
            Ok("ip_forward is 1 while it runs, and after".into())
        },
    );
}

fn forwarding(namespace: &Namespace) -> Result<String> {
    let value = namespace.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward"))??;
    Ok(value.trim().to_owned())
}
