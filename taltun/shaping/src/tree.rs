//! The classes of one direction, one for each peer, and the uplink that they share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::Rate;
use crate::codel::{Delays, FULL_PACKET};
use crate::flows::{Flows, Taken};
use crate::list::{Linked, List, NONE};
use crate::pacer::Pacer;
use crate::pool::{BLOCK, Pool};
use crate::queued::Queued;

/// Bytes that a class may send each time that it is its turn.
const QUANTUM: i64 = FULL_PACKET as i64;
/// How much a class may keep waiting: what it sends in this time, nanoseconds, in these bounds.
const MOST_QUEUED: u64 = 250_000_000;
const LEAST_BYTES: u64 = 64 << 10;
const MOST_BYTES: u64 = 8 << 20;

/// The classes of one direction.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    uplink: Pacer,
    classes: Vec<Class>,
    by_key: HashMap<u32, u32>,
    /// Places of classes that are gone.
    unused: Vec<u32>,
    new: List,
    old: List,
    /// Classes with packets whose rate lets none go yet, by when it does.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
}

#[derive(Debug)]
struct Class {
    key: u32,
    pacer: Pacer,
    delays: Delays,
    /// Blocks of memory that it may take.
    most: usize,
    flows: Flows,
    /// Packets that were dropped.
    dropped: u64,
    deficit: i64,
    /// Whether it is in a list or waits.
    busy: bool,
    /// It is no more, once it is empty.
    leaving: bool,
    next: u32,
}

impl Linked for Class {
    fn next(&self) -> u32 {
        self.next
    }

    fn set_next(&mut self, next: u32) {
        self.next = next;
    }
}

impl Class {
    fn new(key: u32) -> Self {
        Self {
            key,
            pacer: Pacer::default(),
            delays: Delays::new(0),
            most: 0,
            flows: Flows::default(),
            dropped: 0,
            deficit: 0,
            busy: false,
            leaving: false,
            next: NONE,
        }
    }

    fn set_rate(&mut self, now: u64, rate: Option<Rate>, uplink: Option<Rate>) {
        self.pacer.set_rate(rate, now, FULL_PACKET);
        let slowest = match (rate, uplink) {
            (Some(rate), Some(uplink)) => Some(rate.min(uplink)),
            (rate, uplink) => rate.or(uplink),
        };
        self.delays = Delays::new(slowest.map_or(0, |rate| rate.nanos(FULL_PACKET)));
        let most = slowest.map_or(MOST_BYTES, |rate| rate.bytes_in(MOST_QUEUED));
        self.most = most.clamp(LEAST_BYTES, MOST_BYTES) as usize / BLOCK;
    }
}

/// The class of a packet that there is room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted(u32);

impl Tree {
    /// Goes on with these classes and this rate of all of them. What waits in classes that are
    /// gone leaves at once.
    pub(crate) fn set(
        &mut self,
        now: u64,
        uplink: Option<Rate>,
        classes: impl Iterator<Item = (u32, Option<Rate>)>,
    ) {
        self.uplink.set_rate(uplink, now, FULL_PACKET);
        for class in &mut self.classes {
            class.leaving = true;
        }
        for (key, rate) in classes {
            let number = self.number_of(key);
            if let Some(class) = self.classes.get_mut(number as usize) {
                class.leaving = false;
                class.set_rate(now, rate, uplink);
            }
        }
        for class in &mut self.classes {
            if class.leaving {
                class.pacer.set_rate(None, now, FULL_PACKET);
            }
        }
        // By their new rates they may go earlier, or wait longer.
        let waiting = std::mem::take(&mut self.waiting);
        for Reverse((_, number)) in waiting {
            self.old.push(&mut self.classes, number);
        }
        self.waiting.reserve(self.classes.len());
        self.forget();
    }

    /// The place of a class, which may be a new one.
    fn number_of(&mut self, key: u32) -> u32 {
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let class = Class::new(key);
        let number = if let Some(number) = self.unused.pop() {
            if let Some(place) = self.classes.get_mut(number as usize) {
                *place = class;
            }
            number
        } else {
            self.classes.push(class);
            self.classes.len().saturating_sub(1) as u32
        };
        self.by_key.insert(key, number);
        number
    }

    /// Forgets classes that are gone and have nothing waiting.
    fn forget(&mut self) {
        for (number, class) in (0..).zip(&mut self.classes) {
            if class.leaving && !class.busy && self.by_key.get(&class.key) == Some(&number) {
                self.by_key.remove(&class.key);
                self.unused.push(number);
                class.flows = Flows::none();
            }
        }
        if self.by_key.is_empty() {
            *self = Self {
                uplink: self.uplink,
                ..Self::default()
            };
        }
    }

    /// Whether there is any class.
    pub(crate) fn is_unused(&self) -> bool {
        self.by_key.is_empty()
    }

    /// What waits in a class, and what it lost.
    pub(crate) fn queued(&self, key: u32) -> Option<Queued> {
        let number = *self.by_key.get(&key)?;
        let class = self.classes.get(number as usize)?;
        let (packets, bytes) = class.flows.waiting();
        Some(Queued {
            packets,
            bytes,
            dropped: class.dropped,
        })
    }

    /// A packet of a class had no room.
    pub(crate) fn count_dropped(&mut self, key: u32) {
        let number = self.by_key.get(&key);
        let class = number.and_then(|number| self.classes.get_mut(*number as usize));
        if let Some(class) = class {
            class.dropped = class.dropped.saturating_add(1);
        }
    }

    /// Makes room for a packet that takes so many blocks, if there is a class for it, and counts
    /// what is dropped for that.
    pub(crate) fn admit<T: Copy + Default>(
        &mut self,
        key: u32,
        blocks: usize,
        pool: &mut Pool<T>,
        dropped: &mut u64,
    ) -> Option<Admitted> {
        let number = *self.by_key.get(&key)?;
        let class = self.classes.get_mut(number as usize)?;
        loop {
            let after = class.flows.blocks().saturating_add(blocks);
            // As much as is free besides: the fuller the memory is, the less each may have.
            if after <= class.most && after <= pool.free() {
                return Some(Admitted(number));
            }
            if !class.flows.drop_one(pool) {
                return None;
            }
            *dropped = dropped.saturating_add(1);
            class.dropped = class.dropped.saturating_add(1);
        }
    }

    /// Adds a packet that was admitted.
    pub(crate) fn push<T: Copy + Default>(
        &mut self,
        now: u64,
        Admitted(number): Admitted,
        hash: u64,
        packet: u32,
        pool: &mut Pool<T>,
    ) {
        let Some(class) = self.classes.get_mut(number as usize) else {
            return;
        };
        class.flows.push(hash, packet, pool);
        if class.busy {
            return;
        }
        class.busy = true;
        class.deficit = QUANTUM;
        class.pacer.resume(now);
        let next = class.pacer.next();
        if next > now {
            self.waiting.push(Reverse((next, number)));
        } else {
            if self.new.head().is_none() && self.old.head().is_none() {
                self.uplink.resume(now);
            }
            self.new.push(&mut self.classes, number);
        }
    }

    /// Takes the next packet that may go now, and counts those that were dropped before it.
    pub(crate) fn take<T: Copy + Default>(
        &mut self,
        now: u64,
        pool: &mut Pool<T>,
        dropped: &mut u64,
    ) -> Option<Taken> {
        self.wake(now);
        if self.uplink.next() > now {
            return None;
        }
        loop {
            let is_new = self.new.head().is_some();
            let number = self.new.head().or(self.old.head())?;
            let class = self.classes.get_mut(number as usize)?;
            let next = class.pacer.next();
            if next > now && !class.flows.is_empty() {
                self.unlist(is_new);
                self.waiting.push(Reverse((next, number)));
                continue;
            }
            if class.deficit <= 0 {
                class.deficit = class.deficit.saturating_add(QUANTUM);
                self.rotate(is_new);
                continue;
            }
            let before = *dropped;
            let taken = class.flows.take(now, &class.delays, pool, dropped);
            let lost = dropped.saturating_sub(before);
            class.dropped = class.dropped.saturating_add(lost);
            let Some(taken) = taken else {
                if is_new && self.old.head().is_some() {
                    // Or it could come first each time.
                    self.rotate(is_new);
                } else {
                    class.busy = false;
                    let leaving = class.leaving;
                    self.unlist(is_new);
                    if leaving {
                        self.forget();
                    }
                }
                continue;
            };
            let (len, cost) = pool.get(taken.packet).map(|it| (it.len, it.cost))?;
            class.deficit = class.deficit.saturating_sub(len.into());
            class.pacer.spend(now, len);
            self.uplink.spend(now, cost);
            return Some(taken);
        }
    }

    /// Something took more of the uplink than it was thought to.
    pub(crate) fn spend_uplink(&mut self, now: u64, bytes: u32) {
        self.uplink.spend(now, bytes);
    }

    /// When to take again; `None` where nothing waits.
    pub(crate) fn next(&self) -> Option<u64> {
        let listed = self.new.head().is_some() || self.old.head().is_some();
        let next = match self.waiting.peek() {
            _ if listed => Some(0),
            Some(Reverse((next, _))) => Some(*next),
            None => None,
        };
        next.map(|next| next.max(self.uplink.next()))
    }

    /// Lists the classes whose rate lets them go on.
    fn wake(&mut self, now: u64) {
        while let Some(Reverse((next, number))) = self.waiting.peek().copied()
            && next <= now
        {
            self.waiting.pop();
            if self.new.head().is_none() && self.old.head().is_none() {
                self.uplink.resume(now);
            }
            self.old.push(&mut self.classes, number);
        }
    }

    fn unlist(&mut self, is_new: bool) -> Option<u32> {
        let list = if is_new { &mut self.new } else { &mut self.old };
        list.pop(&self.classes)
    }

    /// Puts the first class of a list behind the old ones.
    fn rotate(&mut self, is_new: bool) {
        if let Some(number) = self.unlist(is_new) {
            self.old.push(&mut self.classes, number);
        }
    }
}
