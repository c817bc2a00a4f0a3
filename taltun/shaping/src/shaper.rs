//! Both directions, and the memory that they share.

use std::time::Duration;

use crate::Rate;
use crate::flows::Taken;
use crate::pool::{Pool, Waiting};
use crate::queued::Queued;
use crate::tree::Tree;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Up,
    /// To the peer.
    Down,
}

/// What a peer is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassSettings {
    /// Which peer.
    pub key: u32,
    /// How fast packets from it go.
    pub up: Option<Rate>,
    /// How fast packets to it go.
    pub down: Option<Rate>,
}

/// A packet that is to wait for its turn.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'p, T> {
    /// The packet.
    pub packet: &'p [u8],
    /// Whose it is.
    pub key: u32,
    /// The same for all packets of a flow.
    pub flow: u64,
    /// Bytes that it takes of the uplink.
    pub cost: u32,
    /// Whether it can be marked where it would else be dropped: it is ECN capable.
    pub capable: bool,
    /// What the caller gets back with it.
    pub tag: T,
}

/// A packet whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released<T> {
    /// Its length.
    pub len: usize,
    /// Whether it must be marked as having experienced congestion.
    pub marked: bool,
    /// What the caller gave with it.
    pub tag: T,
}

/// Packets of all peers that have a limit, until it is their turn.
#[derive(Debug)]
pub struct Shaper<T> {
    pool: Pool<T>,
    memory: usize,
    up: Tree,
    down: Tree,
    /// Drops that nobody was told of yet.
    dropped: u64,
}

impl<T: Copy + Default> Shaper<T> {
    /// With so many bytes for packets, which are taken once there is a class.
    pub fn new(memory: usize) -> Self {
        Self {
            pool: Pool::new(0),
            memory,
            up: Tree::default(),
            down: Tree::default(),
            dropped: 0,
        }
    }

    /// Holds these peers to these rates from now on, and no others. With an `uplink`, all that
    /// goes to any of them is held to that together. What waits for a peer that has no limit any
    /// more leaves at once.
    pub fn set(&mut self, now: Duration, classes: &[ClassSettings], uplink: Option<Rate>) {
        let now = nanos(now);
        let up = classes.iter().filter(|class| class.up.is_some());
        self.up
            .set(now, None, up.map(|class| (class.key, class.up)));
        let down = classes
            .iter()
            .filter(|class| class.down.is_some() || uplink.is_some());
        let down = down.map(|class| (class.key, class.down));
        self.down.set(now, uplink, down);
        let is_unused = self.up.is_unused() && self.down.is_unused();
        if is_unused {
            self.pool = Pool::new(0);
        } else if self.pool.is_none() {
            self.pool = Pool::new(self.memory);
        }
    }

    /// Takes a packet in. What has to be dropped for it, or it itself, is counted.
    pub fn enqueue(&mut self, now: Duration, direction: Direction, offer: Offer<'_, T>) {
        let now = nanos(now);
        let Offer {
            packet,
            key,
            flow,
            cost,
            capable,
            tag,
        } = offer;
        let tree = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        let len = packet.len() as u32;
        let waiting = Waiting::new(len, cost, capable, now, tag);
        let blocks = Pool::<T>::blocks(packet.len());
        let admitted = tree.admit(key, blocks, &mut self.pool, &mut self.dropped);
        let kept = admitted.and_then(|class| Some((class, self.pool.put(packet, waiting)?)));
        if let Some((class, packet)) = kept {
            tree.push(now, class, flow, packet, &mut self.pool);
        } else {
            self.dropped = self.dropped.saturating_add(1);
            tree.count_dropped(key);
        }
    }

    /// Copies the next packet that may go now to the start of `to`, which has room for any.
    pub fn dequeue(
        &mut self,
        now: Duration,
        direction: Direction,
        to: &mut [u8],
    ) -> Option<Released<T>> {
        let tree = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        let taken = tree.take(nanos(now), &mut self.pool, &mut self.dropped)?;
        let Taken { packet, marked } = taken;
        let released = self.pool.get(packet).map(|waiting| Released {
            len: waiting.len as usize,
            marked,
            tag: waiting.tag,
        });
        self.pool.copy(packet, to);
        self.pool.release(packet);
        released
    }

    /// What left took so many bytes of the uplink more than its cost.
    pub fn spend_uplink(&mut self, now: Duration, bytes: u32) {
        self.down.spend_uplink(nanos(now), bytes);
    }

    /// When to dequeue again; `None` while nothing waits. It may be in the past.
    pub fn next_release(&self) -> Option<Duration> {
        let next = [self.up.next(), self.down.next()].into_iter().flatten();
        next.min().map(Duration::from_nanos)
    }

    /// What waits of a peer; `None` if it isn't held to anything in this direction.
    pub fn queued(&self, direction: Direction, key: u32) -> Option<Queued> {
        match direction {
            Direction::Up => self.up.queued(key),
            Direction::Down => self.down.queued(key),
        }
    }

    /// How many packets were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
