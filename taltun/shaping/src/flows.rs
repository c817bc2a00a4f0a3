//! The queues of a class: one for each flow that has packets waiting, in turns by deficit round
//! robin, those that just began first.
//!
//! A flow finds its queue by its hash: one of the eight of a set, so that twenty flows hardly ever
//! share any. Where all eight are taken, the ninth takes all other flows of the set until it is
//! empty. So a flow never waits in two queues, and its packets keep their order.

use crate::codel::{Codel, Delays, FULL_PACKET, Fate};
use crate::list::{Linked, List, NONE};
use crate::pool::Pool;

/// Sets of queues, and queues of a set that flows have to themselves.
const SETS: usize = 8;
const WAYS: usize = 8;
const SET: usize = WAYS + 1;
/// Queues of a class.
const QUEUES: usize = SETS * SET;
/// Bytes that a flow may send each time that it is its turn.
const QUANTUM: i32 = FULL_PACKET.cast_signed();

/// The queues of a class.
#[derive(Debug)]
pub(crate) struct Flows {
    queues: Box<[Flow]>,
    new: List,
    old: List,
    /// Packets of all of them.
    packets: usize,
    /// The blocks of memory that those take.
    blocks: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    hash: u64,
    queue: List,
    next: u32,
    bytes: u32,
    deficit: i32,
    /// Whether it is in one of the lists.
    listed: bool,
    codel: Codel,
}

impl Linked for Flow {
    fn next(&self) -> u32 {
        self.next
    }

    fn set_next(&mut self, next: u32) {
        self.next = next;
    }
}

/// A packet that leaves its queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) packet: u32,
    pub(crate) marked: bool,
}

impl Default for Flows {
    fn default() -> Self {
        Self {
            queues: vec![Flow::default(); QUEUES].into_boxed_slice(),
            new: List::default(),
            old: List::default(),
            packets: 0,
            blocks: 0,
        }
    }
}

impl Flows {
    /// Of a class that is no more.
    pub(crate) fn none() -> Self {
        Self {
            queues: Box::default(),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// How many packets wait, and their bytes.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let bytes = self.queues.iter().map(|flow| u64::from(flow.bytes)).sum();
        (self.packets as u64, bytes)
    }

    /// The blocks of memory that all packets take.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Adds a packet to the queue of its flow.
    pub(crate) fn push<T: Copy + Default>(&mut self, hash: u64, packet: u32, pool: &mut Pool<T>) {
        let number = self.queue_of(hash);
        let Some(waiting) = pool.get(packet) else {
            return;
        };
        let len = waiting.len;
        let Some(flow) = self.queues.get_mut(number) else {
            return;
        };
        flow.hash = hash;
        flow.bytes = flow.bytes.saturating_add(len);
        pool.push(&mut flow.queue, packet);
        self.packets = self.packets.saturating_add(1);
        self.blocks = self.blocks.saturating_add(Pool::<T>::blocks(len as usize));
        if !flow.listed {
            flow.listed = true;
            flow.deficit = QUANTUM;
            self.new.push(&mut self.queues, number as u32);
        }
    }

    /// Which queue a flow takes.
    fn queue_of(&self, hash: u64) -> usize {
        let first = (hash as usize % SETS).saturating_mul(SET);
        let set = self.queues.get(first..first.saturating_add(SET));
        let set = set.unwrap_or_default();
        let Some((rest, own)) = set.split_last() else {
            return first;
        };
        let place = |place: usize| first.saturating_add(place);
        if let Some(at) = own.iter().position(|flow| flow.hash == hash) {
            return place(at);
        }
        let free = own.iter().position(|flow| !flow.listed);
        match free {
            Some(at) if rest.bytes == 0 => place(at),
            _ => place(WAYS),
        }
    }

    /// Takes the next packet out, and releases those before it that are dropped, which it counts.
    pub(crate) fn take<T: Copy + Default>(
        &mut self,
        now: u64,
        delays: &Delays,
        pool: &mut Pool<T>,
        dropped: &mut u64,
    ) -> Option<Taken> {
        loop {
            let is_new = self.new.head().is_some();
            let number = self.new.head().or(self.old.head())?;
            let flow = self.queues.get_mut(number as usize)?;
            if flow.deficit <= 0 {
                flow.deficit = flow.deficit.saturating_add(QUANTUM);
                self.rotate(is_new);
                continue;
            }
            let Some(packet) = pool.pop(&mut flow.queue) else {
                flow.codel.empty();
                if is_new && self.old.head().is_some() {
                    // Or it could come first each time.
                    self.rotate(is_new);
                } else {
                    flow.listed = false;
                    self.unlist(is_new);
                }
                continue;
            };
            let waiting = pool.get(packet)?;
            let waited = now.saturating_sub(waiting.since);
            flow.bytes = flow.bytes.saturating_sub(waiting.len);
            let (len, capable) = (waiting.len, waiting.capable);
            let fate = flow.codel.judge(now, waited, flow.bytes, capable, delays);
            self.packets = self.packets.saturating_sub(1);
            self.blocks = self.blocks.saturating_sub(Pool::<T>::blocks(len as usize));
            if fate == Fate::Drop {
                pool.release(packet);
                *dropped = dropped.saturating_add(1);
                continue;
            }
            flow.deficit = flow.deficit.saturating_sub_unsigned(len);
            let marked = fate == Fate::Mark;
            return Some(Taken { packet, marked });
        }
    }

    /// Drops the first packet of the fullest queue; false where there is none.
    pub(crate) fn drop_one<T: Copy + Default>(&mut self, pool: &mut Pool<T>) -> bool {
        let Some(flow) = self.queues.iter_mut().max_by_key(|flow| flow.bytes) else {
            return false;
        };
        let Some(packet) = pool.pop(&mut flow.queue) else {
            return false;
        };
        let len = pool.get(packet).map_or(0, |waiting| waiting.len);
        flow.bytes = flow.bytes.saturating_sub(len);
        self.packets = self.packets.saturating_sub(1);
        let blocks = pool.release(packet);
        self.blocks = self.blocks.saturating_sub(blocks);
        true
    }

    fn unlist(&mut self, is_new: bool) -> Option<u32> {
        let list = if is_new { &mut self.new } else { &mut self.old };
        list.pop(&self.queues)
    }

    /// Puts the first flow of a list behind the old ones.
    fn rotate(&mut self, is_new: bool) {
        if let Some(number) = self.unlist(is_new) {
            self.old.push(&mut self.queues, number);
        }
    }
}

const _: () = assert!(QUEUES < NONE as usize);
