//! What the kernel's routes and neighbours say of a way out past its network stack.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMetric, RouteType};

use super::headers::NextHop;
use crate::os::netlink::{self, Netlink, family};

/// What is asked: where to, and from which of our addresses, if that matters.
pub(super) type Question = (IpAddr, Option<IpAddr>);

/// Asks the kernel, one question after the other.
pub(super) struct Lookup {
    netlink: Netlink,
}

impl Lookup {
    /// Asks about this thread's network namespace.
    pub(super) fn connect() -> io::Result<Self> {
        let netlink = Netlink::connect()?;
        Ok(Self { netlink })
    }

    /// The way that the kernel takes; `None` where only it can send.
    pub(super) fn way(&mut self, (remote, local): Question) -> io::Result<Option<NextHop>> {
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
