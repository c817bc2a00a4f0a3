//! Whether an address belongs to this machine or to a network that it is connected to, as the
//! kernel's routes say.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::{interface, route_watch};

/// Why `address` is one of this machine's surroundings, in words, if it is: its own, or one of
/// a network that it reaches without a router by another interface than `ours`.
///
/// # Errors
/// When the kernel can't be asked.
pub fn local_address(address: IpAddr, ours: u32) -> io::Result<Option<String>> {
    let socket = {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket
    };
    socket.send(&question(address), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let odd = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| odd(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
            Ok(reason(&route, ours))
        }
        // No route at all.
        NetlinkPayload::Error(_) => Ok(None),
        _ => Err(odd("no route".into())),
    }
}

fn reason(route: &RouteMessage, ours: u32) -> Option<String> {
    match route.header.kind {
        RouteType::Local | RouteType::Anycast => {
            return Some("it is this machine's own".to_owned());
        }
        RouteType::Broadcast | RouteType::Multicast => {
            return Some("it is nobody's alone".to_owned());
        }
        RouteType::Unicast => {}
        _ => return None,
    }
    let (mut by_router, mut output) = (false, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                by_router = true;
            }
            RouteAttribute::Oif(index) => output = Some(*index),
            _ => {}
        }
    }
    let output = output.filter(|index| *index != ours)?;
    // A line without a router, as PPP is, may lead everywhere.
    (!by_router && route.header.destination_prefix_length > 1).then(|| {
        format!(
            "it is on a network of this machine, behind {}",
            interface::name(output)
        )
    })
}

/// Asks for the route as it stands in the table, not for what becomes of it for one address.
fn question(to: IpAddr) -> Vec<u8> {
    let (family, length) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut route = RouteMessage::default();
    route.header.address_family = family;
    route.header.destination_prefix_length = length;
    route.header.flags = RouteFlags::FibMatch;
    route.attributes = vec![RouteAttribute::Destination(RouteAddress::from(to))];
    route_watch::get_route(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machines_own() {
        let reason = local_address(IpAddr::from([127, 0, 0, 1]), 0).unwrap();
        assert!(reason.unwrap().contains("own"));
    }
}
