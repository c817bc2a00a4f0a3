//! The sockets of a process, as they go from the tunnel to it over a pair of Unix sockets.
//!
//! The kernel takes only so many at once, so they go in several messages of one byte each, which says whether more
//! follow.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most sockets that a message has, which is the kernel's limit (`SCM_MAX_FD`).
const MOST: usize = 253;
/// What a message says: others follow, or that it is the last one.
const MORE: u8 = b'+';
const LAST: u8 = b'\n';

/// Hands over its sockets.
pub fn send_sockets(channel: impl AsFd, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let (first, last) = sockets.split_at(sockets.len().saturating_sub(1) / MOST * MOST);
    for some in first.chunks(MOST) {
        send(&channel, MORE, some)?;
    }
    send(&channel, LAST, last)
}

fn send(channel: impl AsFd, word: u8, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets for a message"));
    }
    sendmsg(
        channel,
        &[IoSlice::new(&[word])],
        &mut rights,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes these sockets.
pub(super) fn receive_sockets(channel: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    while receive(&channel, &mut sockets)? == MORE {}
    Ok(sockets)
}

/// Takes those of one message, and says what that says.
fn receive(channel: impl AsFd, sockets: &mut Vec<OwnedFd>) -> io::Result<u8> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut word = [LAST];
    let mut data = [IoSliceMut::new(&mut word)];
    recvmsg(channel, &mut data, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            sockets.extend(some);
        }
    }
    Ok(word[0])
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn any_number_of_sockets_arrives_in_order() {
        for count in [0, 1, MOST, MOST + 1, 2 * MOST, 2 * MOST + 7] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let file = File::open("/dev/null").unwrap();
            let mut sockets = vec![file.as_fd(); count];
            if let Some(last) = sockets.last_mut() {
                *last = theirs.as_fd();
            }
            send_sockets(&ours, &sockets).unwrap();
            let received = receive_sockets(&theirs).unwrap();
            assert_eq!(received.len(), count);
            let is_socket = |fd: &OwnedFd| rustix::net::getsockname(fd).is_ok();
            let found = received.iter().position(is_socket);
            assert_eq!(found, count.checked_sub(1));
        }
    }
}
