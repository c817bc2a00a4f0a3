//! The kill switches that there are in a network namespace, whoever left them: each tool's rules
//! are read, and those are found that close.
//!
//! A switch counts as closed if its chains are where all packets pass, end by refusing what
//! came so far, and have no rule before that which Taltun doesn't make.
//!
//! Rules of ours also tell which marks belong to other tunnels, whether those run or not.

use std::collections::{BTreeMap, HashSet};

use tracing::debug;

use super::{FirewallTool, Standing, check_name, iptables, nftables};
use crate::system::program;

/// What the tools list.
#[derive(Debug, Default)]
pub(in crate::system) struct Listed {
    found: BTreeMap<String, Standing>,
    failed: Vec<(FirewallTool, String)>,
    cannot_look: Option<String>,
}

impl Listed {
    /// The interfaces that there are rules of a kill switch for.
    pub(in crate::system) fn names(&self) -> Vec<String> {
        self.found.keys().cloned().collect()
    }

    /// How that of `interface` stands; `None` where there is nothing of it.
    pub(in crate::system) fn standing(&self, interface: &str) -> Option<&Standing> {
        self.found.get(interface)
    }

    /// Why rules of this tool couldn't be listed.
    pub(in crate::system) fn failed(&self, tool: FirewallTool) -> Option<&str> {
        let mut failed = self.failed.iter().filter(|(kind, _)| *kind == tool);
        failed.next().map(|(_, reason)| reason.as_str())
    }

    /// Why there may be more, though its tool is there.
    pub(in crate::system) fn cannot_look(&self) -> Option<String> {
        self.cannot_look.clone()
    }

    pub(in crate::system) fn add(&mut self, interface: &str, standing: Standing) {
        match self.found.get_mut(interface) {
            Some(known) if !standing.closes_better_than(known) => {}
            Some(known) => *known = standing,
            None => {
                self.found.insert(interface.to_owned(), standing);
            }
        }
    }

    pub(in crate::system) fn fail(&mut self, tool: FirewallTool, reason: String) {
        self.failed.push((tool, reason));
    }
}

/// Lists the kill switches in the network namespace of the calling thread.
pub(in crate::system) async fn kill_switches() -> Listed {
    let mut listed = Listed::default();
    for tool in [FirewallTool::Nftables, FirewallTool::Iptables] {
        let (lists, outcome) = match tool {
            FirewallTool::Nftables => ("nft", nftables::kill_switches().await),
            FirewallTool::Iptables => (iptables::V4_SAVE, iptables::kill_switches().await),
        };
        match outcome {
            Ok(found) => {
                let named = found
                    .into_iter()
                    .filter(|(name, _)| check_name(name).is_ok());
                named.for_each(|(name, standing)| listed.add(&name, standing));
            }
            Err(reason) => {
                // Without the tool there can hardly be rules by it.
                if program::find(lists).is_some() {
                    listed.cannot_look.get_or_insert_with(|| reason.clone());
                }
                listed.fail(tool, reason);
            }
        }
    }
    listed
}

/// The marks that rules of other tunnels than that of `interface` name, in the network namespace
/// of the calling thread.
pub(in crate::system) async fn marks_of_others(interface: &str) -> HashSet<u32> {
    let mut marks = HashSet::new();
    for outcome in [
        nftables::rules_of_others(interface).await,
        iptables::rules_of_others(interface).await,
    ] {
        match outcome {
            Ok(rules) => marks.extend(marks_in(&rules)),
            Err(reason) => debug!("marks of other tunnels: {reason}"),
        }
    }
    marks
}

/// The marks in rules as either tool lists them, with all their bits: `meta mark 0x1001`,
/// `ct mark set 0x1001`, `--mark 0x1001`, `--set-xmark 0x1001/0xffffffff`.
fn marks_in(rules: &str) -> Vec<u32> {
    let lines = rules.lines().filter(|line| line.contains("mark"));
    let words = lines.flat_map(|line| line.split([' ', ',']));
    let number = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let mark = |word| match str::split_once(word, '/') {
        Some((value, mask)) => number(value).filter(|_| number(mask) == Some(u32::MAX)),
        None => number(word),
    };
    words.filter_map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_from_rules_of_either_tool() {
        let rules = "\t\tmeta mark 0x00001001 accept\n\t\tct mark set 0x1002\n\
                     -A taltun-t0-out -m mark --mark 0x1003 -j ACCEPT\n\
                     -A taltun-t0-in -j CONNMARK --set-xmark 0x1004/0xffffffff\n\
                     -A taltun-t0-nat -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
                     \t\tip6 daddr 0x1005\n";
        assert_eq!(marks_in(rules), [0x1001, 0x1002, 0x1003, 0x1004]);
    }
}
