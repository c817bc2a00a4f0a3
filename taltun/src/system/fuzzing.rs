//! What reads the kernel's answers and news, for those who make such: `tests/fuzz`. Only there with the
//! feature `fuzzing`.

use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::{conntrack, foreign, news};

/// The types of the messages in the kernel's news.
pub fn kinds(datagram: &[u8]) -> Vec<u16> {
    news::kinds(datagram).collect()
}

/// A flow of UDP: where it was sent, who answers it, and the attributes that it is known by.
pub type Flow = (SocketAddr, SocketAddr, Vec<u8>);

/// The flows of UDP in a piece of the table of connections.
///
/// # Errors
/// Where the piece is an error.
pub fn flows(piece: &[u8]) -> io::Result<Vec<Flow>> {
    conntrack::flows(piece)
}

/// The networks in a piece of the table of routes, each with whether it leads into the tunnel of this number
/// and its metric.
///
/// # Errors
/// Where the piece is an error, or isn't understood.
pub fn routes(piece: &[u8], tunnel: u32) -> io::Result<Vec<(IpNet, bool, u32)>> {
    foreign::routes(piece, tunnel)
}
