//! A judge as simple as can be: rules one after the other, flows in a map.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use taltun_common::headers::protocol;
use taltun_protocol::allowed_ips::canonical;

use super::hub::Peers;
use super::packets::{Made, What};
use crate::flows::Phase;
use crate::packet::flags;
use crate::rules::{Action, Ends, Owners as _, Party, Policy, Side, World};
use crate::service::Service;

/// One side of what is talked, by its address and its port.
pub(super) type End = (IpAddr, u16);

/// The simple judge.
pub(super) struct Simple {
    pub(super) policy: Policy,
    pub(super) world: World,
    pub(super) peers: Peers,
    pub(super) generation: u32,
    pub(super) flows: HashMap<(u8, End, End), SimpleFlow>,
    pub(super) fragments: HashMap<(IpAddr, IpAddr, u16), Duration>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SimpleFlow {
    pub(super) starter: End,
    pub(super) ends: Ends,
    pub(super) last: Duration,
    pub(super) phase: Phase,
    pub(super) generation: u32,
}

impl Simple {
    pub(super) fn decide(
        &self,
        ends: Ends,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Action {
        let rule = self.policy.rules.iter().find(|rule| {
            self.is_one_of(ends.from, from, &rule.from)
                && self.is_one_of(ends.to, to, &rule.to)
                && rule.services.iter().any(|service| match *service {
                    Service::Any => true,
                    Service::Icmp => [protocol::ICMP, protocol::ICMPV6].contains(&protocol),
                    Service::Protocol(number) => number == protocol,
                    Service::Tcp(first, last) => {
                        protocol == protocol::TCP && (first..=last).contains(&port)
                    }
                    Service::Udp(first, last) => {
                        protocol == protocol::UDP && (first..=last).contains(&port)
                    }
                })
        });
        rule.map_or(self.policy.default, |rule| rule.action)
    }

    pub(super) fn is_one_of(&self, side: Side, address: IpAddr, parties: &[Party]) -> bool {
        parties.iter().any(|party| match *party {
            Party::Any => true,
            Party::Hub => {
                let all_ones = address == IpAddr::from([255; 4]);
                let on_link =
                    matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
                let is_for_all = address.is_multicast() || all_ones || on_link;
                side == Side::Host && (is_for_all || self.world.hub.contains(&address))
            }
            Party::Net(net) => canonical(net).contains(&address),
            Party::Peer(peer) => {
                let has_owner = side == Side::Peer || self.world.kernel_relays;
                has_owner && self.peers.owner(side, address) == Some(peer)
            }
            Party::Group(group) => self.is_one_of(side, address, self.policy.groups.members(group)),
        })
    }

    pub(super) fn judge(&mut self, made: &Made, now: Duration) -> bool {
        let Some((id, is_later)) = made.fragment else {
            return self.whole(made, now);
        };
        let key = (made.source, made.destination, id);
        if is_later {
            let first = self.fragments.get(&key);
            return first
                .is_some_and(|first| now.saturating_sub(*first) <= Phase::Fragments.patience());
        }
        let passes = self.whole(made, now);
        if passes {
            self.fragments.insert(key, now);
        }
        passes
    }

    pub(super) fn whole(&mut self, made: &Made, now: Duration) -> bool {
        if let What::ErrorAbout(other, ports) = made.what {
            let from = (made.destination, ports.source);
            let to = (other, ports.destination);
            let owner = |address| self.peers.owner(Side::Peer, address);
            let on_the_way = made.ends.from == Side::Host || owner(made.source) == owner(other);
            if on_the_way && self.known(protocol::UDP, from, to, now).is_some() {
                return true;
            }
        }
        let protocol = made.protocol();
        let ports = made.ports();
        let from = (made.source, ports.source);
        let to = (made.destination, ports.destination);
        let starts = matches!(made.what, What::Tcp(_, flags) if flags & 18 == flags::SYN);
        let known = self.known(protocol, from, to, now);
        if let Some(mut flow) = known
            && !starts
            && !(matches!(made.what, What::Query(_)) && flow.starter != from)
        {
            let is_starters = flow.starter == from;
            flow.last = now;
            flow.phase = match (flow.phase, made.what) {
                (_, What::Tcp(_, flags)) if flags & flags::RST != 0 => Phase::Reset,
                (Phase::Reset, _) => Phase::Reset,
                (_, What::Tcp(_, flags)) if flags & flags::FIN != 0 => Phase::Closing,
                (Phase::Opening, _) if !is_starters => Phase::Answered,
                (Phase::Answered, _) if is_starters => Phase::Established,
                (Phase::OneWay, _) if !is_starters => Phase::BothWays,
                (phase, _) => phase,
            };
            self.flows.insert(key(protocol, from, to), flow);
            return true;
        }
        let action = self.decide(
            made.ends,
            made.source,
            made.destination,
            protocol,
            ports.destination,
        );
        if action == Action::Deny {
            return false;
        }
        let phase = match made.what {
            What::Tcp(_, flags) if flags & flags::RST != 0 => None,
            What::Tcp(_, flags) if flags & flags::FIN != 0 => Some(Phase::Closing),
            What::Tcp(..) => Some(Phase::Opening),
            What::Query(_) => Some(Phase::Query),
            What::Udp(_) => Some(Phase::OneWay),
            What::Other(number) if number != protocol::ICMP && number != protocol::ICMPV6 => {
                Some(Phase::OneWay)
            }
            What::Answer(_) | What::ErrorAbout(..) | What::Other(_) => None,
        };
        if let Some(phase) = phase {
            let flow = SimpleFlow {
                starter: from,
                ends: made.ends,
                last: now,
                phase,
                generation: self.generation,
            };
            self.flows.insert(key(protocol, from, to), flow);
        }
        true
    }

    pub(super) fn known(
        &mut self,
        protocol: u8,
        from: End,
        to: End,
        now: Duration,
    ) -> Option<SimpleFlow> {
        let key = key(protocol, from, to);
        let mut flow = *self.flows.get(&key)?;
        if now.saturating_sub(flow.last) > flow.phase.patience() {
            return None;
        }
        if flow.generation != self.generation {
            let (from, to) = if flow.starter == from {
                (from, to)
            } else {
                (to, from)
            };
            if self.decide(flow.ends, from.0, to.0, protocol, to.1) == Action::Deny {
                self.flows.remove(&key);
                return None;
            }
            flow.generation = self.generation;
        }
        Some(flow)
    }
}

pub(super) fn key(protocol: u8, from: End, to: End) -> (u8, End, End) {
    (protocol, from.min(to), from.max(to))
}
