//! Having the kernel send what is on a socket's TX ring, by the thread that receives or by
//! others, which have an [`Outlet`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::Handle;
use super::sending::{FrameSlots, LentFrames, Sending};
use crate::os::check;

/// How often the kernel is asked to send, at most, before something else is done. Where it
/// copies it sends some 32 frames each time; else asking starts it, and once is enough.
const KICKS: usize = 8;

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

    /// Has the kernel send what was published.
    pub fn kick(&self) -> Kicked {
        let Some(socket) = self.handle.socket() else {
            return Kicked::default();
        };
        kick(&socket, &self.sending, self.zero_copy)
    }
}

/// What came of having the kernel send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "what was lost is to be counted"]
pub struct Kicked {
    /// Frames that it threw away, as it does while an interface goes down.
    pub lost: u64,
    /// Whether something is left for which it has to be asked again: it had no room, or the
    /// link is down.
    pub left: bool,
    /// Whether the link is down.
    pub down: bool,
}

/// What the kernel answers when it was asked to send once.
enum Answer {
    /// It has sent as many as it does at once, or as it has room for.
    Sent,
    /// It has thrown a frame away.
    Lost,
    /// It can't.
    Refused,
}

/// Has the kernel send, until it has taken everything or takes no more. With zero copy it
/// goes on by itself.
pub(super) fn kick(socket: &OwnedFd, sending: &Sending, zero_copy: bool) -> Kicked {
    let kicks = if zero_copy { 1 } else { KICKS };
    let mut kicked = Kicked::default();
    let mut before = usize::MAX;
    for _ in 0..kicks {
        let pending = sending.pending();
        if pending.unsent == 0 || !pending.needs_wakeup {
            return kicked;
        }
        kicked.left = pending.unsent >= before;
        if kicked.left {
            return kicked;
        }
        before = pending.unsent;
        match wake(socket) {
            Answer::Sent => {}
            Answer::Lost if !zero_copy => {
                kicked.lost += 1;
                kicked.down = true;
            }
            Answer::Lost | Answer::Refused => {
                kicked.left = true;
                kicked.down = true;
                return kicked;
            }
        }
    }
    kicked.left = !zero_copy && sending.pending().unsent > 0;
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
