//! The transmit queues that there are: AF_XDP sockets by which other threads send, too.
//!
//! Lanes, whose sockets they are, come and go while others send. A sender takes the list as it
//! is once a batch; a transmit queue whose lane has ended meanwhile takes nothing any more, and
//! says so.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use taltun_common::drops::DropReason;

use super::route_asker::{AskerThread, RouteAsker};
use crate::dataplane::counters::Counters;
use crate::dataplane::sys::Bell;
use crate::dataplane::sys::xsk::{FrameSlots, Kicked, LentFrames, Outlet, Queue};
use crate::dataplane::tap::{Place, Subject};
use crate::protocol::peer::Endpoint;

/// How long [`TransmitQueue::settle`] waits at the most.
const SETTLE_LIMIT: Duration = Duration::from_millis(1);

/// What a lane shares with the controller and with those who send by it.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Counts {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub by_socket: AtomicBool,
    /// Whether other ports than the one that we listen on lead to us.
    pub has_range: AtomicBool,
    /// Whether frames are left because the interface is down.
    pub down: AtomicBool,
}

impl Counts {
    /// The port that a datagram to this endpoint leaves from, where we listen on `listen`; `None`
    /// if that isn't known here. Then it must leave by the socket: a program behind that knows.
    pub(in crate::dataplane) fn port(&self, to: &Endpoint, listen: u16) -> Option<u16> {
        if !self.has_range.load(Ordering::Relaxed) {
            return Some(listen);
        }
        // Without the address it may leave from another one than the peer sent to.
        to.local?;
        to.local_port.map(NonZeroU16::get)
    }

    /// What came of having the kernel send.
    pub(in crate::dataplane) fn note(&self, kicked: Kicked, counters: &Counters) {
        self.lose(kicked.lost, counters);
        self.down
            .store(kicked.down && kicked.left, Ordering::Relaxed);
    }

    /// So many frames of those that were counted as sent didn't leave.
    pub(in crate::dataplane) fn lose(&self, lost: u64, counters: &Counters) {
        if lost > 0 {
            self.sent.fetch_sub(lost, Ordering::Relaxed);
            counters.drop_packets(DropReason::UdpSend, lost, Subject::Unknown(Place::Leaves));
        }
    }
}

/// A way out past the network stack, by one queue of an interface.
#[derive(Debug, Clone)]
pub struct TransmitQueue {
    pub(in crate::dataplane) queue: Queue,
    pub(in crate::dataplane) outlet: Outlet,
    pub(in crate::dataplane) counts: Arc<Counts>,
    /// Wakes the lane, which tries again what the kernel has no room for.
    pub(in crate::dataplane) bell: Arc<Bell>,
}

impl TransmitQueue {
    /// The interface that it leads to; `None` while nothing may leave by it, or nothing can:
    /// the socket is told by the kernel what becomes of it.
    pub(super) fn interface(&self) -> Option<u32> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let open = !is(&self.counts.by_socket) && !is(&self.counts.down);
        open.then_some(self.queue.interface)
    }

    /// The port that a datagram to this endpoint leaves from by this queue, if it can.
    pub(super) fn port(&self, to: &Endpoint, listen: u16) -> Option<u16> {
        self.counts.port(to, listen)
    }

    /// Bytes of the largest frame that it sends.
    pub(super) fn largest(&self) -> usize {
        self.outlet.largest()
    }

    /// Lends up to `most` frames.
    pub(super) fn lend<'a>(&'a self, slots: &'a mut FrameSlots, most: usize) -> LentFrames<'a> {
        self.outlet.lend(slots, most)
    }

    /// Has the kernel take what was published before, by whomever: what leaves by another way after this
    /// doesn't overtake it. A card that does zero copy takes frames by itself, for which this waits; a
    /// millisecond at the most, as one whose queue is full makes everybody wait.
    pub(super) fn settle(&self, counters: &Counters) {
        let all = self.outlet.published();
        if self.outlet.has_taken(all) {
            return;
        }
        let deadline = Instant::now() + SETTLE_LIMIT;
        let is_down = || self.counts.down.load(Ordering::Relaxed);
        while !self.outlet.has_taken(all) && !is_down() && Instant::now() < deadline {
            self.kick(counters);
            std::thread::yield_now();
        }
    }

    /// Has the kernel send what was published.
    fn kick(&self, counters: &Counters) {
        let kicked = self.outlet.kick();
        self.counts.note(kicked, counters);
        if kicked.left {
            self.bell.ring();
        }
    }

    /// Has what was filled leave. How many that are, of the first ones.
    pub(super) fn send(&self, frames: LentFrames<'_>, counters: &Counters) -> usize {
        let sent = frames.publish();
        if sent == 0 {
            return 0;
        }
        self.counts.sent.fetch_add(sent as u64, Ordering::Relaxed);
        self.kick(counters);
        sent
    }
}

/// All transmit queues, for all threads.
#[derive(Debug, Default)]
pub struct TransmitQueues {
    /// Whether there is any, to be seen without a lock.
    any: AtomicBool,
    list: RwLock<Arc<[TransmitQueue]>>,
    asker: Arc<RouteAsker>,
    /// Once there was a queue, for which the kernel is asked where to.
    asking: OnceLock<AskerThread>,
}

impl TransmitQueues {
    /// These are all, from now on. A batch that has begun may still use others.
    pub fn set(&self, queues: Vec<TransmitQueue>) {
        let any = !queues.is_empty();
        if any && self.asking.get().is_none() {
            match AskerThread::start(&self.asker) {
                Ok(thread) => drop(self.asking.set(thread)),
                // Then no way is known, and all leaves by the socket.
                Err(error) => tracing::warn!("can't ask for ways past the network stack: {error}"),
            }
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = queues.into();
        self.any.store(any, Ordering::Release);
    }

    /// Who asks the kernel for routes.
    pub(super) fn asker(&self) -> &Arc<RouteAsker> {
        &self.asker
    }

    /// All there are, for a batch; `None` if there is none.
    pub(in crate::dataplane) fn now(&self) -> Option<Arc<[TransmitQueue]>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&list))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::protocol::peer::Local;

    #[test]
    fn with_a_range_only_what_came_to_a_known_port_is_answered_past_the_socket() {
        let remote: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let unknown = Endpoint {
            local: Some(Local {
                address: "192.0.2.1".parse().unwrap(),
                interface: 3,
            }),
            ..Endpoint::from(remote)
        };
        let known = Endpoint {
            local_port: NonZeroU16::new(8000),
            ..unknown
        };
        let without_address = Endpoint {
            local: None,
            ..known
        };
        let counts = Counts::default();
        for endpoint in [unknown, known, without_address] {
            assert_eq!(counts.port(&endpoint, 9000), Some(9000));
        }
        counts.has_range.store(true, Ordering::Relaxed);
        assert_eq!(counts.port(&unknown, 9000), None);
        assert_eq!(counts.port(&known, 9000), Some(8000));
        assert_eq!(counts.port(&without_address, 9000), None);
    }
}
