//! The kill switches that there are in a network namespace, whoever left them: each tool's rules
//! are read, and those are found that close.
//!
//! A switch counts as closed if its chains are where all packets pass, and end by refusing what
//! came so far. Rules that others put in front can't be judged.

use std::collections::BTreeMap;

use super::{FirewallTool, check_name, iptables, nftables};
use crate::system::program;

/// Whether a kill switch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::system) enum Standing {
    /// Its rules are there.
    Closed,
    /// What isn't.
    Open(&'static str),
}

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
    pub(in crate::system) fn standing(&self, interface: &str) -> Option<Standing> {
        self.found.get(interface).copied()
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
        let known = self.found.entry(interface.to_owned()).or_insert(standing);
        if standing == Standing::Closed {
            *known = standing;
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
                let named = found.iter().filter(|(name, _)| check_name(name).is_ok());
                named.for_each(|(name, standing)| listed.add(name, *standing));
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
