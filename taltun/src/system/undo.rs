//! Taking back what was done to the host: at an orderly end, by the next start, and by
//! `taltun undo` where nobody is going to start again.

use std::path::Path;

use tracing::warn;

use super::journal::Journal;
use super::namespace::{self, Place};
use super::network::{self, Network};
use super::{SystemError, check, dns, firewall, policy, sysctl};
use crate::config;

/// A kill switch that holds although its tunnel may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The interface of its tunnel.
    pub interface: String,
    /// The command that starts the tunnel again; empty where that isn't known.
    pub start: String,
    /// Whether it holds in another network namespace than the caller's.
    pub elsewhere: bool,
}

/// The kill switches that `directory` has journals of, whether their tunnels run or not. One
/// that vanished with its network namespace isn't among them.
pub fn held(directory: &Path) -> Vec<Held> {
    let journals = Journal::interfaces(directory)
        .into_iter()
        .filter_map(|interface| Journal::read(directory, &interface).ok()?)
        .filter(|journal| journal.kill_switch);
    journals
        .filter_map(|journal| {
            let elsewhere = match namespace::find(journal.namespace) {
                Place::Here => false,
                Place::There(_) => true,
                Place::Gone => return None,
            };
            Some(Held {
                interface: journal.interface,
                start: journal.start,
                elsewhere,
            })
        })
        .collect()
}

/// Takes back all that a process left for `interface`, in whichever network namespace that
/// was, and says what. The caller makes sure that no such tunnel runs.
///
/// # Errors
/// What couldn't be taken back. It stays in the journal, so that it can be tried again.
pub async fn undo(directory: &Path, interface: &str) -> Result<Vec<String>, SystemError> {
    config::interface_name(interface).map_err(|reason| SystemError::NotUndone {
        interface: interface.to_owned(),
        reason,
    })?;
    if !check::may_administer() {
        return Err(SystemError::NotPermitted);
    }
    let refused = |reason: String| SystemError::NotUndone {
        interface: interface.to_owned(),
        reason,
    };
    match Journal::read(directory, interface) {
        Ok(Some(journal)) => {
            match namespace::find(journal.namespace) {
                Place::Here => {}
                Place::There(there) => namespace::enter(&there)
                    .map_err(|error| refused(format!("its network namespace: {error}")))?,
                Place::Gone => {
                    Journal::remove(directory, interface);
                    return Ok(Vec::new());
                }
            }
            let outcome = take_back(journal, directory, None, None).await;
            outcome.into_result().map_err(refused)
        }
        // Without a journal that can be read, what bears the tunnel's name is its own.
        Ok(None) => Ok(by_name(interface).await),
        Err(reason) => {
            let mut undone = by_name(interface).await;
            Journal::remove(directory, interface);
            warn!("settings and name servers are left as they are: {reason}");
            undone.push("a journal that can't be read".into());
            Ok(undone)
        }
    }
}

/// What was taken back, and what couldn't be.
#[derive(Debug, Default)]
pub(super) struct Undone {
    pub(super) done: Vec<String>,
    failed: Vec<String>,
}

impl Undone {
    fn into_result(self) -> Result<Vec<String>, String> {
        if self.failed.is_empty() {
            Ok(self.done)
        } else {
            Err(self.failed.join("; "))
        }
    }
}

/// Undoes all of a journal, and `network`; firewall rules last, and not those that
/// `replaced_by` is about to replace.
pub(super) async fn take_back(
    mut journal: Journal,
    directory: &Path,
    network: Option<Network>,
    replaced_by: Option<firewall::Kind>,
) -> Undone {
    let mut undone = Undone::default();
    if journal.interface.is_empty() {
        return undone;
    }
    let interface = journal.interface.clone();
    if let Some(kind) = journal.dns {
        dns::unset(kind, &interface).await;
        undone.done.push("name servers".into());
    }
    match network {
        Some(network) => network.undo().await,
        None => remove_rules(journal.mark).await,
    }
    if journal.mark.is_some() {
        undone.done.push("policy rules".into());
    }
    journal.hand_over(directory);
    sysctl::restore(&journal.settings);
    if sysctl::puts_back(&journal.settings) {
        undone.done.push("kernel settings".into());
    }
    if let Some(kind) = journal.firewall
        && replaced_by != Some(kind)
    {
        let what = if journal.kill_switch {
            "kill switch"
        } else {
            "firewall rules"
        };
        match firewall::remove(kind, &interface).await {
            Ok(()) => undone.done.push(what.into()),
            Err(error) => {
                warn!("the {what} of {interface} may be left: {error}");
                undone.failed.push(format!("the {what}: {error}"));
                // Who looks for what is left finds it there.
                return undone;
            }
        }
    }
    Journal::remove(directory, &interface);
    undone
}

/// Removes the policy rules of a mark, if there is one.
pub(super) async fn remove_rules(mark: Option<u32>) {
    let Some(mark) = mark else { return };
    match network::connect() {
        Ok((connection, handle)) => {
            policy::remove(&handle, mark).await;
            connection.abort();
        }
        Err(error) => warn!("policy rules may be left: {error}"),
    }
}

/// Removes what bears the name of `interface`: firewall rules of either tool, and the policy
/// rules of the mark that is made of the name.
async fn by_name(interface: &str) -> Vec<String> {
    let mut undone = Vec::new();
    for kind in firewall::left(interface).await {
        match firewall::remove(kind, interface).await {
            Ok(()) => undone.push("firewall rules".to_owned()),
            Err(error) => warn!("firewall rules may be left: {error}"),
        }
    }
    if !undone.is_empty() {
        remove_rules(Some(config::mark_for(interface))).await;
    }
    undone
}
