//! Sockets with a mark, or of one interface alone, for questions to name servers and for those
//! that we are asked; and those that hear what didn't arrive.

use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::options;
use crate::verbs;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 32;
/// The kinds of messages of ICMP and `ICMPv6` that say that a packet didn't arrive.
pub(crate) const V4_UNREACHABLE: u8 = 3;
pub(crate) const V6_UNREACHABLE: u8 = 1;
/// What a socket keeps of them, bytes.
const OF_UNREACHABLE: usize = 32 << 10;
/// `ICMP_FILTER` and `ICMP6_FILTER` (`linux/icmp.h`, `linux/icmpv6.h`).
const FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;

/// A UDP socket connected to a server, with a port of the kernel's choice and a mark; 0 for
/// none.
pub(crate) fn ask(server: SocketAddr, mark: u32) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = socket(server, Type::DGRAM, Protocol::UDP)?;
    if mark != 0 {
        verbs::mark(&[socket.as_fd()], mark)?;
    }
    socket.bind(&SocketAddr::new(any, 0).into())?;
    socket.connect(&server.into())?;
    UdpSocket::from_std(socket.into())
}

/// A UDP socket at `at` for what comes in by this interface only; by any if there is none.
pub(crate) fn listen_udp(at: SocketAddr, interface: Option<&str>) -> io::Result<net::UdpSocket> {
    let socket = socket(at, Type::DGRAM, Protocol::UDP)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

/// The same for TCP.
pub(crate) fn listen_tcp(at: SocketAddr, interface: Option<&str>) -> io::Result<net::TcpListener> {
    let socket = socket(at, Type::STREAM, Protocol::TCP)?;
    // As every server does: connections of an earlier process may still be ending.
    socket.set_reuse_address(true)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A raw socket that hears messages of the kind "destination unreachable" of ICMP, or `ICMPv6`, and no others.
pub(crate) fn hear_unreachable(v6: bool) -> io::Result<OwnedFd> {
    let (domain, protocol) = if v6 {
        (Domain::IPV6, Protocol::ICMPV6)
    } else {
        (Domain::IPV4, Protocol::ICMPV4)
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if v6 {
        let mut held_back = [u32::MAX; 8];
        held_back[0] = !(1 << V6_UNREACHABLE);
        options::set(socket.as_fd(), libc::IPPROTO_ICMPV6, FILTER, &held_back)?;
    } else {
        let held_back = !(1_u32 << V4_UNREACHABLE);
        options::set(socket.as_fd(), SOL_RAW, FILTER, &held_back)?;
    }
    socket.set_recv_buffer_size(OF_UNREACHABLE)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
