//! UDP datagrams with any content, for those who must cope with any content.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// How many datagrams are sent in one go; well below what a socket's buffer holds, so that
/// the receiver gets to see all of them.
const BURST: usize = 32;
/// The pause between two of these.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends each of `datagrams` from `namespace` to `to`, at a pace that a receiver can follow,
/// and returns how many these were.
pub fn send(
    namespace: &Namespace,
    to: SocketAddr,
    datagrams: impl IntoIterator<Item = Vec<u8>>,
) -> Result<u64> {
    let from: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = namespace.udp((from, 0))?;
    let mut sent = 0;
    for datagram in datagrams {
        socket
            .send_to(&datagram, to)
            .with_context(|| format!("can't send {} bytes to {to}", datagram.len()))?;
        sent += 1;
        if sent % BURST == 0 {
            sleep(PAUSE);
        }
    }
    Ok(sent as u64)
}
