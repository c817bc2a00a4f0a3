//! A peer's identifier and its endpoint, which all other files use.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// Names a peer for as long as the device lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(super) u32);

impl PeerId {
    /// As a number, which no other peer has.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Where a peer is, and which local address it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// Our address that the peer sent to, so that answers leave from there; `None` lets the
    /// kernel choose.
    pub local: Option<Local>,
    /// The port of ours that the peer sent to, where several lead to us and that was seen: a
    /// socket isn't told, as it has one.
    pub local_port: Option<NonZeroU16>,
}

/// One of our own addresses and the interface a datagram came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The address the datagram was sent to.
    pub address: IpAddr,
    /// Index of the interface it arrived on.
    pub interface: u32,
}

impl From<SocketAddr> for Endpoint {
    /// IPv4 in its mapped form is IPv4, as where it is heard from.
    fn from(remote: SocketAddr) -> Self {
        Self {
            remote: match remote.ip().to_canonical() {
                v4 @ IpAddr::V4(_) => SocketAddr::new(v4, remote.port()),
                // With its scope, if it has one.
                IpAddr::V6(_) => remote,
            },
            local: None,
            local_port: None,
        }
    }
}
