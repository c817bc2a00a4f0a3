//! The way from the controller to the fleet's thread, and what goes over it.

#![cfg_attr(
    not(feature = "fleet"),
    allow(dead_code, reason = "there is no thread at its end")
)]

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{FleetPeer, FleetPeers, RangedEndpoint};
use crate::control::request::{FleetHubRemove, FleetKeyRotate};
use crate::control::response::{Done, Reply};
use crate::crypto::{PrivateKey, PublicKey};
use crate::layer::Layer;
use crate::report::{FleetStatus, UnixTime};

/// A ban that all hubs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) struct FleetBan {
    /// The network.
    pub net: IpNet,
    /// Where it is.
    pub layer: Layer,
    /// Until when, in seconds since 1970.
    pub until: u64,
}

/// Another hub of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct FleetHub {
    /// What it is called.
    pub name: String,
    /// Who it is among hubs.
    pub public_key: PublicKey,
    /// What its peers know it by: the key of its group, if it is in one.
    pub answers_as: PublicKey,
    /// Its group.
    pub group: Option<String>,
    /// The address that it shares with others.
    pub shared: Option<IpAddr>,
    /// Where it is reached.
    pub endpoints: Vec<RangedEndpoint>,
    /// Its addresses in the tunnel.
    pub vips: Vec<IpAddr>,
}

/// A change of one peer: `None` where it isn't there.
#[derive(Debug, Clone)]
pub(in crate::control) struct FleetEdit {
    /// How it was.
    pub before: Option<FleetPeer>,
    /// How it is to be.
    pub after: Option<FleetPeer>,
}

/// Why a change wasn't made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum NotEdited {
    /// Another hub was faster: it may be tried again with what this hub knows by then.
    Taken(String),
    /// What is wrong and what would help.
    Because(String),
}

/// Where it goes what became of a change of the hubs.
pub(super) type Answer = Reply<Done>;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Told {
    /// Change a peer everywhere. The answer is all peers after it.
    Edit(
        Box<FleetEdit>,
        oneshot::Sender<Result<FleetPeers, NotEdited>>,
    ),
    /// Have another key be the admin's.
    Rotate(FleetKeyRotate, Answer),
    /// Remove a hub.
    RemoveHub(FleetHubRemove, Answer),
    /// Ban these for so many seconds, or lift their bans.
    Ban(Vec<IpNet>, Layer, Option<u64>),
    /// This hub's own key is another one.
    Own(PrivateKey),
    /// Save what is known and leave.
    End(oneshot::Sender<()>),
}

/// How long the end of a tunnel waits for the thread's.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What the thread lets others see.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub status: FleetStatus,
    /// Addresses in the tunnel that are other hubs'.
    pub hubs: Vec<IpAddr>,
    /// Whether this hub has joined, and nothing keeps the others from believing it.
    pub believed: bool,
}

/// The way to the thread. Clones lead to the same one.
#[derive(Debug, Clone)]
pub(in crate::control) struct Link {
    pub(super) told: mpsc::UnboundedSender<Told>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) peers: watch::Receiver<FleetPeers>,
    pub(super) bans: watch::Receiver<Arc<Vec<FleetBan>>>,
    pub(super) hubs: watch::Receiver<Arc<Vec<FleetHub>>>,
    pub(super) key: watch::Receiver<Option<PrivateKey>>,
    /// Where peers are at home. The thread writes it to etcd and the disk, and reads it there.
    #[cfg(feature = "fleet")]
    pub(super) homes: super::SharedHomes,
}

/// Tells whether this hub is one of its fleet.
#[cfg(feature = "fleet")]
#[derive(Debug, Clone)]
pub(in crate::control) struct Standing(Arc<Mutex<Seen>>);

#[cfg(feature = "fleet")]
impl Standing {
    /// Whether it has joined, and nothing keeps the others from believing it.
    pub(in crate::control) fn is_believed(&self) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.believed
    }
}

impl Link {
    /// Whether this hub is one of the fleet, to be asked later.
    #[cfg(feature = "fleet")]
    pub(in crate::control) fn standing(&self) -> Standing {
        Standing(Arc::clone(&self.seen))
    }

    /// What is known of the fleet, without the ways to the other hubs.
    pub(in crate::control) fn status(&self) -> FleetStatus {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        FleetStatus {
            version: crate::report::VERSION,
            timestamp: UnixTime::at(crate::dataplane::clock::wall()),
            ..seen.status.clone()
        }
    }

    /// Where peers are at home.
    #[cfg(feature = "fleet")]
    pub(in crate::control) fn homes(&self) -> &super::SharedHomes {
        &self.homes
    }

    /// Addresses in the tunnel that are other hubs'.
    pub(in crate::control) fn hubs(&self) -> Vec<IpAddr> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.hubs.clone()
    }

    /// Peers and bans from now on, as they become other ones.
    pub(in crate::control) fn news(&self) -> News {
        let (mut peers, mut bans) = (self.peers.clone(), self.bans.clone());
        let (mut hubs, mut key) = (self.hubs.clone(), self.key.clone());
        // What there is already is news as well.
        peers.mark_changed();
        bans.mark_changed();
        hubs.mark_changed();
        key.mark_changed();
        News {
            peers,
            bans,
            hubs,
            key,
            #[cfg(feature = "fleet")]
            homes: self.homes.read_elsewhere(),
        }
    }

    /// The peers that the fleet has now.
    pub(in crate::control) fn peers(&self) -> FleetPeers {
        Arc::clone(&self.peers.borrow())
    }

    /// Changes a peer everywhere. It waits for etcd, so it isn't for the controller.
    pub(in crate::control) fn edit(&self, edit: FleetEdit) -> Result<FleetPeers, NotEdited> {
        let (reply, answer) = oneshot::channel();
        let ended = || NotEdited::Because("the fleet's thread has ended".to_owned());
        self.told
            .send(Told::Edit(Box::new(edit), reply))
            .map_err(|_| ended())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Has another key be the admin's.
    pub(in crate::control) fn rotate(&self, asked: FleetKeyRotate, reply: Reply<Done>) {
        let _ = self.told.send(Told::Rotate(asked, reply));
    }

    /// Removes a hub.
    pub(in crate::control) fn remove_hub(&self, asked: FleetHubRemove, reply: Reply<Done>) {
        let _ = self.told.send(Told::RemoveHub(asked, reply));
    }

    /// Has all hubs ban these networks for so many seconds; `None` lifts what bans they have.
    pub(in crate::control) fn ban(&self, nets: Vec<IpNet>, layer: Layer, seconds: Option<u64>) {
        // Without the thread there is no fleet.
        let _ = self.told.send(Told::Ban(nets, layer, seconds));
    }

    /// Has the thread save what it knows and tell the others that this hub leaves.
    pub(in crate::control) async fn finish(&self) {
        let (reply, ended) = oneshot::channel();
        if self.told.send(Told::End(reply)).is_ok() {
            let _ = tokio::time::timeout(LAST_WAIT, ended).await;
        }
    }

    /// Tells the others that this hub has another key.
    pub(in crate::control) fn own_key(&self, key: PrivateKey) {
        let _ = self.told.send(Told::Own(key));
    }

    /// Whether all hubs have such a ban.
    pub(in crate::control) fn has_ban(&self, net: &IpNet, layer: Layer) -> bool {
        let bans = self.bans.borrow();
        bans.iter().any(|ban| ban.net == *net && ban.layer == layer)
    }
}

/// What the controller takes over.
#[derive(Debug)]
pub(in crate::control) struct News {
    peers: watch::Receiver<FleetPeers>,
    bans: watch::Receiver<Arc<Vec<FleetBan>>>,
    hubs: watch::Receiver<Arc<Vec<FleetHub>>>,
    key: watch::Receiver<Option<PrivateKey>>,
    /// Told whenever etcd or the disk says that peers are elsewhere.
    #[cfg(feature = "fleet")]
    homes: watch::Receiver<()>,
}

/// What became other than it was.
#[derive(Debug)]
pub(in crate::control) enum New {
    /// The peers of the fleet: see [`Link::peers`].
    Peers,
    /// All of its bans.
    Bans(Arc<Vec<FleetBan>>),
    /// All of its other hubs.
    Hubs(Arc<Vec<FleetHub>>),
    /// Where peers are at home, by what etcd says.
    Homes,
    /// The key of this hub's group, if it is in one and has it.
    Key(Option<PrivateKey>),
}

impl News {
    /// The next thing that changes; never, once the thread has ended.
    pub(in crate::control) async fn next(&mut self) -> New {
        #[cfg(feature = "fleet")]
        let homes = self.homes.changed();
        #[cfg(not(feature = "fleet"))]
        let homes = std::future::pending::<Result<(), ()>>();
        tokio::select! {
            Ok(()) = self.peers.changed() => New::Peers,
            Ok(()) = self.bans.changed() => New::Bans(Arc::clone(&self.bans.borrow_and_update())),
            Ok(()) = self.hubs.changed() => New::Hubs(Arc::clone(&self.hubs.borrow_and_update())),
            Ok(()) = self.key.changed() => New::Key(self.key.borrow_and_update().clone()),
            Ok(()) = homes => New::Homes,
            else => std::future::pending().await,
        }
    }
}
