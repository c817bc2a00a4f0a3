//! Reading and setting options of sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Marks what the kernel reads and writes as the value of an option.
///
/// # Safety
/// Any bytes are a valid value, all of which are initialised, and dropping it does nothing.
pub(crate) unsafe trait Value: Copy {}

// SAFETY: an integer.
unsafe impl Value for libc::c_int {}
// SAFETY: an integer.
unsafe impl Value for u32 {}
// SAFETY: integers without anything between them.
unsafe impl<const N: usize> Value for [u32; N] {}

/// Sets an option.
///
/// # Errors
/// What the kernel answers, as `ENOPROTOOPT` where it doesn't know the option.
pub(crate) fn set<T: Value>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer is to a value of the given length that outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A buffer of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Buffer {
    /// What came in and wasn't read yet.
    Receive,
    /// What was sent and hasn't left yet.
    Send,
}

/// Lets a socket's buffer hold so many bytes; without `CAP_NET_ADMIN`, as many as the system allows
/// everybody.
pub(crate) fn set_buffer(socket: BorrowedFd<'_>, buffer: Buffer, bytes: libc::c_int) {
    let (force, plain) = match buffer {
        Buffer::Receive => (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        Buffer::Send => (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    };
    if set(socket, libc::SOL_SOCKET, force, &bytes).is_err() {
        let _ = set(socket, libc::SOL_SOCKET, plain, &bytes);
    }
}

/// Reads an option, all of it.
///
/// # Errors
/// What the kernel answers, and [`Unsupported`](io::ErrorKind::Unsupported) where it knows a
/// shorter form only, as kernels before 5.9 do of some.
pub(crate) fn get<T: Value>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<T> {
    // SAFETY: any bytes are a value, so zeroes are.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: both pointers are to values that outlive the call, and the length is true.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    })?;
    if len as usize == size_of::<T>() {
        Ok(value)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_set_is_read_and_a_longer_form_than_the_kernels_is_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PRIORITY);
        set::<libc::c_int>(socket.as_fd(), level, option, &5).unwrap();
        assert_eq!(
            get::<libc::c_int>(socket.as_fd(), level, option).unwrap(),
            5
        );
        let longer = get::<[u32; 2]>(socket.as_fd(), level, option);
        assert_eq!(
            longer.map(drop).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
        assert!(set::<libc::c_int>(socket.as_fd(), level, -1, &0).is_err());
    }
}
