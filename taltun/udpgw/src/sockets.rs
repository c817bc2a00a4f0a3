//! The sockets, with all that is set on them.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::gone;
use crate::options::{LocalPorts, Options};
use crate::scope::Scope;

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1024;
/// When the kernel begins to look for a client that is silent, how often, and how long it does.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMES: u32 = 6;
/// How many local ports are tried for a connection.
const PORTS_TRIED: u16 = 64;

/// A socket that clients connect to. Its address may overlap with those of `friends`, and with
/// those of nobody else: not even with those of somebody who shares.
pub(crate) fn listener(
    scope: &Scope,
    options: &Options,
    friends: &[&TcpListener],
) -> io::Result<TcpListener> {
    let address = scope.listen.address;
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!scope.with_ipv4)?;
    }
    // Accepted sockets inherit it, and only so the window is right from the beginning.
    if let Some(size) = options.tcp_receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    let interface = scope.listen.interface.as_deref();
    socket.bind_device(interface.map(str::as_bytes))?;
    // The kernel lets two overlap if both say so, which is asked when one is bound.
    let share = |shared: bool| {
        for friend in friends {
            // It fails for no socket that listens; if it did, this one couldn't be bound.
            let _ = SockRef::from(*friend).set_reuse_port(shared);
        }
        socket.set_reuse_port(shared && !friends.is_empty())
    };
    share(true)?;
    let bound = socket.bind(&address.into());
    let listens = bound.and_then(|()| socket.listen(BACKLOG));
    share(false)?;
    listens?;
    Ok(socket.into())
}

/// Sets what a client's socket needs.
pub(crate) fn prepare_client(socket: &impl AsFd, options: &Options) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(options.tcp_nodelay)?;
    if let Some(size) = options.tcp_send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if options.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_TIMES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Has a client's connection reset when its socket is dropped. Otherwise what it hasn't read would
/// stay in the kernel after its end, as long as it likes, beyond all limits.
pub(crate) fn reset_when_dropped(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Has it closed in order instead, if the client has all that was sent to it.
pub(crate) fn close_when_dropped(socket: &impl AsFd) -> io::Result<()> {
    if gone::unacknowledged(socket)? == 0 {
        SockRef::from(socket).set_linger(None)?;
    }
    Ok(())
}

/// A socket that exchanges datagrams with `destination` and nobody else. `last_port` is where
/// the search for a local port ended before.
pub(crate) fn connection(
    destination: SocketAddr,
    options: &Options,
    last_port: &Cell<u16>,
) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let domain = Domain::for_address(destination);
    let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
    if let Some(size) = options.udp_buffer {
        socket.set_recv_buffer_size(size)?;
        socket.set_send_buffer_size(size)?;
    }
    let local = match destination.ip() {
        IpAddr::V4(_) => options.local,
        IpAddr::V6(_) => options.local_ipv6,
    };
    if let Some(local) = local {
        bind(&socket, local, last_port)?;
    }
    socket.connect(&destination.into())?;
    Ok(socket.into())
}

/// Binds to the next port that is free.
fn bind(socket: &Socket, local: LocalPorts, last_port: &Cell<u16>) -> io::Result<()> {
    let mut outcome = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..local.count.min(PORTS_TRIED) {
        let step = last_port.get().wrapping_add(1);
        last_port.set(step);
        let port = local.first.saturating_add(step % local.count);
        outcome = socket.bind(&SocketAddr::new(local.address, port).into());
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ports_are_of_the_range_and_used_once() {
        let local = LocalPorts {
            address: [127, 0, 0, 1].into(),
            first: 41_873,
            count: 3,
        };
        let options = Options {
            local: Some(local),
            ..Options::default()
        };
        let last = Cell::new(65_534);
        let destination = "127.0.0.1:9".parse().unwrap();
        let open = || connection(destination, &options, &last);
        let sockets: Vec<_> = (0..3).map(|_| open().unwrap()).collect();
        let mut ports: Vec<u16> = sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, [41_873, 41_874, 41_875]);
        assert_eq!(open().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
