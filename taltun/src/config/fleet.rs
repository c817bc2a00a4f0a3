//! `[fleet]`: a hub that is one of several, and the peers that it has from the others.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::crypto::PublicKey;

/// `[fleet]`
#[derive(Debug, Clone)]
pub struct Fleet {
    /// What the fleet is called.
    pub name: String,
    /// What this hub is called in it.
    pub hub: String,
    /// The members of etcd.
    pub etcd: Vec<String>,
    /// Where the file is: the files that it names are relative to it.
    pub directory: PathBuf,
    /// Who signed their certificates.
    pub ca: Option<PathBuf>,
    /// This hub's certificate.
    pub cert: Option<PathBuf>,
    /// The key of that.
    pub key: Option<PathBuf>,
    /// Where this hub is reached.
    pub endpoints: Vec<String>,
    /// With which hubs it belongs together.
    pub group: Option<String>,
    /// An address of the host's network that the hubs of the group take over from each other.
    pub shared_address: Option<IpAddr>,
    /// The file as it was read: it is read again as it was when other peers come.
    pub text: Arc<Zeroizing<String>>,
}

impl Fleet {
    /// Where a file is that this one names.
    pub fn path_of(&self, file: &Path) -> PathBuf {
        self.directory.join(file)
    }
}

/// A peer that all hubs of the fleet have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPeer {
    /// What to call it.
    pub name: String,
    /// Who it is.
    pub public_key: PublicKey,
    /// Its addresses in the tunnel.
    pub vip: Vec<IpAddr>,
    /// Networks behind it.
    pub allowed_ips: Vec<IpNet>,
    /// Its last day, as `peers.expires`.
    pub expires: Option<String>,
    /// How much it may move, as `peers.quota`.
    pub quota: Option<String>,
    /// How fast it may send, as `peers.rate_up`.
    pub rate_up: Option<String>,
    /// How fast it may be sent to, as `peers.rate_down`.
    pub rate_down: Option<String>,
}

/// The peers of a fleet in one order. Clones have the same list.
pub type FleetPeers = Arc<Vec<FleetPeer>>;

/// The peers that are added to a file whenever it is read. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct AddedPeers(Arc<Mutex<Added>>);

#[derive(Debug, Default)]
struct Added {
    peers: FleetPeers,
    /// What is odd about them beside the file, a sentence each.
    odd: Vec<String>,
}

impl AddedPeers {
    /// Those that are added now.
    pub fn get(&self) -> FleetPeers {
        Arc::clone(&self.lock().peers)
    }

    /// From now on these are added.
    pub fn set(&self, peers: FleetPeers) {
        self.lock().peers = peers;
    }

    /// Which of them don't fit the file that was read last, a sentence each.
    pub fn odd(&self) -> Vec<String> {
        self.lock().odd.clone()
    }

    /// These don't fit it.
    pub fn set_odd(&self, odd: Vec<String>) {
        self.lock().odd = odd;
    }

    fn lock(&self) -> MutexGuard<'_, Added> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
