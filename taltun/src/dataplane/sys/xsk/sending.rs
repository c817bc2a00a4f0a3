//! The sending half of a socket, which several threads use: the TX ring, the completion ring
//! and who has which frame that is on its way out.
//!
//! UMEM has two parts. The lower frames are the receiving thread's, who may send one again
//! that it has received. The upper ones are lent to whoever has something to send that came
//! from elsewhere:
//!
//! ```text
//!   upper:  free ──► LentFrames ── publish ──┐                                    ┌──► free
//!                                      ├─► TX ring ─► kernel ─► completion ─┤
//!   lower:  Packet ─── transmit ───────┘                                    └──► Rings
//! ```
//!
//! A lock is held while frames change hands, once or twice a batch, and never while anybody
//! writes to them: a frame is written to by the one who has it, and only one has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mapping::Mapping;
use super::ring::{Consumer, Producer};

/// A frame that is ours, for now.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is let go is lost: give it back"]
pub(super) struct Frame(pub(super) u32);

/// A frame on its way out.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) frame: Frame,
    /// Where in UMEM the bytes start that are to be sent, and how many they are.
    pub(super) start: usize,
    pub(super) len: usize,
}

/// The sending half of a socket.
#[derive(Debug)]
pub(super) struct Sending {
    area: Arc<Mapping>,
    frame_len: usize,
    /// How many of the frames are the receiving thread's.
    lower: usize,
    /// `None` once the socket is closed, which the rings would keep open.
    half: Mutex<Option<Half>>,
}

#[derive(Debug)]
struct Half {
    tx: Producer<libc::xdp_desc>,
    completion: Consumer<u64>,
    /// Which frames were handed over for sending and aren't back yet, and how many.
    on_their_way: Box<[bool]>,
    sending: usize,
    /// Upper frames that nobody has.
    free: Vec<Frame>,
    /// Lower frames that were sent.
    returned: Vec<Frame>,
    /// Whether nothing more is lent, as the socket is about to be closed.
    shut: bool,
    /// Numbers that make no sense.
    invalid: u64,
}

/// What is left to send, for a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    /// Frames that the kernel hasn't looked at yet.
    pub(super) unsent: usize,
    /// Whether it asks to be woken for them.
    pub(super) needs_wakeup: bool,
}

impl Sending {
    /// For memory of which the first `lower` frames are the receiving thread's.
    pub(super) fn new(
        area: Arc<Mapping>,
        frame_len: usize,
        lower: usize,
        tx: Producer<libc::xdp_desc>,
        completion: Consumer<u64>,
    ) -> Self {
        let count = area.len() / frame_len;
        let half = Half {
            tx,
            completion,
            on_their_way: vec![false; count].into_boxed_slice(),
            sending: 0,
            // The first is used first.
            free: (lower as u32..count as u32).rev().map(Frame).collect(),
            returned: Vec::with_capacity(lower),
            shut: false,
            invalid: 0,
        };
        Self {
            area,
            frame_len,
            lower,
            half: Mutex::new(Some(half)),
        }
    }

    fn half(&self) -> MutexGuard<'_, Option<Half>> {
        self.half.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the half, if the socket is still open.
    fn with<T>(&self, what: impl FnOnce(&mut Half) -> T) -> Option<T> {
        self.half().as_mut().map(what)
    }

    /// Bytes of a frame.
    pub(super) fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// Has frames of the receiving thread sent. Those for which there is no room, of which
    /// there are none, stay where they are.
    pub(super) fn transmit(&self, filled: &mut Vec<Filled>) {
        self.with(|half| half.push_all(filled));
    }

    /// Takes back what was sent; the receiving thread's frames go behind these.
    pub(super) fn take_back(&self, lower: &mut Vec<Frame>) {
        self.with(|half| {
            half.reap(self.frame_len, self.lower);
            lower.append(&mut half.returned);
        });
    }

    /// Lends up to `most` of the upper frames; none when all are taken or the socket is about
    /// to be closed.
    pub(super) fn lend<'a>(&'a self, tray: &'a mut FrameSlots, most: usize) -> LentFrames<'a> {
        // What is on it is from a loan that was never given back: those frames are lost.
        tray.spare.clear();
        tray.filled.clear();
        self.with(|half| {
            if half.shut {
                return;
            }
            if half.free.len() < most {
                half.reap(self.frame_len, self.lower);
            }
            let kept = half.free.len().saturating_sub(most);
            tray.spare.extend(half.free.drain(kept..));
        });
        LentFrames {
            sending: self,
            tray,
        }
    }

    /// What is left to send; nothing once the socket is closed.
    pub(super) fn pending(&self) -> Pending {
        self.pending_before(self.published())
    }

    /// The place in the TX ring behind all that was published.
    pub(super) fn published(&self) -> u32 {
        self.with(|half| half.tx.published()).unwrap_or_default()
    }

    /// What is left to send before this place; nothing once the socket is closed.
    pub(super) fn pending_before(&self, place: u32) -> Pending {
        let pending = self.with(|half| Pending {
            unsent: half.tx.waiting_before(place) as usize,
            needs_wakeup: half.tx.needs_wakeup(),
        });
        pending.unwrap_or(Pending {
            unsent: 0,
            needs_wakeup: false,
        })
    }

    /// Whether frames are on their way out.
    pub(super) fn is_sending(&self) -> bool {
        self.with(|half| half.sending > 0).unwrap_or(false)
    }

    /// From now on nothing is lent, and what is lent already can't be sent any more.
    pub(super) fn shut(&self) {
        self.with(|half| half.shut = true);
    }

    /// Lets the rings go, without which the socket wouldn't be closed.
    pub(super) fn close(&self) {
        *self.half() = None;
    }

    /// The bytes of an upper frame.
    fn bytes<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        let start = frame.0 as usize * self.frame_len;
        // SAFETY: the frame is one of this area's upper ones, as only these are lent, and a
        // tray never has another socket's. They lie behind what the receiving thread makes a
        // slice of, and apart from each other. Who has one is the only one who has it, and the
        // kernel hasn't: so nobody else reads or writes these bytes while it is borrowed.
        unsafe {
            std::slice::from_raw_parts_mut(self.area.start().as_ptr().add(start), self.frame_len)
        }
    }
}

impl Half {
    fn push_all(&mut self, filled: &mut Vec<Filled>) {
        let mut count = 0;
        for Filled { frame, start, len } in filled.iter() {
            let descriptor = libc::xdp_desc {
                addr: *start as u64,
                len: *len as u32,
                options: 0,
            };
            if self.tx.push(descriptor).is_err() {
                // Never, as the ring has room for all frames that may be sent at once.
                break;
            }
            self.on_their_way[frame.0 as usize] = true;
            count += 1;
        }
        self.sending += count;
        // The kernel has these: their numbers are all that is left of them.
        filled.drain(..count);
        self.tx.publish();
    }

    fn reap(&mut self, frame_len: usize, lower: usize) {
        while let Some(address) = self.completion.pop() {
            match self.arrive(address, frame_len) {
                Some(frame) if (frame.0 as usize) < lower => self.returned.push(frame),
                Some(frame) => self.free.push(frame),
                None => self.invalid += 1,
            }
        }
        self.completion.release();
    }

    /// The frame that this address lies in, if the kernel was to send it.
    fn arrive(&mut self, address: u64, frame_len: usize) -> Option<Frame> {
        let number = usize::try_from(address).ok()? / frame_len;
        let on_its_way = self.on_their_way.get_mut(number)?;
        if !std::mem::take(on_its_way) {
            return None;
        }
        self.sending -= 1;
        Some(Frame(number as u32))
    }
}

/// Where a thread keeps the frames that are lent to it, while they are.
#[derive(Debug, Default)]
pub struct FrameSlots {
    spare: Vec<Frame>,
    filled: Vec<Filled>,
}

impl FrameSlots {
    /// For loans of so many frames, without allocating again.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            spare: Vec::with_capacity(capacity),
            filled: Vec::with_capacity(capacity),
        }
    }
}

/// Frames that are lent to be filled and sent. What isn't goes back when this is dropped.
#[derive(Debug)]
pub struct LentFrames<'a> {
    sending: &'a Sending,
    tray: &'a mut FrameSlots,
}

impl LentFrames<'_> {
    /// Has the first `len` bytes of the next frame written, and keeps it to be sent if that
    /// says so. False if it doesn't, if no frame is left, or if none is as large.
    pub fn fill(&mut self, len: usize, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let Some(mut frame) = self.tray.spare.pop() else {
            return false;
        };
        let bytes = self.sending.bytes(&mut frame).get_mut(..len);
        if !bytes.is_some_and(write) {
            self.tray.spare.push(frame);
            return false;
        }
        let start = frame.0 as usize * self.sending.frame_len;
        self.tray.filled.push(Filled { frame, start, len });
        true
    }

    /// Shows the kernel the frames that were filled, and gives the others back. How many now
    /// leave, of the first ones: all of them, or none when the socket is about to be closed.
    pub fn publish(self) -> usize {
        let FrameSlots { spare, filled } = &mut *self.tray;
        let before = filled.len();
        self.sending.with(|half| {
            if !half.shut {
                half.push_all(filled);
            }
            half.free.append(spare);
        });
        before - filled.len()
    }
}

impl Drop for LentFrames<'_> {
    fn drop(&mut self) {
        let FrameSlots { spare, filled } = &mut *self.tray;
        if spare.is_empty() && filled.is_empty() {
            return;
        }
        spare.extend(filled.drain(..).map(|filled| filled.frame));
        self.sending.with(|half| half.free.append(spare));
    }
}

/// Which frame is where.
#[cfg(test)]
pub(super) struct Census {
    pub(super) free: Vec<u32>,
    pub(super) returned: Vec<u32>,
    pub(super) on_their_way: Vec<u32>,
    pub(super) sending: usize,
    pub(super) invalid: u64,
}

#[cfg(test)]
impl Sending {
    /// Which frame is where while the socket is open.
    pub(super) fn census(&self) -> Census {
        let numbers = |frames: &[Frame]| frames.iter().map(|frame| frame.0).collect();
        let census = self.with(|half| Census {
            free: numbers(&half.free),
            returned: numbers(&half.returned),
            on_their_way: (0..)
                .zip(&half.on_their_way)
                .filter_map(|(at, is)| is.then_some(at))
                .collect(),
            sending: half.sending,
            invalid: half.invalid,
        });
        census.expect("the socket is open")
    }
}
