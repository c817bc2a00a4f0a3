//! What of a batch leaves past the network stack, by a transmit queue: each sending thread has a
//! [`Transmitter`] of its own.
//!
//! A transmit queue sends single datagrams, each copied to a frame of its own. So it is for what is
//! small and stands alone. What the kernel can cut from one large piece (`UDP_SEGMENT`) costs
//! less by the socket, and so does whatever is that large.
//!
//! Two ways must not make packets overtake each other. So all that goes to a peer to whom a large
//! piece went a moment ago leaves by the socket, behind which there may be a queue of the kernel's; and
//! before anything leaves by the socket, the kernel has taken what is in the transmit queues.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taltun_common::headers::ETHERNET_LEN;

use super::headers::{self, NextHop};
use super::queues::{TransmitQueue, TransmitQueues};
use super::routes::Routes;
use crate::dataplane::runs::{DatagramRun, DatagramRuns};
use crate::dataplane::sys::xsk::{FrameSlots, LentFrames};
use crate::dataplane::udp::Sender;
use crate::protocol::peer::Endpoint;

/// Bytes of the largest datagram that counts as small. A stream's full pieces are larger, so
/// that they never leave by two ways, of which one may be the faster.
const SMALL: usize = 1024;
/// How long what goes to a peer stays with the socket after a large piece: longer than packets wait in
/// the kernel's queues, which aim at some milliseconds.
const BULK_STAYS: Duration = Duration::from_millis(100);
/// Places for peers to whom large pieces went.
const BULK_PLACES: usize = 1024;

/// Sends what is sealed, by transmit queues where that may be and pays, else by the socket.
pub struct Transmitter {
    routes: Routes,
    /// Whose they are: threads share an interface's transmit queues by their number.
    thread: usize,
    /// The interface that was last asked about, and its transmit queue.
    last: Option<(u32, Option<usize>)>,
    planned: Vec<Planned>,
    by_socket: DatagramRuns,
    /// What leaves by the socket behind all that leaves otherwise.
    overflow: DatagramRuns,
    /// Peers to whom large pieces went a moment ago.
    bulk: RecentBulk,
    /// When the batch began.
    now: Instant,
    slots: FrameSlots,
}

/// A datagram that leaves by a transmit queue, if that has room.
struct Planned {
    run: DatagramRun,
    way: NextHop,
    /// Which of the transmit queues.
    queue: usize,
    /// The port that it leaves from.
    port: u16,
}

impl Transmitter {
    /// For the thread of this number, which sends by these, and batches of so many datagrams.
    pub fn new(queues: &TransmitQueues, thread: usize, capacity: usize) -> Self {
        Self {
            routes: Routes::new(Arc::clone(queues.asker())),
            thread,
            last: None,
            planned: Vec::with_capacity(capacity),
            by_socket: DatagramRuns::with_capacity(capacity),
            overflow: DatagramRuns::with_capacity(capacity),
            bulk: RecentBulk::default(),
            now: Instant::now(),
            slots: FrameSlots::with_capacity(capacity),
        }
    }

    /// Sends all runs out of `arena` and forgets them.
    pub fn send(
        &mut self,
        queues: &TransmitQueues,
        sender: &mut Sender,
        arena: &[u8],
        runs: &mut DatagramRuns,
    ) {
        let Some(queues) = queues.now() else {
            return sender.send(arena, runs);
        };
        self.begin();
        for run in runs.as_slice() {
            if !is_small_and_alone(run) {
                self.bulk.note(run, self.now);
            }
        }
        for run in runs.as_slice() {
            if self.bulk.has(&run.endpoint, self.now) || !self.plan(&queues, *run, sender.port()) {
                self.plan_by_socket(*run);
            }
        }
        runs.clear();
        self.carry(&queues, sender, arena);
        self.carry_last(&queues, sender, arena);
    }

    /// A batch begins.
    pub(in crate::dataplane) fn begin(&mut self) {
        self.now = Instant::now();
        self.routes.begin(self.now);
        self.last = None;
    }

    /// How to send to this endpoint past the network stack, if that is known.
    pub(in crate::dataplane) fn way(&mut self, endpoint: &Endpoint) -> Option<NextHop> {
        self.routes.way(endpoint)
    }

    /// Has a datagram leave by a transmit queue, if one is known that leads there; else false.
    fn plan(&mut self, queues: &[TransmitQueue], run: DatagramRun, listen: u16) -> bool {
        let way = self.way(&run.endpoint);
        way.is_some_and(|way| self.plan_by(queues, run, way, listen))
    }

    /// Has a datagram leave this way, where we listen on `listen`, if there is a transmit queue, it
    /// isn't too large, and its port is known; else false.
    pub(in crate::dataplane) fn plan_by(
        &mut self,
        queues: &[TransmitQueue],
        run: DatagramRun,
        way: NextHop,
        listen: u16,
    ) -> bool {
        let Some(queue) = self.queue_of(queues, way.interface) else {
            return false;
        };
        let Some(port) = queues[queue].port(&run.endpoint, listen) else {
            return false;
        };
        let frame = headers::len(&run.endpoint.remote.ip()) + run.len;
        let fits = frame <= ETHERNET_LEN + way.mtu && frame <= queues[queue].largest();
        if fits {
            self.planned.push(Planned {
                run,
                way,
                queue,
                port,
            });
        }
        fits
    }

    /// Which of the transmit queues this thread takes to leave by an interface.
    fn queue_of(&mut self, queues: &[TransmitQueue], interface: u32) -> Option<usize> {
        if let Some((last, queue)) = self.last
            && last == interface
        {
            return queue;
        }
        let queue = choose(
            &queues.iter().map(TransmitQueue::interface),
            interface,
            self.thread,
        );
        self.last = Some((interface, queue));
        queue
    }

    /// Has a run leave by the socket, before all others of the batch.
    pub(in crate::dataplane) fn plan_by_socket(&mut self, run: DatagramRun) {
        self.by_socket.push_run(run);
    }

    /// Has a run leave by the socket, behind all others of the batch.
    pub(in crate::dataplane) fn plan_last(&mut self, run: DatagramRun) {
        self.overflow.push_run(run);
    }

    /// Whether a run, whose way is known, is to leave by the socket nevertheless: it is larger than what
    /// that way takes, or such a one went to the same peer a moment ago.
    pub(in crate::dataplane) fn stays_with_socket(
        &mut self,
        run: &DatagramRun,
        way: &NextHop,
    ) -> bool {
        if headers::len(&run.endpoint.remote.ip()) + run.len > ETHERNET_LEN + way.mtu {
            self.bulk.note(run, self.now);
        }
        self.bulk.has(&run.endpoint, self.now)
    }

    /// Sends all that was planned but what goes last, for which [`carry_last`](Self::carry_last) is to be
    /// called. What leaves by the socket goes first: most often that is the packet for which the
    /// kernel was asked where to, the first of its kind.
    pub(in crate::dataplane) fn carry(
        &mut self,
        queues: &[TransmitQueue],
        sender: &mut Sender,
        arena: &[u8],
    ) {
        send_by_socket(&mut self.by_socket, queues, sender, arena);
        for (number, queue) in queues.iter().enumerate() {
            let of_queue = || {
                self.planned
                    .iter()
                    .filter(|planned| planned.queue == number)
            };
            let count = of_queue().count();
            if count == 0 {
                continue;
            }
            let mut frames = queue.lend(&mut self.slots, count);
            for planned in of_queue() {
                if !planned.fill(&mut frames, arena) {
                    break;
                }
            }
            let sent = queue.send(frames, sender.counters());
            for planned in of_queue().skip(sent) {
                self.overflow.push_run(planned.run);
            }
        }
        self.planned.clear();
    }

    /// Sends by the socket what is to go last, and what found no room at its transmit queue.
    pub(in crate::dataplane) fn carry_last(
        &mut self,
        queues: &[TransmitQueue],
        sender: &mut Sender,
        arena: &[u8],
    ) {
        send_by_socket(&mut self.overflow, queues, sender, arena);
    }
}

/// Sends these by the socket, behind what is in the transmit queues, and forgets them.
fn send_by_socket(
    runs: &mut DatagramRuns,
    queues: &[TransmitQueue],
    sender: &mut Sender,
    arena: &[u8],
) {
    if runs.as_slice().is_empty() {
        return;
    }
    for queue in queues {
        queue.settle(sender.counters());
    }
    sender.send(arena, runs);
}

/// Peers to whom large pieces went a moment ago: some places that peers share by their addresses, as
/// it does no harm to take one for bulk that isn't.
struct RecentBulk {
    until: Box<[Option<Instant>; BULK_PLACES]>,
}

impl Default for RecentBulk {
    fn default() -> Self {
        Self {
            until: Box::new([None; BULK_PLACES]),
        }
    }
}

impl RecentBulk {
    /// A run that leaves by the socket, in the batch that began now. Some small pieces in one run fill no
    /// queue of the kernel's: they take along what goes there in the same batch.
    fn note(&mut self, run: &DatagramRun, now: Instant) {
        let stays = if run.len > SMALL {
            BULK_STAYS
        } else {
            Duration::ZERO
        };
        let until = &mut self.until[Self::place(&run.endpoint)];
        *until = (*until).max(Some(now + stays));
    }

    fn has(&self, endpoint: &Endpoint, now: Instant) -> bool {
        self.until[Self::place(endpoint)].is_some_and(|until| now <= until)
    }

    fn place(endpoint: &Endpoint) -> usize {
        let mut hasher = DefaultHasher::new();
        endpoint.remote.hash(&mut hasher);
        hasher.finish() as usize % BULK_PLACES
    }
}

impl Planned {
    /// Copies it to a frame, behind its headers; false when there is none left.
    fn fill(&self, frames: &mut LentFrames<'_>, arena: &[u8]) -> bool {
        let DatagramRun {
            start,
            len,
            endpoint,
            ..
        } = self.run;
        let header = headers::len(&endpoint.remote.ip());
        frames.fill(header + len, |frame| {
            frame[header..].copy_from_slice(&arena[start..start + len]);
            headers::write(frame, &self.way, self.port, &self.run)
        })
    }
}

fn is_small_and_alone(run: &DatagramRun) -> bool {
    run.segments() == 1 && run.len <= SMALL
}

/// Which of several transmit queues a thread takes that leaves by `interface`, each of them leading to
/// the one that is given: those of one are shared by the threads in turn.
fn choose(
    interfaces: &(impl Iterator<Item = Option<u32>> + Clone),
    interface: u32,
    thread: usize,
) -> Option<usize> {
    let fitting = || {
        let numbered = interfaces.clone().enumerate();
        numbered.filter(|(_, leads_to)| *leads_to == Some(interface))
    };
    let count = fitting().count();
    let (number, _) = fitting().nth(thread.checked_rem(count)?)?;
    Some(number)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn run(len: usize, segment: usize) -> DatagramRun {
        let remote: SocketAddr = "192.0.2.1:9".parse().unwrap();
        DatagramRun {
            start: 0,
            len,
            segment,
            endpoint: remote.into(),
            hop_limit: None,
            class: 0,
        }
    }

    #[test]
    fn bulk_is_what_is_several_or_large() {
        assert!(is_small_and_alone(&run(96, 96)));
        assert!(is_small_and_alone(&run(SMALL, SMALL)));
        assert!(!is_small_and_alone(&run(SMALL + 1, SMALL + 1)));
        assert!(!is_small_and_alone(&run(192, 96)));
        assert!(!is_small_and_alone(&run(97, 96)));
    }

    #[test]
    fn what_goes_to_a_peer_stays_with_the_socket_for_a_while_after_bulk() {
        let mut bulk = RecentBulk::default();
        let now = Instant::now();
        let endpoint = run(96, 96).endpoint;
        assert!(!bulk.has(&endpoint, now));
        let tick = Duration::from_nanos(1);
        bulk.note(&run(192, 96), now);
        assert!(bulk.has(&endpoint, now) && !bulk.has(&endpoint, now + tick));
        bulk.note(&run(1400, 1400), now);
        bulk.note(&run(192, 96), now + tick);
        assert!(bulk.has(&endpoint, now + BULK_STAYS / 2));
        bulk.note(&run(1400, 1400), now + BULK_STAYS / 2);
        assert!(bulk.has(&endpoint, now + BULK_STAYS));
        assert!(!bulk.has(&endpoint, now + BULK_STAYS * 2));
        // Another address of the same peer is another path.
        let elsewhere: SocketAddr = "192.0.2.2:9".parse().unwrap();
        assert!(!bulk.has(&elsewhere.into(), now));
    }

    #[test]
    fn threads_share_the_open_exits_of_an_interface() {
        let queues = [Some(3), None, Some(5), Some(3)].into_iter();
        let chosen = |interface| {
            let queues = queues.clone();
            (0..4).map(move |thread| choose(&queues, interface, thread))
        };
        assert!(chosen(3).eq([Some(0), Some(3), Some(0), Some(3)]));
        assert!(chosen(5).eq([Some(2); 4]));
        assert!(chosen(4).eq([None; 4]));
    }
}
