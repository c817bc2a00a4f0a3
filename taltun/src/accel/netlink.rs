//! Asks the kernel for its links, with the addresses and the XDP program each has, and
//! hears from it when they change.
//!
//! By netlink and not from `/sys`, which goes on showing the devices of the network
//! namespace it was mounted in. Blocking, on a socket of its own: the answer is in the
//! kernel already, and a [`Shield`](super::Shield) is made in and out of async code.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use crate::os::netlink::{self, Netlink};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a property that a link has or not"
)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    /// Frames start with an Ethernet header. So do those of loopback, which counts here.
    pub(super) ethernet: bool,
    pub(super) loopback: bool,
    /// What made it: `veth`, `tun`, `bridge`, …; empty for hardware.
    pub(super) kind: String,
    pub(super) addresses: Vec<IpAddr>,
    /// The way to the rest of the world leads through it.
    pub(super) outward: bool,
    /// Id of the XDP program attached to it, ours or another's.
    pub(super) program: Option<u32>,
}

/// Tunnels with an Ethernet header, by what netlink calls them.
const TUNNELS: [&str; 8] = [
    "tun",
    "vxlan",
    "geneve",
    "gretap",
    "ip6gretap",
    "erspan",
    "ip6erspan",
    "amt",
];

impl Link {
    /// Whether frames come in on it from outside for the first time: it is neither loopback nor a
    /// tunnel.
    pub(super) fn is_underlay(&self) -> bool {
        self.ethernet && !self.loopback && !TUNNELS.contains(&self.kind.as_str())
    }
}

/// Every link in this network namespace.
///
/// `mark` is that of our datagrams, by which they go around a default route of ours.
pub(super) fn links(mark: u32) -> io::Result<Vec<Link>> {
    let mut netlink = Netlink::connect()?;
    let mut links = Vec::new();
    let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
    netlink.dump(question, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            links.push(read_link(link));
        }
    })?;
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink.dump(question, |message| {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            return;
        };
        let link = links
            .iter_mut()
            .find(|link: &&mut Link| link.index == message.header.index);
        if let (Some(link), Some(address)) = (link, own_address(&message)) {
            link.addresses.push(address);
        }
    })?;
    mark_outward(&mut links, &outward(&mut netlink, mark));
    // Where another VPN leads everything into itself, its own datagrams go as the main table says,
    // and so do ours once it ends.
    if !links.iter().any(|link| link.outward && link.is_underlay()) {
        let mut default = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let read = netlink.dump(RouteNetlinkMessage::GetRoute(question), |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message {
                    default.extend(default_of_main(&route));
                }
            });
            // A family that this kernel lacks has none.
            if let Err(error) = read {
                tracing::debug!(%error, "the default routes of the main table can't be read");
            }
        }
        mark_outward(&mut links, &default);
    }
    Ok(links)
}

fn mark_outward(links: &mut [Link], outward: &[u32]) {
    for link in links {
        link.outward |= outward.contains(&link.index);
    }
}

/// The interfaces of a default route of the main table; none for any other route.
fn default_of_main(route: &RouteMessage) -> Vec<u32> {
    let header = &route.header;
    let is_it = header.kind == RouteType::Unicast
        && header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN;
    if !is_it {
        return Vec::new();
    }
    let mut found = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.push(*index),
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    found
}

/// The interfaces through which the rest of the world is reached. An address in each half of
/// either family stands for all; nothing is sent there.
fn outward(netlink: &mut Netlink, mark: u32) -> Vec<u32> {
    let anybody = [
        IpAddr::from([11, 1, 1, 1]),
        IpAddr::from([198, 51, 100, 1]),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1_u16]),
        IpAddr::from([0x9fff, 0, 0, 0, 0, 0, 0, 1_u16]),
    ];
    let mut found = Vec::new();
    for address in anybody {
        let mut question = netlink::route_to(address);
        question.attributes.push(RouteAttribute::Mark(mark));
        // An error is the answer where there is no route.
        let route = netlink.route(question);
        found.extend(
            route
                .into_iter()
                .flat_map(|route| route.attributes)
                .filter_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(index),
                    _ => None,
                }),
        );
    }
    found
}

/// Hears of links and addresses that change in this network namespace.
pub(super) struct Watch(Socket);

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        let groups = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
        ];
        netlink::listen(NETLINK_ROUTE, &groups).map(Self)
    }

    /// Whether anything has changed since it was last asked.
    pub(super) fn changed(&mut self) -> bool {
        let mut changed = false;
        // What exactly it was doesn't matter: whoever asks looks at everything anew. Nor
        // does an error, which says that there was too much to tell.
        let mut message = [0_u8; 8192];
        loop {
            match self.0.recv(&mut &mut message[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                    tracing::debug!(%error, "listening for changes of interfaces");
                    return changed;
                }
                Ok(_) | Err(_) => changed = true,
            }
        }
    }
}

fn read_link(message: LinkMessage) -> Link {
    let layer = message.header.link_layer_type;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        ethernet: matches!(layer, LinkLayerType::Ether | LinkLayerType::Loopback),
        loopback: layer == LinkLayerType::Loopback,
        kind: String::new(),
        addresses: Vec::new(),
        outward: false,
        program: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            LinkAttribute::Xdp(xdp) => {
                for entry in xdp {
                    // With programs in several modes only these are there; one will do.
                    if let LinkXdp::ProgId(id)
                    | LinkXdp::DrvProgId(id)
                    | LinkXdp::SkbProgId(id)
                    | LinkXdp::HwProgId(id) = entry
                        && id != 0
                    {
                        link.program = Some(id);
                    }
                }
            }
            _ => {}
        }
    }
    link
}

/// On a point-to-point link, `Address` is the other side's and `Local` is ours; IPv6
/// usually has only the former, and then it is ours.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => own = Some(*address),
            _ => {}
        }
    }
    own
}

/// Looks at what the kernel says of a link, an address or a route; whether it is one.
#[cfg(feature = "fuzzing")]
pub(super) fn look_at(message: RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            read_link(link).is_underlay();
        }
        RouteNetlinkMessage::NewAddress(address) => {
            own_address(&address);
        }
        RouteNetlinkMessage::NewRoute(route) => drop(default_of_main(&route)),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    #[test]
    fn only_default_routes_of_the_main_table_lead_outward() {
        let route = |table, length, attribute| {
            let mut route = RouteMessage::default();
            route.header.table = table;
            route.header.kind = RouteType::Unicast;
            route.header.destination_prefix_length = length;
            route.attributes = vec![attribute];
            default_of_main(&route)
        };
        let main = RouteHeader::RT_TABLE_MAIN;
        assert_eq!(route(main, 0, RouteAttribute::Oif(7)), [7]);
        assert_eq!(route(main, 24, RouteAttribute::Oif(7)), [0_u32; 0]);
        assert_eq!(route(100, 0, RouteAttribute::Oif(7)), [0_u32; 0]);
        let hop = |index| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop
        };
        let several = RouteAttribute::MultiPath(vec![hop(2), hop(3)]);
        assert_eq!(route(main, 0, several), [2, 3]);
    }

    #[test]
    fn loopback_is_found_with_its_address() {
        let links = links(0).unwrap();
        let loopback = links.iter().find(|link| link.loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(loopback.ethernet);
        // A fresh namespace has it down and without an address.
        if loopback.up {
            let address = IpAddr::from([127, 0, 0, 1]);
            assert!(loopback.addresses.contains(&address));
        }
    }
}
