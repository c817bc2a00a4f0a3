//! A lane: one AF_XDP socket and the thread that serves it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use taltun_common::drops::DropReason;

use super::frame;
use crate::dataplane::inbound_batch::InboundBatch;
use crate::dataplane::runs::{DatagramRun, DatagramRuns};
use crate::dataplane::shared::Shared;
use crate::dataplane::sys::xsk::{Handle, Packet, Queue, Statistics, Wait, Xsk, wait};
use crate::dataplane::sys::{Bell, Received, StopSignal};
use crate::dataplane::tap::{Place, Subject};
use crate::dataplane::transmit::headers::{self, NextHop};
use crate::dataplane::transmit::{Counts, TransmitQueue, Transmitter};
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Sender, Socket};
use crate::protocol::peer::Endpoint;

/// Frames taken off the ring at once.
const BATCH: usize = 64;
/// Batches after which the stop signal is looked for although there is more to do: a ring
/// full of frames.
const PATIENCE: usize = 64;
/// After which time sending is tried again that the kernel had no room for, and how much
/// time between two tries comes of it when that goes on, as while the link is down.
const RETRY: Duration = Duration::from_millis(1);
const SLOWEST_RETRY: Duration = Duration::from_millis(128);
/// How long after its end the kernel may still put frames on the ring.
const LAST_FRAMES: Duration = Duration::from_millis(2);
/// How long a socket that is to be closed waits for its last frames to leave.
const LEAVE_LIMIT: Duration = Duration::from_millis(100);

/// What a lane works with beside its socket.
pub struct LaneParts {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Sends what is for other peers.
    pub socket: Arc<Socket>,
    /// Takes what is for this host.
    pub tun: Tun,
}

/// A running lane. Dropping it takes what is on its ring to its end and closes the socket;
/// the XDP program should have stopped using it by then.
#[derive(Debug)]
pub struct Lane {
    handle: Handle,
    zero_copy: bool,
    room: usize,
    transmit_queue: TransmitQueue,
    stop: StopSignal,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts a thread for this socket, which is bound to this queue.
    pub fn start(parts: LaneParts, xsk: Xsk, queue: Queue) -> io::Result<Self> {
        let stop = StopSignal::new()?;
        let transmit_queue = TransmitQueue {
            queue,
            outlet: xsk.outlet(),
            counts: Arc::new(Counts::default()),
            bell: Arc::new(Bell::new()?),
        };
        let (counts, bell) = (
            Arc::clone(&transmit_queue.counts),
            Arc::clone(&transmit_queue.bell),
        );
        let mut lane = Self {
            handle: xsk.handle(),
            zero_copy: xsk.is_zero_copy(),
            room: xsk.room(),
            transmit_queue,
            stop: stop.try_clone()?,
            thread: None,
        };
        let name = format!("taltun-xsk-{}-{}", queue.interface, queue.number);
        let LaneParts {
            shared,
            socket,
            tun,
        } = parts;
        // What opens a descriptor or a file is made here: the thread may not.
        let transmitter = Transmitter::new(&shared.queues, queue.number as usize, BATCH);
        let sender = Sender::new(socket, Arc::clone(&shared.inputs.counters));
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let inputs = &shared.inputs;
            let _kept = (inputs.scheduling.enter(), inputs.rights.give_up());
            let mut server = Server {
                transmitter,
                leaving: Vec::with_capacity(BATCH),
                retry: RETRY,
                interface: queue.interface,
                xsk,
                packets: Vec::with_capacity(BATCH),
                staying: Vec::with_capacity(BATCH),
                messages: Vec::with_capacity(BATCH),
                work: InboundBatch::new(None, &tun, BATCH),
                sender,
                tun,
                shared: &shared,
                counts: &counts,
                bell: &bell,
            };
            match server.run(&stop) {
                Ok(()) => tracing::debug!("{name} ended"),
                Err(error) => tracing::warn!("{name} ended: {error}"),
            }
        })?;
        lane.thread = Some(thread);
        Ok(lane)
    }

    /// The socket, for the XDP program's map.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether the network card writes to the frames itself.
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Bytes of the largest frame it can receive, from the Ethernet header on.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Frames received so far.
    pub fn received(&self) -> u64 {
        self.transmit_queue.counts.received.load(Ordering::Relaxed)
    }

    /// Frames sent so far: those that came in and were relayed, and those of others who send
    /// by its [`transmit_queue`](Self::transmit_queue).
    pub fn sent(&self) -> u64 {
        self.transmit_queue.counts.sent.load(Ordering::Relaxed)
    }

    /// Has everything leave by the UDP socket, as when it has to bear a mark; or not any more.
    pub fn leave_by_socket(&self, yes: bool) {
        self.transmit_queue
            .counts
            .by_socket
            .store(yes, Ordering::Relaxed);
    }

    /// Whether other ports than the one that we listen on lead to us.
    pub fn set_has_range(&self, yes: bool) {
        self.transmit_queue
            .counts
            .has_range
            .store(yes, Ordering::Relaxed);
    }

    /// A way for other threads to send by its queue.
    pub fn transmit_queue(&self) -> TransmitQueue {
        self.transmit_queue.clone()
    }

    /// What the kernel counted; `None` once the socket is closed.
    pub fn statistics(&self) -> Option<Statistics> {
        self.handle.statistics()
    }

    /// Whether it has ended by itself, as when the interface is gone.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Err(error) = self.stop.stop() {
            tracing::error!("can't stop a lane: {error}");
            return;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet of the batch that leaves in its frame.
struct Leaving {
    /// Which of the batch's packets.
    packet: usize,
    /// Where its frame starts and how long it is, with its new headers.
    start: usize,
    len: usize,
}

/// What the thread works with.
struct Server<'a> {
    interface: u32,
    xsk: Xsk,
    packets: Vec<Packet>,
    /// Those of a batch that don't leave in their frames, while the others are sent.
    staying: Vec<Packet>,
    messages: Vec<Received>,
    work: InboundBatch,
    sender: Sender,
    tun: Tun,
    shared: &'a Shared,
    counts: &'a Counts,
    /// Rings when others couldn't send all.
    bell: &'a Bell,
    /// What of the batch leaves in its frame, and what otherwise.
    leaving: Vec<Leaving>,
    transmitter: Transmitter,
    /// How long to wait for the kernel to have room again.
    retry: Duration,
}

impl Server<'_> {
    fn run(&mut self, stop: &StopSignal) -> io::Result<()> {
        loop {
            match self.wait(stop)? {
                // Not for ever, or a flood would keep the stop signal from being seen.
                Wait::Readable | Wait::TimedOut => self.carry_rest(),
                Wait::Stopped => {
                    self.carry_rest();
                    // The program may still be at work on a last batch of frames, having
                    // seen this socket in its map.
                    thread::sleep(LAST_FRAMES);
                    self.carry_rest();
                    self.see_off();
                    return Ok(());
                }
                Wait::Gone => {
                    self.see_off();
                    return Ok(());
                }
            }
        }
    }

    /// Takes what is on the ring to its end, and not more than a ring holds.
    fn carry_rest(&mut self) {
        for _ in 0..PATIENCE {
            if !self.carry_batch() {
                break;
            }
            self.shared.let_others_run();
        }
    }

    /// Looks without sleeping for as long as is configured, then sleeps.
    fn wait(&mut self, stop: &StopSignal) -> io::Result<Wait> {
        let down = self.counts.down.load(Ordering::Relaxed);
        let socket = Some(self.xsk.as_fd()).filter(|_| !down);
        let started = Instant::now();
        let busy = self.shared.inputs.busy_poll;
        while !busy.is_zero() && started.elapsed() < busy {
            match wait(socket, stop.as_fd(), Some(self.bell), Some(Duration::ZERO))? {
                Wait::TimedOut => std::hint::spin_loop(),
                other => return Ok(other),
            }
        }
        // What the kernel had no room for has to be offered again, whoever's it is.
        let unsent = self.xsk.unsent() > 0;
        let timeout = unsent.then_some(self.retry);
        let bell = Some(self.bell).filter(|_| !unsent);
        let outcome = wait(socket, stop.as_fd(), bell, timeout)?;
        self.retry = match outcome {
            Wait::TimedOut => (self.retry * 2).min(SLOWEST_RETRY),
            _ => RETRY,
        };
        Ok(outcome)
    }

    /// Waits, not for long, until what is to leave has left: closing the socket throws away
    /// what the kernel hasn't looked at yet, which is counted.
    fn see_off(&mut self) {
        self.xsk.shut_outlets();
        let deadline = Instant::now() + LEAVE_LIMIT;
        while self.xsk.is_sending() && Instant::now() < deadline {
            self.kick();
            thread::sleep(RETRY);
            self.xsk.rings().reap();
        }
        let lost = self.xsk.unsent() as u64;
        self.counts.lose(lost, &self.shared.inputs.counters);
    }

    /// Has the kernel send, and counts what it throws away. What is left is seen before the
    /// thread sleeps.
    fn kick(&self) {
        let kicked = self.xsk.kick();
        self.counts.note(kicked, &self.shared.inputs.counters);
    }

    /// Takes one batch through to its end; false when there was none.
    fn carry_batch(&mut self) -> bool {
        let rings = self.xsk.rings();
        rings.reap();
        rings.receive(&mut self.packets, BATCH);
        if self.packets.is_empty() {
            rings.refill();
            self.kick();
            return false;
        }
        let room = rings.room_to_send();
        let arena = rings.arena();
        let has_range = self.counts.has_range.load(Ordering::Relaxed);
        self.messages.clear();
        for packet in &self.packets {
            let bytes = &arena[packet.start..packet.start + packet.len];
            match frame::parse(bytes, self.interface) {
                Some(mut datagram) => {
                    if !has_range {
                        // As a socket says it: a peer that is heard by both is in one place.
                        datagram.from.local_port = None;
                    }
                    self.messages.push(Received {
                        start: packet.start + datagram.payload.start,
                        len: datagram.payload.len(),
                        segment: datagram.payload.len().max(1),
                        from: datagram.from,
                        ecn: datagram.class,
                        truncated: false,
                    });
                }
                None => self.work.drop_frame(DropReason::Shape),
            }
        }
        // Frames lie apart, so no two of them are ever one run.
        let merge = false;
        self.work
            .open(arena, &self.messages, &self.tun, merge, self.shared);
        self.work.tell_leaving(arena);
        let relayed = &mut self.work.relayed;
        match self.shared.queues.now() {
            Some(queues) if !self.counts.by_socket.load(Ordering::Relaxed) => {
                self.transmitter.begin();
                let mut path = RelayPath {
                    interface: self.interface,
                    room,
                    listen: self.sender.port(),
                    counts: self.counts,
                    queues: &queues,
                    transmitter: &mut self.transmitter,
                    leaving: &mut self.leaving,
                };
                path.split(arena, relayed, &self.packets);
                self.transmitter.carry(&queues, &mut self.sender, arena);
                self.send_frames();
                let arena = self.xsk.rings().arena();
                self.transmitter
                    .carry_last(&queues, &mut self.sender, arena);
            }
            _ => self.sender.send(arena, relayed),
        }
        let arena = self.xsk.rings().arena();
        self.work.finish(arena, &self.tun, self.shared);
        self.let_go();
        self.kick();
        self.xsk.wake_receiver();
        true
    }

    /// Sends the frames that leave; the others stay.
    fn send_frames(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let rings = self.xsk.rings();
        let mut sent = 0;
        let mut leaving = self.leaving.drain(..).peekable();
        for (at, packet) in self.packets.drain(..).enumerate() {
            let Some(Leaving { start, len, .. }) = leaving.next_if(|next| next.packet == at) else {
                self.staying.push(packet);
                continue;
            };
            match rings.transmit(packet, start, len) {
                Ok(()) => sent += 1,
                // Never, as there was room for it.
                Err(packet) => {
                    let counters = &self.shared.inputs.counters;
                    counters.drop_packet(DropReason::UdpSend, Subject::Unknown(Place::Leaves));
                    self.staying.push(packet);
                }
            }
        }
        drop(leaving);
        rings.publish();
        std::mem::swap(&mut self.packets, &mut self.staying);
        self.counts.received.fetch_add(sent, Ordering::Relaxed);
        self.counts.sent.fetch_add(sent, Ordering::Relaxed);
        self.kick();
    }

    /// Gives back the frames that didn't leave.
    fn let_go(&mut self) {
        let rings = self.xsk.rings();
        let received = self.packets.len() as u64;
        for packet in self.packets.drain(..) {
            rings.recycle(packet);
        }
        rings.refill();
        self.counts.received.fetch_add(received, Ordering::Relaxed);
    }
}

/// Decides how what is relayed leaves.
struct RelayPath<'a> {
    /// The one that all of it came in by.
    interface: u32,
    /// Frames that may leave.
    room: usize,
    /// The port that we listen on.
    listen: u16,
    /// The lane's own.
    counts: &'a Counts,
    queues: &'a [TransmitQueue],
    transmitter: &'a mut Transmitter,
    leaving: &'a mut Vec<Leaving>,
}

impl RelayPath<'_> {
    /// Splits what is relayed by how it leaves: in its frame, with its headers written; by
    /// another interface; or by the socket. Each keeps the order of the packets.
    fn split(&mut self, arena: &mut [u8], relayed: &mut DatagramRuns, packets: &[Packet]) {
        let mut at = 0;
        for run in relayed.as_slice() {
            // The packet that this was opened in: it starts there or later, and no later
            // packet does.
            while packets
                .get(at)
                .is_some_and(|packet| !packet.holds(run.start))
            {
                at += 1;
            }
            let Some(way) = self.transmitter.way(&run.endpoint) else {
                self.transmitter.plan_by_socket(*run);
                continue;
            };
            if self.transmitter.stays_with_socket(run, &way) {
                self.transmitter.plan_last(*run);
            } else if way.interface == self.interface {
                let leaves = at < packets.len() && self.leave_in_frame(arena, run, &way, at);
                if !leaves {
                    self.transmitter.plan_last(*run);
                }
            } else if !self
                .transmitter
                .plan_by(self.queues, *run, way, self.listen)
            {
                self.transmitter.plan_by_socket(*run);
            }
        }
        relayed.clear();
    }

    /// Has a run leave in the frame of the packet that it was opened in; false when it can't.
    fn leave_in_frame(
        &mut self,
        arena: &mut [u8],
        run: &DatagramRun,
        way: &NextHop,
        packet: usize,
    ) -> bool {
        let Some(port) = self.counts.port(&run.endpoint, self.listen) else {
            return false;
        };
        let Endpoint { remote, .. } = run.endpoint;
        let header = headers::len(&remote.ip());
        let start = run.start - header;
        let frame = &mut arena[start..run.start + run.len];
        let written = self.leaving.len() < self.room && headers::write(frame, way, port, run);
        if written {
            self.leaving.push(Leaving {
                packet,
                start,
                len: header + run.len,
            });
        }
        written
    }
}
