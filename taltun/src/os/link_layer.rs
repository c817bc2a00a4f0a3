//! Whole Ethernet frames, sent past the network stack: to tell neighbours who has an address.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Socket, Type};

use super::check;

/// Sends frames by any interface.
#[derive(Debug)]
pub(crate) struct Frames(OwnedFd);

impl Frames {
    /// For the network namespace of the calling thread. It hears nothing.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`.
    pub(crate) fn open() -> io::Result<Self> {
        // Without a protocol nothing is received.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// Sends a frame, its Ethernet header included, by the interface with this number.
    ///
    /// # Errors
    /// The kernel's own, as where there is no such interface.
    pub(crate) fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as libc::c_ushort;
        to.sll_ifindex = libc::c_int::try_from(interface).unwrap_or(0);
        // SAFETY: the frame and the address live until after the call, which reads so many bytes of each.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check(libc::c_int::try_from(sent).unwrap_or(libc::c_int::MAX)).map(drop)
    }
}
