//! Descriptors that go from one process to another over a Unix socket (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors that a message has, which is the kernel's limit (`SCM_MAX_FD`).
pub(crate) const MOST: usize = 253;

/// What came in a message.
#[derive(Debug)]
pub(crate) struct Came {
    /// How many bytes; none if the other end hung up.
    pub(crate) bytes: usize,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether it had more bytes than there was room for.
    pub(crate) is_cut: bool,
    /// Whether it had more descriptors than this process may have open.
    pub(crate) lacks_some: bool,
}

/// Sends `bytes` with `descriptors`.
///
/// # Errors
/// `InvalidInput` for more than [`MOST`]; the kernel's.
pub(crate) fn send(
    channel: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let data = [IoSlice::new(bytes)];
    loop {
        match sendmsg(&channel, &data, &mut rights, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop).map_err(io::Error::from),
        }
    }
}

/// Waits for the next message, and puts its bytes into `room`.
///
/// # Errors
/// The kernel's.
pub(crate) fn receive(channel: impl AsFd, room: &mut [u8]) -> io::Result<Came> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut data = [IoSliceMut::new(room)];
        match recvmsg(&channel, &mut data, &mut rights, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = part {
            descriptors.extend(some);
        }
    }
    Ok(Came {
        bytes: message.bytes,
        descriptors,
        is_cut: message.flags.contains(ReturnFlags::TRUNC),
        lacks_some: message.flags.contains(ReturnFlags::CTRUNC),
    })
}
