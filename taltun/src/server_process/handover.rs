//! The sockets of a process, as they go from the tunnel to it over a pair of Unix sockets.
//!
//! The kernel takes only so many at once, so they go in several messages of one byte each, which says whether more
//! follow.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::verbs::descriptors::{self, MOST};

/// What a message says: others follow, or that it is the last one.
const MORE: u8 = b'+';
const LAST: u8 = b'\n';

/// Hands over its sockets.
pub fn send_sockets(channel: impl AsFd, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let send = |word, some: &[_]| descriptors::send(&channel, &[word], some, SendFlags::empty());
    let (first, last) = sockets.split_at(sockets.len().saturating_sub(1) / MOST * MOST);
    for some in first.chunks(MOST) {
        send(MORE, some)?;
    }
    send(LAST, last)
}

/// Takes these sockets.
///
/// # Errors
/// `EMFILE` where this process may not have so many open; `UnexpectedEof` where not all were sent.
pub(super) fn receive_sockets(channel: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    loop {
        let mut word = [LAST];
        let came = descriptors::receive(&channel, &mut word)?;
        if came.lacks_some {
            return Err(Errno::MFILE.into());
        }
        if came.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sockets.extend(came.descriptors);
        if word != [MORE] {
            return Ok(sockets);
        }
    }
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

    #[test]
    fn who_sends_no_more_than_a_part_has_sent_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        descriptors::send(&ours, &[MORE], &[theirs.as_fd()], SendFlags::empty()).unwrap();
        drop(ours);
        let error = receive_sockets(&theirs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
