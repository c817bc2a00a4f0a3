//! UDP datagrams many at a time: equal ones received as one message (`UDP_GRO`) and sent as
//! one (`UDP_SEGMENT`). A message is datagrams of one length, one behind the other; only the
//! last may be shorter.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use super::set_option;

/// The most datagrams in a message that is sent.
pub const MOST_SEGMENTS: usize = 64;
/// The most bytes in one, so that with its headers it is still an IP packet.
pub const MOST_BYTES: usize = 65_535 - 20 - 8;

/// Bytes for one control message with an integer, its header included.
const CONTROL_LEN: usize = 32;

/// Control messages must be aligned as their header is.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// From now on `socket` receives whole messages; only [`receive_merged`] understands them.
pub fn merge_received(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, &1_i32)
}

/// Gives `socket` buffers of so many bytes, past what the system allows everybody.
pub fn enlarge_buffers(socket: &UdpSocket, bytes: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
}

/// Receives a message into `buffer`, which should hold 64 KiB: how many bytes it has, and
/// each of its datagrams but the last.
pub fn receive_merged(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut piece = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain old data, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LEN as _;
    // SAFETY: `header` points at `piece`, that at `buffer`, and at `control`, each with its
    // length; all of them outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok((length, segment_of(&header).unwrap_or(length)))
}

/// Sends a message of datagrams of `segment` bytes on a connected `socket`: at most
/// [`MOST_SEGMENTS`] of them and [`MOST_BYTES`] in all.
///
/// # Errors
/// `EMSGSIZE`, on older kernels `EINVAL`, when there are several and one doesn't fit the path.
pub fn send_merged(socket: &UdpSocket, bytes: &[u8], segment: usize) -> io::Result<()> {
    if bytes.len() <= segment {
        return socket.send(bytes).map(drop);
    }
    let segment = u16::try_from(segment).map_err(io::Error::other)?;
    let mut control = Control([0; CONTROL_LEN]);
    let mut piece = libc::iovec {
        // The kernel only reads from it.
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain old data, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: `msg_control` points at `CONTROL_LEN` bytes aligned for a header, which is more
    // than one control message with a `u16` takes; its data lies where CMSG_DATA says.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(message)
            .cast::<u16>()
            .write_unaligned(segment);
    }
    // SAFETY: `header` points at `piece`, that at `bytes`, and at `control`, each with its
    // length; all of them outlive the call, which only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The length of the datagrams that were merged, if any were.
fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has filled in the control messages that `header` points at and their
    // length, which is what these macros walk by; the integer of UDP_GRO lies where CMSG_DATA
    // says.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_UDP && (*message).cmsg_type == libc::UDP_GRO {
                let segment = libc::CMSG_DATA(message).cast::<i32>().read_unaligned();
                return usize::try_from(segment).ok().filter(|length| *length > 0);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> (UdpSocket, UdpSocket) {
        let (a, b) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        a.connect(b.local_addr().unwrap()).unwrap();
        b.connect(a.local_addr().unwrap()).unwrap();
        (a, b)
    }

    #[test]
    fn a_message_sent_as_one_arrives_as_its_datagrams_or_as_one() {
        let bytes: Vec<u8> = (0..1000_u32).map(|number| number as u8).collect();
        let mut buffer = vec![0; 1 << 16];
        let (from, to) = connected();
        send_merged(&from, &bytes, 300).unwrap();
        let lengths: Vec<_> = (0..4).map(|_| to.recv(&mut buffer).unwrap()).collect();
        assert_eq!(lengths, [300, 300, 300, 100]);

        merge_received(&to).unwrap();
        send_merged(&from, &bytes, 300).unwrap();
        assert_eq!(receive_merged(&to, &mut buffer).unwrap(), (1000, 300));
        assert_eq!(buffer[..1000], bytes);
        send_merged(&from, &bytes[..300], 300).unwrap();
        assert_eq!(receive_merged(&to, &mut buffer).unwrap(), (300, 300));
    }
}
