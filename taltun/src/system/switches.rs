//! Kill switches that dead tunnels left, by the host's rules and not by a journal: a journal may
//! be lost, and the rules in it may be gone.

use std::fs::File;
use std::path::PathBuf;

use super::check;
use super::firewall::{self, FirewallTool, Listed, Standing};
use super::journal::Journal;
use super::namespace::{self, Place};
use crate::os::interface;

/// Whether a kill switch keeps packets from leaving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchState {
    /// Its rules are there.
    Holds,
    /// They aren't, or not all of them, or another opens it; this is what is wrong.
    Open(&'static str),
    /// They can't be looked at, or there are others that nobody can judge: for this reason.
    Unknown(String),
}

/// A kill switch of a tunnel that doesn't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftSwitch {
    /// The interface of its tunnel.
    pub interface: String,
    /// The command that starts the tunnel again; empty where that isn't known.
    pub start: String,
    /// Whether it is in another network namespace than the caller's.
    pub elsewhere: bool,
    /// Whether it holds.
    pub state: SwitchState,
}

/// What is known of the kill switches that dead tunnels left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftSwitches {
    /// Those that journals tell of, and those whose rules are there.
    pub found: Vec<LeftSwitch>,
    /// Why there may be more, whose rules can't be looked at.
    pub cannot_look: Option<String>,
}

/// One that may have been left.
struct Candidate {
    interface: String,
    start: String,
    /// What its journal says that it was made with.
    tool: Option<FirewallTool>,
}

/// Looks for kill switches: those that `directories` have journals of, whose network namespaces
/// are still there, and those whose rules are in the caller's namespace. `runs` is whether a
/// tunnel of that interface runs, or may run, in the namespace with that inode.
pub fn left_switches(directories: &[PathBuf], runs: impl Fn(&str, u64) -> bool) -> LeftSwitches {
    let here = namespace::current().unwrap_or_default();
    let mut namespaces: Vec<(u64, Option<File>, Vec<Candidate>)> = vec![(here, None, Vec::new())];
    let mut unreadable = Vec::new();
    for directory in directories {
        for interface in Journal::interfaces(directory) {
            let (journals, damaged) = Journal::all(directory, &interface);
            for journal in journals.into_iter().filter(|journal| journal.kill_switch) {
                let at = journal.namespace;
                let candidate = Candidate {
                    interface: journal.interface,
                    start: journal.start,
                    tool: journal.firewall,
                };
                if let Some((.., known)) = namespaces.iter_mut().find(|(inode, ..)| *inode == at) {
                    // A tunnel that ran with two directories has a journal in each.
                    if known.iter().all(|known| known.interface != interface) {
                        known.push(candidate);
                    }
                } else if let Place::There(file) = namespace::find(at) {
                    namespaces.push((at, Some(file), vec![candidate]));
                }
            }
            let reasons = damaged.into_iter().map(|(_, reason)| reason);
            unreadable.extend(reasons.map(|reason| (interface.clone(), reason)));
        }
    }
    let mut left = LeftSwitches::default();
    for (inode, place, mut candidates) in namespaces {
        candidates.retain(|candidate| !runs(&candidate.interface, inode));
        let is_here = place.is_none();
        let (found, cannot_look) = look(place, candidates, |name| runs(name, inode));
        left.found.extend(found);
        if is_here {
            left.cannot_look = cannot_look;
        }
    }
    // One whose rules are found needs no journal to be told of.
    for (interface, reason) in unreadable {
        let told = left.found.iter().any(|found| found.interface == interface);
        if left.cannot_look.is_some() && !told && !runs(&interface, here) {
            left.found.push(LeftSwitch {
                interface,
                start: String::new(),
                elsewhere: false,
                state: SwitchState::Unknown(format!("{reason}; run as root")),
            });
        }
    }
    left
}

/// Looks at the rules of a namespace, that of the caller without a `place`, in a thread that may
/// go there. Those of a living interface are a running tunnel's.
fn look(
    place: Option<File>,
    candidates: Vec<Candidate>,
    runs: impl Fn(&str) -> bool,
) -> (Vec<LeftSwitch>, Option<String>) {
    let elsewhere = place.is_some();
    if elsewhere && candidates.is_empty() {
        return (Vec::new(), None);
    }
    let journals: Vec<String> = candidates
        .iter()
        .map(|candidate| candidate.interface.clone())
        .collect();
    let list = move || -> Result<(Listed, Vec<String>), String> {
        if !check::may_administer() {
            return Err("reading firewall rules takes CAP_NET_ADMIN; run as root".to_owned());
        }
        if let Some(place) = place {
            namespace::enter(&place).map_err(|error| format!("its network namespace: {error}"))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let listed = runtime.block_on(firewall::kill_switches());
        let names = listed.names().into_iter().chain(journals);
        let living = names.filter(|name| interface::index(name).is_some());
        Ok((listed, living.collect()))
    };
    let listed = std::thread::spawn(list)
        .join()
        .unwrap_or_else(|_| Err("the look at them failed".to_owned()));
    let switch = |candidate: Candidate, state| LeftSwitch {
        interface: candidate.interface,
        start: candidate.start,
        elsewhere,
        state,
    };
    let (listed, living) = match listed {
        Ok(listed) => listed,
        Err(reason) => {
            let unknown = candidates
                .into_iter()
                .map(|candidate| switch(candidate, SwitchState::Unknown(reason.clone())));
            return (unknown.collect(), Some(reason));
        }
    };
    let mut all = candidates;
    if !elsewhere {
        for interface in listed.names() {
            if all.iter().all(|known| known.interface != interface) && !runs(&interface) {
                all.push(Candidate {
                    interface,
                    start: String::new(),
                    tool: None,
                });
            }
        }
    }
    // That of a process that was killed goes a moment later.
    let lives = |name: &str| {
        living.iter().any(|living| living == name) && (elsewhere || !interface::goes(name))
    };
    all.retain(|candidate| !lives(&candidate.interface));
    let found = all.into_iter().map(|candidate| {
        let state = state(&listed, &candidate);
        switch(candidate, state)
    });
    (found.collect(), listed.cannot_look())
}

fn state(listed: &Listed, candidate: &Candidate) -> SwitchState {
    match listed.standing(&candidate.interface) {
        Some(Standing::Closed) => SwitchState::Holds,
        Some(Standing::Open(missing)) => SwitchState::Open(missing),
        Some(Standing::Odd(reason)) => SwitchState::Unknown(reason.clone()),
        None => match candidate.tool.and_then(|tool| listed.failed(tool)) {
            Some(reason) => SwitchState::Unknown(reason.to_owned()),
            None => SwitchState::Open("its rules are gone"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_said_to_be_open() {
        let candidate = |tool| Candidate {
            interface: "t0".into(),
            start: String::new(),
            tool: Some(tool),
        };
        let mut listed = Listed::default();
        let gone = SwitchState::Open("its rules are gone");
        assert_eq!(state(&listed, &candidate(FirewallTool::Nftables)), gone);
        listed.fail(FirewallTool::Nftables, "no nft".into());
        assert_eq!(
            state(&listed, &candidate(FirewallTool::Nftables)),
            SwitchState::Unknown("no nft".into())
        );
        assert_eq!(state(&listed, &candidate(FirewallTool::Iptables)), gone);
        // By whichever tool, one that is closed holds.
        listed.add("t0", Standing::Open("a part is missing"));
        listed.add("t0", Standing::Odd("a rule of others".into()));
        assert_eq!(
            state(&listed, &candidate(FirewallTool::Nftables)),
            SwitchState::Unknown("a rule of others".into())
        );
        listed.add("t0", Standing::Closed);
        listed.add("t0", Standing::Open("a part is missing"));
        assert_eq!(
            state(&listed, &candidate(FirewallTool::Nftables)),
            SwitchState::Holds
        );
    }
}
