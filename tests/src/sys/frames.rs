//! Sending many finished frames on an interface at little cost: one system call for a batch,
//! nothing allocated, nothing copied but by the kernel.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{bind_packet_socket, check, interface_index, set_option, socket};

/// The most frames that are sent in one call.
const BATCH: usize = 128;

/// Sends finished frames, Ethernet header and all, on one interface.
#[derive(Debug)]
pub struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// A sender of IPv4 frames on `interface` of the calling thread's network namespace.
    pub fn new(interface: &str) -> io::Result<Self> {
        // Protocol zero: nothing is to be received.
        let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        bind_packet_socket(&socket, interface_index(interface)?, libc::ETH_P_IP as u16)?;
        // Straight to the driver: a queue in between would be one more thing that drops.
        let on: libc::c_int = 1;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on)?;
        Ok(Self { socket })
    }

    /// Sends the first of `frames`, in their order, and returns how many the interface took.
    /// None, if there is any, means that it had no room for the first one.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        // SAFETY: iovec and mmsghdr are plain old data, for which all zeroes is a valid value.
        let (mut pieces, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { std::mem::zeroed() };
        let mut count = 0;
        for ((piece, message), frame) in pieces.iter_mut().zip(&mut messages).zip(frames) {
            piece.iov_base = frame.as_ptr().cast_mut().cast();
            piece.iov_len = frame.len();
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: each of the first `count` messages points at one piece, and that at a frame
        // which the caller has lent us; the call only reads frames, whatever the pointers'
        // type says.
        let sent = check(unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        });
        match sent {
            Ok(sent) => Ok(sent.unsigned_abs() as usize),
            Err(error) if is_for_want_of_room(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn is_for_want_of_room(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)
    )
}
