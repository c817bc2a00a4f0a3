//! Routes: makes ours, in the main table or our own, and finds earlier routes of a prefix.
//!
//! A router may have a million routes, and reading them takes seconds. So the kernel is first
//! asked for the best route to single addresses, which is nearly always enough. Otherwise all
//! routes are read, once for all wanted prefixes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::SystemError;
use super::error::errno;
use crate::os::{interface, netlink};

/// The metric that IPv6 routes get which are made without one.
const METRIC_V6: u32 = 1024;

/// The route that the kernel makes for an address of the interface with this number, to the
/// network that it is in.
pub(super) fn connected(vip: &IpNet, index: u32) -> RouteMessage {
    match vip {
        IpNet::V4(vip) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(vip.network(), vip.prefix_len())
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(vip.addr())
            .build(),
        IpNet::V6(vip) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(vip.network(), vip.prefix_len())
            .output_interface(index)
            // What the kernel gives its own.
            .priority(256)
            .build(),
    }
}

/// A route that leads straight into the interface with this number, in `table` or else the
/// main one.
pub(super) fn into_interface(net: &IpNet, index: u32, table: Option<u32>) -> RouteMessage {
    let table = table.unwrap_or(u32::from(RouteHeader::RT_TABLE_MAIN));
    match net {
        IpNet::V4(net) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(index)
            .table_id(table)
            // Without a gateway there is nothing beyond the link.
            .scope(RouteScope::Link)
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(index)
            .table_id(table)
            .build(),
    }
}

/// The route of one address that a name leads into the interface. By IPv6 the lowest metric wins
/// among routes to the same address, so nobody's later one comes before it.
pub(super) fn led(net: &IpNet, index: u32) -> RouteMessage {
    let mut route = into_interface(net, index, None);
    if net.addr().is_ipv6() {
        route.attributes.push(RouteAttribute::Priority(1));
    }
    route
}

/// What has a prefix already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// A route through another interface, by whatever metric. It would either keep packets
    /// from the tunnel or lose its own to it.
    Interface(String),
    /// A route that leads nowhere, `blackhole` and the like, and comes before ours. One that
    /// comes after, by its metric, is there for when the tunnel isn't.
    Nowhere(&'static str),
}

impl Holder {
    /// As an error: `net` can't be ours.
    pub(super) fn error(self, net: IpNet) -> SystemError {
        match self {
            Self::Interface(device) => SystemError::RouteElsewhere { net, device },
            Self::Nowhere(kind) => SystemError::RouteNowhere { net, kind },
        }
    }
}

/// Finds who has prefixes in the main table.
#[derive(Debug)]
pub(super) struct Holders<'a> {
    handle: &'a Handle,
    /// The number of our interface, whose own routes don't count.
    ours: u32,
    /// All routes of the main table, by family, once they had to be read.
    all: HashMap<bool, Vec<RouteMessage>>,
}

impl<'a> Holders<'a> {
    /// Nothing is read yet.
    pub(super) fn new(handle: &'a Handle, ours: u32) -> Self {
        Self {
            handle,
            ours,
            all: HashMap::new(),
        }
    }

    /// Who has exactly this prefix, if anybody but us does.
    pub(super) async fn of(&mut self, net: &IpNet) -> Result<Option<Holder>, SystemError> {
        for address in [net.network(), net.broadcast(), inside(net)] {
            let Some(route) = best(self.handle, address).await? else {
                continue;
            };
            // The longest one that there is, unless rules have led to another table.
            let is_main = in_main_table(&route);
            if is_main && route.header.destination_prefix_length < net.prefix_len() {
                return Ok(None);
            }
            if is_main
                && destination(&route) == Some(*net)
                && let Some(holder) = holder(&route, self.ours)
            {
                return Ok(Some(holder));
            }
        }
        let ours = self.ours;
        let all = self.all(net.addr().is_ipv6()).await?;
        let mut same = all.iter().filter(|route| destination(route) == Some(*net));
        Ok(same.find_map(|route| holder(route, ours)))
    }

    async fn all(&mut self, v6: bool) -> Result<&[RouteMessage], SystemError> {
        if !self.all.contains_key(&v6) {
            let mut routes = dump(self.handle, v6).await?;
            routes.retain(in_main_table);
            self.all.insert(v6, routes);
        }
        Ok(self.all.get(&v6).map_or(&[], Vec::as_slice))
    }
}

/// An address in the middle of a network.
pub(super) fn inside(net: &IpNet) -> IpAddr {
    if net.prefix_len() == net.max_prefix_len() {
        return net.addr();
    }
    let half = |bits: u32, length: u8| bits.saturating_sub(u32::from(length) + 1);
    match net {
        IpNet::V4(net) => {
            let middle = 1_u32.checked_shl(half(32, net.prefix_len())).unwrap_or(0);
            IpAddr::V4((u32::from(net.network()) | middle).into())
        }
        IpNet::V6(net) => {
            let middle = 1_u128.checked_shl(half(128, net.prefix_len())).unwrap_or(0);
            IpAddr::V6((u128::from(net.network()) | middle).into())
        }
    }
}

/// The route that a packet of no particular kind to this address takes, as it stands in its
/// table; `None` where there is none.
pub(super) async fn best(handle: &Handle, to: IpAddr) -> Result<Option<RouteMessage>, SystemError> {
    let mut question = netlink::route_to(to);
    question.header.flags = RouteFlags::FibMatch | RouteFlags::LookupTable;
    let answer = handle.route().get(question).execute().try_next().await;
    match answer {
        Ok(route) => Ok(route),
        // There is none, or one that leads nowhere: each kind of these has an error of its own.
        Err(error) if errno(&error).is_some() => Ok(None),
        Err(error) => Err(SystemError::refused(
            format!("ask for the route to {to}"),
            &error,
        )),
    }
}

/// The tables that routes are in, but for those through `own`.
pub(super) async fn tables(handle: &Handle, own: Option<u32>) -> Result<HashSet<u32>, SystemError> {
    let mut tables = HashSet::new();
    for v6 in [false, true] {
        let routes = match dump(handle, v6).await {
            Ok(routes) => routes,
            // A kernel without IPv6 has no such routes.
            Err(_) if v6 => continue,
            Err(error) => return Err(error),
        };
        let others = routes
            .iter()
            .filter(|route| own.is_none() || output(route) != own);
        tables.extend(others.map(table));
    }
    Ok(tables)
}

/// All routes of a family.
async fn dump(handle: &Handle, v6: bool) -> Result<Vec<RouteMessage>, SystemError> {
    let query = if v6 {
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()
    } else {
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()
    };
    #[cfg(test)]
    DUMPS.with(|dumps| dumps.set(dumps.get() + 1));
    let routes = handle.route().get(query).execute().try_collect().await;
    routes.map_err(|error| SystemError::refused("read the routes", &error))
}

#[cfg(test)]
thread_local! {
    /// How often all routes were read.
    pub(super) static DUMPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Who has the prefix of this route, if it isn't us and it matters.
fn holder(route: &RouteMessage, ours: u32) -> Option<Holder> {
    let kind = match route.header.kind {
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        _ => {
            let index = output(route).filter(|index| *index != ours)?;
            return Some(Holder::Interface(interface::told(index)));
        }
    };
    let most = match route.header.address_family {
        AddressFamily::Inet6 => METRIC_V6,
        _ => 0,
    };
    (metric(route) <= most).then_some(Holder::Nowhere(kind))
}

fn metric(route: &RouteMessage) -> u32 {
    let metric = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
    metric.unwrap_or(0)
}

/// The network that a route is for.
pub(super) fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
            RouteAttribute::Destination(RouteAddress::Inet6(addr)) => Some(IpAddr::V6(*addr)),
            _ => None,
        });
    let bits = route.header.destination_prefix_length;
    let address = match address {
        Some(address) => address,
        // The default route carries no destination.
        None if bits == 0 => match route.header.address_family {
            AddressFamily::Inet => IpAddr::from([0_u8; 4]),
            AddressFamily::Inet6 => IpAddr::from([0_u8; 16]),
            _ => return None,
        },
        None => return None,
    };
    IpNet::new(address, bits).ok()
}

/// Whether a route is in the main table.
pub(super) fn in_main_table(route: &RouteMessage) -> bool {
    table(route) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

/// The number of the table that a route is in.
pub(super) fn table(route: &RouteMessage) -> u32 {
    let named = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    named.unwrap_or(u32::from(route.header.table))
}

/// The number of the interface that a route leads through.
pub(super) fn output(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            // Several ways: the first stands for them all.
            RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
            _ => None,
        })
}
