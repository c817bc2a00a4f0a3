//! What must be undone if we can't do it ourselves: a file beside the control socket, written
//! before anything is changed and removed once all is as it was.
//!
//! Addresses, routes and eBPF programs vanish with the process. Firewall rules, policy rules,
//! kernel settings and the resolver don't: after SIGKILL the next start reads here what they
//! were. `/run` is empty after a reboot, and so is all of what it tells of.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::sysctl::Settings;
use super::{dns, firewall, namespace};
use crate::config::interface_name;

/// What was changed for one tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Journal {
    /// Inode of the network namespace that it was changed in.
    pub namespace: u64,
    /// The interface.
    pub interface: String,
    /// The mark that policy rules were made for.
    pub mark: Option<u32>,
    /// What firewall rules were made with.
    pub firewall: Option<firewall::Kind>,
    /// Whether these rules are a kill switch, which nothing opens but an orderly end.
    pub kill_switch: bool,
    /// What the resolver was told by.
    pub dns: Option<dns::Kind>,
    /// Settings as they were.
    pub settings: Settings,
    /// Where endpoints given by name were, by `HOST:PORT`.
    pub endpoints: BTreeMap<String, SocketAddr>,
    /// The command that starts the tunnel again, for people.
    pub start: String,
}

impl Journal {
    /// An empty one for this interface, in the namespace of the calling thread.
    pub(super) fn new(interface: &str) -> Self {
        Self {
            namespace: namespace::current().unwrap_or_default(),
            interface: interface.to_owned(),
            ..Self::default()
        }
    }

    /// Where it is kept.
    pub(super) fn path(directory: &Path, interface: &str) -> PathBuf {
        directory.join(format!("{interface}.undo"))
    }

    /// What an earlier process left undone for `interface`. What was changed in another
    /// namespace isn't ours to undo, and mostly gone with it.
    pub(super) fn left_behind(directory: &Path, interface: &str) -> Option<Self> {
        match Self::read(directory, interface) {
            Ok(Some(journal)) => {
                (journal.namespace == namespace::current().unwrap_or_default()).then_some(journal)
            }
            Ok(None) => None,
            Err(reason) => {
                warn!("not understood, so not undone: {reason}");
                None
            }
        }
    }

    /// The one for `interface`, whichever namespace it is about; `None` where there is none.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub(super) fn read(directory: &Path, interface: &str) -> Result<Option<Self>, String> {
        let path = Self::path(directory, interface);
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        };
        let journal: Self = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        // Its text goes into commands and rules.
        if journal.interface == interface && interface_name(interface).is_ok() {
            Ok(Some(journal))
        } else {
            Err(wrong(&format_args!(
                "it is about {:?} and not {interface}",
                journal.interface
            )))
        }
    }

    /// The interfaces that `directory` has journals of, in order.
    pub(super) fn interfaces(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut found: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_suffix(".undo")?.to_owned()))
            .filter(|name| interface_name(name).is_ok())
            .collect();
        found.sort();
        found
    }

    /// Whether there is nothing that wouldn't vanish by itself.
    pub(super) fn is_empty(&self) -> bool {
        self.mark.is_none()
            && self.firewall.is_none()
            && self.dns.is_none()
            && self.settings.is_empty()
    }

    /// Writes it, whole or not at all, for its owner only.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        self.write_text(directory, serde_json::to_string(self)?.as_bytes())
    }

    /// Writes what the file of this interface is to hold.
    pub(super) fn write_text(&self, directory: &Path, text: &[u8]) -> io::Result<()> {
        let path = Self::path(directory, &self.interface);
        let new = path.with_extension("undo.new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text)?;
        fs::rename(new, path)
    }

    /// Removes it: all is as it was.
    pub(super) fn remove(directory: &Path, interface: &str) {
        let _ = fs::remove_file(Self::path(directory, interface));
    }

    /// Hands settings that another tunnel relies on over to its journal, with the value they
    /// had before either: the last one to go puts them back.
    pub(super) fn hand_over(&mut self, directory: &Path) {
        for interface in Self::interfaces(directory) {
            if interface == self.interface {
                continue;
            }
            let Some(mut other) = Self::left_behind(directory, &interface) else {
                continue;
            };
            let before = other.clone();
            let kept = other.needs(&self.settings);
            for name in kept {
                if let Some(value) = self.settings.remove(&name) {
                    other.settings.insert(name, value);
                }
            }
            if other != before
                && let Err(error) = other.write(directory)
            {
                let path = Self::path(directory, &interface);
                warn!("cannot write {}: {error}", path.display());
            }
        }
    }

    /// Which of `settings` this one wants as they are: those it wanted and found so.
    fn needs(&self, settings: &Settings) -> Vec<String> {
        let names = settings.keys();
        names
            .filter(|name| {
                self.settings
                    .get(*name)
                    .is_some_and(|value| value == FOUND_SO)
            })
            .cloned()
            .collect()
    }
}

/// In a journal: a setting that was wanted and already so. It is not touched, but whoever
/// made it so leaves it to us.
pub(super) const FOUND_SO: &str = "";

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)], interface: &str) -> Journal {
        Journal {
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Journal::new(interface)
        }
    }

    #[test]
    fn what_was_written_is_read_back_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal {
            mark: Some(7),
            firewall: Some(firewall::Kind::Nftables),
            ..with(&[("net/ipv4/ip_forward", "0")], "t0")
        };
        journal.write(dir.path()).unwrap();
        assert_eq!(Journal::left_behind(dir.path(), "t0"), Some(journal));
        assert_eq!(Journal::left_behind(dir.path(), "t1"), None);
        Journal::remove(dir.path(), "t0");
        assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
    }

    #[test]
    fn another_namespaces_journal_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = with(&[("net/ipv4/ip_forward", "0")], "t0");
        journal.namespace += 1;
        journal.write(dir.path()).unwrap();
        assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
    }

    #[test]
    fn the_last_tunnel_to_go_puts_a_shared_setting_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = with(&[("net/ipv4/ip_forward", "0"), ("net/x", "3")], "t0");
        let second = with(&[("net/ipv4/ip_forward", FOUND_SO)], "t1");
        first.write(dir.path()).unwrap();
        second.write(dir.path()).unwrap();
        first.hand_over(dir.path());
        assert_eq!(first, with(&[("net/x", "3")], "t0"));
        let second = Journal::left_behind(dir.path(), "t1").unwrap();
        assert_eq!(second.settings["net/ipv4/ip_forward"], "0");
    }

    #[test]
    fn nonsense_is_no_journal() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(Journal::path(dir.path(), "t0"), "{").unwrap();
        assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
        assert!(
            Journal::read(dir.path(), "t0")
                .unwrap_err()
                .contains("t0.undo")
        );
    }

    #[test]
    fn a_journal_of_another_name_is_none_of_this_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = with(&[], "t0");
        journal.interface = "t0 ; add rule".into();
        let text = serde_json::to_string(&journal).unwrap();
        fs::write(Journal::path(dir.path(), "t0"), text).unwrap();
        assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
    }
}
