//! What a mirror told, put together, and records to put into the store.

use std::collections::BTreeMap;
use std::time::Duration;

use taltun_crypto::PublicKey;
use taltun_crypto::signing::SigningKey;
use taltun_fleet::etcd::{Error, Store};
use taltun_fleet::key::prefix;
use taltun_fleet::record::{Extra, Limits, Peer};
use taltun_fleet::{Event, Key, Label, Ledger, Mirror, Signed, Trust};
use tokio::time::timeout;

/// The network of all tests.
pub fn network() -> Label {
    "example".parse().unwrap()
}

/// Where a key is.
pub fn path(key: &Key) -> String {
    format!("{}{key}", prefix(&network()))
}

/// The key of a test's value.
pub fn name(text: &str) -> Key {
    Key::Name(text.parse().unwrap())
}

/// The admin of all tests.
pub fn admin() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

/// Whom hubs believe.
pub fn trust() -> Trust {
    Trust::new(network(), admin().verifying_key())
}

/// A peer with a number, and its public key.
pub fn peer(number: u16) -> (PublicKey, Peer) {
    let mut key = [0x55; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    let [high, low] = number.to_be_bytes();
    let peer = Peer {
        name: format!("peer-{number}").parse().unwrap(),
        vips: vec![[10, 9, high, low].into()],
        networks: Vec::new(),
        limits: Limits::default(),
        extra: Extra::new(),
    };
    (PublicKey(key), peer)
}

/// The same, signed.
pub fn signed(number: u16, generation: u64) -> (Key, Signed) {
    let (public_key, peer) = peer(number);
    let key = Key::Peer(public_key);
    let signed = Signed::new(&admin(), &network(), &key, generation, &peer);
    (key, signed)
}

/// A mirror and what it told so far.
pub struct Seen {
    mirror: Mirror,
    /// What it asks.
    pub store: Store,
    /// The values.
    pub values: BTreeMap<Key, Vec<u8>>,
    /// How often a key was told as deleted.
    pub deleted: usize,
    /// Why the store was told as lost.
    pub lost: Vec<Error>,
    /// How often it was told as synced.
    pub synced: usize,
    /// What a hub makes of it.
    pub ledger: Ledger,
}

impl Seen {
    /// A mirror that compares all each `full`.
    pub fn start(store: Store, full: Duration) -> Self {
        Self {
            mirror: Mirror::start(store.clone(), &network(), full),
            store,
            values: BTreeMap::new(),
            deleted: 0,
            lost: Vec::new(),
            synced: 0,
            ledger: Ledger::new(trust()),
        }
    }

    /// Listens until it is so, for 90 s at the most.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let listen = async {
            while !is_so(self) {
                self.hear().await;
            }
        };
        let heard = timeout(Duration::from_secs(90), listen).await;
        assert!(heard.is_ok(), "never: {what}; lost: {:?}", self.lost);
    }

    /// Listens for a while.
    pub async fn during(&mut self, time: Duration) {
        let _ = timeout(time, async {
            loop {
                self.hear().await;
            }
        })
        .await;
    }

    async fn hear(&mut self) {
        match self.mirror.next().await.unwrap() {
            Event::Put(key, value) => {
                if key.is_signed() {
                    self.ledger.offer(&key, &value);
                }
                self.values.insert(key, value.to_vec());
            }
            Event::Deleted(key) => {
                assert!(self.values.remove(&key).is_some(), "{key} wasn't there");
                self.deleted += 1;
            }
            Event::TooLong(key, _) => {
                self.values.remove(&key);
            }
            Event::Synced(_) => self.synced += 1,
            Event::Lost(error) => self.lost.push(error),
        }
    }

    /// Whether a name has this value.
    pub fn has(&self, text: &str, value: &str) -> bool {
        let found = self.values.get(&name(text));
        found.is_some_and(|found| found == value.as_bytes())
    }
}
