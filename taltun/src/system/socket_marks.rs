//! The marks of sockets in this network namespace: a socket's mark is in use, whoever set it.
//!
//! The kernel lists UDP sockets with their marks (`sock_diag(7)`, `linux/inet_diag.h`) to
//! processes with `CAP_NET_ADMIN`.

use std::collections::HashSet;
use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

/// The kind of netlink socket that tells of sockets.
const NETLINK_SOCK_DIAG: isize = 4;
const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
/// Asks for sockets of a family.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// A request for all that there are.
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// A header of netlink.
const HEADER: usize = 16;
/// A request after its header: `inet_diag_req_v2`.
const REQUEST: usize = 56;
/// What a socket is told by, before its attributes: `inet_diag_msg`.
const MESSAGE: usize = 72;
/// The attribute with the mark.
const INET_DIAG_MARK: u16 = 15;

/// The marks of all UDP sockets, but 0.
///
/// # Errors
/// What the kernel says; one that was built without this has none to tell.
pub(super) fn marks_of_sockets() -> io::Result<HashSet<u32>> {
    let mut marks = HashSet::new();
    for family in [AF_INET, AF_INET6] {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&request(family), 0)?;
        loop {
            let (datagram, _) = socket.recv_from_full()?;
            if read(&datagram, &mut marks)? {
                break;
            }
        }
    }
    Ok(marks)
}

fn request(family: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence number and sender, which nobody else's answer comes to.
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_UDP as u8, 0, 0]);
    // In all states.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

/// Adds the marks of a datagram. Whether it is the last one.
fn read(mut datagram: &[u8], marks: &mut HashSet<u32>) -> io::Result<bool> {
    while let Some((length, kind)) = header(datagram) {
        let message = datagram
            .get(HEADER..length)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = message
                    .first_chunk()
                    .map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(-code));
            }
            SOCK_DIAG_BY_FAMILY => {
                marks.extend(mark(message.get(MESSAGE..).unwrap_or_default()));
            }
            _ => {}
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(false)
}

/// Length and kind of the first message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    Some((length.max(HEADER), kind))
}

/// The mark among the attributes of a socket.
fn mark(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        if kind == INET_DIAG_MARK {
            let mark = u32::from_ne_bytes(*attributes.get(4..)?.first_chunk()?);
            return (mark != 0).then_some(mark);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_with_a_mark_is_found() {
        if !crate::system::check::may_administer() {
            println!("skipped: needs root");
            return;
        }
        for (at, wanted) in [("127.0.0.1:0", 0x7a01_0203_u32), ("[::1]:0", 0x7a01_0204)] {
            let Ok(socket) = UdpSocket::bind(at) else {
                println!("skipped: no {at}");
                continue;
            };
            // SAFETY: the value is a number that outlives the call, and its size is told.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_MARK,
                    (&raw const wanted).cast(),
                    size_of::<u32>() as libc::socklen_t,
                )
            };
            assert_eq!(set, 0, "{}", io::Error::last_os_error());
            match marks_of_sockets() {
                Ok(marks) => assert!(marks.contains(&wanted), "{marks:?}"),
                // A kernel without udp_diag.
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}"),
            }
        }
    }

    #[test]
    fn nonsense_is_no_mark_and_comes_to_an_end() {
        let mut marks = HashSet::new();
        for text in [&[][..], &[1], &[0; 16], &[0; 64]] {
            assert!(!read(text, &mut marks).unwrap());
            assert_eq!(mark(text), None);
        }
        // Longer than the datagram.
        let mut long = request(2);
        long[0] = 255;
        read(&long, &mut marks).unwrap_err();
        assert!(marks.is_empty());
    }
}
