//! Where datagrams go that leave past the kernel's network stack: what the kernel's routes
//! and neighbours say, remembered for a second.
//!
//! The kernel is asked by netlink, at most once a batch. The packet for which it is asked
//! goes out by the socket: so every second each destination has one that the kernel sends
//! itself, and the kernel goes on checking that the neighbour is there, learns of narrower
//! paths, and resolves what isn't resolved yet.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMetric, RouteType};

use super::headers::NextHop;
use crate::os::netlink::{self, Netlink, family};
use crate::protocol::peer::Endpoint;

/// How long an answer is good without asking again.
const FRESH: Duration = Duration::from_secs(1);
/// How long it may be used when there was no time to ask again.
const STALE: Duration = Duration::from_secs(5);
/// Destinations remembered; then all are forgotten.
const MOST: usize = 65_536;

/// What is asked: where to, and from which of our addresses, if that matters.
type Question = (IpAddr, Option<IpAddr>);

/// Ways out by whichever interface.
pub struct Routes {
    netlink: Netlink,
    known: HashMap<Question, CachedRoute>,
    /// The last one found, which often is the next one, too.
    last: Option<(Question, CachedRoute)>,
    may_ask: bool,
    now: Instant,
}

#[derive(Debug, Clone, Copy)]
struct CachedRoute {
    /// `None` when the socket has to send.
    way: Option<NextHop>,
    at: Instant,
}

impl Routes {
    /// No way is known yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::connect()?,
            known: HashMap::new(),
            last: None,
            may_ask: true,
            now: Instant::now(),
        })
    }

    /// A batch begins.
    pub fn begin(&mut self) {
        self.now = Instant::now();
        self.may_ask = true;
    }

    /// How to send to this endpoint; `None` when the socket has to.
    pub fn way(&mut self, endpoint: &Endpoint) -> Option<NextHop> {
        let question = (
            endpoint.remote.ip(),
            endpoint.local.map(|local| local.address),
        );
        if let Some((last, known)) = &self.last
            && *last == question
            && self.now - known.at < FRESH
        {
            return known.way;
        }
        let known = self.known.get(&question).copied();
        let age = known.map(|known| self.now - known.at);
        if self.may_ask && age.is_none_or(|age| age >= FRESH) {
            self.may_ask = false;
            let way = self.ask(question).unwrap_or_else(|error| {
                tracing::debug!(%error, "no way past the network stack");
                None
            });
            if self.known.len() >= MOST {
                self.known.clear();
            }
            let known = CachedRoute { way, at: self.now };
            self.known.insert(question, known);
            self.last = Some((question, known));
            return None;
        }
        let known = known.filter(|_| age.is_some_and(|age| age < STALE))?;
        self.last = Some((question, known));
        known.way
    }

    fn ask(&mut self, (remote, local): Question) -> io::Result<Option<NextHop>> {
        if let IpAddr::V6(v6) = remote
            && v6.is_unicast_link_local()
        {
            return Ok(None);
        }
        let Some(route) = self.route(remote, local)? else {
            return Ok(None);
        };
        let interface = route.interface;
        let Some(next) = self.neighbour(interface, route.next)? else {
            return Ok(None);
        };
        let Some((own, mtu)) = self.link(interface)? else {
            return Ok(None);
        };
        Ok(Some(NextHop {
            interface,
            own,
            next,
            source: route.source,
            mtu: route.mtu.map_or(mtu, |narrower| mtu.min(narrower)),
        }))
    }

    /// The route to somebody, if it is plain.
    fn route(&mut self, remote: IpAddr, local: Option<IpAddr>) -> io::Result<Option<Route>> {
        let message = match local {
            Some(local) => netlink::route_between(local, remote),
            None => netlink::route_to(remote),
        };
        let answer = self.request(RouteNetlinkMessage::GetRoute(message))?;
        let Some(RouteNetlinkMessage::NewRoute(answer)) = answer else {
            return Ok(None);
        };
        if answer.header.kind != RouteType::Unicast {
            return Ok(None);
        }
        let mut route = Route {
            interface: 0,
            next: remote,
            source: local.unwrap_or(remote),
            mtu: None,
        };
        for attribute in answer.attributes {
            match attribute {
                RouteAttribute::Oif(interface) => route.interface = interface,
                RouteAttribute::Gateway(gateway) => match address(&gateway) {
                    Some(gateway) => route.next = gateway,
                    None => return Ok(None),
                },
                RouteAttribute::PrefSource(source) if local.is_none() => match address(&source) {
                    Some(source) => route.source = source,
                    None => return Ok(None),
                },
                RouteAttribute::Metrics(metrics) => {
                    for metric in metrics {
                        if let RouteMetric::Mtu(mtu) = metric {
                            route.mtu = Some(mtu as usize);
                        }
                    }
                }
                // Something has to be done to the packet that only the kernel can do, or
                // the next hop has another family.
                RouteAttribute::Encap(_) | RouteAttribute::Via(_) => return Ok(None),
                _ => {}
            }
        }
        let has_source = route.source != remote;
        Ok((route.interface != 0 && has_source).then_some(route))
    }

    /// The link address of a neighbour on this interface that is there as far as the kernel
    /// knows.
    fn neighbour(&mut self, interface: u32, next: IpAddr) -> io::Result<Option<[u8; 6]>> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(next);
        message.header.ifindex = interface;
        let destination = match next {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message
            .attributes
            .push(NeighbourAttribute::Destination(destination));
        let answer = self.request(RouteNetlinkMessage::GetNeighbour(message))?;
        let Some(RouteNetlinkMessage::NewNeighbour(answer)) = answer else {
            return Ok(None);
        };
        let usable = matches!(
            answer.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
        );
        let address = answer.attributes.into_iter().find_map(|attribute| {
            let NeighbourAttribute::LinkLayerAddress(address) = attribute else {
                return None;
            };
            address.try_into().ok()
        });
        Ok(address.filter(|_| usable))
    }

    /// An interface's link address and MTU.
    fn link(&mut self, interface: u32) -> io::Result<Option<([u8; 6], usize)>> {
        let mut message = LinkMessage::default();
        message.header.index = interface;
        let answer = self.request(RouteNetlinkMessage::GetLink(message))?;
        let Some(RouteNetlinkMessage::NewLink(answer)) = answer else {
            return Ok(None);
        };
        let (mut own, mut mtu) = (None, None);
        for attribute in answer.attributes {
            match attribute {
                LinkAttribute::Address(address) => own = address.try_into().ok(),
                LinkAttribute::Mtu(bytes) => mtu = Some(bytes as usize),
                _ => {}
            }
        }
        Ok(own.zip(mtu))
    }

    /// Asks for one thing; `None` if there is no such thing.
    fn request(
        &mut self,
        question: RouteNetlinkMessage,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        match self.netlink.ask(question) {
            Ok(answer) => Ok(Some(answer)),
            // No route, no neighbour, not our address: all the same here.
            Err(error) if error.raw_os_error().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A plain route.
struct Route {
    interface: u32,
    next: IpAddr,
    source: IpAddr,
    mtu: Option<usize>,
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn without_a_plain_route_the_socket_sends() {
        let mut routes = Routes::new().unwrap();
        // This host itself, by its own routes, and one that only a link makes unique.
        for remote in ["127.0.0.1:9", "127.1.2.3:9", "[::1]:9", "[fe80::1%1]:9"] {
            let remote: SocketAddr = remote.parse().unwrap();
            for _ in 0..3 {
                routes.begin();
                assert_eq!(routes.way(&remote.into()), None);
            }
        }
        assert_eq!(routes.known.len(), 4);
    }

    #[test]
    fn what_was_found_is_used_until_it_is_old_and_asked_for_once_a_batch() {
        let mut routes = Routes::new().unwrap();
        let way = NextHop {
            interface: 3,
            own: [1; 6],
            next: [2; 6],
            source: "192.0.2.1".parse().unwrap(),
            mtu: 1500,
        };
        let remotes = ["192.0.2.7:9", "192.0.2.8:9"].map(|text| {
            let remote: SocketAddr = text.parse().unwrap();
            Endpoint::from(remote)
        });
        let start = routes.now;
        for remote in &remotes {
            let known = CachedRoute {
                way: Some(way),
                at: start,
            };
            routes.known.insert((remote.remote.ip(), None), known);
        }
        assert_eq!(routes.way(&remotes[0]), Some(way));
        assert_eq!(routes.way(&remotes[0]), Some(way));
        // Old: the first is asked for anew, the second has to wait for the next batch.
        routes.now = start + FRESH;
        assert_eq!(routes.way(&remotes[0]), None);
        assert_eq!(routes.way(&remotes[1]), Some(way));
        // Too old to be used even so.
        routes.now = start + STALE;
        assert_eq!(routes.way(&remotes[1]), None);
    }
}
