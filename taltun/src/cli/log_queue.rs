//! Where lines of the log wait until they are written, so that nobody else waits for a reader.
//!
//! A pipe, a terminal or a journal that nobody reads takes no more lines after some time, and
//! whoever writes then waits. So one thread writes, and all others leave their lines here. They
//! have [`LIMIT`] bytes; lines beyond that are dropped, and once the reader takes lines again, one
//! says how many. A regular file needs no reader, so its lines go straight to it.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::os::capabilities;

/// How many bytes may wait. As many again may be with the thread that writes.
const LIMIT: usize = 256 << 10;

/// Lines on their way to one file.
pub(super) struct LogQueue {
    file: File,
    /// Nothing where lines go straight to the file.
    shared: Option<Arc<Shared>>,
}

impl LogQueue {
    /// A queue of lines for what is open as `output`. `tell` makes the line that says how many
    /// are missing.
    pub(super) fn start(output: BorrowedFd<'_>, tell: fn(u64) -> String) -> io::Result<Self> {
        // One of our own: what holds the lock of `io::stderr` would wait with the thread.
        let file = File::from(output.try_clone_to_owned()?);
        if file.metadata()?.is_file() {
            return Ok(Self { file, shared: None });
        }
        let shared = Arc::new(Shared::default());
        let writer = (file.try_clone()?, shared.clone());
        thread::Builder::new().name("log".into()).spawn(move || {
            // It has its file already.
            let _ = capabilities::give_up();
            writer.1.write_to(&writer.0, tell);
        })?;
        Ok(Self {
            file,
            shared: Some(shared),
        })
    }

    /// Takes lines that end with a line feed. It never waits for a reader.
    pub(super) fn add(&self, lines: &[u8]) {
        match &self.shared {
            Some(shared) => shared.add(lines),
            // Nobody is left to tell if that fails.
            None => drop((&self.file).write_all(lines)),
        }
    }

    /// Waits until all lines are written, but no longer than `limit`. Returns whether they are.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        self.shared
            .as_ref()
            .is_none_or(|shared| shared.flush(limit))
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There are lines to write.
    filled: Condvar,
    /// All are written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that came after those that wait and had no place.
    dropped: u64,
    /// Whether the thread has lines that it hasn't written yet.
    writing: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, lines: &[u8]) {
        let mut state = self.lock();
        // After one that is dropped, so are shorter ones: the gap is in one place.
        if state.dropped > 0 || state.waiting.len() + lines.len() > LIMIT {
            state.dropped += lines.split_inclusive(|byte| *byte == b'\n').count() as u64;
        } else {
            state.waiting.extend_from_slice(lines);
        }
        drop(state);
        self.filled.notify_one();
    }

    fn flush(&self, limit: Duration) -> bool {
        let is_busy = |state: &mut State| state.writing || !state.is_empty();
        let waited = self
            .written
            .wait_timeout_while(self.lock(), limit, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    /// Writes what comes, for ever.
    fn write_to(&self, mut file: &File, tell: fn(u64) -> String) {
        let mut lines = Vec::new();
        loop {
            let dropped = self.take(&mut lines);
            // One by one, so that other processes' lines come between ours and not into them.
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                // Nobody is left to tell if that fails.
                let _ = file.write_all(line);
            }
            if dropped > 0 {
                let _ = file.write_all(tell(dropped).as_bytes());
            }
        }
    }

    /// Waits for lines and takes all, and how many are missing after them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        lines.clear();
        let mut state = self.lock();
        state.writing = false;
        if state.is_empty() {
            self.written.notify_all();
        }
        while state.is_empty() {
            let woken = self.filled.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        mem::swap(lines, &mut state.waiting);
        mem::take(&mut state.dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Seek};
    use std::os::fd::AsFd;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn tell(dropped: u64) -> String {
        format!("dropped {dropped}\n")
    }

    #[test]
    fn lines_that_are_read_all_arrive_in_order() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = LogQueue::start(writer.as_fd(), tell).unwrap();
        drop(writer);
        let mut reader = BufReader::new(reader);
        for number in 0..1000 {
            queue.add(format!("{number}\n").as_bytes());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, format!("{number}\n"));
        }
        assert!(queue.flush(LONG));
    }

    #[test]
    fn nobody_waits_for_a_reader_who_later_learns_what_is_missing() {
        const LINES: u64 = 200_000;
        let (reader, writer) = io::pipe().unwrap();
        let queue = LogQueue::start(writer.as_fd(), tell).unwrap();
        drop(writer);
        for number in 0..LINES {
            queue.add(format!("{number}\n").as_bytes());
        }
        let start = Instant::now();
        assert!(!queue.flush(Duration::from_millis(50)));
        assert!(start.elapsed() < LONG);

        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let mut next = 0;
        let dropped = loop {
            let line = lines.next().unwrap();
            if let Some(dropped) = line.strip_prefix("dropped ") {
                break dropped.parse::<u64>().unwrap();
            }
            assert_eq!(line, next.to_string());
            next += 1;
        };
        assert!(next > 10_000, "{next} lines waited");
        assert_eq!(next + dropped, LINES);
        // From then on all is as before.
        assert!(queue.flush(LONG));
        queue.add(b"one more\n");
        assert_eq!(lines.next().unwrap(), "one more");
    }

    #[test]
    fn a_reader_that_is_gone_stops_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = LogQueue::start(writer.as_fd(), tell).unwrap();
        queue.add(b"one\n");
        assert!(queue.flush(LONG));
    }

    #[test]
    fn a_file_has_its_lines_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        let queue = LogQueue::start(file.as_fd(), tell).unwrap();
        queue.add(b"one\n");
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
        assert!(queue.flush(Duration::ZERO));
    }
}
