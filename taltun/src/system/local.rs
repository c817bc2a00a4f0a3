//! Whether an address belongs to this machine or to a network that it is connected to, and
//! whether packets to it go into the tunnel, as the kernel's routes and rules say.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType,
};

use super::routes;
use crate::os::interface;
use crate::os::netlink::{self, Netlink};

/// Why `address` is one of this machine's surroundings, in words, if it is: its own, or one of
/// a network that it reaches without a router by another interface than `ours`.
///
/// # Errors
/// When the kernel can't be asked.
pub fn local_address(address: IpAddr, ours: u32) -> io::Result<Option<String>> {
    // The route as it stands in the table, not what becomes of it for one address.
    let route = ask(address, RouteFlags::FibMatch)?;
    // An error: no route at all.
    Ok(route.ok().and_then(|route| reason(&route, ours)))
}

/// Where a program's packet to `address` goes if it isn't into the interface `ours`, in words:
/// rules and all tables count, and the packet has no mark.
///
/// # Errors
/// When the kernel can't be asked.
pub fn way_around(address: IpAddr, ours: u32) -> io::Result<Option<String>> {
    let route = match ask(address, RouteFlags::empty())? {
        Ok(route) => route,
        Err(error) => return Ok(Some(format!("the kernel has no way there: {error}"))),
    };
    Ok(match routes::output(&route) {
        Some(output) if output == ours => None,
        Some(output) => Some(format!(
            "a route or a policy rule leads it through {} (`ip route get {address}`)",
            interface::told(output)
        )),
        None => Some("the kernel has no way there".to_owned()),
    })
}

/// The addresses that this host has where it sends to the Internet: that of IPv4 first. Nothing is
/// sent.
pub fn source_addresses() -> Vec<IpAddr> {
    // Two root servers stand for everybody.
    let everybody = [
        IpAddr::from([198, 41, 0, 4]),
        IpAddr::from([0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30]),
    ];
    let source = |to: IpAddr| {
        let route = ask(to, RouteFlags::empty()).ok()?.ok()?;
        route.attributes.iter().find_map(|found| match found {
            RouteAttribute::PrefSource(RouteAddress::Inet(own)) => Some(IpAddr::from(*own)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(own)) => Some(IpAddr::from(*own)),
            _ => None,
        })
    };
    everybody.into_iter().filter_map(source).collect()
}

/// The kernel's answer about the way to an address, or its error.
fn ask(to: IpAddr, flags: RouteFlags) -> io::Result<Result<RouteMessage, io::Error>> {
    let mut question = netlink::route_to(to);
    question.header.flags = flags;
    let answer = Netlink::connect()?.route(question);
    match answer {
        Err(error) if error.raw_os_error().is_none() => Err(error),
        answer => Ok(answer),
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
            interface::told(output)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machines_own() {
        let reason = local_address(IpAddr::from([127, 0, 0, 1]), 0).unwrap();
        assert!(reason.unwrap().contains("own"));
    }

    #[test]
    fn loopback_goes_through_its_interface_and_around_every_other() {
        let own = IpAddr::from([127, 0, 0, 1]);
        let loopback = interface::index("lo").unwrap();
        assert_eq!(way_around(own, loopback).unwrap(), None);
        let around = way_around(own, loopback + 1).unwrap().unwrap();
        assert!(around.contains("through lo"), "{around}");
    }
}
