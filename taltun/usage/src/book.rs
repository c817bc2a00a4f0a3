//! The thread that writes, and what others see of it.
//!
//! Its queue is short. Whoever counts puts a batch into it once a second at the most, and none
//! while it is full, so that a disk that hangs costs no memory and nobody waits. What couldn't be
//! written is kept by the thread: one sum a peer and day, however long it takes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock::KeptClock;
use crate::counts::{Batch, Counts, Key};
use crate::date::Day;
use crate::store::{self, OpenError, Pending, Store, Used};
use crate::totals::Sums;

/// What waits for the thread, at the most.
const QUEUE: usize = 8;
/// Between two tries to write what couldn't be written.
const RETRY: Duration = Duration::from_secs(10);
/// Between two looks whether the file is still there.
const LOOK: Duration = Duration::from_secs(10);
/// Sums that are kept in memory, at the most: 40 MB.
const MOST_PENDING: usize = 500_000;

/// Where what is counted is kept at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kept {
    /// Nothing was to be kept yet.
    #[default]
    Opening,
    /// In the database.
    OnDisk,
    /// In memory, for this reason.
    InMemory(String),
    /// In memory, as the configuration wants.
    Off,
}

/// What the thread tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The database is open, or can't be: the clock that it has.
    Opened(Option<KeptClock>),
    /// What peers moved on a day and in its month.
    Sums(Day, HashMap<Key, Sums>),
    /// For the log: something is wrong.
    Warning(String),
    /// For the log: it is right again.
    Info(String),
}

/// What to tell of days and peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first day.
    pub first: Day,
    /// The last one.
    pub last: Day,
}

type Answer = Box<dyn FnOnce(Result<Vec<Used>, String>) + Send>;

enum Job {
    Batch(Batch),
    Sums(Day),
    Used(Span, Answer),
    Keep(u32),
}

/// The queue to the thread.
pub struct Book {
    /// `None` once no more will come.
    jobs: Option<SyncSender<Job>>,
    room: Arc<Room>,
    kept: Arc<Mutex<Kept>>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
}

/// How many jobs are on their way.
#[derive(Default)]
struct Room(Mutex<usize>);

impl Room {
    fn number(&self) -> std::sync::MutexGuard<'_, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Starts the thread, with the database in `file`. Days are kept for so long, and at least until
    /// their month is over; not at all if that is zero.
    pub fn open(file: PathBuf, keep_days: u32) -> std::io::Result<Self> {
        // Room for those that are sent whether there is room or not.
        let (jobs, queue) = mpsc::sync_channel(4 * QUEUE);
        let (tell, events) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let room = Arc::<Room>::default();
        let kept = Arc::<Mutex<Kept>>::default();
        let writer = Writer {
            file,
            keep_days,
            store: None,
            never: None,
            pending: Pending::new(),
            names: HashMap::new(),
            clock: None,
            sure: Day::default(),
            pruned: None,
            tried: None,
            looked: Instant::now(),
            lost: false,
            kept: Arc::clone(&kept),
            tell,
        };
        let used = Arc::clone(&room);
        let work = move || {
            writer.run(&queue, &used);
            drop(end);
        };
        let thread = thread::Builder::new().name("usage".into()).spawn(work)?;
        Ok(Self {
            jobs: Some(jobs),
            room,
            kept,
            events,
            thread: Some(thread),
            ended,
        })
    }

    /// Whether a batch would be taken. If not, counters go on, and the next batch has it all.
    pub fn has_room(&self) -> bool {
        *self.room.number() < QUEUE
    }

    /// Has a batch written.
    pub fn add(&self, batch: Batch) {
        self.send(Job::Batch(batch));
    }

    /// Asks what was kept of a day and its month; it comes as an event, and has all batches in it
    /// that were added before.
    pub fn ask_sums(&self, day: Day) -> bool {
        self.send(Job::Sums(day))
    }

    /// Asks what peers moved; the answer is given by the thread. False: it is busy.
    pub fn ask_used(
        &self,
        span: Span,
        answer: impl FnOnce(Result<Vec<Used>, String>) + Send + 'static,
    ) -> bool {
        self.has_room() && self.send(Job::Used(span, Box::new(answer)))
    }

    /// From now on days are kept for so long.
    pub fn keep(&self, days: u32) -> bool {
        self.send(Job::Keep(days))
    }

    /// What happened; `None` if nothing did.
    pub fn event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The same, waiting until something happens.
    pub fn wait(&self, limit: Duration) -> Option<Event> {
        self.events.recv_timeout(limit).ok()
    }

    /// Where what is counted is kept.
    pub fn kept(&self) -> Kept {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    /// Waits until all is written, though not longer than that. False: some may be lost.
    pub fn close(&mut self, limit: Duration) -> bool {
        self.jobs = None;
        let in_time = matches!(
            self.ended.recv_timeout(limit),
            Err(RecvTimeoutError::Disconnected)
        );
        if in_time && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        in_time && !matches!(self.kept(), Kept::InMemory(_))
    }

    fn send(&self, job: Job) -> bool {
        let Some(jobs) = &self.jobs else { return false };
        let mut number = self.room.number();
        let sent = jobs.try_send(job).is_ok();
        *number += usize::from(sent);
        sent
    }
}

struct Writer {
    file: PathBuf,
    keep_days: u32,
    store: Option<Store>,
    /// Why no database is opened any more.
    never: Option<String>,
    /// What isn't written yet.
    pending: Pending,
    names: HashMap<Key, String>,
    clock: Option<KeptClock>,
    /// The day that is sure to have come, as the last batch says, and that by which old ones were
    /// forgotten last.
    sure: Day,
    pruned: Option<Day>,
    /// When writing failed last.
    tried: Option<Instant>,
    looked: Instant,
    /// Whether more peers and days came than are kept in memory.
    lost: bool,
    kept: Arc<Mutex<Kept>>,
    tell: mpsc::Sender<Event>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Job>, room: &Room) {
        self.save();
        let clock = self.store.as_ref().and_then(|store| store.clock().ok()?);
        self.event(Event::Opened(clock));
        while let Ok(job) = queue.recv() {
            self.handle(job);
            *room.number() -= 1;
        }
        // Once more, also if it failed a moment ago.
        self.tried = None;
        self.save();
    }

    fn handle(&mut self, job: Job) {
        match job {
            Job::Batch(batch) => {
                self.sure = batch.sure.min(batch.day);
                self.clock = batch.clock.or(self.clock);
                for entry in batch.entries {
                    if let Some(name) = entry.name {
                        self.names.insert(entry.key, name);
                    }
                    self.pend((batch.day, entry.key), entry.counts);
                }
                self.save();
            }
            Job::Sums(day) => {
                self.save();
                let sums = self.sums(day);
                self.event(Event::Sums(day, sums));
            }
            Job::Used(span, answer) => {
                self.save();
                answer(self.used(span));
            }
            Job::Keep(days) => {
                self.keep_days = days;
                self.pruned = None;
                self.tried = None;
                self.save();
            }
        }
    }

    fn pend(&mut self, at: (Day, Key), counts: Counts) {
        if self.pending.len() >= MOST_PENDING && !self.pending.contains_key(&at) {
            if !std::mem::replace(&mut self.lost, true) {
                let most =
                    format!("usage: {MOST_PENDING} sums wait to be written; others are lost");
                self.event(Event::Warning(most));
            }
            return;
        }
        *self.pending.entry(at).or_default() += counts;
    }

    /// Writes all that isn't, if it is time to.
    fn save(&mut self) {
        if self.keep_days == 0 {
            self.store = None;
            self.set_kept(Kept::Off);
            return;
        }
        if self.tried.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if self
                .store
                .as_ref()
                .is_some_and(|store| !store.is_in_place())
            {
                let gone = "the file was taken away; a new one is made";
                self.event(Event::Warning(self.about(gone)));
                self.store = None;
            }
        }
        let outcome = self.open().and_then(|()| self.write());
        match outcome {
            Ok(()) => {
                let was = self.kept.lock().map_or(Kept::Opening, |kept| kept.clone());
                if matches!(was, Kept::InMemory(_)) {
                    let again = "written again, with all that was counted meanwhile";
                    self.event(Event::Info(self.about(again)));
                }
                self.lost = false;
                self.tried = None;
                self.set_kept(Kept::OnDisk);
            }
            Err(reason) => {
                self.tried = Some(Instant::now());
                let is_told = matches!(self.kept.lock().as_deref(), Ok(Kept::InMemory(_)));
                if !is_told {
                    let consequence = "usage is counted in memory until it can be written, and \
                                       lost if the tunnel stops before";
                    let warning = self.about(&format!("{reason}; {consequence}"));
                    self.event(Event::Warning(warning));
                }
                self.set_kept(Kept::InMemory(reason));
            }
        }
    }

    fn open(&mut self) -> Result<(), String> {
        if self.store.is_some() {
            return Ok(());
        }
        if let Some(reason) = &self.never {
            return Err(reason.clone());
        }
        make_directory(&self.file).map_err(|error| format!("cannot write: {error}"))?;
        match Store::open(&self.file) {
            Ok(store) => {
                self.store = Some(store);
                Ok(())
            }
            Err(OpenError::Damaged(reason)) => {
                self.set_aside(&reason)?;
                let store = Store::open(&self.file);
                self.store = Some(store.map_err(|error| error.to_string())?);
                Ok(())
            }
            Err(error @ OpenError::Newer(_)) => {
                let reason = format!("{error}; update Taltun, or move the file away and restart");
                self.never = Some(reason.clone());
                Err(reason)
            }
            Err(error) => Err(format!("cannot open: {error}")),
        }
    }

    fn write(&mut self) -> Result<(), String> {
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let nothing = self.pending.is_empty() && self.names.is_empty() && self.clock.is_none();
        let mut outcome = Ok(());
        if !nothing {
            outcome = store.add(&self.pending, &self.names, self.clock);
            if outcome.is_ok() {
                self.pending.clear();
                self.names.clear();
                self.clock = None;
            }
        }
        if outcome.is_ok() && self.sure > Day::default() && self.pruned != Some(self.sure) {
            let forgotten = store.forget_before(oldest(self.sure, self.keep_days));
            self.pruned = Some(self.sure);
            outcome = forgotten.map(drop);
        }
        let Err(error) = outcome else { return Ok(()) };
        if store::is_damage(&error) {
            self.set_aside(&error.to_string())?;
        } else if !store.is_at_rest() {
            // It couldn't even take back what it had begun.
            self.store = None;
        }
        Err(format!("cannot write: {error}"))
    }

    /// Moves a damaged file out of the way; one that was moved before is replaced.
    fn set_aside(&mut self, reason: &str) -> Result<(), String> {
        self.store = None;
        let aside = self.file.with_added_extension("damaged");
        fs::rename(&self.file, &aside).map_err(|error| {
            format!("it is damaged ({reason}), and can't be moved away: {error}")
        })?;
        for more in ["-wal", "-shm"] {
            let mut name = self.file.clone().into_os_string();
            name.push(more);
            let _ = fs::remove_file(name);
        }
        let told = format!(
            "{reason}; moved to {}, and a new one is begun",
            aside.display()
        );
        self.event(Event::Warning(self.about(&told)));
        Ok(())
    }

    /// What is kept of a day and its month, and what isn't written yet.
    fn sums(&mut self, day: Day) -> HashMap<Key, Sums> {
        let kept = self.store.as_ref().map(|store| store.sums(day));
        let mut sums = match kept {
            Some(Ok(sums)) => sums,
            Some(Err(error)) => {
                let told = self.about(&format!("cannot read: {error}; quotas begin from zero"));
                self.event(Event::Warning(told));
                HashMap::new()
            }
            None => HashMap::new(),
        };
        for ((at, key), counts) in &self.pending {
            if at.first_of_month() != day.first_of_month() || *at > day {
                continue;
            }
            let sums = sums.entry(*key).or_default();
            sums.month = sums.month.saturating_add(counts.bytes());
            if *at == day {
                sums.day = sums.day.saturating_add(counts.bytes());
            }
        }
        sums
    }

    fn used(&self, span: Span) -> Result<Vec<Used>, String> {
        let mut found: HashMap<(Day, Key), Used> = HashMap::new();
        if let Some(store) = &self.store {
            let read = store.each(span.first, span.last, &mut |used| {
                found.insert((used.day, used.key), used);
            });
            read.map_err(|error| self.about(&format!("cannot read: {error}")))?;
        }
        for ((day, key), counts) in &self.pending {
            if (span.first..=span.last).contains(day) {
                let used = found.entry((*day, *key)).or_insert_with(|| Used {
                    key: *key,
                    name: None,
                    day: *day,
                    counts: Counts::default(),
                });
                used.counts += *counts;
            }
        }
        let mut found: Vec<Used> = found.into_values().collect();
        for used in &mut found {
            if let Some(name) = self.names.get(&used.key) {
                // Who has no name any more isn't called "".
                used.name = Some(name.clone()).filter(|name| !name.is_empty());
            }
        }
        found.sort_unstable_by_key(|used| (used.day, used.key));
        Ok(found)
    }

    fn about(&self, told: &str) -> String {
        format!("{}: {told}", self.file.display())
    }

    fn set_kept(&self, kept: Kept) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    fn event(&self, event: Event) {
        // Nobody listens any more at the end.
        let _ = self.tell.send(event);
    }
}

/// The first day that is kept, if `today` is sure to have come. The days of its month are kept in any
/// case: after a restart nothing else says what is left of a quota.
pub fn oldest(today: Day, keep_days: u32) -> Day {
    let wanted = today.before(keep_days.saturating_sub(1));
    wanted.min(today.first_of_month())
}

fn make_directory(file: &Path) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}
