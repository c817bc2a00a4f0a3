//! Rules as written, and what the hub is for them.

use std::net::IpAddr;

use ipnet::IpNet;
use taltun_crypto::PublicKey;

use crate::groups::Groups;
pub use crate::party::Party;
use crate::service::Service;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// It passes, and its answers do.
    #[default]
    Allow,
    /// It is dropped.
    Deny,
}

/// Who may start what with whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Who starts: any of these.
    pub from: Vec<Party>,
    /// With whom: any of these.
    pub to: Vec<Party>,
    /// What: any of these.
    pub services: Vec<Service>,
    /// Whether it may.
    pub action: Action,
    /// Whether each start is told in the log.
    pub log: bool,
}

/// All rules. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// What happens where no rule matches.
    pub default: Action,
    /// Each group's members.
    pub groups: Groups,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
}

/// What the hub is, for rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The hub's own addresses.
    pub hub: Vec<IpAddr>,
    /// Whether packets between peers come back from the kernel, which then is between the two.
    pub kernel_relays: bool,
}

impl World {
    /// Whether the hub itself takes what is for an address that no peer has: one of its own, one for
    /// all who listen, of which it is one, or one of IPv6 on the link, which is passed on to nobody.
    /// The addresses are in ascending order.
    pub(crate) fn is_hub(&self, address: IpAddr) -> bool {
        let is_for_all = match address {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
        };
        is_for_all || self.hub.binary_search(&address).is_ok()
    }

    /// The networks that the hub is by that: those for all who listen, and its addresses.
    pub(crate) fn hub_nets(&self) -> impl Iterator<Item = IpNet> {
        let for_all = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10"];
        let for_all = for_all.map(|net| net.parse().expect("it is a network"));
        for_all
            .into_iter()
            .chain(self.hub.iter().map(|ip| IpNet::from(*ip)))
    }
}

/// Which peer has an address.
pub trait Owners {
    /// The peer that has an address, if one has it. On the side of the host, that is one to which
    /// the kernel sends what is for the address.
    fn owner(&self, side: Side, address: IpAddr) -> Option<PublicKey>;
}

/// Where a packet comes from, or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// A peer's session.
    Peer,
    /// The tunnel interface: the hub itself, or what is behind it.
    Host,
}

/// Where a packet comes from and where it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Where it comes from.
    pub from: Side,
    /// Where it goes to.
    pub to: Side,
}

impl Ends {
    /// Those of an answer.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }
}

/// A rule set's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub action: Action,
    /// The rule that said so; `None` for the default.
    pub rule: Option<usize>,
    /// Whether it is told in the log.
    pub log: bool,
}

/// A packet of no known flow, for which rules are asked.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Where it comes from and goes to.
    pub ends: Ends,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// The destination port of TCP and UDP.
    pub port: u16,
}
