//! The rings of a socket as its own thread has them: what it receives, and which of the lower
//! frames of the memory they speak of (UMEM) is where. What is sent is in `sending`.
//!
//! A frame is a piece of UMEM of fixed size. It is always in exactly one place:
//!
//! ```text
//!        ┌──────────► free ─────────► fill ring ──► kernel ──► RX ring ─► Packet ─┐
//!        │             ▲                                                          │
//!        │             └───────────────────────── recycle ────────────────────────┤
//!   completion ring ◄────────────── kernel ◄─────────── TX ring ◄──── transmit ───┘
//! ```
//!
//! Outside of the rings a frame is a value that can't be copied, so it can't be handed to
//! the kernel twice; and whatever number comes back from the kernel becomes a frame only if
//! the kernel has that frame, for what it comes back from.

use std::sync::Arc;

use super::mapping::Mapping;
use super::ring::{Consumer, Producer};
use super::sending::{Filled, Frame, Sending};

/// What was received: a frame, and where in the arena its contents lie.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its frame is lost if it is let go: recycle or transmit it"]
pub struct Packet {
    frame: Frame,
    /// Where it starts in the arena.
    pub start: usize,
    /// Its bytes, from the Ethernet header on.
    pub len: usize,
}

impl Packet {
    /// Whether its contents take up this place in the arena.
    pub fn holds(&self, place: usize) -> bool {
        (self.start..self.start + self.len).contains(&place)
    }
}

/// The lower part of UMEM, and which of its frames the kernel has to fill.
#[derive(Debug)]
struct Umem {
    area: Arc<Mapping>,
    frame_len: usize,
    with_kernel: Box<[bool]>,
    free: Vec<Frame>,
}

impl Umem {
    fn new(area: Arc<Mapping>, frame_len: usize, count: usize) -> Self {
        Self {
            area,
            frame_len,
            with_kernel: vec![false; count].into_boxed_slice(),
            // The first is used first.
            free: (0..count as u32).rev().map(Frame).collect(),
        }
    }

    fn address(&self, frame: &Frame) -> u64 {
        u64::from(frame.0) * self.frame_len as u64
    }

    /// Marks a frame as the kernel's; its address.
    fn give(&mut self, frame: &Frame) -> u64 {
        self.with_kernel[frame.0 as usize] = true;
        self.address(frame)
    }

    /// The frame that this address lies in, if the kernel has it.
    fn take(&mut self, address: u64) -> Option<Frame> {
        let number = usize::try_from(address).ok()? / self.frame_len;
        let with_kernel = self.with_kernel.get_mut(number)?;
        std::mem::take(with_kernel).then_some(Frame(number as u32))
    }
}

/// The rings of one socket, and its lower frames.
#[derive(Debug)]
pub struct Rings {
    umem: Umem,
    fill: Producer<u64>,
    rx: Consumer<libc::xdp_desc>,
    out: Arc<Sending>,
    /// Packets to be sent that aren't published yet.
    leaving: Vec<Filled>,
    /// How many are on their way out and not back yet.
    sending: usize,
    /// Descriptors that make no sense.
    invalid: u64,
}

impl Rings {
    /// For memory of which the first `lower` frames are received into, and sent by `out`.
    pub(super) fn new(
        area: Arc<Mapping>,
        frame_len: usize,
        lower: usize,
        fill: Producer<u64>,
        rx: Consumer<libc::xdp_desc>,
        out: Arc<Sending>,
    ) -> Self {
        Self {
            umem: Umem::new(area, frame_len, lower),
            fill,
            rx,
            out,
            leaving: Vec::with_capacity(lower / 2),
            sending: 0,
            invalid: 0,
        }
    }

    /// Takes up to `most` received packets.
    pub fn receive(&mut self, packets: &mut Vec<Packet>, most: usize) {
        for _ in 0..most {
            let Some(descriptor) = self.rx.pop() else {
                break;
            };
            let Some(frame) = self.umem.take(descriptor.addr) else {
                self.invalid += 1;
                continue;
            };
            let start = descriptor.addr as usize;
            let len = descriptor.len as usize;
            let end = (frame.0 as usize + 1) * self.umem.frame_len;
            if len > end - start {
                self.invalid += 1;
                self.umem.free.push(frame);
                continue;
            }
            packets.push(Packet { frame, start, len });
        }
        self.rx.release();
    }

    /// All lower frames, as one piece of memory. What lies outside of packets that were
    /// received and not given back may change at any time and means nothing.
    pub fn arena(&mut self) -> &mut [u8] {
        // SAFETY: the area is mapped for as long as it is held here, and `&mut self` keeps
        // us from making a second slice of its lower frames, which nobody else does. The
        // kernel writes to frames on the fill ring only, of which no packet tells: so nobody
        // reads or writes those bytes through this slice, and a new slice is made once they
        // have come back.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.umem.area.start().as_ptr(),
                self.umem.with_kernel.len() * self.umem.frame_len,
            )
        }
    }

    /// Gives a packet's frame back, to be filled again.
    pub fn recycle(&mut self, packet: Packet) {
        self.umem.free.push(packet.frame);
    }

    /// Lets the kernel fill all frames that are free.
    pub fn refill(&mut self) {
        while let Some(frame) = self.umem.free.pop() {
            if self.fill.push(self.umem.give(&frame)).is_err() {
                // Never, as the ring has room for every frame there is.
                self.umem.with_kernel[frame.0 as usize] = false;
                self.umem.free.push(frame);
                break;
            }
        }
        self.fill.publish();
    }

    /// Has the frame of a packet sent, of which these `len` bytes from `start` on, once
    /// [`publish`](Self::publish) is called. Gives it back when there is no room: no more
    /// than half of all frames may be on their way out, that some are left to receive with.
    ///
    /// # Panics
    /// When the bytes aren't in the packet's frame.
    pub fn transmit(&mut self, packet: Packet, start: usize, len: usize) -> Result<(), Packet> {
        let first = self.umem.address(&packet.frame) as usize;
        assert!(
            first <= start && start + len <= first + self.umem.frame_len,
            "a frame is sent from its own bytes"
        );
        if self.room_to_send() == 0 {
            return Err(packet);
        }
        let frame = packet.frame;
        self.leaving.push(Filled { frame, start, len });
        self.sending += 1;
        Ok(())
    }

    /// How many more packets [`transmit`](Self::transmit) takes.
    pub fn room_to_send(&self) -> usize {
        (self.umem.with_kernel.len() / 2).saturating_sub(self.sending)
    }

    /// Shows the kernel what is to be sent.
    pub fn publish(&mut self) {
        if !self.leaving.is_empty() {
            self.out.transmit(&mut self.leaving);
        }
    }

    /// Takes back the frames that were sent.
    pub fn reap(&mut self) {
        let before = self.umem.free.len();
        self.out.take_back(&mut self.umem.free);
        self.sending -= self.umem.free.len() - before;
    }

    /// Whether the kernel asks to be woken to fill frames.
    pub fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Descriptors of received frames that made no sense.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }
}

impl Drop for Rings {
    /// Nobody else may keep the socket open.
    fn drop(&mut self) {
        self.out.close();
    }
}

#[cfg(test)]
mod tests;
