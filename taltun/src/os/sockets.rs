//! Sockets with a mark, or of one interface alone, for questions to name servers and for those
//! that we are asked.

use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 32;

/// A UDP socket connected to a server, with a port of the kernel's choice and a mark; 0 for
/// none.
pub(crate) fn ask(server: SocketAddr, mark: u32) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = socket(server, Type::DGRAM, Protocol::UDP)?;
    if mark != 0 {
        socket.set_mark(mark)?;
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

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
