//! Asks the kernel for its links, with the addresses and the XDP program each has, and
//! hears from it when they change.
//!
//! By netlink and not from `/sys`, which goes on showing the devices of the network
//! namespace it was mounted in. Blocking, on a socket of its own: the answer is in the
//! kernel already, and a [`Shield`](super::Shield) is made in and out of async code.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

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
    /// Id of the XDP program attached to it, whoever did that.
    pub(super) program: Option<u32>,
}

/// Every link in this network namespace.
///
/// `mark` is that of our datagrams, by which they go around a default route of ours.
pub(super) fn links(mark: u32) -> io::Result<Vec<Link>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut links: Vec<Link> = dump(request)?
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(link)),
            _ => None,
        })
        .collect();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in dump(request)? {
        let RouteNetlinkMessage::NewAddress(message) = message else {
            continue;
        };
        let link = links
            .iter_mut()
            .find(|link| link.index == message.header.index);
        if let (Some(link), Some(address)) = (link, own_address(&message)) {
            link.addresses.push(address);
        }
    }
    for out in outward(mark) {
        if let Some(link) = links.iter_mut().find(|link| link.index == out) {
            link.outward = true;
        }
    }
    Ok(links)
}

/// The interfaces through which the rest of the world is reached. An address in each half of
/// either family stands for all; nothing is sent there.
fn outward(mark: u32) -> Vec<u32> {
    let anybody = [
        IpAddr::from([11, 1, 1, 1]),
        IpAddr::from([198, 51, 100, 1]),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1_u16]),
        IpAddr::from([0x9fff, 0, 0, 0, 0, 0, 0, 1_u16]),
    ];
    let mut found = Vec::new();
    for address in anybody {
        let mut route = RouteMessage::default();
        let v4 = address.is_ipv4();
        route.header.address_family = if v4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        route.header.destination_prefix_length = if v4 { 32 } else { 128 };
        route.attributes = vec![
            RouteAttribute::Destination(address.into()),
            RouteAttribute::Mark(mark),
        ];
        // An error is the answer where there is no route.
        let answers = ask(RouteNetlinkMessage::GetRoute(route), NLM_F_REQUEST);
        for answer in answers.unwrap_or_default() {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                continue;
            };
            found.extend(
                route
                    .attributes
                    .iter()
                    .filter_map(|attribute| match attribute {
                        RouteAttribute::Oif(index) => Some(*index),
                        _ => None,
                    }),
            );
        }
    }
    found
}

/// Hears of links and addresses that change in this network namespace.
pub(super) struct Watch(Socket);

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
        ] {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
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

/// Asks for a whole table.
fn dump(request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    ask(request, NLM_F_DUMP | NLM_F_REQUEST)
}

/// Sends a request and reads all that comes back.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(request));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
            // Messages are aligned to four bytes; the last may lack its padding.
            let length = (message.header.length as usize).next_multiple_of(4);
            if length == 0 {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP != NLM_F_DUMP {
            return Ok(answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
