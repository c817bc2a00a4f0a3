//! Preferred busy polling: the thread that a socket's packets are for does the driver's work
//! as well, when it has time for more, instead of being interrupted by it.
//!
//! The kernel calls the driver from `recvfrom` then. It takes an interface whose interrupts
//! are deferred; otherwise they go on coming between two calls.

use std::io;
use std::os::fd::BorrowedFd;

use crate::dataplane::sys::set_option;

/// Of linux/socket.h; the libc crate has no name for them.
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
/// Microseconds. The kernel polls once a call, however long this is; only not at zero.
const TIME: libc::c_int = 20;
/// Packets that a call takes off the queue at most: NAPI's own budget. The default is 8, and
/// more than 64 takes a privilege.
const BUDGET: libc::c_int = 64;

/// Switches it on or off for a socket.
pub(super) fn set(socket: BorrowedFd<'_>, yes: bool) -> io::Result<()> {
    let options = if yes {
        [
            (SO_PREFER_BUSY_POLL, 1),
            (SO_BUSY_POLL_BUDGET, BUDGET),
            (libc::SO_BUSY_POLL, TIME),
        ]
    } else {
        [
            (libc::SO_BUSY_POLL, 0),
            (SO_BUSY_POLL_BUDGET, 8),
            (SO_PREFER_BUSY_POLL, 0),
        ]
    };
    for (option, value) in options {
        set_option(socket, libc::SOL_SOCKET, option, value)?;
    }
    Ok(())
}
