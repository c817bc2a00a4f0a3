//! `[udpgw]`: a UDP gateway beside the tunnel.

use std::net::SocketAddr;

use ipnet::IpNet;

/// A gateway for clients that only have TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udpgw {
    /// Where clients connect to, at least one.
    pub listen: Vec<SocketAddr>,
    /// More clients are refused.
    pub max_clients: u32,
    /// With more connections a client loses the one that it used least recently.
    pub max_connections: u32,
    /// Seconds; 0 for never.
    pub client_timeout: u32,
    /// Seconds; 0 for never.
    pub udp_timeout: u32,
    /// Bytes of the kernel's for each client; 0 for its default.
    pub tcp_buffer: u32,
    /// The same for each connection.
    pub udp_buffer: u32,
    /// Small writes go out at once.
    pub tcp_nodelay: bool,
    /// The kernel looks for clients that are gone.
    pub keepalive: bool,
    /// The largest datagram, bytes.
    pub udp_mtu: u16,
    /// Where clients may send to besides the Internet.
    pub allow: Vec<IpNet>,
    /// Where they may not.
    pub deny: Vec<IpNet>,
    /// Threads that serve clients.
    pub workers: u16,
}
