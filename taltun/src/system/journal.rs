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
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::sysctl::Settings;
use super::{dns, firewall};

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
    /// What the resolver was told by.
    pub dns: Option<dns::Kind>,
    /// Settings as they were.
    pub settings: Settings,
    /// Where endpoints given by name were, by `HOST:PORT`.
    pub endpoints: BTreeMap<String, SocketAddr>,
}

impl Journal {
    /// An empty one for this interface, in the namespace of the calling thread.
    pub(super) fn new(interface: &str) -> Self {
        Self {
            namespace: namespace().unwrap_or_default(),
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
        let path = Self::path(directory, interface);
        let text = fs::read_to_string(&path).ok()?;
        match serde_json::from_str::<Self>(&text) {
            Ok(journal) => {
                (journal.namespace == namespace().unwrap_or_default()).then_some(journal)
            }
            Err(error) => {
                warn!("{}: not understood, so not undone: {error}", path.display());
                None
            }
        }
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
        let path = Self::path(directory, &self.interface);
        let new = path.with_extension("undo.new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        fs::rename(new, path)
    }

    /// Removes it: all is as it was.
    pub(super) fn remove(directory: &Path, interface: &str) {
        let _ = fs::remove_file(Self::path(directory, interface));
    }

    /// Hands settings that another tunnel relies on over to its journal, with the value they
    /// had before either: the last one to go puts them back.
    pub(super) fn hand_over(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(interface) = name.to_str().and_then(|name| name.strip_suffix(".undo")) else {
                continue;
            };
            if interface == self.interface {
                continue;
            }
            let Some(mut other) = Self::left_behind(directory, interface) else {
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
                warn!("cannot write {}: {error}", entry.path().display());
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

/// Inode of the network namespace of the calling thread.
pub(super) fn namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

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
    }
}
