//! Routes: making ours, in the main table or one of our own, and finding who has a prefix
//! already.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{SystemError, interface};

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

/// The interface other than ours that a route to exactly `net` leads through, by whatever
/// metric. It would either keep packets from the tunnel or lose its own to it.
pub(super) async fn elsewhere(
    handle: &Handle,
    net: &IpNet,
    ours: u32,
) -> Result<Option<String>, SystemError> {
    let query = match net {
        IpNet::V4(_) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        IpNet::V6(_) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    };
    let mut routes = handle.route().get(query).execute();
    while let Some(route) = routes
        .try_next()
        .await
        .map_err(|error| SystemError::refused("read the routes", &error))?
    {
        if destination(&route) == Some(*net)
            && in_main_table(&route)
            && let Some(index) = output(&route)
            && index != ours
        {
            return Ok(Some(interface::name(index)));
        }
    }
    Ok(None)
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
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
            rtnetlink::packet_route::AddressFamily::Inet => IpAddr::from([0_u8; 4]),
            rtnetlink::packet_route::AddressFamily::Inet6 => IpAddr::from([0_u8; 16]),
            _ => return None,
        },
        None => return None,
    };
    IpNet::new(address, bits).ok()
}

fn in_main_table(route: &RouteMessage) -> bool {
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

fn output(route: &RouteMessage) -> Option<u32> {
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
