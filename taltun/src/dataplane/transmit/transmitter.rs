//! What of a batch leaves past the network stack, by a transmit queue: each sending thread has a
//! [`Transmitter`] of its own.
//!
//! A transmit queue sends single datagrams, each copied to a frame of its own. So it is for what is
//! small and stands alone. What the kernel can cut from one large piece (`UDP_SEGMENT`) costs
//! less by the socket, and so does whatever is that large; and all that goes to a peer to whom
//! such a piece goes in the same batch takes the same way, to stay in order.

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

/// Sends what is sealed, by transmit queues where that may be and pays, else by the socket.
pub struct Transmitter {
    /// `None` where they can't be asked for.
    routes: Option<Routes>,
    /// Whose they are: threads share an interface's transmit queues by their number.
    thread: usize,
    /// The interface that was last asked about, and its transmit queue.
    last: Option<(u32, Option<usize>)>,
    planned: Vec<Planned>,
    by_socket: DatagramRuns,
    /// Peers to whom large pieces go in this batch.
    bulk: Vec<Endpoint>,
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
    /// For the thread of this number, and batches of so many datagrams. It opens a socket, which packet
    /// threads can't do themselves.
    pub fn new(thread: usize, capacity: usize) -> Self {
        let routes = Routes::new().inspect_err(|error| {
            tracing::debug!(%error, "can't ask for ways past the network stack");
        });
        Self {
            routes: routes.ok(),
            thread,
            last: None,
            planned: Vec::with_capacity(capacity),
            by_socket: DatagramRuns::with_capacity(capacity),
            bulk: Vec::with_capacity(capacity),
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
        let Some(queues) = queues.now().filter(|_| self.begin()) else {
            return sender.send(arena, runs);
        };
        self.bulk.clear();
        let bulk = runs
            .as_slice()
            .iter()
            .filter(|run| !is_small_and_alone(run));
        self.bulk.extend(bulk.map(|run| run.endpoint));
        for run in runs.as_slice() {
            if self.bulk.contains(&run.endpoint) || !self.plan(&queues, *run, sender.port()) {
                self.plan_by_socket(*run);
            }
        }
        runs.clear();
        self.carry(&queues, sender, arena);
    }

    /// A batch begins; false when nothing can be known of ways out.
    pub(in crate::dataplane) fn begin(&mut self) -> bool {
        let Some(routes) = &mut self.routes else {
            return false;
        };
        routes.begin();
        self.last = None;
        true
    }

    /// How to send to this endpoint past the network stack, if that is known.
    pub(in crate::dataplane) fn way(&mut self, endpoint: &Endpoint) -> Option<NextHop> {
        self.routes.as_mut()?.way(endpoint)
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

    /// Has a run leave by the socket.
    pub(in crate::dataplane) fn plan_by_socket(&mut self, run: DatagramRun) {
        self.by_socket.push_run(run);
    }

    /// Sends all that was planned. What leaves by the socket goes first: most often that is
    /// the packet for which the kernel was asked where to, the first of its kind. What finds
    /// no room at its transmit queue goes last, by the socket.
    pub(in crate::dataplane) fn carry(
        &mut self,
        queues: &[TransmitQueue],
        sender: &mut Sender,
        arena: &[u8],
    ) {
        sender.send(arena, &mut self.by_socket);
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
                self.by_socket.push_run(planned.run);
            }
        }
        self.planned.clear();
        sender.send(arena, &mut self.by_socket);
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
