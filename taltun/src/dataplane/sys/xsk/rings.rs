//! The four rings of a socket and the memory they speak of (UMEM): who has which frame.
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
//! the kernel has that frame.

use std::sync::Arc;

use super::mapping::Mapping;
use super::ring::{Consumer, Producer};

/// A frame that is ours, for now.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is let go is lost: recycle it"]
struct Frame(u32);

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

/// UMEM, and which of its frames the kernel has.
#[derive(Debug)]
struct Umem {
    area: Arc<Mapping>,
    frame_len: usize,
    with_kernel: Box<[bool]>,
    free: Vec<Frame>,
}

impl Umem {
    fn new(area: Arc<Mapping>, frame_len: usize) -> Self {
        let count = area.len() / frame_len;
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

/// The rings of one socket, and its frames.
#[derive(Debug)]
pub struct Rings {
    umem: Umem,
    fill: Producer<u64>,
    rx: Consumer<libc::xdp_desc>,
    tx: Producer<libc::xdp_desc>,
    completion: Consumer<u64>,
    /// Frames handed over for sending and not back yet.
    sending: usize,
    /// Descriptors that make no sense.
    invalid: u64,
}

impl Rings {
    pub(super) fn new(
        area: Arc<Mapping>,
        frame_len: usize,
        fill: Producer<u64>,
        rx: Consumer<libc::xdp_desc>,
        tx: Producer<libc::xdp_desc>,
        completion: Consumer<u64>,
    ) -> Self {
        Self {
            umem: Umem::new(area, frame_len),
            fill,
            rx,
            tx,
            completion,
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

    /// Whether there is something to receive.
    pub fn has_received(&mut self) -> bool {
        self.rx.has_more()
    }

    /// All frames, as one piece of memory. What lies outside of packets that were received
    /// and not given back may change at any time and means nothing.
    pub fn arena(&mut self) -> &mut [u8] {
        // SAFETY: the area is mapped for as long as it is held here, and `&mut self` keeps
        // us from making a second slice of it. The kernel writes to frames on the fill ring
        // only, of which no packet tells: so nobody reads or writes those bytes through
        // this slice, and a new slice is made once they have come back.
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
        if self.sending >= self.umem.with_kernel.len() / 2 {
            return Err(packet);
        }
        let descriptor = libc::xdp_desc {
            addr: start as u64,
            len: len as u32,
            options: 0,
        };
        if self.tx.push(descriptor).is_err() {
            return Err(packet);
        }
        self.umem.give(&packet.frame);
        self.sending += 1;
        Ok(())
    }

    /// How many more packets [`transmit`](Self::transmit) takes at least.
    pub fn room_to_send(&self) -> usize {
        let half = self.umem.with_kernel.len() / 2;
        half.saturating_sub(self.sending.max(self.unsent()))
    }

    /// Shows the kernel what is to be sent.
    pub fn publish(&mut self) {
        self.tx.publish();
    }

    /// Takes back the frames that were sent.
    pub fn reap(&mut self) {
        while let Some(address) = self.completion.pop() {
            match self.umem.take(address) {
                Some(frame) => {
                    self.sending = self.sending.saturating_sub(1);
                    self.umem.free.push(frame);
                }
                None => self.invalid += 1,
            }
        }
        self.completion.release();
    }

    /// Whether frames are on their way out.
    pub fn is_sending(&self) -> bool {
        self.sending > 0
    }

    /// How many of them the kernel hasn't looked at yet.
    pub fn unsent(&self) -> usize {
        self.tx.waiting() as usize
    }

    /// Whether the kernel asks to be woken to fill frames.
    pub fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Whether the kernel asks to be woken to send.
    pub fn send_needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// Descriptors from the kernel that made no sense.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::tests::{OFFSETS, memory};
    use super::*;

    const FRAMES: usize = 16;
    const FRAME_LEN: usize = 2048;

    /// The other side of the four rings.
    struct Kernel {
        fill: Consumer<u64>,
        rx: Producer<libc::xdp_desc>,
        tx: Consumer<libc::xdp_desc>,
        completion: Producer<u64>,
        /// Frames to fill, and frames being sent.
        filling: Vec<u64>,
        sending: Vec<u64>,
    }

    fn pair(number: u32) -> (Rings, Kernel) {
        let [fill, rx, tx, completion] = [(); 4].map(|()| memory(number));
        let size = FRAMES as u32;
        let area = Arc::new(Mapping::anonymous(FRAMES * FRAME_LEN).unwrap());
        let rings = Rings::new(
            area,
            FRAME_LEN,
            Producer::new(Arc::clone(&fill), &OFFSETS, size).unwrap(),
            Consumer::new(Arc::clone(&rx), &OFFSETS, size).unwrap(),
            Producer::new(Arc::clone(&tx), &OFFSETS, size).unwrap(),
            Consumer::new(Arc::clone(&completion), &OFFSETS, size).unwrap(),
        );
        let kernel = Kernel {
            fill: Consumer::new(fill, &OFFSETS, size).unwrap(),
            rx: Producer::new(rx, &OFFSETS, size).unwrap(),
            tx: Consumer::new(tx, &OFFSETS, size).unwrap(),
            completion: Producer::new(completion, &OFFSETS, size).unwrap(),
            filling: Vec::new(),
            sending: Vec::new(),
        };
        (rings, kernel)
    }

    fn descriptor(addr: u64, len: u32) -> libc::xdp_desc {
        libc::xdp_desc {
            addr,
            len,
            options: 0,
        }
    }

    impl Kernel {
        fn receive(&mut self) {
            self.filling.extend(std::iter::from_fn(|| self.fill.pop()));
            self.fill.release();
            if let Some(address) = self.filling.pop() {
                self.rx.push(descriptor(address + 256, 100)).unwrap();
                self.rx.publish();
            }
        }

        fn send(&mut self) {
            let sent = std::iter::from_fn(|| self.tx.pop()).map(|descriptor| descriptor.addr);
            self.sending.extend(sent);
            self.tx.release();
        }

        fn complete(&mut self) {
            if let Some(address) = self.sending.pop() {
                self.completion.push(address).unwrap();
                self.completion.publish();
            }
        }
    }

    fn random(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn whatever_happens_in_whatever_order_every_frame_is_in_one_place() {
        for seed in 1..=20_u64 {
            let mut random = {
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                move || random(&mut state)
            };
            let (mut rings, mut kernel) = pair(u32::MAX - 300);
            let mut held = Vec::new();
            let (mut received, mut sent) = (0, 0);
            for _ in 0..5_000 {
                match random() % 8 {
                    0 => rings.refill(),
                    1 => rings.receive(&mut held, 4),
                    2 => {
                        if let Some(packet) = held.pop() {
                            rings.recycle(packet);
                        }
                    }
                    3 => {
                        if let Some(packet) = held.pop() {
                            let (start, len) = (packet.start, packet.len);
                            match rings.transmit(packet, start, len) {
                                Ok(()) => sent += 1,
                                Err(packet) => held.push(packet),
                            }
                            rings.publish();
                        }
                    }
                    4 => rings.reap(),
                    5 => {
                        kernel.receive();
                        received += 1;
                    }
                    6 => kernel.send(),
                    _ => kernel.complete(),
                }
                let with_kernel = rings.umem.with_kernel.iter().filter(|is| **is).count();
                assert_eq!(with_kernel + rings.umem.free.len() + held.len(), FRAMES);
                let mut ours: Vec<u32> = held.iter().map(|packet| packet.frame.0).collect();
                ours.extend(rings.umem.free.iter().map(|frame| frame.0));
                ours.sort_unstable();
                ours.dedup();
                assert_eq!(ours.len(), FRAMES - with_kernel, "a frame is there twice");
                assert!(ours.iter().all(|at| !rings.umem.with_kernel[*at as usize]));
                assert!(rings.sending <= FRAMES / 2);
            }
            assert_eq!(rings.invalid(), 0);
            assert!(received > 100 && sent > 50, "{received} in, {sent} out");
        }
    }

    #[test]
    fn what_the_kernel_never_had_or_cannot_have_filled_is_no_packet() {
        let (mut rings, mut kernel) = pair(0);
        let mut packets = Vec::new();
        kernel.rx.push(descriptor(256, 100)).unwrap();
        kernel.rx.publish();
        rings.receive(&mut packets, 8);
        assert!(packets.is_empty(), "that frame was never given to it");
        rings.refill();
        let beyond = (FRAMES * FRAME_LEN) as u64;
        for (addr, len) in [(beyond, 1), (u64::MAX, 1), (256, 1_793), (300, u32::MAX)] {
            kernel.rx.push(descriptor(addr, len)).unwrap();
        }
        kernel.rx.publish();
        rings.receive(&mut packets, 8);
        assert!(packets.is_empty());
        assert_eq!(rings.invalid(), 5);
        kernel.completion.push(5 * FRAME_LEN as u64 + 7).unwrap();
        kernel.completion.publish();
        // Not one that was sent; but the kernel's word is all there is.
        rings.sending = 1;
        rings.reap();
        assert_eq!(rings.sending, 0);
    }

    #[test]
    fn half_of_the_frames_stay_to_receive_with() {
        let (mut rings, mut kernel) = pair(0);
        rings.refill();
        for _ in 0..FRAMES {
            kernel.receive();
        }
        let mut packets = Vec::new();
        rings.receive(&mut packets, FRAMES);
        let refused = packets
            .into_iter()
            .filter_map(|packet| {
                let start = packet.start;
                rings.transmit(packet, start, 60).err()
            })
            .collect::<Vec<_>>();
        assert_eq!(refused.len(), FRAMES / 2);
        for packet in refused {
            rings.recycle(packet);
        }
        assert!(rings.is_sending());
    }

    #[test]
    fn the_arena_is_what_was_received_into() {
        let (mut rings, mut kernel) = pair(0);
        rings.refill();
        kernel.receive();
        let mut packets = Vec::new();
        rings.receive(&mut packets, 1);
        let (start, len) = (packets[0].start, packets[0].len);
        let arena = rings.arena();
        assert_eq!(arena.len(), FRAMES * FRAME_LEN);
        arena[start..start + len].fill(7);
        assert!(
            rings.arena()[start..start + len]
                .iter()
                .all(|byte| *byte == 7)
        );
        rings.recycle(packets.remove(0));
    }
}
