//! A lane: one AF_XDP socket and the thread that serves it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use taltun_common::drops::DropReason;

use super::routes::Routes;
use super::{frame, headers};
use crate::dataplane::inbound::Work;
use crate::dataplane::runs::Runs;
use crate::dataplane::sys::xsk::{Handle, Packet, Queue, Statistics, Wait, Xsk, wait};
use crate::dataplane::sys::{Received, StopSignal};
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Sender, Socket};
use crate::dataplane::worker::Shared;

/// Frames taken off the ring at once.
const BATCH: usize = 64;
/// Batches after which the stop signal is looked for although there is more to do: a ring
/// full of frames.
const PATIENCE: usize = 64;
/// After which time sending is tried again that the kernel had no room for, and how much
/// time between two tries comes of it when that goes on, as while the link is down.
const RETRY: Duration = Duration::from_millis(1);
const SLOWEST_RETRY: Duration = Duration::from_millis(128);
/// How often the kernel is asked to send, at most, before more is received. Where it copies
/// it sends some 32 frames each time; else asking starts it, and once is enough.
const KICKS: usize = 8;
/// How long after its end the kernel may still put frames on the ring.
const LAST_FRAMES: Duration = Duration::from_millis(2);
/// How long a socket that is to be closed waits for its last frames to leave.
const LEAVE_LIMIT: Duration = Duration::from_millis(100);

/// What a lane works with beside its socket.
pub struct Parts {
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
    counts: Arc<Counts>,
    stop: StopSignal,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts a thread for this socket, which is bound to this queue.
    pub fn start(parts: Parts, xsk: Xsk, queue: Queue) -> io::Result<Self> {
        let stop = StopSignal::new()?;
        let counts = Arc::new(Counts::default());
        let routes = Routes::new(queue.interface)?;
        let mut lane = Self {
            handle: xsk.handle(),
            zero_copy: xsk.is_zero_copy(),
            room: xsk.room(),
            counts: Arc::clone(&counts),
            stop: stop.try_clone()?,
            thread: None,
        };
        let name = format!("taltun-xsk-{}-{}", queue.interface, queue.number);
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let Parts {
                shared,
                socket,
                tun,
            } = parts;
            let mut server = Server {
                port: socket.local_addr().port(),
                routes,
                by_socket: Runs::with_capacity(BATCH),
                leaving: Vec::with_capacity(BATCH),
                retry: RETRY,
                polled: 0,
                interface: queue.interface,
                xsk,
                packets: Vec::with_capacity(BATCH),
                messages: Vec::with_capacity(BATCH),
                work: Work::new(None, &tun, BATCH),
                sender: Sender::new(socket, Arc::clone(&shared.counters)),
                tun,
                shared: &shared,
                counts: &counts,
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
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Frames sent so far, of those that were relayed.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Has everything leave by the socket, as when it has to bear a mark; or not any more.
    pub fn leave_by_socket(&self, yes: bool) {
        self.counts.by_socket.store(yes, Ordering::Relaxed);
    }

    /// Has its thread do the driver's work as well, or not any more; see
    /// [`Handle::poll_queue`].
    pub fn poll_queue(&self, yes: bool) -> io::Result<()> {
        // Without the options polling does nothing, so their order doesn't matter much.
        self.counts.polling.store(yes, Ordering::Relaxed);
        self.handle.poll_queue(yes)
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

/// What a lane's thread shares with the controller.
#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
    by_socket: AtomicBool,
    polling: AtomicBool,
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
    messages: Vec<Received>,
    work: Work,
    sender: Sender,
    tun: Tun,
    shared: &'a Shared,
    counts: &'a Counts,
    routes: Routes,
    /// The port that we send from.
    port: u16,
    /// What of the batch leaves by the socket, and what in its frame.
    by_socket: Runs,
    leaving: Vec<Leaving>,
    /// How long to wait for the kernel to have room again.
    retry: Duration,
    /// How often in a row the queue was polled and had something.
    polled: usize,
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
        }
    }

    /// Polls the queue, or looks without sleeping for as long as is configured, then sleeps.
    fn wait(&mut self, stop: &StopSignal) -> io::Result<Wait> {
        if self.is_polling() && self.polled < PATIENCE && self.xsk.poll_queue() {
            self.polled += 1;
            return Ok(Wait::Readable);
        }
        // Now the stop signal is looked for.
        self.polled = 0;
        let started = Instant::now();
        let busy = self.shared.busy_poll;
        while !busy.is_zero() && started.elapsed() < busy {
            match wait(self.xsk.as_fd(), stop.as_fd(), Some(Duration::ZERO))? {
                Wait::TimedOut => std::hint::spin_loop(),
                other => return Ok(other),
            }
        }
        // What the kernel had no room for has to be offered again.
        let unsent = self.xsk.rings().unsent() > 0;
        let outcome = wait(self.xsk.as_fd(), stop.as_fd(), unsent.then_some(self.retry))?;
        self.retry = match outcome {
            Wait::TimedOut => (self.retry * 2).min(SLOWEST_RETRY),
            _ => RETRY,
        };
        Ok(outcome)
    }

    /// Waits, not for long, until what is to leave has left: closing the socket throws away
    /// what the kernel hasn't looked at yet, which is counted.
    fn see_off(&mut self) {
        let deadline = Instant::now() + LEAVE_LIMIT;
        while self.xsk.rings().is_sending() && Instant::now() < deadline {
            self.kick();
            thread::sleep(RETRY);
            self.xsk.rings().reap();
        }
        let lost = self.xsk.rings().unsent() as u64;
        let counters = &self.shared.counters;
        counters.drop_packets(DropReason::UdpSend, lost);
        self.counts.sent.fetch_sub(lost, Ordering::Relaxed);
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
        self.messages.clear();
        for packet in &self.packets {
            let bytes = &arena[packet.start..packet.start + packet.len];
            match frame::parse(bytes, self.interface) {
                Some(datagram) => self.messages.push(Received {
                    start: packet.start + datagram.payload.start,
                    len: datagram.payload.len(),
                    segment: datagram.payload.len().max(1),
                    from: datagram.from,
                    truncated: false,
                }),
                None => self.work.drop_packet(DropReason::Shape),
            }
        }
        // Frames lie apart, so no two of them are ever one run.
        let merge = false;
        self.work
            .open(arena, &self.messages, &self.tun, merge, self.shared);
        if self.counts.by_socket.load(Ordering::Relaxed) {
            self.sender.send(arena, &mut self.work.relayed);
        } else {
            let mut ways_out = WaysOut {
                routes: &mut self.routes,
                port: self.port,
                room,
                by_socket: &mut self.by_socket,
                leaving: &mut self.leaving,
            };
            ways_out.part(arena, &mut self.work.relayed, &self.packets);
            self.sender.send(arena, &mut self.by_socket);
        }
        self.work.finish(arena, &self.tun, self.shared);
        self.let_go();
        self.kick();
        self.xsk.wake_receiver();
        true
    }

    /// Sends the frames that leave, and gives back all others.
    fn let_go(&mut self) {
        let rings = self.xsk.rings();
        let received = self.packets.len() as u64;
        let mut sent = 0;
        let mut leaving = self.leaving.drain(..).peekable();
        for (at, packet) in self.packets.drain(..).enumerate() {
            let Some(Leaving { start, len, .. }) = leaving.next_if(|next| next.packet == at) else {
                rings.recycle(packet);
                continue;
            };
            match rings.transmit(packet, start, len) {
                Ok(()) => sent += 1,
                // Never, as there was room for it.
                Err(packet) => {
                    self.shared.counters.drop_packet(DropReason::UdpSend);
                    rings.recycle(packet);
                }
            }
        }
        drop(leaving);
        rings.publish();
        rings.refill();
        self.counts.received.fetch_add(received, Ordering::Relaxed);
        self.counts.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// Has the kernel send, until it has taken everything or has no more room.
    fn kick(&mut self) {
        let kicks = if self.xsk.is_zero_copy() { 1 } else { KICKS };
        let wake = if self.is_polling() {
            Xsk::wake_sender_while_polled
        } else {
            Xsk::wake_sender
        };
        for _ in 0..kicks {
            if self.xsk.rings().unsent() == 0 || !wake(&self.xsk) {
                return;
            }
        }
    }

    fn is_polling(&self) -> bool {
        self.counts.polling.load(Ordering::Relaxed)
    }
}

/// Decides how what is relayed leaves.
struct WaysOut<'a> {
    routes: &'a mut Routes,
    port: u16,
    /// Frames that may leave.
    room: usize,
    by_socket: &'a mut Runs,
    leaving: &'a mut Vec<Leaving>,
}

impl WaysOut<'_> {
    /// Parts what is relayed into that which leaves in its frame, with its headers written,
    /// and that which leaves by the socket. Both are in the order of the packets.
    fn part(&mut self, arena: &mut [u8], relayed: &mut Runs, packets: &[Packet]) {
        self.routes.begin();
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
            let remote = run.endpoint.remote;
            let header = headers::len(&remote.ip());
            let start = run.start - header;
            let written = at < packets.len()
                && self.leaving.len() < self.room
                && self.routes.way(&run.endpoint).is_some_and(|way| {
                    let frame = &mut arena[start..run.start + run.len];
                    headers::write(frame, &way, self.port, remote)
                });
            if written {
                self.leaving.push(Leaving {
                    packet: at,
                    start,
                    len: header + run.len,
                });
            } else {
                let merge = false;
                self.by_socket.push(run.start, run.len, run.endpoint, merge);
            }
        }
        relayed.clear();
    }
}
