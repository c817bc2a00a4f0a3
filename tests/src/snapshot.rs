//! What a namespace's network looks like, to see afterwards that nothing was changed.
//!
//! A snapshot is a set of lines, each a fact in the words of the tool that told it, so that a
//! difference explains itself.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{find, output_of};
use crate::netns::Namespace;

/// The state of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Links, addresses, routes, rules, queueing disciplines, settings, UDP sockets, and
    /// where the programs for it are installed BPF attachments and nftables rules.
    pub fn take(namespace: &Namespace) -> Result<Self> {
        let mut facts = BTreeSet::new();
        facts.extend(links(namespace)?);
        // Without the link's number: its name says which it is, and one in its place has another number.
        let addresses = namespace.ip("-o addr show")?;
        let addresses = addresses.lines().filter_map(|line| line.split_once(": "));
        facts.extend(addresses.map(|(_, address)| format!("address {}", address.trim())));
        for (what, arguments) in [
            ("route", "route show table all"),
            ("route", "-6 route show table all"),
            ("rule", "rule show"),
            ("rule", "-6 rule show"),
        ] {
            facts.extend(lines(what, &namespace.ip(arguments)?));
        }
        let mut tc = Command::new("tc");
        tc.args(["-n", namespace.name(), "qdisc", "show"]);
        facts.extend(lines("qdisc", &output_of(&mut tc)?));
        facts.extend(namespace.run(settings)??);
        facts.extend(namespace.run(udp_sockets)??);
        for (what, program, arguments) in [
            ("bpf", "bpftool", ["net", "show"]),
            ("nftables", "nft", ["list", "ruleset"]),
        ] {
            if let Some(program) = find(program) {
                let mut command = namespace.command(program);
                facts.extend(lines(what, &output_of(command.args(arguments))?));
            }
        }
        Ok(Self(facts))
    }

    /// What is in `later` and wasn't here (`+`), and the other way round (`-`).
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|fact| format!("- {fact}"));
        let new = later.0.difference(&self.0).map(|fact| format!("+ {fact}"));
        gone.chain(new).collect()
    }
}

fn links(namespace: &Namespace) -> Result<Vec<String>> {
    let json: Value = serde_json::from_str(&namespace.ip("-d -j link show")?)?;
    let links = json.as_array().context("ip printed no list of links")?;
    Ok(links
        .iter()
        .map(|link| {
            format!(
                "link {} flags {} mtu {} xdp {}",
                link["ifname"], link["flags"], link["mtu"], link["xdp"]
            )
        })
        .collect())
}

fn lines(what: &str, text: &str) -> Vec<String> {
    text.lines()
        .map(|line| format!("{what} {}", line.trim()))
        .collect()
}

/// Runs inside the namespace.
fn settings() -> Result<Vec<String>> {
    [
        "ipv4/ip_forward",
        "ipv4/conf/all/src_valid_mark",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/default/accept_ra",
    ]
    .into_iter()
    .map(|name| {
        let value = fs::read_to_string(format!("/proc/sys/net/{name}"))?;
        Ok(format!("sysctl {name} {}", value.trim()))
    })
    .collect()
}

/// Runs inside the namespace.
fn udp_sockets() -> Result<Vec<String>> {
    let mut sockets = Vec::new();
    for table in ["udp", "udp6"] {
        // Not /proc/net: that is the network of the process, not of the thread.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
        sockets.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(1))
                .map(|local| format!("socket {table} {local}")),
        );
    }
    Ok(sockets)
}
