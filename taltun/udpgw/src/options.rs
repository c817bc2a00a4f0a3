//! What a gateway can be told, with the defaults of its predecessors.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::destinations::Destinations;

/// How many bytes may wait for a client that reads slowly, besides what the kernel holds.
pub const QUEUE: usize = 128 << 10;
/// The largest datagram, if nobody says, as with BadVPN.
pub const UDP_MTU: usize = 65_520;

/// Where clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address and port.
    pub address: SocketAddr,
    /// The interface that they have to come in by; none: any.
    pub interface: Option<String>,
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            interface: None,
        }
    }
}

/// The options of a gateway.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients connect to.
    pub listen: Vec<Listen>,
    /// More clients than that are refused.
    pub max_clients: usize,
    /// With more connections than that a client loses the one that it used least recently.
    pub max_connections: usize,
    /// A client that says nothing for so long is ended; none: never.
    pub client_timeout: Option<Duration>,
    /// A connection without a datagram for so long is closed; none: never.
    pub udp_timeout: Option<Duration>,
    /// The kernel's buffers of each client, bytes; none: the kernel's default.
    pub tcp_receive_buffer: Option<usize>,
    /// The same for what is sent to it.
    pub tcp_send_buffer: Option<usize>,
    /// The kernel's buffers of each connection, bytes; none: the kernel's default.
    pub udp_buffer: Option<usize>,
    /// Whether small writes go out at once.
    pub tcp_nodelay: bool,
    /// Whether the kernel looks for clients that are gone.
    pub keepalive: bool,
    /// The largest datagram, bytes.
    pub udp_mtu: usize,
    /// Which local ports IPv4 connections use; none: any.
    pub local: Option<LocalPorts>,
    /// The same for IPv6.
    pub local_ipv6: Option<LocalPorts>,
    /// Where clients may send to.
    pub destinations: Destinations,
    /// How many threads serve clients.
    pub workers: usize,
    /// How many files the gateway may have open; none: all that it needs.
    pub file_limit: Option<usize>,
    /// Whether the log has a line for each client that comes and goes, debug or not.
    pub log_clients: bool,
}

/// A range of local ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPorts {
    /// The address that sockets are bound to.
    pub address: IpAddr,
    /// The first port.
    pub first: u16,
    /// How many there are.
    pub count: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 53)).into()],
            max_clients: 1000,
            max_connections: 10,
            client_timeout: Some(Duration::from_secs(300)),
            udp_timeout: Some(Duration::from_secs(30)),
            tcp_receive_buffer: Some(262_144),
            tcp_send_buffer: Some(262_144),
            udp_buffer: Some(131_072),
            tcp_nodelay: true,
            keepalive: true,
            udp_mtu: UDP_MTU,
            local: None,
            local_ipv6: None,
            destinations: Destinations::default(),
            workers: 1,
            file_limit: None,
            log_clients: true,
        }
    }
}

impl Options {
    /// What all clients together can make the gateway itself hold, bytes: a message that isn't
    /// complete, a queue, and the state of each connection. The kernel's buffers come on top.
    pub fn memory_bound(&self) -> usize {
        const PER_CONNECTION: usize = 2048;
        const PER_CLIENT: usize = crate::codec::MAX_FRAME + QUEUE + 4096;
        let (clients, connections) = self.served();
        clients * PER_CLIENT + connections * PER_CONNECTION
    }

    /// How many files can be open at the same time.
    pub fn files(&self) -> usize {
        self.max_clients * (1 + self.connections()) + self.own_files()
    }

    /// How many clients, and how many connections of all of them together, the limit of files
    /// has room for.
    pub fn served(&self) -> (usize, usize) {
        let all = self.max_clients * self.connections();
        let Some(limit) = self.file_limit else {
            return (self.max_clients, all);
        };
        let room = limit.saturating_sub(self.own_files());
        let clients = self.max_clients.min(room / 2);
        (clients, all.min(room - clients))
    }

    /// The files that it needs without clients, and one or two more for a moment.
    fn own_files(&self) -> usize {
        const PER_WORKER: usize = 8;
        (1 + self.workers) * PER_WORKER + self.listen.len() + 32
    }

    /// How many a client can have: not more than it has names for.
    fn connections(&self) -> usize {
        self.max_connections.min(usize::from(u16::MAX) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_connections_share_the_files_that_there_are() {
        let options = |file_limit| Options {
            file_limit,
            ..Options::default()
        };
        let all = options(None);
        assert_eq!(all.served(), (1000, 10_000));
        assert_eq!(options(Some(all.files())).served(), (1000, 10_000));
        let own = all.files() - 11_000;
        assert_eq!(options(Some(own + 5000)).served(), (1000, 4000));
        assert_eq!(options(Some(own + 1000)).served(), (500, 500));
        assert_eq!(options(Some(7)).served(), (0, 0));
        assert_eq!(options(Some(7)).memory_bound(), 0);
    }
}
