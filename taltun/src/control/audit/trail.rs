//! The thread that writes the trail, so that nobody waits for a disk.
//!
//! The file grows up to half of what is to be kept; then it takes the place of the older one, and a
//! new one begins. A line that can't be written waits for the next try with others; beyond so
//! many they are counted, and the first line that can be written again says how many are missing.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};

use super::time::now;
use crate::report::{AuditKept, AuditStatus};

/// Lines on their way to the thread, at the most.
const QUEUE: usize = 256;
/// Lines that wait for a disk, at the most.
const WAITING: usize = 1024;
/// Between two tries to write what couldn't be written.
const RETRY: Duration = Duration::from_secs(10);
/// How long the end waits for the disk.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The queue to the thread.
pub(super) struct Trail {
    /// `None` once no more will come.
    jobs: Option<SyncSender<Job>>,
    state: Arc<State>,
    ended: Receiver<()>,
}

enum Job {
    Line(Vec<u8>),
    Keep(u32),
}

/// What others see of the thread.
#[derive(Default)]
struct State {
    /// Lines that there was no room for.
    lost: AtomicU64,
    off: std::sync::atomic::AtomicBool,
    /// Why lines can't be written.
    failing: Mutex<Option<String>>,
}

impl State {
    fn failing(&self) -> MutexGuard<'_, Option<String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trail {
    /// Starts the thread, with the file `file`, and `keep_mib` for both files; 0 for none.
    pub(super) fn open(file: PathBuf, keep_mib: u32) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let (end, ended) = mpsc::channel();
        let state = Arc::<State>::default();
        let mut writer = Writer {
            older: file.with_extension("1.jsonl"),
            file,
            open: None,
            limit: 0,
            waiting: VecDeque::new(),
            told_lost: 0,
            state: Arc::clone(&state),
        };
        writer.keep(keep_mib);
        let work = move || {
            writer.run(&queue);
            drop(end);
        };
        thread::Builder::new().name("audit".into()).spawn(work)?;
        Ok(Self {
            jobs: Some(jobs),
            state,
            ended,
        })
    }

    /// Takes a line, if there is room.
    pub(super) fn add(&self, record: &impl Serialize) {
        let (Ok(mut line), Some(jobs)) = (serde_json::to_vec(record), &self.jobs) else {
            return;
        };
        line.push(b'\n');
        if jobs.try_send(Job::Line(line)).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Another number of MiB is to be kept.
    pub(super) fn keep(&self, keep_mib: u32) {
        if let Some(jobs) = &self.jobs {
            // A queue that is full is one whose disk hangs: the next reload tells it again.
            let _ = jobs.try_send(Job::Keep(keep_mib));
        }
    }

    pub(super) fn status(&self) -> AuditStatus {
        let reason = self.state.failing().clone();
        let kept = match &reason {
            Some(_) => AuditKept::Memory,
            None if self.state.off.load(Ordering::Relaxed) => AuditKept::Off,
            None => AuditKept::Disk,
        };
        AuditStatus {
            kept,
            reason,
            lost: self.state.lost.load(Ordering::Relaxed),
        }
    }

    /// Ends the thread. Returns whether it wrote all that it could.
    pub(super) fn close(&mut self) -> bool {
        self.jobs = None;
        self.ended.recv_timeout(LAST_WAIT) != Err(RecvTimeoutError::Timeout)
    }
}

struct Writer {
    file: PathBuf,
    older: PathBuf,
    open: Option<File>,
    /// How large a file may become, bytes; 0 if nothing is written.
    limit: u64,
    waiting: VecDeque<Vec<u8>>,
    /// Of the lines that are lost, how many the trail tells of.
    told_lost: u64,
    state: Arc<State>,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let job = if self.waiting.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(RETRY)
            };
            match job {
                Ok(Job::Line(line)) => self.take(line),
                Ok(Job::Keep(keep_mib)) => self.keep(keep_mib),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_waiting();
                    return;
                }
            }
            self.write_waiting();
        }
    }

    fn keep(&mut self, keep_mib: u32) {
        self.limit = u64::from(keep_mib) * (1 << 20) / 2;
        self.state.off.store(self.limit == 0, Ordering::Relaxed);
        if self.limit == 0 {
            self.open = None;
            self.waiting.clear();
            *self.state.failing() = None;
        }
    }

    fn take(&mut self, line: Vec<u8>) {
        if self.limit == 0 {
            return;
        }
        if self.waiting.len() < WAITING {
            self.waiting.push_back(line);
        } else {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, until all is written or it can't be.
    fn write_waiting(&mut self) {
        while let Some(line) = self.waiting.pop_front() {
            if let Err(error) = self.write(&line) {
                self.waiting.push_front(line);
                self.open = None;
                self.complain(&error);
                return;
            }
        }
        let lost = self.state.lost.load(Ordering::Relaxed);
        if lost > self.told_lost {
            let number = lost - self.told_lost;
            let time = now();
            let line = serde_json::json!({ "time": time, "action": "lost", "lines": number });
            if self.write(format!("{line}\n").as_bytes()).is_ok() {
                self.told_lost = lost;
            }
        }
        if self.state.failing().take().is_some() {
            info!("changes are written down again, in {}", self.file.display());
        }
    }

    /// Tells once why lines can't be written.
    fn complain(&self, error: &io::Error) {
        let reason = format!("{}: {error}", self.file.display());
        let before = self.state.failing().replace(reason.clone());
        if before.as_ref() != Some(&reason) {
            warn!("changes can't be written down; up to {WAITING} wait in memory: {reason}");
        }
    }

    /// Writes a line to the end of the file, all of it or nothing.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let limit = self.limit;
        let mut file = self.file()?;
        let mut length = file.metadata()?.len();
        if length > 0 && length + line.len() as u64 > limit {
            self.open = None;
            fs::rename(&self.file, &self.older)?;
            file = self.file()?;
            length = 0;
        }
        let written = file.write_all(line).and_then(|()| file.sync_data());
        written.inspect_err(|_| {
            // Half a line would spoil the next one, too.
            let _ = file.set_len(length);
        })
    }

    /// The file, opened anew if somebody removed or replaced it.
    fn file(&mut self) -> io::Result<&File> {
        let is_there = |open: &File| {
            let (open, there) = (open.metadata()?, fs::symlink_metadata(&self.file)?);
            io::Result::Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
        };
        if !self
            .open
            .as_ref()
            .is_some_and(|open| is_there(open).unwrap_or(false))
        {
            self.open = None;
        }
        match &mut self.open {
            Some(file) => Ok(file),
            none => Ok(none.insert(open(&self.file)?)),
        }
    }
}

/// Opens it for its owner alone.
fn open(path: &Path) -> io::Result<File> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // A FIFO without a reader is an error, and not waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A thread that writes to `audit.jsonl` in a directory of its own.
    fn trail(keep_mib: u32) -> (tempfile::TempDir, Trail) {
        let dir = tempfile::tempdir().unwrap();
        let trail = Trail::open(dir.path().join("audit.jsonl"), keep_mib).unwrap();
        (dir, trail)
    }

    /// Waits until it is so.
    fn wait_until(is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_files_are_for_their_owner_and_together_no_larger_than_what_is_kept() {
        let (dir, mut trail) = trail(1);
        let text = "x".repeat(10_000);
        for _ in 0..200 {
            trail.add(&text);
            // As somebody who waits for each answer.
            let len = |name: &str| fs::metadata(dir.path().join(name)).map_or(0, |it| it.len());
            assert!(len("audit.jsonl") <= 512 << 10 && len("audit.1.jsonl") <= 512 << 10);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(trail.close());
        for name in ["audit.jsonl", "audit.1.jsonl"] {
            let file = dir.path().join(name);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
            let text = fs::read_to_string(file).unwrap();
            assert!(text.lines().count() > 0);
            // None is cut.
            assert!(text.lines().all(|line| line.len() == 10_002));
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_closed_to_them_and_a_removed_one_is_made_again() {
        let (dir, trail) = trail(1);
        let file = dir.path().join("audit.jsonl");
        trail.add(&1);
        wait_until(|| fs::read_to_string(&file).is_ok_and(|text| text == "1\n"));
        fs::remove_file(&file).unwrap();
        fs::write(&file, "0\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        trail.add(&2);
        wait_until(|| fs::read_to_string(&file).is_ok_and(|text| text == "0\n2\n"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_written_waits_and_what_has_no_room_is_counted_and_told() {
        let (dir, mut trail) = trail(1);
        let file = dir.path().join("audit.jsonl");
        // A directory in its place can't be written to, by nobody.
        fs::create_dir(&file).unwrap();
        trail.add(&0);
        wait_until(|| trail.status().kept == AuditKept::Memory);
        let before = Instant::now();
        let number = WAITING + 2 * QUEUE;
        for line in 1..=number {
            trail.add(&line);
        }
        assert!(before.elapsed() < Duration::from_secs(1), "somebody waited");
        wait_until(|| trail.status().lost > 0);
        fs::remove_dir(&file).unwrap();
        assert!(trail.close());
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<serde_json::Value> = lines.collect();
        // The gap may be told before lines that came after it.
        let (numbers, gaps): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(serde_json::Value::is_u64);
        assert_eq!(numbers[..3], [0, 1, 2]);
        assert!(gaps.iter().all(|gap| gap["action"] == "lost"), "{gaps:?}");
        let told: u64 = gaps.iter().filter_map(|gap| gap["lines"].as_u64()).sum();
        assert_eq!(told, trail.status().lost);
        assert_eq!(numbers.len() + told as usize, number + 1);
        assert_eq!(trail.status().kept, AuditKept::Disk);
    }

    #[test]
    fn nothing_is_written_with_zero() {
        let (dir, mut trail) = trail(0);
        trail.add(&1);
        assert_eq!(trail.status().kept, AuditKept::Off);
        assert!(trail.close());
        assert!(!dir.path().join("audit.jsonl").exists());
    }
}
