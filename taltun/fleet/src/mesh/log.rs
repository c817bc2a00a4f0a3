//! What a hub has to tell the others: which peers made a handshake with it, in the order of that.
//!
//! Each peer is in the log once, at its newest place, so that the log is as long as there are peers.
//! Each other hub says how far it has the log, and gets what is after that: at once when it is new,
//! and again while it doesn't say that it came.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use taltun_crypto::PublicKey;

/// A place in a hub's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Which log: a hub that starts again has another one.
    pub log: u64,
    /// The last entry; 0 before the first.
    pub entry: u64,
}

/// The log of this hub.
#[derive(Debug)]
pub struct Log {
    number: u64,
    last: u64,
    entries: BTreeMap<u64, PublicKey>,
    places: HashMap<PublicKey, u64>,
}

impl Log {
    /// An empty one. No other log of this hub has this number.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            last: 0,
            entries: BTreeMap::new(),
            places: HashMap::new(),
        }
    }

    /// A peer made a handshake with this hub.
    pub fn push(&mut self, peer: PublicKey) {
        self.last += 1;
        self.entries.insert(self.last, peer);
        if let Some(before) = self.places.insert(peer, self.last) {
            self.entries.remove(&before);
        }
    }

    /// Whether a peer is in it.
    pub fn contains(&self, peer: &PublicKey) -> bool {
        self.places.contains_key(peer)
    }

    /// A peer is at home elsewhere, or none any more.
    pub fn forget(&mut self, peer: &PublicKey) {
        if let Some(place) = self.places.remove(peer) {
            self.entries.remove(&place);
        }
    }

    /// How far it goes.
    pub fn end(&self) -> Place {
        Place {
            log: self.number,
            entry: self.last,
        }
    }

    /// After which entry somebody has to be told, who has it as far as `has`. It may have heard that
    /// of an earlier log of this hub.
    pub fn after(&self, has: Place) -> u64 {
        if has.log == self.number {
            has.entry.min(self.last)
        } else {
            0
        }
    }

    /// At most so many peers after an entry, and the last entry that these cover.
    pub fn part(&self, after: u64, most: usize) -> (Vec<PublicKey>, u64) {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let mut rest = self.entries.range(range);
        let mut last = after;
        let mut peers = Vec::new();
        for (entry, peer) in rest.by_ref().take(most) {
            peers.push(*peer);
            last = *entry;
        }
        // What was forgotten at the end is nothing to wait for.
        let until = if rest.next().is_some() {
            last
        } else {
            self.last
        };
        (peers, until.max(after))
    }
}

/// How far this hub has another one's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard(Place);

impl Heard {
    /// What to tell the other hub.
    pub fn place(&self) -> Place {
        self.0
    }

    /// A part of its log has come. What was lost before it will come again.
    pub fn hear(&mut self, after: u64, until: Place) {
        if self.0.log != until.log {
            self.0 = Place {
                log: until.log,
                entry: 0,
            };
        }
        if after <= self.0.entry {
            self.0.entry = self.0.entry.max(until.entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    #[test]
    fn a_peer_is_in_it_once_at_its_newest_place() {
        let mut log = Log::new(9);
        for number in [1, 2, 3, 2, 1] {
            log.push(peer(number));
        }
        assert_eq!(log.end(), Place { log: 9, entry: 5 });
        assert_eq!(log.part(0, 10), (vec![peer(3), peer(2), peer(1)], 5));
        assert_eq!(log.part(0, 2), (vec![peer(3), peer(2)], 4));
        assert_eq!(log.part(4, 2), (vec![peer(1)], 5));
        log.forget(&peer(1));
        assert_eq!(log.part(4, 2), (vec![], 5));
        assert_eq!(log.part(5, 2), (vec![], 5));
    }

    #[test]
    fn all_comes_in_the_end_whatever_is_lost() {
        let mut log = Log::new(1);
        for number in 0..100 {
            log.push(peer(number));
        }
        let mut heard = Heard::default();
        let mut known = std::collections::BTreeSet::new();
        let mut rounds = 0;
        while log.after(heard.place()) < log.end().entry {
            let mut after = log.after(heard.place());
            // Each second one of a round is lost.
            for part in 0.. {
                let (peers, until) = log.part(after, 7);
                if peers.is_empty() {
                    break;
                }
                if (part + rounds) % 2 == 0 {
                    known.extend(peers.iter().map(|peer| peer.0[0]));
                    heard.hear(
                        after,
                        Place {
                            log: 1,
                            entry: until,
                        },
                    );
                }
                after = until;
            }
            rounds += 1;
        }
        assert_eq!(known.len(), 100);
        // Of a log of an earlier start nothing is known.
        assert_eq!(Log::new(2).after(heard.place()), 0);
        heard.hear(3, Place { log: 2, entry: 5 });
        assert_eq!(heard.place(), Place { log: 2, entry: 0 });
    }
}
