//! At which hub each peer is at home: the one with the newest handshake that the peer itself made.
//!
//! The time is the peer's (TAI64N), authenticated by its handshake, and only goes forward. So the
//! hubs' clocks don't matter, the order in which hubs hear of it doesn't either, and two sides of a
//! split agree as soon as they hear of each other. Here is no clock and no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use taltun_crypto::PublicKey;

use crate::hex;
use crate::key::SHARDS;
use crate::label::Label;
use crate::record::{self, HomeEntry};

/// Where a peer is at home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home {
    /// The TAI64N of its newest handshake. First, because it decides.
    pub at: [u8; 12],
    /// The hub that it was made with. Decides where one handshake was made with two hubs.
    pub hub: Label,
}

/// How far ahead of a hub's clock a handshake may be that it hears of.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 3600);
/// Seconds of TAI64 when Unix time was zero.
const TAI64_AT_1970: u64 = (1 << 62) + 10;
/// 2025: a clock that says less isn't set.
const CLOCK_IS_SET: Duration = Duration::from_secs(1_735_689_600);

/// Whether a handshake can have been at that time, by this hub's clock (since 1970). What is said of homes isn't signed:
/// who says a time that never comes would keep the peer from all hubs for ever, as handshakes before it would count
/// as replayed. A clock that isn't set judges nothing.
pub fn is_believable(at: &[u8; 12], now: Duration) -> bool {
    let seconds = at
        .first_chunk()
        .map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
    let latest = now.saturating_add(MOST_AHEAD).as_secs();
    now < CLOCK_IS_SET || seconds <= TAI64_AT_1970.saturating_add(latest)
}

/// What became of what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Older than what is known, or the same.
    Nothing,
    /// A newer handshake with the hub where the peer is.
    Stayed,
    /// The peer is at another hub now, or was nowhere.
    Moved,
}

/// The homes of all peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Homes {
    /// By shard: each is written and compared by itself.
    homes: BTreeMap<(u8, PublicKey), Home>,
    /// Shards of which the store doesn't have what is known here.
    unwritten: BTreeSet<u8>,
}

/// In which shard a peer is. Keys are random, so that their first byte divides them evenly.
pub fn shard_of(peer: &PublicKey) -> u8 {
    peer.0[0] % SHARDS
}

impl Homes {
    /// Learns of a handshake: here, or from another hub.
    pub fn learn(&mut self, peer: PublicKey, home: Home) -> Heard {
        let heard = self.merge(peer, home);
        // A peer makes a handshake each two minutes; only where it went is worth a write.
        if heard == Heard::Moved {
            self.unwritten.insert(shard_of(&peer));
        }
        heard
    }

    fn merge(&mut self, peer: PublicKey, home: Home) -> Heard {
        let known = self.get(&peer);
        if known.is_some_and(|known| *known >= home) {
            return Heard::Nothing;
        }
        let stayed = known.is_some_and(|known| known.hub == home.hub);
        self.homes.insert(place(&peer), home);
        if stayed { Heard::Stayed } else { Heard::Moved }
    }

    /// Takes what the store has of a shard. What `is_believed` refuses is left out: peers that the network doesn't have,
    /// so that memory has no more than its peers, and [times](is_believable) that can't be. Returns who moved.
    pub fn read(
        &mut self,
        shard: u8,
        stored: &record::Homes,
        is_believed: impl Fn(&PublicKey, &[u8; 12]) -> bool,
    ) -> Vec<PublicKey> {
        let mut moved = Vec::new();
        for (peer, entry) in &stored.peers {
            let Some(peer) = hex::decode(peer).map(PublicKey) else {
                continue;
            };
            if shard_of(&peer) != shard || !is_believed(&peer, &entry.at) {
                continue;
            }
            let home = Home {
                at: entry.at,
                hub: entry.hub.clone(),
            };
            if self.merge(peer, home) == Heard::Moved {
                moved.push(peer);
            }
        }
        if self.differs(shard, stored) {
            self.unwritten.insert(shard);
        } else {
            self.unwritten.remove(&shard);
        }
        moved
    }

    /// Whether the store says of a peer of this shard that it is elsewhere, or nothing.
    fn differs(&self, shard: u8, stored: &record::Homes) -> bool {
        self.of_shard(shard).any(|(peer, home)| {
            let entry = stored.peers.get(&hex::encode(&peer.0));
            entry.is_none_or(|entry| entry.hub != home.hub)
        })
    }

    fn of_shard(&self, shard: u8) -> impl Iterator<Item = (&PublicKey, &Home)> {
        let [first, last] = [[0; 32], [u8::MAX; 32]].map(|key| (shard, PublicKey(key)));
        let homes = self.homes.range(first..=last);
        homes.map(|((_, peer), home)| (peer, home))
    }

    /// What is to be written of a shard.
    pub fn shard(&self, shard: u8) -> record::Homes {
        let entry = |(peer, home): (&PublicKey, &Home)| {
            let entry = HomeEntry {
                hub: home.hub.clone(),
                at: home.at,
            };
            (hex::encode(&peer.0), entry)
        };
        record::Homes {
            peers: self.of_shard(shard).map(entry).collect(),
        }
    }

    /// The next shard that the store ought to get, after `last`, so that each has its turn.
    pub fn unwritten(&self, last: Option<u8>) -> Option<u8> {
        let after = last.and_then(|last| self.unwritten.range(last + 1..).next());
        after.or_else(|| self.unwritten.first()).copied()
    }

    /// Leaves a shard as the store has it, until somebody moves again: a hub of a newer version
    /// wrote it, and this one would take away what it can't read.
    pub fn leave(&mut self, shard: u8) {
        self.unwritten.remove(&shard);
    }

    /// Where a peer is at home.
    pub fn get(&self, peer: &PublicKey) -> Option<&Home> {
        self.homes.get(&place(peer))
    }

    /// Forgets a peer that was removed.
    pub fn forget(&mut self, peer: &PublicKey) {
        self.homes.remove(&place(peer));
    }

    /// All homes.
    pub fn all(&self) -> impl Iterator<Item = (&PublicKey, &Home)> {
        self.homes.iter().map(|((_, peer), home)| (peer, home))
    }
}

/// Where the home of a peer is kept.
fn place(peer: &PublicKey) -> (u8, PublicKey) {
    (shard_of(peer), *peer)
}
