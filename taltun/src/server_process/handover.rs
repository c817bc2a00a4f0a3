//! The sockets that a process listens on, as they go from the tunnel to it over a pair of Unix
//! sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::config::LISTEN_MAX;

/// Most sockets that are handed over: each place may be a vip, which takes two.
const MOST_LISTENERS: usize = 2 * LISTEN_MAX;

/// Hands over the sockets to listen on, at most sixteen.
pub fn send_listeners(channel: impl AsFd, listeners: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_LISTENERS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(listeners)) {
        return Err(io::Error::other("too many sockets to listen on"));
    }
    sendmsg(
        channel,
        &[IoSlice::new(b"\n")],
        &mut rights,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes these sockets.
pub(super) fn receive_listeners(channel: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_LISTENERS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(channel, &mut data, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let mut listeners = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            listeners.extend(sockets);
        }
    }
    Ok(listeners)
}
