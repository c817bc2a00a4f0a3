//! Which interface leads to a peer, and when that may have changed.
//!
//! A peer is answered from the address it used. That is right only as long as the way to it
//! is the one it came: when another interface takes over, the kernel's WireGuard forgets the
//! address and lets the route choose, and so do we.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Hears of routes that change in this network namespace, and asks for them.
pub struct Ways {
    news: Socket,
    questions: Socket,
}

impl Ways {
    /// Listens from now on.
    pub fn watch() -> io::Result<Self> {
        let mut news = Socket::new(NETLINK_ROUTE)?;
        news.bind_auto()?;
        for group in [
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
        ] {
            news.add_membership(group)?;
        }
        news.set_non_blocking(true)?;
        let mut questions = Socket::new(NETLINK_ROUTE)?;
        questions.bind_auto()?;
        questions.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { news, questions })
    }

    /// Whether any route has changed since this was last asked.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        // What exactly it was doesn't matter. Nor does an error, which says that there was
        // too much to tell.
        let mut message = [0_u8; 8192];
        loop {
            match self.news.recv(&mut &mut message[..], 0) {
                Ok(_) => changed = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(_) => return changed,
            }
        }
    }

    /// The index of the interface through which datagrams with this mark go from one address
    /// of ours to another address.
    ///
    /// # Errors
    /// `EINVAL` when `from` is no address of ours, `ENETUNREACH` when no route leads there.
    pub fn interface(&self, from: IpAddr, to: IpAddr, mark: u32) -> io::Result<u32> {
        self.questions.send(&question(from, to, mark), 0)?;
        let (answer, _) = self.questions.recv_from_full()?;
        let odd = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| odd(error.to_string()))?;
        match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => route
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                })
                .ok_or_else(|| odd("a route without an interface".into())),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(odd("no route".into())),
        }
    }
}

fn question(from: IpAddr, to: IpAddr, mark: u32) -> Vec<u8> {
    let (family, length) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    route.header.destination_prefix_length = length;
    route.header.source_prefix_length = length;
    route.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(to)),
        RouteAttribute::Source(RouteAddress::from(from)),
        RouteAttribute::Mark(mark),
    ];
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let payload = NetlinkPayload::from(RouteNetlinkMessage::GetRoute(route));
    let mut request = NetlinkMessage::new(header, payload);
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_is_loopback_and_there_is_none_from_a_stranger() {
        let ways = Ways::watch().unwrap();
        let own = IpAddr::from([127, 0, 0, 1]);
        let loopback = crate::system::interface_index("lo").unwrap();
        for mark in [0, 7] {
            assert_eq!(ways.interface(own, own, mark).unwrap(), loopback);
        }
        let stranger = IpAddr::from([192, 0, 2, 1]);
        assert!(ways.interface(stranger, own, 0).is_err());
        // An answer that is an error leaves nothing behind for the next question.
        assert_eq!(ways.interface(own, own, 0).unwrap(), loopback);
    }
}
