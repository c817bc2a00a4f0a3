//! What a dead process left for an interface, found by what is there and not by its journal:
//! that may be lost, or be in another runtime directory.
//!
//! Firewall rules of ours bear the interface's name. Policy rules of ours are told by their
//! shape and their place, and those of a dead tunnel by the table that they lead to: nothing is
//! in it. Which dead tunnel's they are doesn't matter then, as long as no journal has them.

use std::path::Path;

use rtnetlink::packet_route::AddressFamily;

use super::firewall::{self, FirewallTool};
use super::journal::Journal;
use super::{SystemError, interface, network, policy, routes};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remnants {
    /// What tools have rules of ours.
    pub(super) firewall: Vec<FirewallTool>,
    /// Whether these rules are a kill switch.
    pub(super) kill_switch: bool,
    /// The marks of policy rules that lead to nothing.
    pub(super) marks: Vec<u32>,
}

impl Remnants {
    /// What is left for `interface` in the namespace of the calling thread; `directory` has
    /// the journals that tell what other dead tunnels left.
    pub(super) async fn find(directory: &Path, interface: &str) -> Result<Self, SystemError> {
        let firewall = firewall::left(interface).await;
        let mut kill_switch = false;
        for kind in &firewall {
            kill_switch |= firewall::is_kill_switch(*kind, interface).await;
        }
        Ok(Self {
            firewall,
            kill_switch,
            marks: marks(directory, interface).await?,
        })
    }

    /// As the journal that should be there; `None` where nothing is left.
    pub(super) fn journal(&self, interface: &str) -> Option<Journal> {
        (*self != Self::default()).then(|| Journal {
            mark: self.marks.first().copied(),
            firewall: self.firewall.first().copied(),
            kill_switch: self.kill_switch,
            ..Journal::new(interface)
        })
    }
}

async fn marks(directory: &Path, interface: &str) -> Result<Vec<u32>, SystemError> {
    let (connection, handle) = network::connect()?;
    let mut marks = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        marks.extend(policy::marks(&handle, family).await?);
    }
    marks.sort_unstable();
    marks.dedup();
    let others = Journal::interfaces(directory);
    let others = others.iter().filter(|other| *other != interface);
    let others: Vec<u32> = others
        .filter_map(|other| Journal::left_behind(directory, other)?.mark)
        .collect();
    marks.retain(|mark| !others.contains(mark));
    if !marks.is_empty() {
        let own = interface::index(interface);
        let used = routes::tables(&handle, own).await?;
        marks.retain(|mark| !used.contains(mark));
    }
    connection.abort();
    Ok(marks)
}
