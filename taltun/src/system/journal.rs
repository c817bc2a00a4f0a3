//! What must be undone if we can't do it ourselves: a file beside the control socket, written
//! before anything is changed and removed once all is as it was.
//!
//! Addresses, routes and eBPF programs vanish with the process. Firewall rules, policy rules,
//! kernel settings and the resolver don't: after SIGKILL the next start reads here what they
//! were. After a reboot `/run` is empty, and all these changes are gone, too.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::left_file::{self, Owner};
use super::sysctl::{FOUND_SO, Settings};
use super::{dns, firewall, namespace};
use crate::config::{file, interface_name};

/// What such a file's name ends with.
const EXTENSION: &str = "undo";
/// The most that is read of one, bytes: far more than the endpoints of a large hub take.
const LARGEST: u64 = 16 << 20;

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
    pub firewall: Option<firewall::FirewallTool>,
    /// Whether these rules are a kill switch, which nothing opens but an orderly end.
    pub kill_switch: bool,
    /// What the resolver was told by.
    pub dns: Option<dns::ResolverTool>,
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

    /// Where that of `interface` in `namespace` is kept.
    pub(super) fn path(directory: &Path, interface: &str, namespace: u64) -> PathBuf {
        left_file::path(
            directory,
            interface,
            EXTENSION,
            namespace,
            |path| match Self::read(path, interface) {
                Ok(Some(journal)) => Owner::Namespace(journal.namespace),
                Ok(None) => Owner::Nobody,
                Err(_) => Owner::Unknown,
            },
        )
    }

    /// What an earlier process left undone for `interface` in the namespace of the calling
    /// thread. What was changed in another one isn't ours to undo.
    pub(super) fn left_behind(directory: &Path, interface: &str) -> Option<Self> {
        let here = namespace::current().unwrap_or_default();
        let mut journals = Self::all(directory, interface).0.into_iter();
        journals.find(|journal| journal.namespace == here)
    }

    /// Those for `interface`, whichever namespaces they are about, and the files that can't be
    /// read, each with the reason.
    pub(super) fn all(directory: &Path, interface: &str) -> (Vec<Self>, Vec<(PathBuf, String)>) {
        let (mut journals, mut unreadable) = (Vec::new(), Vec::new());
        for (name, path) in left_file::all(directory, EXTENSION) {
            if name != interface {
                continue;
            }
            match Self::read(&path, interface) {
                Ok(journal) => journals.extend(journal),
                Err(reason) => unreadable.push((path, reason)),
            }
        }
        (journals, unreadable)
    }

    /// The one in a file, which has to be about `interface`; `None` where there is none.
    fn read(path: &Path, interface: &str) -> Result<Option<Self>, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = match file::read(path, LARGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        };
        let journal: Self = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
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
        let files = left_file::all(directory, EXTENSION);
        let mut found: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
        found.dedup();
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
        let path = Self::path(directory, &self.interface, self.namespace);
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

    /// Removes it: all is as it was. One of another namespace stays.
    pub(super) fn remove(&self, directory: &Path) {
        let path = Self::path(directory, &self.interface, self.namespace);
        let _ = fs::remove_file(path);
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
                let path = Self::path(directory, &interface, other.namespace);
                warn!("cannot write {}: {error}", path.display());
            }
        }
    }

    /// Takes over what another tunnel has handed over since, which only the file knows.
    pub(super) fn take_over(&mut self, directory: &Path) {
        let Some(file) = Self::left_behind(directory, &self.interface) else {
            return;
        };
        for (name, value) in file.settings {
            if let Some(known) = self.settings.get_mut(&name)
                && known == FOUND_SO
            {
                *known = value;
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
            firewall: Some(firewall::FirewallTool::Nftables),
            ..with(&[("net/ipv4/ip_forward", "0")], "t0")
        };
        journal.write(dir.path()).unwrap();
        assert_eq!(
            Journal::left_behind(dir.path(), "t0").as_ref(),
            Some(&journal)
        );
        assert_eq!(Journal::left_behind(dir.path(), "t1"), None);
        journal.remove(dir.path());
        assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
    }

    #[test]
    fn another_namespaces_journal_is_left_alone_while_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let here = namespace::current().unwrap();
        let mut other = with(&[("net/ipv4/ip_forward", "0")], "t0");
        // A namespace that nothing is in any more.
        other.namespace = 1;
        other.write(dir.path()).unwrap();
        assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
        assert!(Journal::path(dir.path(), "t0", here).ends_with("t0.undo"));

        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: no pointers; it moves this thread alone to a namespace of its own.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            tell.send(moved.then(|| namespace::current().unwrap()))
                .unwrap();
            // The thread keeps the namespace, and is found by a process of its own.
            let mut child = moved.then(|| {
                let mut command = std::process::Command::new("sleep");
                command.arg("60").spawn().unwrap()
            });
            let _ = tell.send(None);
            let _ = ended.recv();
            if let Some(child) = &mut child {
                let _ = child.kill();
                let _ = child.wait();
            }
        });
        let Some(there) = told.recv().unwrap() else {
            println!("skipped: needs root");
            return;
        };
        let _ = told.recv();
        other.namespace = there;
        other.write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("t0.undo")).unwrap();
        let ours = with(&[], "t0");
        ours.write(dir.path()).unwrap();
        assert_eq!(Journal::left_behind(dir.path(), "t0"), Some(ours.clone()));
        assert_eq!(Journal::all(dir.path(), "t0").0.len(), 2);
        ours.remove(dir.path());
        ours.remove(dir.path());
        let after = fs::read_to_string(dir.path().join("t0.undo")).unwrap();
        assert_eq!(after, text);
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn the_last_tunnel_to_go_puts_a_shared_setting_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = with(&[("net/ipv4/ip_forward", "0"), ("net/x", "3")], "t0");
        let second = with(&[("net/ipv4/ip_forward", FOUND_SO)], "t1");
        first.write(dir.path()).unwrap();
        second.write(dir.path()).unwrap();
        let mut running = second.clone();
        first.hand_over(dir.path());
        assert_eq!(first, with(&[("net/x", "3")], "t0"));
        // A tunnel that runs learns of it at its own end.
        running.take_over(dir.path());
        assert_eq!(running.settings["net/ipv4/ip_forward"], "0");
        let second = Journal::left_behind(dir.path(), "t1").unwrap();
        assert_eq!(second.settings["net/ipv4/ip_forward"], "0");
    }

    #[test]
    fn what_is_no_regular_file_or_has_no_end_is_no_journal_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("t0.undo");
        let fifo = || {
            let made = std::process::Command::new("mkfifo").arg(&at).status();
            assert!(made.unwrap().success());
        };
        let huge = || {
            let file = fs::File::create(&at).unwrap();
            file.set_len(LARGEST + 1).unwrap();
        };
        let device = || std::os::unix::fs::symlink("/dev/zero", &at).unwrap();
        let directory = || fs::create_dir(&at).unwrap();
        let kinds: [(&dyn Fn(), &str); 4] = [
            (&fifo, "a pipe"),
            (&huge, "larger than"),
            (&device, "a device"),
            (&directory, "a directory"),
        ];
        for (make, expected) in kinds {
            make();
            let (found, unreadable) = Journal::all(dir.path(), "t0");
            assert!(found.is_empty());
            let reason = &unreadable[0].1;
            assert!(reason.contains(expected), "{reason}");
            // A tunnel has a journal all the same.
            let ours = with(&[], "t0");
            ours.write(dir.path()).unwrap();
            assert_eq!(Journal::left_behind(dir.path(), "t0"), Some(ours.clone()));
            ours.remove(dir.path());
            fs::remove_file(&at)
                .or_else(|_| fs::remove_dir(&at))
                .unwrap();
        }
    }

    #[test]
    fn nonsense_is_no_journal_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t0.undo");
        for text in ["{", "", "{\"interface\":\"t0 ; add rule\"}"] {
            fs::write(&file, text).unwrap();
            assert_eq!(Journal::left_behind(dir.path(), "t0"), None);
            let (_, unreadable) = Journal::all(dir.path(), "t0");
            assert!(unreadable[0].1.contains("t0.undo"), "{unreadable:?}");
            let ours = with(&[], "t0");
            ours.write(dir.path()).unwrap();
            assert_eq!(Journal::left_behind(dir.path(), "t0"), Some(ours.clone()));
            ours.remove(dir.path());
            ours.remove(dir.path());
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }
}
