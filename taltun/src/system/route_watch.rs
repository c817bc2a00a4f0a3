//! Which interface leads to a peer, and when that may have changed.
//!
//! Answers to a peer leave from the address that it sent to. That is right only as long as the
//! route to it has the same interface. When another takes over, the kernel's WireGuard forgets the
//! address and lets the route choose, and so do we.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use crate::os::netlink::{self, Netlink};

/// More routes than this that change at once are too many to tell apart.
const MANY: usize = 4096;

/// Which addresses another way may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Those in these networks.
    Nets(HashSet<IpNet>),
    /// Any.
    All,
}

impl Default for Changes {
    fn default() -> Self {
        Self::Nets(HashSet::new())
    }
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether another way may lead to `address`.
    pub fn concern(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        match self {
            Self::All => true,
            // A few networks are compared one by one; of many, those that it may be in.
            Self::Nets(nets) if nets.len() <= longest => {
                nets.iter().any(|net| net.contains(&address))
            }
            Self::Nets(nets) => (0..=longest as u8).any(|length| {
                IpNet::new(address, length).is_ok_and(|net| nets.contains(&net.trunc()))
            }),
        }
    }

    /// Adds others.
    pub fn merge(&mut self, others: Self) {
        match others {
            Self::All => *self = Self::All,
            Self::Nets(nets) => nets.into_iter().for_each(|net| self.add(Some(net))),
        }
    }

    fn add(&mut self, net: Option<IpNet>) {
        match (&mut *self, net) {
            (Self::All, _) => {}
            (Self::Nets(nets), Some(net)) if nets.len() < MANY => {
                nets.insert(net.trunc());
            }
            (Self::Nets(_), _) => *self = Self::All,
        }
    }
}

/// Hears of routes that change in this network namespace, and asks for them.
pub struct RouteWatcher {
    news: Socket,
    questions: Netlink,
}

impl RouteWatcher {
    /// Listens from now on.
    pub fn watch() -> io::Result<Self> {
        let groups = [
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
            // Routes that go with an interface or an address go without a word of their own.
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
        ];
        let news = netlink::listen(NETLINK_ROUTE, &groups)?;
        // From 5.3 on.
        let _ = news.add_membership(RTNLGRP_NEXTHOP);
        let questions = Netlink::connect()?;
        Ok(Self { news, questions })
    }

    /// Adds to `changes` what has changed since this was last asked.
    pub fn changed(&mut self, changes: &mut Changes) {
        let mut message = [0_u8; 8192];
        loop {
            match self.news.recv(&mut &mut message[..], 0) {
                Ok(length) => read_news(&message[..length.min(message.len())], changes),
                // There was too much to tell.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    *changes = Changes::All;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// The index of the interface through which datagrams with this mark go from one address
    /// of ours to another address.
    ///
    /// # Errors
    /// `EINVAL` when `from` is no address of ours, `ENETUNREACH` when no route leads there.
    pub fn interface(&mut self, from: IpAddr, to: IpAddr, mark: u32) -> io::Result<u32> {
        let mut question = netlink::route_between(from, to);
        question.attributes.push(RouteAttribute::Mark(mark));
        let route = self.questions.route(question)?;
        route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
            .ok_or_else(|| netlink::odd("a route without an interface"))
    }
}

/// Changes of nexthop objects; libc doesn't have its name.
const RTNLGRP_NEXTHOP: u32 = 32;

/// What the messages of a datagram say that has changed.
fn read_news(datagram: &[u8], changes: &mut Changes) {
    for message in netlink::messages(datagram) {
        match message.map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            )) => changes.add(super::routes::destination(&route)),
            // Something else than a route, or what we don't understand.
            _ => changes.add(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_concern_those_behind_them() {
        let at = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut changes = Changes::default();
        assert!(changes.is_empty() && !changes.concern(at("192.0.2.1")));
        changes.add(Some("192.0.2.0/24".parse().unwrap()));
        changes.add(Some("2001:db8::/32".parse().unwrap()));
        assert!(changes.concern(at("192.0.2.1")) && changes.concern(at("2001:db8::7")));
        assert!(changes.concern(at("::ffff:192.0.2.1")));
        assert!(!changes.concern(at("198.51.100.1")));
        for number in 0..1000_u32 {
            let net = IpNet::new(IpAddr::from((0x0a00_0000 + number * 256).to_be_bytes()), 24);
            changes.add(net.ok());
        }
        assert!(changes.concern(at("10.0.7.1")) && changes.concern(at("192.0.2.1")));
        assert!(!changes.concern(at("198.51.100.1")));
        changes.add(None);
        assert_eq!(changes, Changes::All);
        assert!(changes.concern(at("198.51.100.1")));
    }

    #[test]
    fn routes_that_go_with_their_address_are_heard_of() {
        if !crate::system::check::may_administer() {
            return;
        }
        std::thread::spawn(|| {
            // SAFETY: unshare takes no pointers; it moves this thread alone.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            let ip = |words: &str| {
                let mut ip = std::process::Command::new("ip");
                assert!(
                    ip.args(words.split(' ')).status().unwrap().success(),
                    "{words}"
                );
            };
            let mut ways = RouteWatcher::watch().unwrap();
            let mut heard = |words: &str| {
                ways.changed(&mut Changes::default());
                ip(words);
                let mut changes = Changes::default();
                ways.changed(&mut changes);
                changes
            };
            assert_eq!(heard("link add one type veth peer name two"), Changes::All);
            ip("link set one up");
            ip("link set two up");
            ip("addr add 192.0.2.1/24 dev one");
            ip("route add 203.0.113.0/24 via 192.0.2.2 src 192.0.2.1");
            let one = heard("route add 198.51.100.0/24 via 192.0.2.2");
            assert!(one.concern([198, 51, 100, 1].into()) && !one.concern([203, 0, 113, 1].into()));
            // Both take routes along, of which IPv4 tells nothing.
            assert!(heard("addr del 192.0.2.1/24 dev one").concern([203, 0, 113, 1].into()));
            ip("addr add 192.0.2.1/24 dev one");
            ip("route add 203.0.113.0/24 via 192.0.2.2");
            assert!(heard("link set one down").concern([203, 0, 113, 1].into()));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_way_to_ourselves_is_loopback_and_there_is_none_from_a_stranger() {
        let mut ways = RouteWatcher::watch().unwrap();
        let own = IpAddr::from([127, 0, 0, 1]);
        let loopback = crate::os::interface::index("lo").unwrap();
        for mark in [0, 7] {
            assert_eq!(ways.interface(own, own, mark).unwrap(), loopback);
        }
        let stranger = IpAddr::from([192, 0, 2, 1]);
        assert!(ways.interface(stranger, own, 0).is_err());
        // An answer that is an error leaves nothing behind for the next question.
        assert_eq!(ways.interface(own, own, 0).unwrap(), loopback);
    }
}
