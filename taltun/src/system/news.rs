//! The kernel's events about a changed network: routes, addresses, rules, links and nftables.

use std::io;

use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;
use tracing::debug;

use crate::os::netlink;

/// `NFNLGRP_NFTABLES`: rulesets of nftables, those of iptables by it included.
const NFTABLES_GROUP: u32 = 7;
/// Messages that tell that something is gone or changed, or comes before ours: `RTM_NEWLINK`,
/// `RTM_DELLINK`, `RTM_DELADDR`, `RTM_DELROUTE`, `RTM_NEWRULE`, `RTM_DELRULE`. What else came to
/// be is no reason to look at once.
const GONE: [u16; 6] = [16, 17, 21, 25, 32, 33];

/// What there was news of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) network: bool,
    pub(super) firewall: bool,
}

impl Told {
    pub(super) fn any(self) -> bool {
        self.network || self.firewall
    }
}

/// Listens to the kernel, as far as it lets us.
pub(super) struct News {
    network: Option<AsyncFd<Socket>>,
    firewall: Option<AsyncFd<Socket>>,
}

impl News {
    /// Listens from now on, in the network namespace of the calling thread.
    pub(super) fn listen() -> Self {
        let network = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
        ];
        let or_none = |socket: io::Result<AsyncFd<Socket>>| {
            socket
                .inspect_err(|error| debug!("no news of the network: {error}"))
                .ok()
        };
        Self {
            network: or_none(socket(NETLINK_ROUTE, &network)),
            firewall: or_none(socket(NETLINK_NETFILTER, &[NFTABLES_GROUP])),
        }
    }

    /// Whether changes of nftables are reported.
    pub(super) fn tells_of_nftables(&self) -> bool {
        self.firewall.is_some()
    }

    /// Waits until something may be gone.
    pub(super) async fn next(&mut self) -> Told {
        loop {
            let mut told = Told::default();
            tokio::select! {
                gone = ready(self.network.as_ref(), |kind| GONE.contains(&kind)) => told.network = gone,
                gone = ready(self.firewall.as_ref(), |_| true) => told.firewall = gone,
            }
            if told.any() {
                return told;
            }
        }
    }
}

fn socket(protocol: isize, groups: &[u32]) -> io::Result<AsyncFd<Socket>> {
    let socket = netlink::listen(protocol, groups)?;
    // SAFETY: the socket keeps its descriptor, and keeps it open, until it is dropped, and it is
    // the `AsyncFd` that drops it.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

/// Waits for messages and reads all there are: whether one is of a kind that `matters`.
async fn ready(socket: Option<&AsyncFd<Socket>>, matters: impl Fn(u16) -> bool) -> bool {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    let Ok(mut guard) = socket.readable().await else {
        return std::future::pending().await;
    };
    let mut gone = false;
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        let received = guard.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0));
        match received {
            Err(_would_block) => return gone,
            Ok(Ok(length)) => gone |= kinds(&buffer[..length.min(buffer.len())]).any(&matters),
            // There was too much to tell: anything may be gone.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => gone = true,
            Ok(Err(_)) => return gone,
        }
    }
}

/// The types of the messages in a datagram of netlink's: each begins with its length, 32 bits,
/// and its type, 16 bits.
pub(super) fn kinds(mut datagram: &[u8]) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<16>()?;
        let [a, b, c, d, low, high, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let whole = length.clamp(16, 1 << 20).next_multiple_of(4);
        datagram = datagram.get(whole..).unwrap_or_default();
        Some(u16::from_ne_bytes([low, high]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_all_messages_are_read_and_nonsense_ends_it() {
        let mut datagram = Vec::new();
        for (length, kind) in [(18_u32, 25_u16), (16, 16)] {
            datagram.extend(length.to_ne_bytes());
            datagram.extend(kind.to_ne_bytes());
            datagram.resize(datagram.len().next_multiple_of(4) + 8, 0);
            if length == 18 {
                datagram.resize(20, 0);
            }
        }
        assert_eq!(kinds(&datagram).collect::<Vec<_>>(), [25, 16]);
        assert_eq!(kinds(&[0xff; 40]).count(), 1);
        assert_eq!(kinds(&[0; 15]).count(), 0);
    }
}
