//! Interrupts of network interfaces that are deferred while one of our threads polls their
//! queues: `napi_defer_hard_irqs` and `gro_flush_timeout`, which belong to the interface.
//!
//! What is set is in a file first, so that the next start undoes what a killed process
//! couldn't. An interface that somebody else has tuned is left as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::left_file::{self, Owner};
use super::namespace::current as namespace;

/// How often in a row a timer looks in vain before interrupts come again.
const DEFERRALS: &str = "2";
/// Nanoseconds until that timer looks, if the thread hasn't polled by then: about what a
/// batch takes, and the latency that it may cost.
const TIMEOUT: &str = "200000";
/// Both, as they are where nobody has tuned anything.
const UNTUNED: &str = "0";

/// A network interface in `/sys`, which must be the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its link address.
    pub address: [u8; 6],
}

/// The interfaces whose interrupts are deferred. Dropping it has them come again.
#[derive(Debug)]
pub struct Interrupts {
    file: PathBuf,
    sys: PathBuf,
    deferred: BTreeMap<u32, Place>,
}

/// What is in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    /// Inode of the network namespace.
    namespace: u64,
    deferred: Vec<Place>,
}

impl Left {
    fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }
}

/// Whose such a file is. One that isn't understood is left where it is.
fn owner(path: &Path) -> Owner {
    match Left::read(path) {
        Ok(left) => Owner::Namespace(left.namespace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Owner::Nobody,
        Err(error) => {
            warn!(
                "{}: {error}: interrupts that an earlier tunnel deferred may stay so; remove it \
                 once you have looked",
                path.display()
            );
            Owner::Unknown
        }
    }
}

impl Interrupts {
    /// For this tunnel, with its file in `directory`. Undoes what a killed process left.
    pub fn of(tunnel: &str, directory: &Path) -> Self {
        Self::within(tunnel, directory, Path::new("/sys/class/net"))
    }

    fn within(tunnel: &str, directory: &Path, sys: &Path) -> Self {
        let here = namespace().unwrap_or_default();
        let mut interrupts = Self {
            file: left_file::path(directory, tunnel, "interrupts", here, owner),
            sys: sys.to_owned(),
            deferred: BTreeMap::new(),
        };
        interrupts.recover();
        interrupts
    }

    /// Defers an interface's interrupts. `false` if somebody else does so already, or has
    /// tuned them in another way: then it stays at that.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) when `/sys` shows no such interface, as where it
    /// is that of another network namespace, and before Linux 5.11; else whatever reading
    /// and writing answer, in a container `EROFS` mostly.
    pub fn defer(&mut self, place: &Place) -> io::Result<bool> {
        if self.deferred.contains_key(&place.index) {
            return Ok(true);
        }
        let settings = self.settings(place)?;
        for setting in &settings {
            if fs::read_to_string(setting)?.trim() != UNTUNED {
                return Ok(false);
            }
        }
        self.deferred.insert(place.index, place.clone());
        let [deferrals, timeout] = settings;
        let done = self
            .remember()
            .and_then(|()| fs::write(deferrals, DEFERRALS))
            .and_then(|()| fs::write(timeout, TIMEOUT));
        if let Err(error) = done {
            self.undefer(place.index);
            return Err(error);
        }
        Ok(true)
    }

    /// Has the interrupts of the interface with this index come again, if they were deferred
    /// here.
    pub fn undefer(&mut self, index: u32) {
        let Some(place) = self.deferred.remove(&index) else {
            return;
        };
        self.restore(&place);
        if let Err(error) = self.remember() {
            warn!("{}: {error}", self.file.display());
        }
    }

    /// Those for which it isn't asked any more have theirs back.
    pub fn retain(&mut self, wanted: impl Fn(u32) -> bool) {
        let others: Vec<u32> = self.deferred.keys().copied().collect();
        for index in others.into_iter().filter(|index| !wanted(*index)) {
            self.undefer(index);
        }
    }

    /// Sets an interface back, if nobody has changed it in the meantime.
    fn restore(&self, place: &Place) {
        // Gone, and its settings with it, or renamed: those are then in its new place.
        let Ok(settings) = self.settings_anywhere(place) else {
            return;
        };
        for (setting, ours) in settings.into_iter().zip([DEFERRALS, TIMEOUT]) {
            if fs::read_to_string(&setting).is_ok_and(|value| value.trim() == ours)
                && let Err(error) = fs::write(&setting, UNTUNED)
            {
                warn!("{}: {error}", setting.display());
            }
        }
    }

    /// Undoes what the file tells, which is that of our own namespace, or of one that is gone.
    fn recover(&mut self) {
        let Ok(left) = Left::read(&self.file) else {
            return;
        };
        if left.namespace == namespace().unwrap_or_default() {
            for place in &left.deferred {
                self.restore(place);
            }
        }
        let _ = fs::remove_file(&self.file);
    }

    /// Writes the file, whole or not at all; removes it when there is nothing to undo.
    fn remember(&self) -> io::Result<()> {
        if self.deferred.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let left = Left {
            namespace: namespace()?,
            deferred: self.deferred.values().cloned().collect(),
        };
        let new = self.file.with_extension("interrupts.new");
        fs::write(&new, serde_json::to_string(&left)?)?;
        fs::rename(new, &self.file)
    }

    /// The two settings of an interface, by its name.
    fn settings(&self, place: &Place) -> io::Result<[PathBuf; 2]> {
        let directory = self.sys.join(&place.name);
        if !is(&directory, place) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(["napi_defer_hard_irqs", "gro_flush_timeout"].map(|name| directory.join(name)))
    }

    /// The same, by whatever name it has now.
    fn settings_anywhere(&self, place: &Place) -> io::Result<[PathBuf; 2]> {
        for entry in fs::read_dir(&self.sys)?.flatten() {
            if let Ok(name) = entry.file_name().into_string() {
                let renamed = Place {
                    name,
                    ..place.clone()
                };
                if let Ok(settings) = self.settings(&renamed) {
                    return Ok(settings);
                }
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

/// Whether a directory of `/sys` tells of this interface. Indices are the same in many
/// network namespaces, and so are names; link addresses aren't.
fn is(directory: &Path, place: &Place) -> bool {
    let read = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let address: Vec<String> = place
        .address
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    read("ifindex").trim() == place.index.to_string() && read("address").trim() == address.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/sys/class/net` with one interface.
    fn sys(name: &str) -> (tempfile::TempDir, Place) {
        let sys = tempfile::tempdir().unwrap();
        let place = Place {
            name: name.into(),
            index: 7,
            address: [2, 0, 0, 0, 0, 0xab],
        };
        let directory = sys.path().join(name);
        fs::create_dir(&directory).unwrap();
        for (file, value) in [
            ("ifindex", "7\n"),
            ("address", "02:00:00:00:00:ab\n"),
            ("napi_defer_hard_irqs", "0\n"),
            ("gro_flush_timeout", "0\n"),
        ] {
            fs::write(directory.join(file), value).unwrap();
        }
        (sys, place)
    }

    fn values(sys: &Path, name: &str) -> [String; 2] {
        ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|file| {
            let text = fs::read_to_string(sys.join(name).join(file)).unwrap();
            text.trim().to_owned()
        })
    }

    const OURS: [&str; 2] = [DEFERRALS, TIMEOUT];

    #[test]
    fn what_was_deferred_comes_again_at_the_end_and_nothing_is_left() {
        let (sys, place) = sys("eth0");
        let run = tempfile::tempdir().unwrap();
        let mut interrupts = Interrupts::within("t0", run.path(), sys.path());
        assert!(interrupts.defer(&place).unwrap());
        assert!(interrupts.defer(&place).unwrap());
        assert_eq!(values(sys.path(), "eth0"), OURS);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1);
        drop(interrupts);
        assert_eq!(values(sys.path(), "eth0"), ["0", "0"]);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_next_start_undoes_what_a_killed_process_left_also_after_a_new_name() {
        let (sys, place) = sys("eth0");
        let run = tempfile::tempdir().unwrap();
        let mut interrupts = Interrupts::within("t0", run.path(), sys.path());
        assert!(interrupts.defer(&place).unwrap());
        std::mem::forget(interrupts);
        fs::rename(sys.path().join("eth0"), sys.path().join("wan")).unwrap();
        assert_eq!(values(sys.path(), "wan"), OURS);
        drop(Interrupts::within("t0", run.path(), sys.path()));
        assert_eq!(values(sys.path(), "wan"), ["0", "0"]);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_others_have_tuned_is_left_alone() {
        let (sys, place) = sys("eth0");
        let run = tempfile::tempdir().unwrap();
        let file = sys.path().join("eth0/gro_flush_timeout");
        fs::write(&file, "30000\n").unwrap();
        let mut interrupts = Interrupts::within("t0", run.path(), sys.path());
        assert!(!interrupts.defer(&place).unwrap());
        assert_eq!(values(sys.path(), "eth0"), ["0", "30000"]);
        // And what they change later is not set back.
        fs::write(&file, "0\n").unwrap();
        assert!(interrupts.defer(&place).unwrap());
        fs::write(&file, "50000\n").unwrap();
        drop(interrupts);
        assert_eq!(values(sys.path(), "eth0"), ["0", "50000"]);
    }

    #[test]
    fn an_interface_of_the_same_name_or_number_is_another_one() {
        let (sys, place) = sys("eth0");
        let run = tempfile::tempdir().unwrap();
        let mut interrupts = Interrupts::within("t0", run.path(), sys.path());
        let others = [
            Place {
                index: 8,
                ..place.clone()
            },
            Place {
                address: [2; 6],
                ..place.clone()
            },
            Place {
                name: "eth1".into(),
                ..place
            },
        ];
        for other in others {
            let error = interrupts.defer(&other).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        assert_eq!(values(sys.path(), "eth0"), ["0", "0"]);
    }

    #[test]
    fn a_setting_that_is_missing_leaves_the_other_as_it_was() {
        let (sys, place) = sys("eth0");
        let run = tempfile::tempdir().unwrap();
        let mut interrupts = Interrupts::within("t0", run.path(), sys.path());
        // As before Linux 5.11 in a container, or with a file that can't be written.
        let timeout = sys.path().join("eth0/gro_flush_timeout");
        fs::remove_file(&timeout).unwrap();
        assert!(interrupts.defer(&place).is_err());
        fs::write(&timeout, "0\n").unwrap();
        assert_eq!(values(sys.path(), "eth0"), ["0", "0"]);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
    }

    #[test]
    fn nonsense_in_the_file_is_no_reason_not_to_start_and_stays() {
        let (sys, place) = sys("eth0");
        let run = tempfile::tempdir().unwrap();
        let file = run.path().join("t0.interrupts");
        fs::write(&file, "{").unwrap();
        let mut interrupts = Interrupts::within("t0", run.path(), sys.path());
        assert!(interrupts.defer(&place).unwrap());
        // Ours is another one, by which the next start undoes it.
        std::mem::forget(interrupts);
        drop(Interrupts::within("t0", run.path(), sys.path()));
        assert_eq!(values(sys.path(), "eth0"), ["0", "0"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "{");
    }
}
