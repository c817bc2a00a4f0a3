//! The store as a stream of events: what it has, what changes, and whether it is there.
//!
//! It lists all keys once, and watches from that revision on. A watch that breaks starts anew where
//! it was. Where that can't be (the revisions are compacted, the store is another one, or was
//! restored from a backup) it lists again, and tells the differences. The same comparison is made
//! each ten minutes, whatever the watch says: events of etcd have been lost before.
//!
//! Each key is told once for each of its values. Nothing is ever told as deleted because the store
//! can't be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::{Backoff, random};
use crate::etcd::{At, Change, Error, Store, Watch, key_of};
use crate::key::{Key, prefix};
use crate::label::Label;

/// Events that may wait for the hub.
const QUEUE: usize = 1024;

/// What the store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key has this value now.
    Put(Key, Bytes),
    /// A key is gone.
    Deleted(Key),
    /// A key has a value that is longer than such a value may be; it counts as gone.
    TooLong(Key, usize),
    /// All that the store had at this revision was told.
    Synced(i64),
    /// The store can't be reached, from now until [`Synced`](Self::Synced).
    Lost(Error),
}

/// A mirror that runs until it is dropped.
#[derive(Debug)]
pub struct Mirror {
    events: Receiver<Event>,
    task: AbortHandle,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mirror {
    /// Starts one, which compares all with the store each `full`: ten minutes are a good time.
    pub fn start(store: Store, network: &Label, full: Duration) -> Self {
        let (sender, events) = channel(QUEUE);
        let follower = Follower {
            store,
            prefix: prefix(network),
            full,
            events: sender,
            known: BTreeMap::new(),
            at: At::default(),
            next: None,
            is_lost: true,
        };
        let task = tokio::spawn(follower.run()).abort_handle();
        Self { events, task }
    }

    /// The next event. `None` never comes before the end of the program.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// Why following ended.
enum End {
    /// Nobody listens.
    Unheard,
    /// The store failed.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Follower {
    store: Store,
    prefix: String,
    full: Duration,
    events: Sender<Event>,
    /// A hash of what was told of each key.
    known: BTreeMap<Key, [u8; 32]>,
    /// How far the store was when it was last asked.
    at: At,
    /// From where a watch goes on; `None`: all is to be listed.
    next: Option<i64>,
    is_lost: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut was_told = false;
        loop {
            let error = match self.follow(&mut backoff).await {
                Err(End::Failed(error)) => error,
                Err(End::Unheard) => return,
                Ok(never) => match never {},
            };
            // Also if it never was there: that is told once.
            if !self.is_lost || !was_told {
                was_told = true;
                self.is_lost = true;
                if self.events.send(Event::Lost(error)).await.is_err() {
                    return;
                }
            }
            // What happened meanwhile is found by comparing.
            self.next = None;
            sleep(backoff.next(random())).await;
        }
    }

    /// Follows the store until it can't.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, End> {
        let mut due = Instant::now() + self.full;
        loop {
            let is_listed = self.next.is_none();
            let next = match self.next {
                Some(next) => next,
                None => self.list().await?,
            };
            let watch = match self.store.watch(&self.prefix, next).await {
                Ok(watch) => watch,
                Err(Error::Compacted) => {
                    self.next = None;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // A watch from a revision that is to come would wait for it in silence.
            if !watch.at().follows(&self.at) {
                self.next = None;
                if is_listed {
                    // The list was of the store, so this member is behind the others.
                    self.store.leave_member(watch.endpoint()).await;
                    let why = "this member is behind the others";
                    return Err(Error::broken(watch.endpoint(), why).into());
                }
                continue;
            }
            backoff.reset();
            self.at = watch.at();
            self.hear(watch, &mut due).await?;
        }
    }

    /// Tells what a watch says, until it breaks.
    async fn hear(&mut self, mut watch: Watch, due: &mut Instant) -> Result<(), End> {
        loop {
            tokio::select! {
                told = watch.next() => match told {
                    Ok(told) => {
                        for change in told.changes {
                            self.change(change).await?;
                        }
                        if let Some(next) = told.next {
                            self.go_on(next);
                        }
                    }
                    Err(Error::Compacted) => {
                        self.next = None;
                        return Ok(());
                    }
                    Err(error) if error.is_elsewhere_better() => {
                        self.store.leave_member(watch.endpoint()).await;
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                },
                () = sleep_until(*due) => {
                    self.list().await?;
                    *due = Instant::now() + self.full;
                }
            }
        }
    }

    /// Never back: a list may have been later than what the watch tells then.
    fn go_on(&mut self, next: i64) {
        self.next = self.next.max(Some(next));
        self.at.revision = self.at.revision.max(next - 1);
    }

    async fn change(&mut self, change: Change) -> Result<(), End> {
        let Some(key) = self.key(&change.key) else {
            return Ok(());
        };
        // What a list has told already, or what is older than that.
        if self.next.is_some_and(|next| change.revision < next) {
            return Ok(());
        }
        match change.value {
            Some(value) => self.put(key, value).await,
            None => self.delete(key).await,
        }
    }

    /// Compares all, and returns from where a watch goes on.
    async fn list(&mut self) -> Result<i64, End> {
        let listing = self.store.list(&self.prefix).await?;
        let mut there = BTreeSet::new();
        for entry in listing.entries {
            if let Some(key) = self.key(&entry.key) {
                there.insert(key.clone());
                self.put(key, entry.value).await?;
            }
        }
        let is_gone = |key: &&Key| !there.contains(*key);
        let gone: Vec<_> = self.known.keys().filter(is_gone).cloned().collect();
        for key in gone {
            self.delete(key).await?;
        }
        self.at = listing.at;
        let next = listing.at.revision + 1;
        self.next = Some(next);
        self.is_lost = false;
        self.tell(Event::Synced(listing.at.revision)).await?;
        Ok(next)
    }

    /// Audit is for people to read, and grows.
    fn key(&self, path: &[u8]) -> Option<Key> {
        key_of(path, &self.prefix).filter(|key| !matches!(key, Key::Audit { .. }))
    }

    async fn put(&mut self, key: Key, value: Bytes) -> Result<(), End> {
        let hash = taltun_crypto::hash(&[&value]);
        if self.known.get(&key) == Some(&hash) {
            return Ok(());
        }
        self.known.insert(key.clone(), hash);
        let event = if value.len() > key.limit() {
            Event::TooLong(key, value.len())
        } else {
            Event::Put(key, value)
        };
        self.tell(event).await
    }

    async fn delete(&mut self, key: Key) -> Result<(), End> {
        match self.known.remove(&key) {
            Some(_) => self.tell(Event::Deleted(key)).await,
            None => Ok(()),
        }
    }

    async fn tell(&self, event: Event) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Unheard)
    }
}
