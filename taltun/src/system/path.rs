//! The path to an address outside the tunnel: whether there is a route, its MTU, and whether the
//! address is this machine's own; and which routes go around a full tunnel.
//!
//! Blocking, on separate sockets: the kernel has single answers ready, and another thread reads a
//! whole table.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{link, routes};
use crate::os::interface;
use crate::os::netlink::{self, Netlink};
use crate::report::RouteAround;

/// Routes around the tunnel that are listed.
const MOST: usize = 64;

/// The way that datagrams take to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The largest packet that it takes, bytes, from the IP header on.
    pub mtu: usize,
    /// The address is one of this machine's own.
    pub own: bool,
}

/// The way to `address` for datagrams with this mark.
///
/// # Errors
/// Whatever the kernel says where there is none.
pub fn path(address: IpAddr, mark: u32) -> io::Result<Path> {
    let address = address.to_canonical();
    let mut question = netlink::route_to(address);
    question.attributes.push(RouteAttribute::Mark(mark));
    let route = Netlink::connect()?.route(question)?;
    // IPv6 answers with routes that lead nowhere.
    if !matches!(route.header.kind, RouteType::Unicast | RouteType::Local) {
        return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
    }
    let narrower = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
                RouteMetric::Mtu(mtu) => Some(*mtu as usize),
                _ => None,
            }),
            _ => None,
        });
    let index =
        routes::output(&route).ok_or_else(|| netlink::odd("a route without an interface"))?;
    let mtu = link::LinkProbe::new()?.mtu(&interface::told(index), None)?;
    Ok(Path {
        mtu: narrower.map_or(usize::from(mtu), |narrower| narrower.min(usize::from(mtu))),
        own: route.header.kind == RouteType::Local,
    })
}

/// What goes around the full tunnel through the interface `tun`, of the families that it has a
/// default route of: routes of the main table that are more specific. Those to private networks
/// that an interface is on are left out, as they are what is wanted to stay reachable, and so are
/// those to one of the `endpoints` alone.
///
/// # Errors
/// What the kernel says.
pub fn routes_around(
    tun: &str,
    v4: bool,
    v6: bool,
    endpoints: &[IpAddr],
) -> io::Result<Vec<RouteAround>> {
    let ours = interface::index(tun);
    let mut found = Vec::new();
    for (family_v6, wanted) in [(false, v4), (true, v6)] {
        if !wanted {
            continue;
        }
        read_all(family_v6, |route| {
            if found.len() < MOST
                && let Some(around) = around(&route, ours)
                && !endpoints
                    .iter()
                    .any(|endpoint| IpNet::from(*endpoint) == around.net)
            {
                found.push(around);
            }
        })?;
    }
    Ok(found)
}

fn around(route: &RouteMessage, ours: Option<u32>) -> Option<RouteAround> {
    if !routes::in_main_table(route)
        || route.header.kind != RouteType::Unicast
        || route.header.destination_prefix_length == 0
    {
        return None;
    }
    let index = routes::output(route)?;
    let net = routes::destination(route)?;
    let name = interface::told(index);
    let gateway = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        });
    let connected = route.header.protocol == RouteProtocol::Kernel && gateway.is_none();
    if Some(index) == ours || name == "lo" || is_link_local(&net) || connected && is_private(&net) {
        return None;
    }
    Some(RouteAround {
        net,
        interface: name,
        gateway,
        refused: false,
        origin: format!("{:?}", route.header.protocol).to_lowercase().into(),
    })
}

fn is_link_local(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.addr().is_link_local() && net.prefix_len() >= 16,
        IpNet::V6(net) => {
            net.addr().is_unicast_link_local() && net.prefix_len() >= 10
                || net.addr().is_multicast() && net.prefix_len() >= 8
        }
    }
}

/// Whether a network is one of those that nobody on the internet has.
fn is_private(net: &IpNet) -> bool {
    let private = [
        (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
        (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
        (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
        (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    ];
    private
        .iter()
        .filter_map(|(address, length)| IpNet::new(*address, *length).ok())
        .any(|private| private.contains(net))
}

fn read_all(v6: bool, mut each: impl FnMut(RouteMessage)) -> io::Result<()> {
    let mut question = RouteMessage::default();
    question.header.address_family = if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let question = RouteNetlinkMessage::GetRoute(question);
    Netlink::connect()?.dump(question, |line| {
        if let RouteNetlinkMessage::NewRoute(route) = line {
            each(route);
        }
    })
}
