//! Whose packets TC doesn't see, as they never reach the tunnel interface: those that go from peer to
//! peer, and those that a ban or a rule drops.
//!
//! Each thread that opens packets has a table of its own, which it locks once a batch; nobody else
//! wants the lock but whoever asks for `stats`. A table has a fixed size. An address has eight
//! places in it; where they are all taken, the one with the fewest packets makes room, and what it
//! had counts for all together that can't be told apart. So a peer that sends from millions of
//! addresses displaces its own, and not the sources that send much.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::relay_pairs::{Looking, Pairs, Relayed};
use crate::report::Source;

/// Places that an address may have.
const WAYS: usize = 8;
/// Groups of these: 4096 sources a thread, 200 KB.
const GROUPS: usize = 512;

/// The tables of all threads.
#[derive(Debug, Default)]
pub struct RelayedSources {
    tables: Mutex<Vec<Arc<Mutex<Table>>>>,
    /// Whether somebody wants to know who sends to whom.
    looking: Looking,
}

impl RelayedSources {
    /// A table that no thread has: one of a thread that is gone goes on.
    pub(super) fn table(&self) -> Arc<Mutex<Table>> {
        let mut tables = lock(&self.tables);
        let free = tables.iter().find(|table| Arc::strong_count(table) == 1);
        if let Some(free) = free {
            return Arc::clone(free);
        }
        let table = Arc::<Mutex<Table>>::default();
        tables.push(Arc::clone(&table));
        table
    }

    /// Whether pairs are to be counted.
    #[inline]
    pub(super) fn counts_pairs(&self) -> bool {
        self.looking.is_on()
    }

    /// What went from where to where since somebody began to look, that of several threads together.
    /// It is counted for a while from now on.
    pub fn look_at_pairs(&self) -> HashMap<(IpAddr, IpAddr), Relayed> {
        self.looking.look(Instant::now());
        let mut all: HashMap<(IpAddr, IpAddr), Relayed> = HashMap::new();
        for table in lock(&self.tables).iter() {
            for (ends, relayed) in lock(table).pairs.all() {
                all.entry(ends).or_default().take_in(relayed);
            }
        }
        all
    }

    /// A second is over: who doesn't look any more needs no pairs.
    pub fn tick(&self) {
        if self.looking.ends(Instant::now()) {
            for table in lock(&self.tables).iter() {
                lock(table).pairs.forget();
            }
        }
    }

    /// All sources, those of several threads once; the unspecified address for those that can't
    /// be told apart.
    pub fn read(&self) -> Vec<Source> {
        let mut all: HashMap<IpAddr, Entry> = HashMap::new();
        for table in lock(&self.tables).iter() {
            let table = lock(table);
            for entry in table.entries.iter().filter(|entry| entry.packets > 0) {
                all.entry(entry.address()).or_default().take_in(entry);
            }
            if table.others.packets > 0 {
                let unspecified = Ipv6Addr::UNSPECIFIED.into();
                all.entry(unspecified).or_default().take_in(&table.others);
            }
        }
        let all = all.into_iter();
        all.map(|(addr, entry)| Source {
            addr,
            packets: entry.packets,
            bytes: entry.bytes,
            // Those are TC's.
            drops: 0,
            reason: None,
        })
        .collect()
    }
}

/// What one thread counted.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Empty until the first packet.
    entries: Vec<Entry>,
    /// Where the last packet was counted: the next one is mostly of the same source.
    last: usize,
    /// Those that had to make room.
    others: Entry,
    /// Who sends to whom.
    pairs: Pairs,
}

/// A source.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Its address, one of IPv4 as it is mapped into those of IPv6.
    address: u128,
    packets: u64,
    bytes: u64,
}

impl Entry {
    fn address(&self) -> IpAddr {
        Ipv6Addr::from_bits(self.address).to_canonical()
    }

    fn count(&mut self, bytes: usize) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    fn take_in(&mut self, other: &Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Table {
    /// Counts a packet of so many bytes.
    #[inline]
    pub(super) fn add(&mut self, source: IpAddr, bytes: usize) {
        let address = bits(source);
        match self.entries.get_mut(self.last) {
            Some(last) if last.address == address && last.packets > 0 => last.count(bytes),
            _ => self.add_elsewhere(address, bytes),
        }
    }

    /// Counts a packet from one peer to another.
    pub(super) fn add_pair(&mut self, from: IpAddr, to: IpAddr, bytes: usize) {
        self.pairs.add(from, to, bytes);
    }

    fn add_elsewhere(&mut self, address: u128, bytes: usize) {
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); GROUPS.saturating_mul(WAYS)];
        }
        let first = group_of(address).saturating_mul(WAYS);
        let group = self.entries.iter_mut().enumerate().skip(first).take(WAYS);
        let mut fewest = None;
        for (at, entry) in group {
            if entry.address == address && entry.packets > 0 {
                entry.count(bytes);
                self.last = at;
                return;
            }
            let is_fewer = |(_, other): &(usize, u64)| entry.packets < *other;
            if fewest.as_ref().is_none_or(is_fewer) {
                fewest = Some((at, entry.packets));
            }
        }
        let Some((at, _)) = fewest else { return };
        if let Some(entry) = self.entries.get_mut(at) {
            self.others.take_in(entry);
            *entry = Entry {
                address,
                ..Entry::default()
            };
            entry.count(bytes);
            self.last = at;
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Which group an address has its places in. Whoever aims at one displaces what sends less there,
/// and nothing else.
fn group_of(address: u128) -> usize {
    let folded = (address as u64) ^ ((address >> 64) as u64).rotate_left(29);
    let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) as usize) % GROUPS
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + last).to_be_bytes())
    }

    fn of(sources: &[Source], address: IpAddr) -> (u64, u64) {
        let found = sources.iter().find(|source| source.addr == address);
        found.map_or((0, 0), |it| (it.packets, it.bytes))
    }

    #[test]
    fn sources_are_counted_and_those_of_several_threads_are_one() {
        let all = RelayedSources::default();
        let (one, other) = (all.table(), all.table());
        let v6: IpAddr = "fd00::7".parse().unwrap();
        lock(&one).add(v4(1), 100);
        lock(&one).add(v4(1), 100);
        lock(&one).add(v6, 7);
        lock(&other).add(v4(1), 50);
        let read = all.read();
        assert_eq!(read.len(), 2);
        assert_eq!(of(&read, v4(1)), (3, 250));
        assert_eq!(of(&read, v6), (1, 7));
        // A thread that takes the place of another goes on with what that counted.
        drop(one);
        lock(&all.table()).add(v4(1), 1);
        assert_eq!(of(&all.read(), v4(1)), (4, 251));
        assert_eq!(lock(&all.tables).len(), 2);
    }

    #[test]
    fn a_flood_of_sources_displaces_nobody_that_sends_much() {
        let all = RelayedSources::default();
        let table = all.table();
        let mut table = lock(&table);
        for heavy in 0..100 {
            for _ in 0..10 {
                table.add(v4(heavy), 10);
            }
        }
        for light in 0..1_000_000_u128 {
            table.add(Ipv6Addr::from_bits(light << 3 | 7 << 120).into(), 1);
        }
        drop(table);
        let read = all.read();
        assert!(read.len() <= GROUPS * WAYS + 1);
        for heavy in 0..100 {
            assert_eq!(of(&read, v4(heavy)), (10, 100), "{heavy}");
        }
        // Nothing is lost.
        let packets: u64 = read.iter().map(|source| source.packets).sum();
        assert_eq!(packets, 1_001_000);
        assert!(of(&read, Ipv6Addr::UNSPECIFIED.into()).0 > 990_000);
    }
}
