//! Addresses that names of `[dns_routes]` led into the tunnel, kept on disk with their end:
//! programs remember them beyond a crash or a restart of ours, so they have to be led again.
//!
//! An address is written before the answer that has it is passed on, so it is there after
//! SIGKILL as well. A line is added for each; all is written anew once in a while. Nothing
//! depends on the file: where it can't be written or read there is a warning and no more.
//!
//! Tunnels of one name may run beside each other, in several network namespaces, and must not
//! write over each other's lines. So each writes a file of its own, by its public key: that
//! lasts, where a namespace's number is another one after a container's restart or a reboot.
//! But it reads all of the tunnel's name, as the key may have changed since. What that leads
//! more than needed is of the list in the configuration, so it belongs into the tunnel.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::control::state_file::{self, Complaint, wall_clock};
use crate::crypto::PublicKey;

/// What it means that the file can't be written.
const CONSEQUENCE: &str = "what programs remember of names of dns_routes goes around the tunnel \
    until they ask again";
/// The first line of the file: what it is and of which version.
const HEADER: &str = "taltun led names 1";
/// How the file's name begins; the beginning of our public key follows.
const PREFIX: &str = "dns_routes.";
/// Bytes of the key that the name has.
const OF_KEY: usize = 8;
/// Ends are written as full minutes, so that an address that is asked for all the time is
/// written once a minute at the most.
const ROUND: u64 = 60;
/// Names kept of one address. Those that last longest stay.
const NAMES: usize = 8;
/// Bytes added before all is written anew.
const ADDED: usize = 1 << 20;
/// The largest file that is read, bytes.
const LARGEST: u64 = 64 << 20;

/// Names of one address, each with the time until which it leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names<T>(Vec<(String, T)>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Ord> Names<T> {
    /// The name leads there until then, or longer if it did already. Returns whether that is
    /// news.
    pub(super) fn note(&mut self, name: &str, until: T) -> bool {
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| known == name) {
            let is_news = until > *known;
            *known = until.max(*known);
            return is_news;
        }
        if self.0.len() < NAMES {
            self.0.push((name.to_owned(), until));
            return true;
        }
        let first = self.0.iter_mut().min_by_key(|(_, until)| *until);
        match first {
            Some(first) if first.1 < until => {
                *first = (name.to_owned(), until);
                true
            }
            _ => false,
        }
    }

    /// Until when the address is led.
    pub(super) fn until(&self) -> Option<T> {
        self.0.iter().map(|(_, until)| *until).max()
    }

    /// Forgets the names that aren't `wanted`; whether any are left.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        self.0.retain(|(name, _)| wanted(name));
        !self.0.is_empty()
    }

    /// Each with its time.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, T)> {
        self.0.iter().map(|(name, until)| (name.as_str(), *until))
    }
}

/// An address to be led, and for how long a name of it is.
pub(super) type Led = (IpAddr, String, Duration);

/// The file. It is written where writing may wait.
#[derive(Debug, Clone)]
pub(super) struct LedNames(Arc<Mutex<Store>>);

#[derive(Debug)]
struct Store {
    file: PathBuf,
    /// What is in the file, each with its end in seconds since 1970.
    led: HashMap<IpAddr, Names<u64>>,
    /// Bytes added since all was written; `None` where it has to be.
    added: Option<usize>,
    complaint: Complaint,
}

impl LedNames {
    /// The file of the tunnel `name` with this public key, below `dir`, and what is to be led
    /// still, of other keys' files as well. Those whose addresses are all over are removed.
    pub(super) fn of(dir: &Path, name: &str, key: &PublicKey) -> (Self, Vec<Led>) {
        let dir = dir.join(name);
        let file = dir.join(file_name(key));
        let now = wall_clock();
        let led = read(&file).unwrap_or_else(|reason| {
            warn!("{}: {reason}; ignored", file.display());
            HashMap::new()
        });
        let mut all = led.clone();
        for others in of_others(&dir, &file, now) {
            merge(&mut all, others);
        }
        let still = all.iter().flat_map(|(address, names)| {
            names.iter().filter_map(move |(name, until)| {
                let left = until.checked_sub(now).filter(|left| *left > 0)?;
                Some((*address, name.to_owned(), Duration::from_secs(left)))
            })
        });
        let still = still.collect();
        let store = Store {
            file,
            led,
            added: None,
            complaint: Complaint::default(),
        };
        (Self(Arc::new(Mutex::new(store))), still)
    }

    /// Writes what is led from now on, if it isn't there; it may take a while.
    pub(super) fn keep(&self, led: &[Led]) {
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = store.keep(led, wall_clock());
        store.complain(outcome);
    }
}

impl Store {
    fn keep(&mut self, led: &[Led], now: u64) -> io::Result<()> {
        let mut lines = String::new();
        for (address, name, lasting) in led {
            let until = now.saturating_add(lasting.as_secs());
            let until = until.checked_next_multiple_of(ROUND).unwrap_or(u64::MAX);
            let name = printable(name);
            if self.led.entry(*address).or_default().note(&name, until) {
                line(&mut lines, *address, &name, until);
            }
        }
        if lines.is_empty() && self.added.is_some() {
            return Ok(());
        }
        if let Some(added) = self.added
            && added < ADDED
            && state_file::append(&self.file, &lines).is_ok()
        {
            self.added = Some(added + lines.len());
            return Ok(());
        }
        self.added = None;
        // Another one with our key may have added to it.
        if let Ok(others) = read(&self.file) {
            merge(&mut self.led, others);
        }
        self.led
            .retain(|_, names| names.until().is_some_and(|until| until > now));
        let mut text = format!("{HEADER}\n");
        for (address, names) in &self.led {
            for (name, until) in names.iter() {
                line(&mut text, *address, name, until);
            }
        }
        state_file::write(&self.file, &text)?;
        self.added = Some(0);
        Ok(())
    }

    fn complain(&mut self, outcome: io::Result<()>) {
        self.complaint.tell(&self.file, outcome, CONSEQUENCE);
    }
}

fn line(text: &mut String, address: IpAddr, name: &str, until: u64) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{address} {until} {name}");
}

/// A name without anything that would be another word or line. What makes it one of the list
/// stays, as that is printable.
fn printable(name: &str) -> String {
    let shown = |char: char| if char.is_ascii_graphic() { char } else { '?' };
    name.chars().map(shown).collect()
}

fn read(file: &Path) -> Result<HashMap<IpAddr, Names<u64>>, String> {
    let text = state_file::read(file, LARGEST)?;
    let Some(text) = text else {
        return Ok(HashMap::new());
    };
    let (led, damaged) = parse(&text)?;
    if damaged > 0 {
        // The last one may have been under way when the process or the machine ended.
        warn!("{}: {damaged} damaged lines; ignored", file.display());
    }
    Ok(led)
}

/// What is in the file, and how many lines of it are damaged.
fn parse(text: &str) -> Result<(HashMap<IpAddr, Names<u64>>, usize), String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("not the names of this version of Taltun".into());
    }
    let (mut led, mut damaged) = (HashMap::<IpAddr, Names<u64>>::new(), 0);
    for line in lines {
        let mut words = line.split(' ');
        let mut read = || {
            let address = words.next()?.parse().ok()?;
            let until = words.next()?.parse().ok()?;
            let name = words.next().filter(|name| !name.is_empty())?;
            words.next().is_none().then_some((address, until, name))
        };
        match read() {
            Some((address, until, name)) => {
                led.entry(address).or_default().note(name, until);
            }
            None => damaged += 1,
        }
    }
    Ok((led, damaged))
}

fn file_name(key: &PublicKey) -> String {
    format!("{PREFIX}{:x}", base16ct::HexDisplay(&key.0[..OF_KEY]))
}

fn merge(into: &mut HashMap<IpAddr, Names<u64>>, others: HashMap<IpAddr, Names<u64>>) {
    for (address, names) in others {
        let known = into.entry(address).or_default();
        for (name, until) in names.iter() {
            known.note(name, until);
        }
    }
}

/// What other keys' files have. Those in which nothing is to be led any more are removed.
fn of_others(dir: &Path, own: &Path, now: u64) -> Vec<HashMap<IpAddr, Names<u64>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let key = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        // Earlier versions had a number in its place.
        let is_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_one = key.is_some_and(is_key);
        let path = entry.path();
        if !is_one || path == own {
            continue;
        }
        let text = state_file::read(&path, LARGEST).ok().flatten();
        let Some((led, _)) = text.and_then(|text| parse(&text).ok()) else {
            continue;
        };
        if led.values().all(|names| names.until() <= Some(now)) {
            let _ = fs::remove_file(path);
        } else {
            found.push(led);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);

    fn led(last: u8, name: &str, seconds: u64) -> Led {
        (
            IpAddr::from([192, 0, 2, last]),
            name.to_owned(),
            Duration::from_secs(seconds),
        )
    }

    fn file(dir: &Path) -> PathBuf {
        dir.join("t0/dns_routes.0707070707070707")
    }

    fn found(dir: &Path) -> Vec<(IpAddr, String)> {
        let (_, led) = LedNames::of(dir, "t0", &KEY);
        let mut found: Vec<_> = led.into_iter().map(|(at, name, _)| (at, name)).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_was_led_is_known_at_the_next_start_with_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (names, before) = LedNames::of(dir.path(), "t0", &KEY);
        assert!(before.is_empty());
        names.keep(&[
            led(1, "www.example.net", 600),
            led(1, "api.example.net", 60),
        ]);
        names.keep(&[led(2, "www.example.net", 600), led(3, "a b\nc", 600)]);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file(dir.path())), 0o600);
        let (_, mut after) = LedNames::of(dir.path(), "t0", &KEY);
        after.sort_unstable();
        let left: Vec<u64> = after.iter().map(|(.., left)| left.as_secs()).collect();
        assert!(left[0].abs_diff(60) <= ROUND && left[1].abs_diff(600) <= ROUND);
        assert_eq!(after.len(), 4);
        assert_eq!(after[3].1, "a?b?c");
    }

    #[test]
    fn another_keys_file_counts_and_stays_until_all_in_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (names, _) = LedNames::of(dir.path(), "t0", &KEY);
        names.keep(&[led(1, "www.example.net", 600)]);
        let (others, before) = LedNames::of(dir.path(), "t0", &PublicKey([8; 32]));
        assert_eq!(before.len(), 1);
        others.keep(&[led(2, "www.example.net", 600)]);
        assert_eq!(found(dir.path()).len(), 2);
        let theirs = dir.path().join("t0/dns_routes.0808080808080808");
        assert!(theirs.exists());
        // As earlier versions named it, by the namespace.
        let earlier = dir.path().join("t0/dns_routes.4026531840");
        fs::rename(&theirs, &earlier).unwrap();
        assert_eq!(found(dir.path()).len(), 2);
        let over = format!("{HEADER}\n192.0.2.2 1000 www.example.net\n");
        fs::write(&earlier, over).unwrap();
        fs::write(dir.path().join("t0/endpoints"), "").unwrap();
        assert_eq!(found(dir.path()).len(), 1);
        assert!(!earlier.exists());
        assert!(dir.path().join("t0/endpoints").exists());
    }

    #[test]
    fn two_with_one_key_keep_each_others_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (one, _) = LedNames::of(dir.path(), "t0", &KEY);
        let (other, _) = LedNames::of(dir.path(), "t0", &KEY);
        one.keep(&[led(1, "www.example.net", 600)]);
        // Each writes all anew at first.
        other.keep(&[led(2, "www.example.net", 600)]);
        assert_eq!(found(dir.path()).len(), 2);
    }

    #[test]
    fn garbage_and_other_versions_are_ignored_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("t0")).unwrap();
        for text in [
            &[0xff; 100][..],
            b"",
            b"taltun led names 2\n192.0.2.1 99999999999 www.example.net\n",
            b"{}",
        ] {
            fs::write(file(dir.path()), text).unwrap();
            let (names, before) = LedNames::of(dir.path(), "t0", &KEY);
            assert!(before.is_empty());
            names.keep(&[led(1, "www.example.net", 600)]);
            assert_eq!(found(dir.path()).len(), 1);
        }
        // A line that was cut off takes no other with it.
        let text = fs::read_to_string(file(dir.path())).unwrap();
        fs::write(file(dir.path()), format!("{text}192.0.2.7 99999")).unwrap();
        assert_eq!(found(dir.path()).len(), 1);
        let over = format!("{HEADER}\n192.0.2.7 99999 www.example.net\n");
        fs::write(file(dir.path()), over).unwrap();
        assert!(found(dir.path()).is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_no_failure_and_one_that_went_comes_back() {
        let (names, _) = LedNames::of(Path::new("/proc/none"), "t0", &KEY);
        names.keep(&[led(1, "www.example.net", 600)]);
        assert!(names.0.lock().unwrap().complaint.told);
        let dir = tempfile::tempdir().unwrap();
        let (names, _) = LedNames::of(dir.path(), "t0", &KEY);
        names.keep(&[led(1, "www.example.net", 600)]);
        fs::remove_file(file(dir.path())).unwrap();
        names.keep(&[led(2, "www.example.net", 600)]);
        assert_eq!(found(dir.path()).len(), 2);
    }

    #[test]
    fn the_file_grows_by_what_is_new_only_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (names, _) = LedNames::of(dir.path(), "t0", &KEY);
        let length = || fs::metadata(file(dir.path())).unwrap().len();
        names.keep(&[led(1, "www.example.net", 600)]);
        let once = length();
        names.keep(&[led(1, "www.example.net", 300)]);
        assert_eq!(length(), once);
        names.keep(&[led(1, "www.example.net", 900)]);
        assert!(length() > once);
        names.0.lock().unwrap().added = Some(ADDED);
        names.keep(&[led(1, "www.example.net", 1200)]);
        assert_eq!(length(), once);
    }

    #[test]
    fn an_address_has_so_many_names_and_the_longest_of_them() {
        let mut names = Names::default();
        for number in 0..20_u64 {
            names.note(&format!("{number}.example.net"), 100 - number);
        }
        assert_eq!(names.iter().count(), NAMES);
        assert_eq!(names.until(), Some(100));
        assert!(names.note("last.example.net", 200));
        assert!(!names.note("last.example.net", 150));
        assert_eq!((names.iter().count(), names.until()), (NAMES, Some(200)));
        assert!(names.retain(|name| name.starts_with("last")));
        assert!(!names.retain(|_| false));
    }
}
