//! What an earlier process for the same interface left on the host: found by its journal, or by
//! looking for it where that is lost.

use std::path::Path;

use tracing::warn;

use super::journal::Journal;
use super::remnants::Remnants;
use super::sysctl::{FOUND_SO, Settings};
use super::undo::remove_rules;
use super::{SystemError, firewall};

/// What a dead process left whose kill switch holds.
#[derive(Debug)]
pub(super) struct Predecessor {
    pub(super) journal: Journal,
    /// What it left besides.
    pub(super) more: More,
    /// The settings that we change, as they are while it holds.
    pub(super) settings: Settings,
}

/// What an earlier process for an interface left.
#[derive(Debug)]
pub(super) struct Left {
    /// Its journal, or what stands for one that is lost.
    pub(super) journal: Option<Journal>,
    pub(super) more: More,
}

/// What is there besides, as after the loss of a journal.
#[derive(Debug, Default)]
pub(super) struct More {
    firewall: Vec<firewall::FirewallTool>,
    marks: Vec<u32>,
}

impl Left {
    pub(super) async fn find(directory: &Path, name: &str) -> Result<Self, SystemError> {
        for (_, reason) in Journal::all(directory, name).1 {
            warn!(
                "what an earlier {name} changed can't be read, and is kept: {reason}; once this \
                 one has stopped, `taltun undo {name}` takes back what can be"
            );
        }
        if let Some(journal) = Journal::left_behind(directory, name) {
            return Ok(Self {
                journal: Some(journal.without_others_mark(directory).await),
                more: More::default(),
            });
        }
        let found = Remnants::find(directory, name).await?;
        if found.kill_switch {
            warn!(
                "the kill switch of an earlier {name} is there without a journal: it stays \
                 closed unless all of this start works"
            );
        }
        Ok(Self {
            journal: found.journal(name),
            more: More {
                firewall: found.firewall.into_iter().skip(1).collect(),
                marks: found.marks.into_iter().skip(1).collect(),
            },
        })
    }
}

impl More {
    /// Removes it, but for firewall rules that `ours` has replaced or is about to.
    pub(super) async fn remove(
        &self,
        name: &str,
        ours: Option<firewall::FirewallTool>,
    ) -> Result<(), SystemError> {
        for mark in &self.marks {
            remove_rules(Some(*mark)).await;
        }
        for kind in self.firewall.iter().filter(|kind| Some(**kind) != ours) {
            firewall::remove(*kind, name).await?;
        }
        Ok(())
    }
}

/// Settings to put back, given those that are found `now` and those that a predecessor found
/// before it changed them.
pub(super) fn as_first_found(now: &Settings, earlier: &Settings) -> Settings {
    let first = |(name, value): (&String, &String)| {
        let changed = earlier.get(name).filter(|before| *before != FOUND_SO);
        (name.clone(), changed.unwrap_or(value).clone())
    };
    now.iter().map(first).collect()
}

/// A journal of what a predecessor left and of what a start adds to it.
pub(super) fn both(left: &Journal, ours: &Journal) -> Journal {
    let mut settings = left.settings.clone();
    settings.extend(ours.settings.clone());
    Journal {
        mark: ours.mark.or(left.mark),
        dns: ours.dns.or(left.dns),
        settings,
        endpoints: ours.endpoints.clone(),
        start: ours.start.clone(),
        ..left.clone()
    }
}
