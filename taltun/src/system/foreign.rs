//! Networks that the kernel reaches otherwise than through the tunnel: this host's own addresses
//! and the networks of its other interfaces.
//!
//! A hub relays between its peers without asking the kernel about each packet, but must decide
//! alike: a peer that owns 192.168.0.0/16 doesn't own a network within it that the host has on
//! another interface.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::os::netlink::{messages, told};

/// What isn't the tunnel's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Addresses of this host.
    pub own: Vec<IpAddr>,
    /// Networks that the kernel doesn't reach through the tunnel, default routes left out.
    pub nets: Vec<IpNet>,
}

impl Foreign {
    /// Reads the local and the main table of this network namespace; `tunnel` is the number of
    /// the tunnel's interface.
    pub fn read(tunnel: u32) -> io::Result<Self> {
        let mut foreign = Self::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut best: HashMap<IpNet, (u32, bool)> = HashMap::new();
            for_each_route(family, |route| {
                let Some(net) = destination(route) else {
                    return;
                };
                match u32::from(route.header.table) {
                    LOCAL => foreign.take_local(net, route.header.kind),
                    MAIN => {
                        let found = (metric(route), leads_into(route, tunnel));
                        let entry = best.entry(net).or_insert(found);
                        if found.0 < entry.0 {
                            *entry = found;
                        }
                    }
                    _ => {}
                }
            })?;
            let others = best.into_iter().filter(|(_, (_, ours))| !ours);
            foreign.nets.extend(others.map(|(net, _)| net));
        }
        foreign.own.sort_unstable();
        foreign.own.dedup();
        foreign.nets.sort_unstable();
        foreign.nets.dedup();
        Ok(foreign)
    }

    fn take_local(&mut self, net: IpNet, kind: RouteType) {
        if !matches!(
            kind,
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast
        ) {
            return;
        }
        if net.prefix_len() == net.max_prefix_len() {
            self.own.push(net.addr());
        }
        self.nets.push(net);
    }
}

const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

fn for_each_route(family: AddressFamily, mut each: impl FnMut(&RouteMessage)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let payload = NetlinkPayload::from(RouteNetlinkMessage::GetRoute(question));
    let mut request = NetlinkMessage::new(header, payload);
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if read(&answer, &mut each)? {
            return Ok(());
        }
    }
}

/// Hands over the routes in a piece of the kernel's answer; whether it was the last one.
fn read(piece: &[u8], each: &mut impl FnMut(&RouteMessage)) -> io::Result<bool> {
    for message in messages(piece) {
        match message?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => each(&route),
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(told(&error)),
            _ => {}
        }
    }
    Ok(false)
}

/// The networks of the routes in a piece of the kernel's answer, each with whether it leads into the tunnel
/// and its metric.
#[cfg(feature = "fuzzing")]
pub(super) fn routes(piece: &[u8], tunnel: u32) -> io::Result<Vec<(IpNet, bool, u32)>> {
    let mut found = Vec::new();
    read(piece, &mut |route| {
        let net = destination(route);
        found.extend(net.map(|net| (net, leads_into(route, tunnel), metric(route))));
    })?;
    Ok(found)
}

/// The network that a route leads to, unless that is everything, or such as never leaves a
/// link.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let cloned = route.header.flags.contains(RouteFlags::Cloned);
    let passes_on = matches!(route.header.kind, RouteType::Throw | RouteType::Multicast);
    if cloned || passes_on || route.header.destination_prefix_length == 0 {
        return None;
    }
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        });
    let unspecified = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let address = address.unwrap_or(unspecified);
    let on_a_link = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_multicast() || (v6.segments()[0] & 0xffc0) == 0xfe80,
    };
    let net = IpNet::new(address, route.header.destination_prefix_length).ok()?;
    (!on_a_link).then_some(net)
}

fn metric(route: &RouteMessage) -> u32 {
    let metric = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    };
    route.attributes.iter().find_map(metric).unwrap_or(0)
}

/// Whether any way of a route leads into the tunnel.
fn leads_into(route: &RouteMessage, tunnel: u32) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(index) => *index == tunnel,
        RouteAttribute::MultiPath(ways) => ways.iter().any(|way| way.interface_index == tunnel),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_itself_and_no_default_route() {
        let foreign = Foreign::read(u32::MAX).unwrap();
        assert!(foreign.own.contains(&"127.0.0.1".parse().unwrap()));
        assert!(foreign.nets.contains(&"127.0.0.0/8".parse().unwrap()));
        assert!(foreign.nets.iter().all(|net| net.prefix_len() > 0));
    }
}
