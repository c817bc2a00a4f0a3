//! A key that is in the store for as long as this hub is: by a lease, which is kept, and granted
//! anew when it ended.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::backoff::{Backoff, random};
use crate::etcd::{Error, Store};

/// How often the value is written anew.
const ANEW: Duration = Duration::from_secs(30);

/// Makes the value, as it is now.
pub type Value = Box<dyn Fn() -> Vec<u8> + Send + Sync>;

/// A key that is kept until this is dropped; then it goes when its lease ends.
#[derive(Debug)]
pub struct Presence {
    lease: watch::Receiver<Option<i64>>,
    store: Store,
    task: AbortHandle,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Presence {
    /// Keeps `key` there by a lease of so many seconds.
    pub fn start(store: Store, key: String, value: Value, seconds: u32) -> Self {
        let (sender, lease) = watch::channel(None);
        let keeper = Keeper {
            store: store.clone(),
            key,
            value,
            seconds: seconds.max(3),
            lease: sender,
        };
        let task = tokio::spawn(keeper.run()).abort_handle();
        Self { lease, store, task }
    }

    /// Whether the store has the key by all that is known.
    pub fn is_there(&self) -> bool {
        self.lease.borrow().is_some()
    }

    /// Takes the key away now.
    pub async fn leave(self) -> Result<(), Error> {
        self.task.abort();
        let lease = *self.lease.borrow();
        match lease {
            Some(lease) => self.store.revoke(lease).await,
            None => Ok(()),
        }
    }
}

struct Keeper {
    store: Store,
    key: String,
    value: Value,
    seconds: u32,
    lease: watch::Sender<Option<i64>>,
}

impl Keeper {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            if let Ok(lease) = self.begin().await {
                backoff.reset();
                self.lease.send_replace(Some(lease));
                self.keep(lease).await;
                self.lease.send_replace(None);
            }
            sleep(backoff.next(random())).await;
        }
    }

    async fn begin(&self) -> Result<i64, Error> {
        let lease = self.store.grant(self.seconds).await?;
        self.store.put(&self.key, &(self.value)(), lease).await?;
        Ok(lease)
    }

    /// Until the lease is over, or nobody says for its whole time that it isn't.
    async fn keep(&self, lease: i64) {
        let whole = Duration::from_secs(self.seconds.into());
        let mut kept = Instant::now();
        let mut written = kept;
        let mut backoff = Backoff::default();
        let mut wait = whole / 3;
        loop {
            sleep(wait).await;
            let asked = Instant::now();
            match self.store.keep_alive(lease).await {
                Ok(true) => {
                    kept = asked;
                    backoff.reset();
                    wait = whole / 3;
                    if written.elapsed() >= ANEW {
                        written = asked;
                        // Whether it was done is seen when it is kept next.
                        let _ = self.store.put(&self.key, &(self.value)(), lease).await;
                    }
                }
                Ok(false) => return,
                Err(_) if kept.elapsed() > whole => return,
                Err(_) => wait = backoff.next(random()),
            }
        }
    }
}
