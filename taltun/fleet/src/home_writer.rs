//! Homes for the store: in batches, never one write a handshake, and so many a second at the most.
//!
//! Several hubs write the same shards. So each write replaces what was read just before, with what
//! was in it taken over; if another hub was faster, it is read again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taltun_crypto::PublicKey;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::backoff::{Backoff, random};
use crate::etcd::{Error, Store, Transaction};
use crate::homes::Homes;
use crate::key::{Key, prefix};
use crate::label::Label;
use crate::pace::Pace;
use crate::record::{self, Unreadable};

/// How often it looks whether there is anything to write.
const LOOK: Duration = Duration::from_millis(250);

/// The homes that the hub and the writer share.
pub type Shared = Arc<Mutex<Homes>>;

/// Whether a public key is a peer's of this network.
pub type IsBelieved = Box<dyn Fn(&PublicKey, &[u8; 12]) -> bool + Send + Sync>;

/// A writer that runs until it is dropped.
#[derive(Debug)]
pub struct HomeWriter(AbortHandle);

impl Drop for HomeWriter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HomeWriter {
    /// Writes what of `homes` the store doesn't have, at this pace.
    pub fn start(
        store: Store,
        network: &Label,
        homes: Shared,
        pace: Pace,
        is_believed: IsBelieved,
    ) -> Self {
        let writer = Writer {
            store,
            prefix: prefix(network),
            homes,
            pace,
            is_believed,
        };
        Self(tokio::spawn(writer.run()).abort_handle())
    }
}

struct Writer {
    store: Store,
    prefix: String,
    homes: Shared,
    pace: Pace,
    is_believed: IsBelieved,
}

impl Writer {
    async fn run(mut self) {
        let mut last = None;
        let mut backoff = Backoff::default();
        loop {
            let Some(shard) = self.with(|homes| homes.unwritten(last)) else {
                sleep(LOOK).await;
                continue;
            };
            if let Err(wait) = self.pace.take(std::time::Instant::now()) {
                sleep(wait).await;
                continue;
            }
            last = Some(shard);
            match self.write(shard).await {
                Ok(()) => backoff.reset(),
                Err(_) => sleep(backoff.next(random())).await,
            }
        }
    }

    /// Writes a shard, unless another hub wrote it meanwhile: then it has another turn.
    async fn write(&self, shard: u8) -> Result<(), Error> {
        let key = format!("{}{}", self.prefix, Key::Home(shard));
        let entry = self.store.get(&key).await?;
        let stored = match entry.as_ref().map(|entry| &entry.value) {
            Some(value) if value.len() <= Key::Home(shard).limit() => match record::read(value) {
                Err(Unreadable::Newer(_)) => {
                    self.with(|homes| homes.leave(shard));
                    return Ok(());
                }
                // One that is no record is replaced.
                read => read.unwrap_or_default(),
            },
            _ => record::Homes::default(),
        };
        let new = self.with(|homes| {
            homes.read(shard, &stored, |peer, at| (self.is_believed)(peer, at));
            homes.shard(shard)
        });
        let revision = entry.map_or(0, |entry| entry.revision);
        let replace = Transaction::new().replace(key, revision, record::write(&new));
        if self.store.apply(replace).await? {
            // What was learned meanwhile is still to be written.
            self.with(|homes| homes.read(shard, &new, |_, _| false));
        }
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Homes) -> T) -> T {
        act(&mut self.homes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
