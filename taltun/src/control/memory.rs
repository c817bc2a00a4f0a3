//! Where peers were last, kept on disk, so that a hub that starts again speaks to them at once
//! instead of waiting until they notice that it was gone.
//!
//! The file has the peers of the last minutes with a time each. It is written a few seconds
//! after something changed, so it is there after SIGKILL as well. At the start each peer in it
//! gets one handshake, from where it was and nowhere else, some at a time; one whose endpoint
//! the configuration gives, or that is no peer any more, gets none. Nothing depends on the
//! file: where it can't be written or read there is a warning and no more.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::diagnosis::Diagnosis;
use super::peers::Peers;
use super::state_file::{self, Complaint, wall_clock, write};
use crate::crypto::PublicKey;
use crate::protocol::device::Device;
use crate::protocol::peer::Endpoint;
use crate::protocol::time::Time;

/// What it means that the file can't be written.
const CONSEQUENCE: &str = "peers come back by themselves only";
/// The first line of the file: what it is and of which version.
const HEADER: &str = "taltun endpoints 1";
/// A session is over after this long without another handshake, and so its peer has noticed.
const ACTIVE: u64 = 180;
/// Peers that are spoken to at a time at the start, and the time between: 1,000 a second. Answers come as
/// fast then, at half the pace from which on handshakes count as a load; 10,000 peers are spoken to before
/// they notice by themselves, which takes them 15 s.
const AT_A_TIME: usize = 10;
const PACE: Duration = Duration::from_millis(10);
/// Between two times that the file is written, at the least; a larger file is written less
/// often.
const REST: Duration = Duration::from_secs(2);
/// Peers in the file that make it rest one second longer.
const PEERS_A_SECOND: usize = 5_000;
/// The largest file that is read, bytes: a million peers.
const LARGEST: u64 = 128 << 20;

/// Where a peer was, and when, in seconds since 1970.
type Place = (SocketAddr, u64);

/// Where peers were last.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    places: HashMap<PublicKey, Place>,
    changed: bool,
    written: Option<Instant>,
    writing: Option<JoinHandle<io::Result<()>>>,
    complaint: Complaint,
    /// Who is to be spoken to, and where; without a place it is where the peer is known to be.
    waiting: VecDeque<(PublicKey, Option<SocketAddr>)>,
    next: Option<Instant>,
}

impl Memory {
    /// What the tunnel `name` knew, from `dir`.
    pub(super) fn of(dir: &Path, name: &str) -> Self {
        let file = dir.join(name).join("endpoints");
        let now = wall_clock();
        let places = read(&file).unwrap_or_else(|reason| {
            warn!("{}: {reason}; ignored", file.display());
            HashMap::new()
        });
        let fresh = |(_, (_, at)): &(PublicKey, Place)| at.abs_diff(now) <= ACTIVE;
        let places: HashMap<PublicKey, Place> = places.into_iter().filter(fresh).collect();
        let waiting = places.iter().map(|(key, (place, _))| (*key, Some(*place)));
        let waiting: VecDeque<_> = waiting.collect();
        Self {
            file,
            next: (!waiting.is_empty()).then(Instant::now),
            waiting,
            places,
            changed: false,
            written: None,
            writing: None,
            complaint: Complaint::default(),
        }
    }

    /// A peer was heard here, just now.
    pub(super) fn note(&mut self, key: PublicKey, place: SocketAddr) {
        self.places.insert(key, (place, wall_clock()));
        self.changed = true;
    }

    /// Forgets one that is no peer any more; who asks for the next peer notices that it is gone.
    pub(super) fn forget(&mut self, peer: &PublicKey) {
        self.changed |= self.places.remove(peer).is_some();
    }

    /// Speaks to all once more that were there lately, as no session of theirs is left.
    pub(super) fn speak_again(&mut self) {
        let now = wall_clock();
        let lately = self
            .places
            .iter()
            .filter(|(_, (_, at))| at.abs_diff(now) <= ACTIVE);
        self.waiting = lately.map(|(key, _)| (*key, None)).collect();
        self.next = (!self.waiting.is_empty()).then(Instant::now);
    }

    /// When to call [`Self::speak_to_some`] again.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next
    }

    /// Speaks to the next of the peers that were there before this start.
    pub(super) fn speak_to_some(
        &mut self,
        device: &mut Device,
        peers: &Peers,
        diagnosis: &mut Diagnosis,
        now: Time,
    ) {
        for (key, place) in self.next_peers() {
            let Some(peer) = device.peer(&key) else {
                continue;
            };
            if let Some(place) = place {
                // It came by itself, or the configuration says where it is.
                if !peers.has_no_endpoint(&key) || peer.endpoint().is_some() {
                    continue;
                }
                device.set_endpoint(&key, Some(Endpoint::from(place)));
                diagnosis.remembered(&key, place);
            }
            device.initiate(&key, now);
        }
    }

    /// The next peers to speak to, and where, if that isn't known already.
    fn next_peers(&mut self) -> Vec<(PublicKey, Option<SocketAddr>)> {
        let count = self.waiting.len().min(AT_A_TIME);
        let next = self.waiting.drain(..count).collect();
        let more = !self.waiting.is_empty();
        self.next = more.then(|| Instant::now() + PACE);
        next
    }

    /// Writes the file if it is time to; to be called once a second.
    pub(super) fn tick(&mut self) {
        let rest = REST + Duration::from_secs((self.places.len() / PEERS_A_SECOND) as u64);
        let is_resting = self.written.is_some_and(|at| at.elapsed() < rest);
        if !self.is_written() || !self.changed || is_resting {
            return;
        }
        self.changed = false;
        self.written = Some(Instant::now());
        let now = wall_clock();
        self.places.retain(|_, (_, at)| at.abs_diff(now) <= ACTIVE);
        // A copy takes a fraction of the time that the text does.
        let (file, places) = (self.file.clone(), self.places.clone());
        let work = move || write(&file, &text(&places, now));
        self.writing = Some(tokio::task::spawn_blocking(work));
    }

    /// Writes the file at the end.
    pub(super) fn finish(&mut self) {
        if self.places.is_empty() && !self.changed {
            return;
        }
        let outcome = write(&self.file, &text(&self.places, wall_clock()));
        self.complain(outcome);
    }

    /// Whether what was to be written is.
    fn is_written(&mut self) -> bool {
        if self
            .writing
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return false;
        }
        if let Some(task) = self.writing.take() {
            // It is finished, so this is its outcome and never waits.
            let outcome = futures_util::FutureExt::now_or_never(task);
            if let Some(Ok(outcome)) = outcome {
                self.complain(outcome);
            }
        }
        true
    }

    fn complain(&mut self, outcome: io::Result<()>) {
        self.complaint.tell(&self.file, outcome, CONSEQUENCE);
    }
}

/// The file, without those who are long gone.
fn text(places: &HashMap<PublicKey, Place>, now: u64) -> String {
    let mut text = format!("{HEADER}\n");
    let recent = |(_, (_, at)): &(&PublicKey, &Place)| at.abs_diff(now) <= ACTIVE;
    for (key, (place, at)) in places.iter().filter(recent) {
        use std::fmt::Write as _;
        // Writing to a String can't fail.
        let _ = writeln!(text, "{key} {place} {at}");
    }
    text
}

fn read(file: &Path) -> Result<HashMap<PublicKey, Place>, String> {
    state_file::read(file, LARGEST)?.map_or_else(|| Ok(HashMap::new()), |text| parse(&text))
}

fn parse(text: &str) -> Result<HashMap<PublicKey, Place>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("not the endpoints of this version of Taltun".into());
    }
    let place = |line: &str| {
        let mut words = line.split(' ');
        let key = words.next()?.parse().ok()?;
        let place = words.next()?.parse().ok()?;
        let at = words.next()?.parse().ok()?;
        words.next().is_none().then_some((key, (place, at)))
    };
    let numbered = lines.enumerate();
    numbered
        .map(|(number, line)| place(line).ok_or_else(|| format!("line {} is damaged", number + 2)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::crypto::PrivateKey;

    fn key(number: u8) -> PublicKey {
        PrivateKey::from_bytes([number; 32]).public_key()
    }

    fn place(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9000))
    }

    #[test]
    fn what_was_written_is_known_at_the_next_start_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::of(dir.path(), "hub");
        assert!(memory.next_at().is_none());
        memory.note(key(1), place(1));
        memory.note(key(2), place(2));
        memory.note(key(2), place(3));
        memory.note(key(4), place(4));
        memory.forget(&key(4));
        memory.finish();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path().join("hub/endpoints")), 0o600);
        assert_eq!(mode(dir.path().join("hub")), 0o700);

        let mut memory = Memory::of(dir.path(), "hub");
        let mut found = Vec::new();
        while memory.next_at().is_some() {
            found.extend(memory.next_peers());
        }
        found.sort_by_key(|(_, place)| *place);
        let expected = [(key(1), Some(place(1))), (key(2), Some(place(3)))];
        assert_eq!(found, expected);
        // Once more, where they are by now.
        memory.places.insert(key(3), (place(5), 0));
        memory.speak_again();
        let mut found = Vec::new();
        while memory.next_at().is_some() {
            found.extend(memory.next_peers());
        }
        found.sort_unstable_by_key(|(key, _)| key.0);
        let mut expected = [(key(1), None), (key(2), None)];
        expected.sort_unstable_by_key(|(key, _)| key.0);
        assert_eq!(
            found, expected,
            "who was never there lately isn't among them"
        );
    }

    #[test]
    fn who_was_not_there_lately_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub/endpoints");
        let now = wall_clock();
        for (at, expected) in [
            (now, 1),
            (now - 170, 1),
            (now - 200, 0),
            (now + 3600, 0),
            (0, 0),
        ] {
            write(&file, &format!("{HEADER}\n{} 192.0.2.1:9 {at}\n", key(1))).unwrap();
            assert_eq!(Memory::of(dir.path(), "hub").waiting.len(), expected);
        }
    }

    #[test]
    fn another_version_and_garbage_are_ignored() {
        for text in [
            "",
            "taltun endpoints 2\n",
            "taltun endpoints 1\nnonsense\n",
            "taltun endpoints 1\nx 192.0.2.1:9 1\n",
            "{\"peers\": []}",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let line = format!("{} [2001:db8::1]:9 7", key(1));
        assert!(parse(&format!("{HEADER}\n{line}\n")).is_ok());
        assert!(parse(&format!("{HEADER}\n{line} more\n")).is_err());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("hub")).unwrap();
        fs::write(dir.path().join("hub/endpoints"), [0xff; 100]).unwrap();
        assert!(Memory::of(dir.path(), "hub").waiting.is_empty());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_failure() {
        let mut memory = Memory::of(Path::new("/proc/none"), "hub");
        memory.note(key(1), place(1));
        memory.finish();
        assert!(memory.complaint.told);
    }

    #[tokio::test]
    async fn the_file_is_written_once_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::of(dir.path(), "hub");
        for number in 0..100 {
            memory.note(key(number), place(number));
            memory.tick();
        }
        assert!(memory.changed, "the second is for later");
        while !memory.is_written() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let text = fs::read_to_string(dir.path().join("hub/endpoints")).unwrap();
        assert_eq!(parse(&text).unwrap().len(), 1);
        memory.finish();
        let text = fs::read_to_string(dir.path().join("hub/endpoints")).unwrap();
        assert_eq!(parse(&text).unwrap().len(), 100);
    }
}
