//! Where peers are at home: the controller learns it from handshakes and from other hubs, and the
//! fleet's thread has it in etcd and on the disk. Each holds the lock for as long as it takes to look
//! up or to copy.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use taltun_fleet::homes::is_believable;
use taltun_fleet::{Homes, Label, record};
use tokio::sync::watch;

use crate::crypto::PublicKey;
use crate::dataplane::clock;

/// What the controller and the thread share. Clones are the same.
#[derive(Debug, Clone)]
pub(in crate::control) struct SharedHomes {
    homes: Arc<Mutex<Homes>>,
    /// The peers of the fleet: of others nobody keeps a home.
    known: Arc<Mutex<HashSet<PublicKey>>>,
    /// What this hub is called.
    pub(in crate::control) own: Label,
    /// Whether the disk doesn't have all of it.
    unsaved: Arc<AtomicBool>,
    elsewhere: Arc<watch::Sender<()>>,
}

impl SharedHomes {
    pub(super) fn new(own: Label) -> Self {
        Self {
            homes: Arc::default(),
            known: Arc::default(),
            own,
            unsaved: Arc::default(),
            elsewhere: Arc::new(watch::Sender::new(())),
        }
    }

    /// Looks at them, or changes them.
    pub(in crate::control) fn with<T>(&self, act: impl FnOnce(&mut Homes) -> T) -> T {
        act(&mut self.homes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// They have changed: the disk is to get them.
    pub(in crate::control) fn changed(&self) {
        self.unsaved.store(true, Ordering::Relaxed);
    }

    /// Whether they have changed since this was last asked.
    pub(super) fn take_changed(&self) -> bool {
        self.unsaved.swap(false, Ordering::Relaxed)
    }

    /// The same ones, for who writes them to etcd.
    pub(super) fn inner(&self) -> Arc<Mutex<Homes>> {
        Arc::clone(&self.homes)
    }

    /// Begins with what was on the disk.
    pub(super) fn begin(&self, homes: Homes) {
        self.with(|known| *known = homes);
        self.elsewhere.send_replace(());
    }

    /// The fleet has these peers by now. Others have no home any more.
    pub(super) fn set_known(&self, peers: impl Iterator<Item = PublicKey>) {
        let peers: HashSet<PublicKey> = peers.collect();
        self.with(|homes| {
            let all = homes.all().map(|(peer, _)| *peer);
            let gone: Vec<PublicKey> = all.filter(|peer| !peers.contains(peer)).collect();
            for peer in gone {
                homes.forget(&peer);
            }
        });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    /// Whether the fleet has this peer.
    pub(super) fn is_known(&self, peer: &PublicKey) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(peer)
    }

    /// Takes what etcd has of a shard.
    pub(super) fn read(&self, shard: u8, stored: &record::Homes) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::wall();
        let is_believed =
            |peer: &PublicKey, at: &[u8; 12]| known.contains(peer) && is_believable(at, now);
        let moved = self.with(|homes| homes.read(shard, stored, is_believed));
        drop(known);
        if !moved.is_empty() {
            self.changed();
            self.elsewhere.send_replace(());
        }
    }

    /// Is told whenever etcd says that peers are elsewhere than was known.
    pub(super) fn read_elsewhere(&self) -> watch::Receiver<()> {
        let mut told = self.elsewhere.subscribe();
        told.mark_changed();
        told
    }
}
