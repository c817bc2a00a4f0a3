//! Reading from a UDP socket: all that is there, up to a batch, by one system call.
//!
//! A short batch says that the socket is empty, which saves the call that would find nothing.

use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many datagrams a call reads at most.
pub(crate) const BATCH: usize = 8;
/// No datagram is larger.
const SIZE: usize = 1 << 16;

/// Has tokio say when something can be read from `socket`. Nothing else is of interest: to say
/// when something can be sent would cost an event for each datagram that is sent.
pub(crate) fn watch(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: the socket keeps its descriptor as long as it lives, which is in the `AsyncFd`.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}

/// Where datagrams are read to; one for all sockets of a worker.
pub(crate) struct Receiver {
    buffers: Box<[u8]>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffers: vec![0; BATCH * SIZE].into_boxed_slice(),
        }
    }
}

impl Receiver {
    /// Reads what a nonblocking socket has, gives it to `each` and returns how many there were:
    /// fewer than [`BATCH`] if that was all.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut parts: [MaybeUninit<libc::iovec>; BATCH] = [MaybeUninit::uninit(); BATCH];
        // SAFETY: all zeros is a header without addresses, data or control messages.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let buffers = self.buffers.chunks_exact_mut(SIZE);
        for ((part, header), buffer) in parts.iter_mut().zip(&mut headers).zip(buffers) {
            let part = part.write(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: SIZE,
            });
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each of the BATCH headers leads to one part, and that to SIZE bytes of its own
        // buffer; all of them outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                // An integer of one C library, and an unsigned one of another.
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        for (header, buffer) in headers
            .iter()
            .zip(self.buffers.chunks_exact(SIZE))
            .take(count)
        {
            each(&buffer[..SIZE.min(header.msg_len as usize)]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_there_is_read_and_no_more_than_a_batch() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket.local_addr().unwrap()).unwrap();
        let mut receiver = Receiver::default();
        let nothing = receiver.receive(&socket, |_| ()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let sent: Vec<Vec<u8>> = (0..BATCH + 2).map(|n| vec![n as u8; n * 1000]).collect();
        for payload in &sent {
            sender.send(payload).unwrap();
        }
        let mut read = Vec::new();
        let mut receive = || receiver.receive(&socket, |payload| read.push(payload.to_vec()));
        assert_eq!(receive().unwrap(), BATCH);
        assert_eq!(receive().unwrap(), 2);
        assert_eq!(read, sent);
    }
}
