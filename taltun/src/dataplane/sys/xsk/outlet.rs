//! Having the kernel send what is on a socket's TX ring, by the thread that receives or by
//! others, which have an [`Outlet`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::Handle;
use super::sending::{FrameSlots, LentFrames, Sending};
use crate::os::check;

/// How often in a row the kernel is asked to send although it takes nothing, before something else
/// is done.
const IDLE_KICKS: usize = 8;

/// Sends by a socket that another thread receives by. It doesn't keep the socket open.
#[derive(Debug, Clone)]
pub struct Outlet {
    sending: Arc<Sending>,
    handle: Handle,
    zero_copy: bool,
}

impl Outlet {
    pub(super) fn new(sending: &Arc<Sending>, handle: Handle, zero_copy: bool) -> Self {
        Self {
            sending: Arc::clone(sending),
            handle,
            zero_copy,
        }
    }

    /// Lends up to `most` frames to be filled and sent; none where the socket has no more, or
    /// is about to be closed.
    pub fn lend<'a>(&'a self, tray: &'a mut FrameSlots, most: usize) -> LentFrames<'a> {
        self.sending.lend(tray, most)
    }

    /// Bytes of the largest frame that it sends.
    pub fn largest(&self) -> usize {
        self.sending.frame_len()
    }

    /// Has the kernel send what was published, by whomever. With copies it has taken all of that
    /// when this returns, unless something is [left](Kicked::left).
    pub fn kick(&self) -> Kicked {
        let Some(socket) = self.handle.socket() else {
            return Kicked::default();
        };
        kick(&socket, &self.sending, self.zero_copy)
    }

    /// The place behind all that was published, by whomever.
    pub fn published(&self) -> Place {
        Place(self.sending.published())
    }

    /// Whether the kernel has taken all before this place; so it has when the socket is closed.
    pub fn has_taken(&self, all: Place) -> bool {
        self.sending.pending_before(all.0).unsent == 0
    }
}

/// A place in the TX ring.
#[derive(Debug, Clone, Copy)]
pub struct Place(u32);

/// What came of having the kernel send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "what was lost is to be counted"]
pub struct Kicked {
    /// Frames that it threw away: the other end takes no more, or nobody is there.
    pub lost: u64,
    /// Whether something is left for which it has to be asked again: it had no room, or the
    /// interface is down.
    pub left: bool,
    /// Whether the interface is down.
    pub down: bool,
}

/// What the kernel answers when it was asked to send once.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// It has sent as many as it does at once, or as it has room for.
    Sent,
    /// It has thrown a frame away.
    Lost,
    /// It can't.
    Refused,
}

/// Has the kernel send, until it has taken what is there by now or takes no more. With zero copy
/// it goes on by itself.
pub(super) fn kick(socket: &OwnedFd, sending: &Sending, zero_copy: bool) -> Kicked {
    kick_by(sending, zero_copy, || wake(socket))
}

/// The same, where `wake` asks the kernel once.
///
/// Others publish meanwhile and have the kernel send, too. So what is to be taken is told by its
/// place in the ring: who left after a fixed number of tries, or when the ring got longer, would leave
/// some of their own frames behind, and what they send by the socket next would overtake these.
fn kick_by(sending: &Sending, zero_copy: bool, mut wake: impl FnMut() -> Answer) -> Kicked {
    let mut kicked = Kicked::default();
    let all = sending.published();
    let mut left = sending.pending_before(all);
    let mut idle = 0;
    while left.unsent > 0 && left.needs_wakeup {
        match wake() {
            Answer::Sent => {}
            // The ring goes on behind it.
            Answer::Lost if !zero_copy => kicked.lost += 1,
            Answer::Lost | Answer::Refused => {
                kicked.left = true;
                kicked.down = true;
                return kicked;
            }
        }
        if zero_copy {
            return kicked;
        }
        let now = sending.pending_before(all);
        idle = if now.unsent < left.unsent {
            0
        } else {
            idle + 1
        };
        if idle == IDLE_KICKS {
            kicked.left = true;
            return kicked;
        }
        left = now;
    }
    kicked
}

/// Has the kernel send what is on the TX ring. Where it copies, this sends some 32 frames.
fn wake(socket: &OwnedFd) -> Answer {
    // SAFETY: no memory is passed: the length is zero and there is no address.
    let result = check(unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    } as libc::c_int);
    match result.map_err(|error| error.raw_os_error()) {
        // The ring tells whether any went.
        Ok(_) | Err(Some(libc::EAGAIN)) => Answer::Sent,
        // "Completed but not sent", and no more after it.
        Err(Some(libc::EBUSY)) => Answer::Lost,
        Err(_) => Answer::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::super::mapping::Mapping;
    use super::super::parts::NEED_WAKEUP;
    use super::super::ring::tests::{memory, parts};
    use super::super::ring::{Consumer, Producer};
    use super::*;

    const FRAME_LEN: usize = 2048;
    const FRAMES: u32 = 64;

    /// Sending by upper frames alone, and the kernel's end of the TX ring.
    fn pair() -> (Sending, RefCell<Consumer<libc::xdp_desc>>) {
        let [tx, completion] = [(); 2].map(|()| memory(u32::MAX - 20));
        parts::<libc::xdp_desc>(&tx, FRAMES)
            .flags()
            .store(NEED_WAKEUP, std::sync::atomic::Ordering::Relaxed);
        let area = Mapping::anonymous(FRAMES as usize * FRAME_LEN).unwrap();
        let sending = Sending::new(
            Arc::new(area),
            FRAME_LEN,
            0,
            Producer::new(parts(&tx, FRAMES)),
            Consumer::new(parts(&completion, FRAMES)),
        );
        (sending, RefCell::new(Consumer::new(parts(&tx, FRAMES))))
    }

    fn publish(sending: &Sending, count: usize) {
        let mut slots = FrameSlots::default();
        let mut frames = sending.lend(&mut slots, count);
        for _ in 0..count {
            assert!(frames.fill(60, |_| true));
        }
        assert_eq!(frames.publish(), count);
    }

    /// The kernel takes up to so many frames.
    fn take(kernel: &RefCell<Consumer<libc::xdp_desc>>, most: usize) -> usize {
        let mut kernel = kernel.borrow_mut();
        let taken = (0..most).map_while(|_| kernel.pop()).count();
        kernel.release();
        taken
    }

    #[test]
    fn what_was_published_is_taken_although_others_publish_more_meanwhile() {
        let (sending, kernel) = pair();
        publish(&sending, 8);
        let (taken, tries) = (Cell::new(0), Cell::new(0));
        let kicked = kick_by(&sending, false, || {
            tries.set(tries.get() + 1);
            taken.set(taken.get() + take(&kernel, 3));
            // As many as were taken and more: the ring gets no shorter.
            publish(&sending, 5);
            Answer::Sent
        });
        assert_eq!(kicked, Kicked::default());
        assert_eq!((taken.get(), tries.get()), (9, 3));
        assert_eq!(sending.pending().unsent, 8 + 15 - 9);
    }

    #[test]
    fn what_the_kernel_throws_away_is_counted_and_leaves_nothing_behind() {
        let (sending, kernel) = pair();
        publish(&sending, 40);
        let kicked = kick_by(&sending, false, || {
            assert_eq!(take(&kernel, 2), 2);
            Answer::Lost
        });
        let wanted = Kicked {
            lost: 20,
            ..Kicked::default()
        };
        assert_eq!((kicked, sending.pending().unsent), (wanted, 0));
    }

    #[test]
    fn a_kernel_that_takes_nothing_is_left_alone_after_a_while() {
        let (sending, kernel) = pair();
        publish(&sending, 3);
        let tries = Cell::new(0);
        let kicked = kick_by(&sending, false, || {
            tries.set(tries.get() + 1);
            // One in the middle: it begins to count anew.
            if tries.get() == IDLE_KICKS {
                take(&kernel, 1);
            }
            Answer::Sent
        });
        assert!(kicked.left && !kicked.down);
        assert_eq!((tries.get(), sending.pending().unsent), (2 * IDLE_KICKS, 2));
    }

    #[test]
    fn an_interface_that_is_down_keeps_what_is_there() {
        let (sending, _kernel) = pair();
        publish(&sending, 3);
        let kicked = kick_by(&sending, false, || Answer::Refused);
        assert!(kicked.left && kicked.down);
        assert_eq!((kicked.lost, sending.pending().unsent), (0, 3));
    }

    #[test]
    fn with_zero_copy_one_try_is_enough() {
        let (sending, _kernel) = pair();
        publish(&sending, 3);
        let tries = Cell::new(0);
        let kicked = kick_by(&sending, true, || {
            tries.set(tries.get() + 1);
            Answer::Sent
        });
        assert_eq!((kicked, tries.get()), (Kicked::default(), 1));
    }
}
