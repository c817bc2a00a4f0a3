//! The memory that packets lie in while they wait: blocks of one size, of which a packet takes as
//! many as it needs. All of it is taken at the start.

use crate::list::{Linked, List, NONE};

/// Bytes of a block. Three hold a full packet of Ethernet, one a small packet.
pub(crate) const BLOCK: usize = 512;

/// Packets in memory of a fixed size.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    bytes: Box<[u8]>,
    /// Which block follows each, of the same packet or among the free ones.
    following: Box<[u32]>,
    free_head: u32,
    free: usize,
    /// What is known of the packet that begins in each block.
    packets: Box<[Waiting<T>]>,
}

/// A packet that waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waiting<T> {
    next: u32,
    pub(crate) len: u32,
    /// What it takes of the uplink, bytes.
    pub(crate) cost: u32,
    /// Whether it can be marked.
    pub(crate) capable: bool,
    /// Since when it waits.
    pub(crate) since: u64,
    pub(crate) tag: T,
}

impl<T> Waiting<T> {
    pub(crate) fn new(len: u32, cost: u32, capable: bool, since: u64, tag: T) -> Self {
        Self {
            next: NONE,
            len,
            cost,
            capable,
            since,
            tag,
        }
    }
}

impl<T> Linked for Waiting<T> {
    fn next(&self) -> u32 {
        self.next
    }

    fn set_next(&mut self, next: u32) {
        self.next = next;
    }
}

impl<T: Copy + Default> Pool<T> {
    /// Of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let blocks = (bytes / BLOCK).min(NONE as usize);
        let following =
            (1..=blocks as u32).map(|next| if next as usize == blocks { NONE } else { next });
        Self {
            // Zeroes are the system's, and cost no memory before they are used.
            bytes: vec![0; blocks.saturating_mul(BLOCK)].into_boxed_slice(),
            following: following.collect(),
            free_head: if blocks == 0 { NONE } else { 0 },
            free: blocks,
            packets: vec![Waiting::default(); blocks].into_boxed_slice(),
        }
    }

    /// Whether it is of no size.
    pub(crate) fn is_none(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many blocks are free.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// How many blocks a packet takes.
    pub(crate) fn blocks(len: usize) -> usize {
        len.div_ceil(BLOCK).max(1)
    }

    /// Keeps a packet, if there is room.
    pub(crate) fn put(&mut self, packet: &[u8], waiting: Waiting<T>) -> Option<u32> {
        if packet.is_empty() || self.free < Self::blocks(packet.len()) {
            return None;
        }
        let first = self.free_head;
        let mut last = first;
        for piece in packet.chunks(BLOCK) {
            last = self.free_head;
            self.free_head = *self.following.get(last as usize)?;
            self.free = self.free.saturating_sub(1);
            let start = (last as usize).saturating_mul(BLOCK);
            let block = self
                .bytes
                .get_mut(start..start.saturating_add(piece.len()))?;
            block.copy_from_slice(piece);
        }
        // The chain of free blocks is the packet's own now, up to here.
        *self.following.get_mut(last as usize)? = NONE;
        *self.packets.get_mut(first as usize)? = waiting;
        Some(first)
    }

    /// What is known of a packet.
    pub(crate) fn get(&self, packet: u32) -> Option<&Waiting<T>> {
        self.packets.get(packet as usize)
    }

    /// Adds a packet to a queue.
    pub(crate) fn push(&mut self, queue: &mut List, packet: u32) {
        queue.push(&mut self.packets, packet);
    }

    /// Takes the first packet of a queue out of it.
    pub(crate) fn pop(&self, queue: &mut List) -> Option<u32> {
        queue.pop(&self.packets)
    }

    /// Copies a packet to the start of `to`, as far as there is room.
    pub(crate) fn copy(&self, packet: u32, to: &mut [u8]) {
        let Some(waiting) = self.get(packet) else {
            return;
        };
        let len = (waiting.len as usize).min(to.len());
        let mut block = packet;
        let whole = to.get_mut(..len).unwrap_or_default();
        for piece in whole.chunks_mut(BLOCK) {
            let start = (block as usize).saturating_mul(BLOCK);
            let Some(from) = self.bytes.get(start..start.saturating_add(piece.len())) else {
                return;
            };
            piece.copy_from_slice(from);
            block = self.following.get(block as usize).copied().unwrap_or(NONE);
        }
    }

    /// Gives a packet's blocks back, and says how many they were.
    pub(crate) fn release(&mut self, packet: u32) -> usize {
        let mut blocks = 1_usize;
        let mut last = packet;
        while let Some(next) = self.following.get(last as usize).copied()
            && next != NONE
        {
            last = next;
            blocks = blocks.saturating_add(1);
        }
        if let Some(following) = self.following.get_mut(last as usize) {
            *following = self.free_head;
            self.free_head = packet;
            self.free = self.free.saturating_add(blocks);
        }
        blocks
    }
}
