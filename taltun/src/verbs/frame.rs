//! Frames and descriptors between the tunnel and the privileged process, over a pair of Unix sockets that keep each
//! frame apart (`SOCK_SEQPACKET`).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

use super::descriptors::{self, Came};
use super::verb::MOST_SOCKETS;

/// The longest frame, bytes.
pub const FRAME_MAX: usize = 4096;
/// Most descriptors of a frame.
const MOST: usize = MOST_SOCKETS as usize;
const _: () = assert!(MOST <= descriptors::MOST);

/// What came.
#[derive(Debug)]
pub struct Received {
    /// The frame; empty if the other end hung up.
    pub frame: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
    /// Whether others came with it that can't be had: this process may open no more files.
    pub lacks_some: bool,
}

/// The two ends of a channel.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends a frame with descriptors.
///
/// # Errors
/// `WouldBlock` where the other end hasn't read the frames before it: each reads one before it sends another.
pub fn send(channel: BorrowedFd<'_>, frame: &[u8], with: &[BorrowedFd<'_>]) -> io::Result<()> {
    descriptors::send(channel, frame, with, SendFlags::DONTWAIT)
}

/// Waits for the next frame.
///
/// # Errors
/// `InvalidData` for one that is too long.
pub fn receive(channel: BorrowedFd<'_>) -> io::Result<Received> {
    let mut frame = vec![0; FRAME_MAX];
    // What comes with it is taken in any case, so that it is closed.
    let Came {
        bytes,
        descriptors,
        is_cut,
        lacks_some,
    } = descriptors::receive(channel, &mut frame)?;
    if is_cut {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.truncate(bytes);
    Ok(Received {
        frame,
        descriptors,
        lacks_some,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn frames_stay_apart_with_what_belongs_to_each() {
        let (ours, theirs) = pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let many = [file.as_fd(); MOST];
        send(ours.as_fd(), b"one", &[]).unwrap();
        send(ours.as_fd(), &[7; FRAME_MAX], &many).unwrap();
        send(ours.as_fd(), &[7; FRAME_MAX + 1], &many[..1]).unwrap();
        let count = |frame: &[u8]| {
            let received = receive(theirs.as_fd()).unwrap();
            assert_eq!(received.frame, frame);
            received.descriptors.len()
        };
        assert_eq!(count(b"one"), 0);
        assert_eq!(count(&[7; FRAME_MAX]), MOST);
        let long = receive(theirs.as_fd()).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
        drop(ours);
        assert!(receive(theirs.as_fd()).unwrap().frame.is_empty());
    }
}
