//! What etcd is still to get from this hub: records that it lost, and decisions about bans. One is
//! written at a time, and what failed is tried again once etcd answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use taltun_fleet::etcd::Error;
use taltun_fleet::key::prefix;
use taltun_fleet::record::{self, Ban};
use taltun_fleet::{Key, Signed, Store, Trust, edit};

/// How long it waits after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// A key with what it is to have.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A signed record.
    Signed(Signed),
    /// A ban, and for how many seconds it must be remembered.
    Ban(Ban, u64),
}

/// The keys that wait.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: BTreeSet<Key>,
    /// The one that is being written.
    under_way: Option<Key>,
    /// When to go on after a failure.
    not_before: Option<Instant>,
}

impl Writes {
    /// Has a key written.
    pub(super) fn add(&mut self, key: Key) {
        self.waiting.insert(key);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.under_way.is_some())
    }

    /// The next key to write, which is under way then; nothing while another one is.
    pub(super) fn next(&mut self, now: Instant) -> Option<Key> {
        let is_time = self.not_before.is_none_or(|then| then <= now);
        if self.under_way.is_some() || !is_time {
            return None;
        }
        self.under_way = self.waiting.pop_first();
        self.under_way.clone()
    }

    /// The one that was under way is written, or isn't.
    pub(super) fn done(&mut self, outcome: &Result<(), Error>, now: Instant) {
        let key = self.under_way.take();
        self.not_before = outcome.is_err().then(|| now + AGAIN);
        if outcome.is_err() {
            self.waiting.extend(key);
        }
    }
}

/// Writes a key.
pub(super) async fn write(
    store: &Store,
    trust: &Trust,
    key: &Key,
    value: &Value,
) -> Result<(), Error> {
    match value {
        Value::Signed(signed) => {
            // What is newer there will be heard of.
            edit::write_again(store, trust, key, signed).await?;
        }
        Value::Ban(ban, seconds) => {
            let seconds = u32::try_from(*seconds).unwrap_or(u32::MAX).max(1);
            let lease = store.grant(seconds).await?;
            let path = format!("{}{key}", prefix(&trust.network));
            store
                .put(&path, record::write(ban).as_bytes(), lease)
                .await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_waits_and_is_tried_again() {
        let (a, b) = (Key::Config, Key::Hub("madrid".parse().unwrap()));
        let mut writes = Writes::default();
        writes.add(a.clone());
        writes.add(b.clone());
        let now = Instant::now();
        assert_eq!(writes.next(now), Some(a.clone()));
        assert_eq!(writes.next(now), None);
        assert_eq!(writes.len(), 2);
        writes.done(&Err(Error::Compacted), now);
        assert_eq!(writes.next(now), None);
        assert_eq!(writes.next(now + AGAIN), Some(a));
        writes.done(&Ok(()), now);
        assert_eq!(writes.next(now), Some(b));
        writes.done(&Ok(()), now);
        assert_eq!((writes.next(now), writes.len()), (None, 0));
    }
}
