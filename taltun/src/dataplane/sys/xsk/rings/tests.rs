//! The rings with a kernel of the tests' own at their other ends.

use super::super::ring::tests::{memory, parts};
use super::super::sending::FrameSlots;
use super::*;

const FRAMES: usize = 16;
const SPARE_FRAMES: usize = 8;
const ALL_FRAMES: usize = FRAMES + SPARE_FRAMES;
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
    let area = Arc::new(Mapping::anonymous(ALL_FRAMES * FRAME_LEN).unwrap());
    let sending = Sending::new(
        Arc::clone(&area),
        FRAME_LEN,
        FRAMES,
        Producer::new(parts(&tx, size)),
        Consumer::new(parts(&completion, size)),
    );
    let rings = Rings::new(
        area,
        FRAME_LEN,
        FRAMES,
        Producer::new(parts(&fill, size)),
        Consumer::new(parts(&rx, size)),
        Arc::new(sending),
    );
    let kernel = Kernel {
        fill: Consumer::new(parts(&fill, size)),
        rx: Producer::new(parts(&rx, size)),
        tx: Consumer::new(parts(&tx, size)),
        completion: Producer::new(parts(&completion, size)),
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

/// Fills up to `most` frames with their number, as another thread would, and shows
/// those to the kernel if `publish`; how many left.
fn lend(rings: &Rings, tray: &mut FrameSlots, most: usize, publish: bool) -> usize {
    let mut loan = rings.out.lend(tray, most);
    let write = |number: usize| {
        move |frame: &mut [u8]| {
            frame.fill(number as u8);
            true
        }
    };
    let filled = (0..most)
        .take_while(|number| loan.fill(100, write(*number)))
        .count();
    if !publish {
        return 0;
    }
    let left = loan.publish();
    assert_eq!(left, filled);
    left
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
        let mut tray = FrameSlots::default();
        let (mut received, mut sent, mut lent) = (0, 0, 0);
        for _ in 0..8_000 {
            match random() % 10 {
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
                7 => lent += lend(&rings, &mut tray, random() as usize % 5, true),
                8 => lent += lend(&rings, &mut tray, random() as usize % 5, false),
                _ => kernel.complete(),
            }
            check_places(&rings, &held);
        }
        assert_eq!(rings.invalid() + rings.out.census().invalid, 0);
        assert!(
            received > 100 && sent > 50 && lent > 50,
            "{received} in, {sent} out, {lent} of others"
        );
    }
}

/// Every frame is in one place, and each half has those that are its own.
fn check_places(rings: &Rings, held: &[Packet]) {
    let out = rings.out.census();
    let mut everywhere: Vec<u32> = Vec::new();
    let filling = rings.umem.with_kernel.iter().enumerate();
    everywhere.extend(filling.filter(|(_, is)| **is).map(|(at, _)| at as u32));
    everywhere.extend(held.iter().map(|packet| packet.frame.0));
    everywhere.extend(rings.umem.free.iter().map(|frame| frame.0));
    everywhere.extend(&out.returned);
    assert!(everywhere.iter().all(|frame| (*frame as usize) < FRAMES));
    assert!(out.free.iter().all(|frame| (*frame as usize) >= FRAMES));
    let lower = out
        .on_their_way
        .iter()
        .filter(|at| (**at as usize) < FRAMES);
    assert_eq!(lower.count() + out.returned.len(), rings.sending);
    assert!(rings.sending <= FRAMES / 2);
    assert_eq!(out.on_their_way.len(), out.sending);
    everywhere.extend(&out.free);
    everywhere.extend(&out.on_their_way);
    everywhere.sort_unstable();
    assert!(everywhere.into_iter().eq(0..ALL_FRAMES as u32));
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
    // Of others, who send by it and don't receive; and behind all.
    let [others, beyond] = [FRAMES, ALL_FRAMES].map(|at| (at * FRAME_LEN) as u64);
    for (addr, len) in [
        (others, 1),
        (beyond, 1),
        (u64::MAX, 1),
        (256, 1_793),
        (300, u32::MAX),
    ] {
        kernel.rx.push(descriptor(addr, len)).unwrap();
    }
    kernel.rx.publish();
    rings.receive(&mut packets, 8);
    assert!(packets.is_empty());
    assert_eq!(rings.invalid(), 6);
    // One that is to be filled, one that nobody has, and one that isn't there.
    for address in [5 * FRAME_LEN as u64 + 7, others, beyond, u64::MAX] {
        kernel.completion.push(address).unwrap();
    }
    kernel.completion.publish();
    rings.reap();
    assert_eq!(rings.out.census().invalid, 4);
    check_places(&rings, &[]);
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
    rings.publish();
    assert!(rings.out.is_sending());
    // Others have as much room as ever.
    let mut tray = FrameSlots::default();
    assert_eq!(lend(&rings, &mut tray, ALL_FRAMES, true), SPARE_FRAMES);
    assert_eq!(lend(&rings, &mut tray, 1, true), 0);
    kernel.send();
    kernel.complete();
    assert_eq!(lend(&rings, &mut tray, 2, true), 1);
    check_places(&rings, &[]);
}

#[test]
fn what_others_fill_is_sent_as_they_wrote_it_and_lies_behind_the_arena() {
    let (mut rings, mut kernel) = pair(0);
    rings.arena().fill(7);
    let mut tray = FrameSlots::default();
    assert_eq!(lend(&rings, &mut tray, 3, true), 3);
    assert_eq!(rings.out.pending().unsent, 3);
    assert!(rings.arena().iter().all(|byte| *byte == 7));
    kernel.send();
    assert_eq!(rings.out.pending().unsent, 0);
    for (number, address) in kernel.sending.iter().enumerate() {
        assert_eq!(*address as usize, (FRAMES + number) * FRAME_LEN);
        // SAFETY: the frame is on its way out, so nobody writes to it.
        let bytes = unsafe {
            let at = rings.umem.area.start().as_ptr().add(*address as usize);
            std::slice::from_raw_parts(at, 101)
        };
        assert!(bytes[..100].iter().all(|byte| usize::from(*byte) == number));
        assert_eq!(bytes[100], 0);
    }
}

#[test]
fn a_frame_that_is_not_wanted_or_too_small_is_filled_by_the_next() {
    let (rings, _kernel) = pair(0);
    let mut tray = FrameSlots::default();
    let mut loan = rings.out.lend(&mut tray, 1);
    assert!(!loan.fill(FRAME_LEN + 1, |_| panic!("there are no such frames")));
    assert!(!loan.fill(100, |_| false));
    assert!(loan.fill(FRAME_LEN, |_| true));
    assert!(!loan.fill(1, |_| panic!("one was lent")));
    assert_eq!(loan.publish(), 1);
    check_places(&rings, &[]);
}

#[test]
fn once_it_is_shut_nothing_more_is_sent_and_what_was_lent_comes_back() {
    let (rings, mut kernel) = pair(0);
    let mut trays = [FrameSlots::default(), FrameSlots::default()];
    let [first, second] = &mut trays;
    let mut loan = rings.out.lend(first, 2);
    assert!(loan.fill(60, |_| true));
    assert_eq!(lend(&rings, second, 1, true), 1);
    rings.out.shut();
    assert_eq!(loan.publish(), 0);
    assert_eq!(lend(&rings, second, 1, true), 0);
    check_places(&rings, &[]);
    // What was shown to the kernel before leaves.
    kernel.send();
    kernel.complete();
    rings.out.take_back(&mut Vec::new());
    assert!(!rings.out.is_sending());
}

#[test]
fn a_socket_that_was_closed_under_a_loan_sends_none_of_it() {
    let (rings, _kernel) = pair(0);
    let out = Arc::clone(&rings.out);
    let mut trays = [FrameSlots::default(), FrameSlots::default()];
    let [first, second] = &mut trays;
    let mut loans = [out.lend(first, 1), out.lend(second, 1)];
    drop(rings);
    assert!(loans.iter_mut().all(|loan| loan.fill(60, |_| true)));
    let [published, dropped] = loans;
    assert_eq!(published.publish(), 0);
    drop(dropped);
    assert_eq!(out.pending().unsent, 0);
    let mut tray = FrameSlots::default();
    assert!(!out.lend(&mut tray, 1).fill(60, |_| true));
}

#[test]
fn several_threads_fill_frames_beside_the_one_that_receives() {
    const EACH: usize = 2_000;
    let (mut rings, mut kernel) = pair(u32::MAX - 300);
    let out = Arc::clone(&rings.out);
    let send = |number: u8| {
        let mut tray = FrameSlots::with_capacity(4);
        let mut sent = 0;
        while sent < EACH {
            let mut loan = out.lend(&mut tray, 4.min(EACH - sent));
            while loan.fill(64, |frame| {
                frame.fill(number);
                // Whoever else had it would be seen.
                std::thread::yield_now();
                frame.iter().all(|byte| *byte == number)
            }) {}
            sent += loan.publish();
        }
    };
    std::thread::scope(|scope| {
        let threads = [1, 2].map(|number| scope.spawn(move || send(number)));
        let mut held = Vec::new();
        let (mut received, mut sent) = (0_u8, 0);
        let mut going = true;
        while going || rings.out.is_sending() {
            going = threads.iter().any(|thread| !thread.is_finished());
            rings.refill();
            kernel.receive();
            rings.receive(&mut held, 1);
            for packet in held.drain(..) {
                received = received.wrapping_add(1);
                rings.arena()[packet.start..packet.start + packet.len].fill(received);
                let start = packet.start;
                match rings.transmit(packet, start, 60) {
                    Ok(()) => sent += 1,
                    Err(packet) => rings.recycle(packet),
                }
            }
            rings.publish();
            kernel.send();
            while !kernel.sending.is_empty() {
                kernel.complete();
            }
            rings.reap();
        }
        assert!(sent > 0);
    });
    check_places(&rings, &[]);
    assert_eq!(rings.invalid() + rings.out.census().invalid, 0);
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
