//! What a dead process left for an interface, found on the host and not by its journal, which may
//! be lost or in another runtime directory.
//!
//! Our firewall rules contain the interface's name. Our policy rules are recognised by their form
//! and priority, and those of a dead tunnel by their empty table. Which dead tunnel's they are
//! doesn't matter, unless a journal, another tunnel's rules or a socket claims them.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::AddressFamily;
use tracing::debug;

use super::firewall::{self, FirewallTool};
use super::journal::Journal;
use super::{SystemError, network, policy, routes, socket_marks};
use crate::os::interface;

/// How long sockets of a process that was killed may be there.
const DYING: Duration = Duration::from_secs(1);

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
    let claimed = claimed(directory, interface, &marks).await;
    marks.retain(|mark| !claimed.contains(mark));
    if !marks.is_empty() {
        let own = interface::index(interface);
        let used = routes::tables(&handle, own).await?;
        marks.retain(|mark| !used.contains(mark));
    }
    connection.abort();
    Ok(marks)
}

impl Journal {
    /// Without its mark where that is another tunnel's by now.
    pub(super) async fn without_others_mark(mut self, directory: &Path) -> Self {
        if let Some(mark) = self.mark
            && claimed(directory, &self.interface, &[mark])
                .await
                .contains(&mark)
        {
            self.mark = None;
        }
        self
    }
}

/// Those of `marks` that belong to another tunnel than `interface`, which has no socket any more:
/// journals and firewall rules of dead ones name theirs, and sockets of living ones have it.
async fn claimed(directory: &Path, interface: &str, marks: &[u32]) -> HashSet<u32> {
    if marks.is_empty() {
        return HashSet::new();
    }
    let journals = Journal::interfaces(directory).into_iter();
    let journals = journals.filter(|other| other != interface);
    let mut claimed: HashSet<u32> = journals
        .filter_map(|other| Journal::left_behind(directory, &other)?.mark)
        .collect();
    claimed.extend(firewall::marks_of_others(interface).await);
    claimed.retain(|mark| marks.contains(mark));
    claimed.extend(of_sockets(marks).await);
    claimed
}

/// Those of `marks` that sockets have, and go on having.
async fn of_sockets(marks: &[u32]) -> HashSet<u32> {
    let end = Instant::now() + DYING;
    loop {
        let mut used = socket_marks::marks_of_sockets().unwrap_or_else(|error| {
            debug!("marks of sockets: {error}");
            HashSet::new()
        });
        used.retain(|mark| marks.contains(mark));
        if used.is_empty() || Instant::now() > end {
            return used;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
