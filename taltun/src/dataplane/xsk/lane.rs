//! A lane: one AF_XDP socket and the thread that serves it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use taltun_common::drops::DropReason;

use super::frame;
use crate::dataplane::inbound::Work;
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
/// How long after its end the kernel may still put frames on the ring.
const LAST_FRAMES: Duration = Duration::from_millis(2);

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
    received: Arc<AtomicU64>,
    stop: StopSignal,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts a thread for this socket, which is bound to this queue.
    pub fn start(parts: Parts, xsk: Xsk, queue: Queue) -> io::Result<Self> {
        let stop = StopSignal::new()?;
        let received = Arc::new(AtomicU64::new(0));
        let mut lane = Self {
            handle: xsk.handle(),
            zero_copy: xsk.is_zero_copy(),
            room: xsk.room(),
            received: Arc::clone(&received),
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
                interface: queue.interface,
                xsk,
                packets: Vec::with_capacity(BATCH),
                messages: Vec::with_capacity(BATCH),
                work: Work::new(None, &tun, BATCH),
                sender: Sender::new(socket, Arc::clone(&shared.counters)),
                tun,
                shared: &shared,
                received: &received,
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
        self.received.load(Ordering::Relaxed)
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
    received: &'a AtomicU64,
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
                    return Ok(());
                }
                Wait::Gone => return Ok(()),
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

    /// Looks without sleeping for as long as is configured, then sleeps.
    fn wait(&self, stop: &StopSignal) -> io::Result<Wait> {
        let started = Instant::now();
        let busy = self.shared.busy_poll;
        while !busy.is_zero() && started.elapsed() < busy {
            match wait(self.xsk.as_fd(), stop.as_fd(), Some(Duration::ZERO))? {
                Wait::TimedOut => std::hint::spin_loop(),
                other => return Ok(other),
            }
        }
        wait(self.xsk.as_fd(), stop.as_fd(), None)
    }

    /// Takes one batch through to its end; false when there was none.
    fn carry_batch(&mut self) -> bool {
        let rings = self.xsk.rings();
        rings.receive(&mut self.packets, BATCH);
        if self.packets.is_empty() {
            return false;
        }
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
        self.sender.send(arena, &mut self.work.relayed);
        self.work.finish(arena, &self.tun, self.shared);
        let count = self.packets.len() as u64;
        self.received.fetch_add(count, Ordering::Relaxed);
        for packet in self.packets.drain(..) {
            rings.recycle(packet);
        }
        rings.refill();
        self.xsk.wake_receiver();
        true
    }
}
