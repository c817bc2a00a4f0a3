//! What each peer moves, counted once a second for good: see [`taltun_usage`].
//!
//! The counters are those of `wg show`: bytes of WireGuard's messages, handshakes and keepalives
//! included, as they cost on the line. They begin from zero with each start, and with a peer that
//! is removed and added again; so what counts is what they gained since the last look, and the
//! counters of a peer that is gone are looked at once more.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taltun_usage::{Batch, Book, Clock, Counts, Day, Entry, Event, Kept, Key, Period, Totals};
use tracing::{info, warn};

use super::pace::Pace;
use super::peers::Peers;
use super::request;
use super::response::Reply;
use super::usage_table::Asked;
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::protocol::device::Device;
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;
use crate::report;
use crate::report::{Refused, UsageKept, UsageStatus};

/// How long the start waits for the disk where peers have limits, and how long they wait then.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const MOST_UNREAD: Duration = Duration::from_secs(10);
/// How long the end waits for the disk.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Between two times that the clock is kept.
const CLOCK: Duration = Duration::from_secs(60);
/// Peers for one that another look takes: a look at one costs less than 0.1 µs.
const CHEAPER: usize = 10;

/// What peers moved.
pub(super) struct Ledger {
    /// `None`: there is no thread for it, for this reason.
    book: Result<Book, String>,
    clock: Clock,
    /// What was told of a clock that is behind.
    clock_told: Option<String>,
    /// When the clock was kept last.
    clock_kept: Option<Time>,
    /// The peers, in the order of their numbers, and as they were a look before.
    counted: Vec<Counted>,
    before: Vec<Counted>,
    looking: Pace,
    /// For how long days are kept, and whether its thread isn't told yet.
    keep_days: u32,
    tells_days: bool,
    totals: Totals,
    /// Whether the sums of the day and month have to be asked for.
    asks: bool,
    /// Until when limits wait for what was kept, while they do.
    opening: Option<Time>,
    /// Whether what was kept was read once.
    was_read: bool,
}

/// What is known of what peers moved.
pub(super) struct Known<'a> {
    /// The day that it is, for limits.
    pub today: Day,
    /// Whether the sums of this month are complete.
    pub is_complete: bool,
    /// Whether they were once.
    pub is_open: bool,
    /// What a peer moved in the period of today.
    pub used: &'a dyn Fn(&PublicKey, Period) -> u64,
}

/// A peer's counters as they were looked at last.
struct Counted {
    peer: Arc<Peer>,
    last: Counts,
    /// Whether its name is written down.
    is_named: bool,
}

impl Counted {
    fn new(peer: &Arc<Peer>) -> Self {
        Self {
            peer: Arc::clone(peer),
            last: Counts::default(),
            is_named: false,
        }
    }

    /// What it moved since the last look, as the last of it: it is no peer any more. If it isn't
    /// described any more either, it keeps the name that it had.
    fn look_last(&mut self, peers: &Peers) -> Option<Entry> {
        let entry = self.look(peers)?;
        Some(Entry {
            name: entry.name.filter(|name| !name.is_empty()),
            ..entry
        })
    }

    /// What it moved since the last look.
    fn look(&mut self, peers: &Peers) -> Option<Entry> {
        let shown = shown(&self.peer);
        let counts = shown.since(self.last);
        self.last = shown;
        let is_news = !counts.is_empty() || !(self.is_named || shown.is_empty());
        is_news.then(|| {
            let key = self.peer.public_key();
            let is_named = std::mem::replace(&mut self.is_named, true);
            let name = || peers.name(key).unwrap_or_default().to_owned();
            Entry {
                key: key.0,
                name: (!is_named).then(name),
                counts,
            }
        })
    }
}

fn shown(peer: &Peer) -> Counts {
    Counts {
        rx_bytes: peer.rx_bytes(),
        rx_packets: peer.rx_packets(),
        tx_bytes: peer.tx_bytes(),
        tx_packets: peer.tx_packets(),
    }
}

impl Ledger {
    /// That of the tunnel `name`, kept in `dir` for so many days. `awaited`: limits need to know
    /// what was kept before.
    pub(super) fn of(dir: &Path, name: &str, keep_days: u32, awaited: bool) -> Self {
        let book = Book::open(file(dir, name), keep_days);
        let book = book.map_err(|error| format!("cannot start its thread: {error}"));
        if let Err(reason) = &book {
            warn!("usage isn't counted: {reason}");
        }
        let now = clock::now();
        let opening = book.is_ok().then(|| now + MOST_UNREAD);
        let mut ledger = Self {
            book,
            clock: Clock::default(),
            clock_told: None,
            clock_kept: None,
            counted: Vec::new(),
            before: Vec::new(),
            looking: Pace::default(),
            keep_days,
            tells_days: false,
            totals: Totals::default(),
            asks: false,
            opening,
            was_read: false,
        };
        ledger.look_at_clock(now);
        if awaited {
            ledger.wait();
        }
        ledger
    }

    /// Waits until what was kept is read, though not for long.
    fn wait(&mut self) {
        let deadline = Instant::now() + FIRST_WAIT;
        while self.opening.is_some() || self.totals.is_awaited() {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.book.as_ref().ok().and_then(|book| book.wait(left));
            let Some(event) = event else { return };
            self.take(event);
            self.turn();
        }
    }

    /// To be called once a second.
    pub(super) fn each_second(&mut self, device: &Device, peers: &Peers, now: Time) {
        self.look_at_clock(now);
        self.hear();
        self.tell_clock();
        if let (true, Ok(book)) = (self.tells_days, &self.book)
            && book.keep(self.keep_days)
        {
            self.tells_days = false;
        }
        self.turn();
        if self.opening.is_some_and(|until| now >= until) {
            warn!("usage can't be read yet; quotas begin from zero");
            self.opening = None;
            self.was_read = true;
        }
        if self.looking.is_due(device.len() / CHEAPER) {
            self.collect(device, peers, now);
        }
    }

    /// Takes down what peers moved since the last time, if there is room for it.
    pub(super) fn collect(&mut self, device: &Device, peers: &Peers, now: Time) {
        let Ok(book) = &self.book else { return };
        if self.asks || !book.has_room() {
            return;
        }
        let mut entries = Vec::new();
        std::mem::swap(&mut self.counted, &mut self.before);
        self.counted.clear();
        let mut before = self.before.drain(..).peekable();
        for peer in device.peers() {
            // Numbers are given once, so those in between are gone.
            while let Some(mut gone) = before.next_if(|it| it.peer.id() < peer.id()) {
                entries.extend(gone.look_last(peers));
            }
            let known = before.next_if(|it| it.peer.id() == peer.id());
            let mut counted = known.unwrap_or_else(|| Counted::new(peer));
            entries.extend(counted.look(peers));
            self.counted.push(counted);
        }
        for mut gone in before {
            entries.extend(gone.look_last(peers));
        }
        for entry in &entries {
            self.totals.add(entry.key, entry.counts.bytes());
        }
        if entries.is_empty() {
            return;
        }
        let is_kept = |at: Time| now.since(at) < CLOCK;
        let clock = (!self.clock_kept.is_some_and(is_kept)).then(|| self.clock.kept());
        let clock = clock.filter(|clock| clock.shown > 0);
        if clock.is_some() {
            self.clock_kept = Some(now);
        }
        book.add(Batch {
            day: self.clock.day(),
            clock,
            sure: self.clock.sure_day(),
            entries,
        });
    }

    fn look_at_clock(&mut self, now: Time) {
        let steady = Duration::from_nanos(now.as_nanos());
        self.clock.look(clock::wall(), steady);
    }

    /// Tells when the day that counts begins not to be that of the clock, and when it is again.
    fn tell_clock(&mut self) {
        let trouble = self.clock.trouble();
        if trouble.is_some() == self.clock_told.is_some() {
            return;
        }
        if let Some(trouble) = &trouble {
            warn!("{trouble}");
        } else {
            info!("the day is that of the clock again: {}", self.clock.day());
        }
        self.clock_told = trouble;
    }

    /// Takes in what the thread told.
    fn hear(&mut self) {
        while let Ok(book) = &self.book
            && let Some(event) = book.event()
        {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened(clock) => {
                self.clock.remember(clock.unwrap_or_default());
                self.opening = None;
            }
            Event::Sums(day, sums) => {
                self.totals.take_in(day, sums);
                self.was_read |= !self.totals.is_awaited();
            }
            Event::Warning(text) => warn!("{text}"),
            Event::Info(text) => info!("{text}"),
        }
    }

    /// Turns to the day that it is, and asks for what was kept of it where that isn't known.
    fn turn(&mut self) {
        if self.opening.is_some() {
            return;
        }
        self.asks |= self.totals.turn_to(self.clock.day());
        if self.asks
            && let Ok(book) = &self.book
        {
            self.asks = !book.ask_sums(self.clock.day());
        }
    }

    /// Tells what limits are judged by.
    pub(super) fn known<T>(&self, judge: impl FnOnce(&Known<'_>) -> T) -> T {
        judge(&Known {
            today: self.clock.day(),
            is_open: self.opening.is_none() && (self.was_read || !self.totals.is_awaited()),
            is_complete: !self.totals.is_awaited(),
            used: &|key: &PublicKey, period| self.totals.of(&key.0, period),
        })
    }

    /// Another file was read: names may have changed, and how long days are kept.
    pub(super) fn follow(&mut self, keep_days: u32) {
        for counted in &mut self.counted {
            counted.is_named = false;
        }
        self.keep_days = keep_days;
        self.tells_days = true;
    }

    /// Where it is kept.
    pub(super) fn status(&self) -> UsageStatus {
        let (kept, reason) = match &self.book {
            Err(reason) => (UsageKept::Memory, Some(reason.clone())),
            Ok(book) => match book.kept() {
                Kept::OnDisk | Kept::Opening => (UsageKept::Disk, None),
                Kept::InMemory(reason) => (UsageKept::Memory, Some(reason)),
                Kept::Off => (UsageKept::Off, None),
            },
        };
        UsageStatus {
            kept,
            reason,
            clock: self.clock.trouble(),
            keep_days: Some(self.keep_days),
        }
    }

    /// Tells what peers moved, the last second included.
    pub(super) fn tell(
        &mut self,
        interface: &str,
        asked: &request::Usage,
        reply: Reply<Box<report::Usage>>,
        device: &Device,
        peers: &Peers,
    ) {
        let now = clock::now();
        self.look_at_clock(now);
        self.collect(device, peers, now);
        let book = match &self.book {
            Ok(book) => book,
            Err(reason) => {
                return reply.outcome(Err(format!("usage isn't counted: {reason}").into()));
            }
        };
        if !book.has_room() {
            return reply.outcome(Err("the disk with the usage is busy; try again".into()));
        }
        let asked = Asked::new(interface, true, asked, self.clock.day(), self.status());
        let mut asked = match asked {
            Ok(asked) => asked,
            Err(reason) => return reply.outcome(Err(reason.into())),
        };
        asked.names = names(peers);
        book.ask_used(asked.span, move |used| {
            let usage = used.and_then(|used| asked.answer(used));
            reply.outcome(usage.map(Box::new).map_err(Refused::from));
        });
    }

    /// Writes down what is left.
    pub(super) fn finish(&mut self, device: &Device, peers: &Peers) {
        let now = clock::now();
        self.look_at_clock(now);
        self.collect(device, peers, now);
        if let Ok(book) = &mut self.book
            && !book.close(LAST_WAIT)
        {
            warn!("what peers moved last is lost: it couldn't be written");
        }
        self.hear();
    }
}

/// The names that peers have.
fn names(peers: &Peers) -> HashMap<Key, String> {
    let filed = peers.filed().iter();
    filed
        .filter_map(|peer| Some((peer.public_key.0, peer.name.clone()?)))
        .collect()
}

/// Where a tunnel's usage is.
pub(super) fn file(dir: &Path, name: &str) -> std::path::PathBuf {
    dir.join(name).join("usage.db")
}
