//! Recipe E: two clients reach each other by a relay whose kernel forwards nothing.
//!
//! ```text
//!  anna 10.5.0.2 ═══╗
//!                   ╠═══ internet ═══ relay 10.5.0.1 ─── world 198.18.0.80
//!  bert 10.5.0.3 ═══╝
//! ```

use anyhow::{Result, ensure};

use super::internet::{HERE, HUB, THERE, WORLD};
use super::{Deployment, Findings, answers, closed, sees};
use crate::traffic::capture::Capture;
use crate::traffic::service::Service;

const BERT: &str = "10.5.0.3:8080";
const WEB: &str = "198.18.0.80:80";

pub(super) fn build(lab: &mut Deployment) -> Result<()> {
    lab.add_machine("relay", HUB)?;
    lab.add_machine("anna", HERE)?;
    lab.add_machine("bert", THERE)?;
    lab.add_machine("world", WORLD)?;
    lab.start_node("relay", "relay")?;
    lab.start_node("anna", "anna")?;
    lab.start_node("bert", "bert")
}

pub(super) fn check(lab: &mut Deployment, findings: &mut Findings<'_>) {
    findings.look("anna and bert reach the relay", || {
        let anna = answers(lab.namespace("anna")?, "10.5.0.1")?;
        answers(lab.namespace("bert")?, "10.5.0.1")?;
        Ok(anna)
    });
    findings.look("anna reaches bert, and bert anna", || {
        let bert = answers(lab.namespace("anna")?, "10.5.0.3")?;
        Ok(format!(
            "{bert}, {}",
            answers(lab.namespace("bert")?, "10.5.0.2")?
        ))
    });
    findings.look(
        "the relay's kernel forwards nothing and sees nothing of it",
        || {
            let relay = lab.namespace("relay")?;
            let _service = Service::start(lab.namespace("bert")?, BERT.parse()?)?;
            let before = lab.node("relay")?.stats()?.traffic.relayed_packets;
            let inside = Capture::start(relay, "taltun0")?;
            sees(lab.namespace("anna")?, BERT, "10.5.0.2")?;
            let seen = inside.finish();
            ensure!(
                seen.is_empty(),
                "its kernel saw {} kinds of packets",
                seen.len()
            );
            let forwarding =
                relay.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward"))??;
            ensure!(forwarding.trim() == "0", "ip_forward is {forwarding}");
            let relayed = lab.node("relay")?.stats()?.traffic.relayed_packets - before;
            ensure!(relayed >= 6, "Taltun relayed {relayed} packets");
            Ok(format!(
                "Taltun relayed {relayed} packets, ip_forward is 0, none on the kernel's side"
            ))
        },
    );
    findings.look(
        "an anna who sends everything to the relay gets no further",
        || {
            let text = lab.files.text("anna")?;
            let greedy = text.replace("10.5.0.3/32", "0.0.0.0/0");
            ensure!(greedy != text, "anna's file has no 10.5.0.3/32");
            lab.start_node_with("anna", &greedy)?;
            let anna = lab.namespace("anna")?;
            answers(anna, "10.5.0.1")?;
            anna.ip("route add 198.18.0.80/32 dev taltun0")?;
            anna.ip("route add 203.0.113.1/32 via 198.51.100.254")?;
            let world = lab.namespace("world")?;
            let _service = Service::start(world, WEB.parse()?)?;
            let arriving = Capture::start(world, "eth0")?;
            let outcome = closed(anna, WEB);
            let arrived: Vec<String> = arriving
                .finish()
                .keys()
                .filter(|packet| packet.from.to_string().starts_with("10.5."))
                .map(ToString::to_string)
                .collect();
            anna.ip("route del 203.0.113.1/32")?;
            lab.start_node("anna", "anna")?;
            ensure!(arrived.is_empty(), "the world saw {}", arrived.join(", "));
            outcome
        },
    );
    findings.look("and reaches bert as before", || {
        answers(lab.namespace("anna")?, "10.5.0.3")
    });
}
