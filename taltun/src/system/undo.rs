//! Undoes the changes of the host: at an orderly end, at the next start, and by `taltun undo`
//! without a start.

use std::fs;
use std::path::Path;

use tracing::warn;

use super::journal::Journal;
use super::namespace::{self, Place};
use super::network::{self, Network};
use super::remnants::Remnants;
use super::{SystemError, check, dns, firewall, policy, sysctl};
use crate::config;
use crate::os::interface;

/// Where [`undo`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the network namespace of the caller; where nothing is left there, in others.
    Anywhere,
    /// In that of the caller only: a tunnel of the same name runs in another.
    Here,
}

/// What was taken back, and what couldn't be.
#[derive(Debug, Default)]
pub struct Undone {
    /// What was taken back.
    pub done: Vec<String>,
    /// What stays as it is, with what to do about it.
    pub left: Vec<String>,
    failed: Vec<String>,
}

impl Undone {
    fn into_result(self) -> Result<Self, String> {
        if self.failed.is_empty() {
            Ok(self)
        } else {
            Err(self.failed.join("; "))
        }
    }

    fn add(&mut self, other: Self) {
        self.done.extend(other.done);
        self.left.extend(other.left);
        self.failed.extend(other.failed);
    }
}

/// Takes back all that a process left for `interface`, and says what. The caller makes sure
/// that no such tunnel runs.
///
/// # Errors
/// What couldn't be taken back. It stays in the journal, so that it can be tried again.
pub async fn undo(directory: &Path, interface: &str, scope: Scope) -> Result<Undone, SystemError> {
    let refused = |reason: String| SystemError::NotUndone {
        interface: interface.to_owned(),
        reason,
    };
    config::interface_name(interface).map_err(refused)?;
    if !check::may_administer() {
        return Err(SystemError::NotPermitted);
    }
    let (journals, unreadable) = Journal::all(directory, interface);
    let mut undone = Undone::default();
    let mut elsewhere = Vec::new();
    let mut known = false;
    for journal in journals {
        match namespace::find(journal.namespace) {
            Place::Here => {
                known = true;
                ensure_gone(interface)?;
                let journal = journal.without_others_mark(directory).await;
                undone.add(take_back(journal, directory, None, None).await);
            }
            Place::There(there) => elsewhere.push((there, journal)),
            Place::Gone => journal.remove(directory),
        }
    }
    // What no journal tells of.
    undone.add(by_name(directory, interface, known).await?);
    if scope == Scope::Anywhere && undone.is_nothing() {
        for (there, journal) in elsewhere {
            namespace::enter(&there)
                .map_err(|error| refused(format!("its network namespace: {error}")))?;
            ensure_gone(interface)?;
            let journal = journal.without_others_mark(directory).await;
            undone.add(take_back(journal, directory, None, None).await);
            undone.add(by_name(directory, interface, true).await?);
        }
    } else if scope == Scope::Anywhere && !elsewhere.is_empty() {
        undone.left.push(format!(
            "what an earlier {interface} left in another network namespace: `taltun undo \
             {interface}` once more takes that back"
        ));
    }
    let mut undone = undone.into_result().map_err(refused)?;
    for (path, reason) in unreadable {
        if let Err(error) = fs::remove_file(path) {
            return Err(refused(format!("{reason}; it can't be removed: {error}")));
        }
        undone.done.push("a journal that can't be read".into());
        undone.left.push(format!(
            "name servers and kernel settings that it told of, if any: {reason}"
        ));
    }
    Ok(undone)
}

impl Undone {
    fn is_nothing(&self) -> bool {
        self.done.is_empty() && self.left.is_empty() && self.failed.is_empty()
    }
}

/// Undoes all of a journal, and `network`; firewall rules last, and not those that
/// `replaced_by` is about to replace.
pub(super) async fn take_back(
    mut journal: Journal,
    directory: &Path,
    network: Option<Network>,
    replaced_by: Option<firewall::FirewallTool>,
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
    journal.take_over(directory);
    journal.hand_over(directory);
    let puts_back = sysctl::puts_back(&journal.settings);
    sysctl::restore(&journal.settings);
    if puts_back {
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
        let is_there = if journal.kill_switch {
            firewall::is_kill_switch(kind, &interface).await
        } else {
            firewall::listed(kind, &interface).await.is_some()
        };
        match firewall::remove(kind, &interface).await {
            Ok(()) if is_there => undone.done.push(what.into()),
            Ok(()) => undone.done.push(format!("{what} (its rules had gone)")),
            Err(error) => {
                warn!("the {what} of {interface} may be left: {error}");
                undone.failed.push(format!("the {what}: {error}"));
                // Who looks for what is left finds it there.
                return undone;
            }
        }
    }
    journal.remove(directory);
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

/// An error where an interface is called `name`: what bears its name is a running tunnel's then,
/// whatever a journal says.
fn ensure_gone(name: &str) -> Result<(), SystemError> {
    if interface::goes(name) {
        return Ok(());
    }
    Err(SystemError::NotUndone {
        interface: name.to_owned(),
        reason: format!(
            "there is an interface {name}, so its tunnel may be running with another \
             TALTUN_RUNTIME_DIR; stop it, or if it is gone remove the interface with \
             `ip link delete {name}`"
        ),
    })
}

/// Removes what is there of `interface` though no journal tells of it. Where one was `known`,
/// kernel settings were put back.
async fn by_name(directory: &Path, name: &str, known: bool) -> Result<Undone, SystemError> {
    let mut undone = Undone::default();
    let left = Remnants::find(directory, name).await?;
    if left == Remnants::default() {
        return Ok(undone);
    }
    ensure_gone(name)?;
    for mark in &left.marks {
        remove_rules(Some(*mark)).await;
    }
    if !left.marks.is_empty() {
        undone.done.push("policy rules".into());
        let settings = if known {
            Vec::new()
        } else {
            sysctl::told_by_rules()
        };
        undone.left.extend(settings.into_iter().map(|setting| {
            format!("{setting}: set it back unless others need it, as nobody knows what it was")
        }));
    }
    for kind in &left.firewall {
        let what = if left.kill_switch {
            "kill switch"
        } else {
            "firewall rules"
        };
        match firewall::remove(*kind, name).await {
            Ok(()) => undone.done.push(what.into()),
            Err(error) => undone.failed.push(format!("the {what}: {error}")),
        }
    }
    Ok(undone)
}
