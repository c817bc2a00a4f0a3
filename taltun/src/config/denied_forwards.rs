//! Forwarded ports that the rules deny.
//!
//! By `source = "hub"` it is the hub that starts what comes this way, by `source = "keep"` anybody
//! outside of the tunnel.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use taltun_common::headers::protocol;
use taltun_policy::outside::Outside;
use taltun_policy::rules::Start;
use taltun_policy::{Ends, RuleSet, Side};

use super::draft::Draft;
use super::parties::{self, Owned};
use super::{Action, Forward, ForwardProtocol, ForwardSource, Policy};

/// Warns of forwarded ports with which no rule lets those start anything whom the peer sees.
pub(super) fn warnings(policy: &Policy, draft: &Draft, forwards: &[Forward]) -> Vec<String> {
    if !policy.is_any() || forwards.is_empty() {
        return Vec::new();
    }
    let mut judged = Judged::of(policy, draft);
    let mut warnings = Vec::new();
    for (forward, written) in forwards.iter().zip(&draft.forwards) {
        let denied = |address: &IpAddr| Some((*address, judged.denied(forward, *address)?));
        let denied: Vec<(IpAddr, u16)> = forward.addresses.iter().filter_map(denied).collect();
        let Some(&(address, port)) = denied.first() else {
            continue;
        };
        // Who names the senders may mean those of one family.
        if forward.source == ForwardSource::Keep && denied.len() < forward.addresses.len() {
            continue;
        }
        let protocol = forward.listen.protocol.word();
        let (who, from) = match (forward.source, address) {
            (ForwardSource::Hub, _) => ("\"hub\"", "hub"),
            (ForwardSource::Keep, IpAddr::V4(_)) => ("anybody outside", "0.0.0.0/0"),
            (ForwardSource::Keep, IpAddr::V6(_)) => ("anybody outside", "::/0"),
        };
        warnings.push(written.listen.spot.say(format!(
            "the rules deny what comes this way, as no rule lets {who} start {protocol}/{port} \
             with {address}; add [[rules]] with from = \"{from}\", to = \"{address}\", allow = \
             \"{protocol}/{port}\""
        )));
    }
    warnings
}

/// The rules of a file, and whom they are asked about.
struct Judged<'d> {
    draft: &'d Draft,
    owners: Owned,
    rules: RuleSet,
    /// Who is outside, of IPv4 and of IPv6, once it is asked for.
    outside_v4: Option<Outside>,
    outside_v6: Option<Outside>,
}

impl<'d> Judged<'d> {
    fn of(policy: &Policy, draft: &'d Draft) -> Self {
        Self {
            draft,
            owners: Owned::of(&draft.peers),
            rules: parties::rules(policy, draft),
            outside_v4: None,
            outside_v6: None,
        }
    }

    /// The first of the peer's ports that is denied at one of its addresses.
    fn denied(&mut self, forward: &Forward, address: IpAddr) -> Option<u16> {
        let which = match forward.listen.protocol {
            ForwardProtocol::Tcp => protocol::TCP,
            ForwardProtocol::Udp => protocol::UDP,
        };
        let ports = forward.to.ports.first..=forward.to.ports.last;
        match forward.source {
            ForwardSource::Hub => self.denied_to_hub(address, which, ports),
            ForwardSource::Keep => self.denied_to_all(address, which, &ports),
        }
    }

    fn denied_to_hub(
        &self,
        address: IpAddr,
        protocol: u8,
        mut ports: RangeInclusive<u16>,
    ) -> Option<u16> {
        let mut vips = self.draft.vip.iter().map(|vip| vip.value.addr());
        let source = vips.find(|vip| vip.is_ipv6() == address.is_ipv6())?;
        ports.find(|port| {
            let start = Start {
                ends: Ends {
                    from: Side::Host,
                    to: Side::Peer,
                },
                source,
                destination: address,
                protocol,
                port: *port,
            };
            self.rules.decide(&start, &self.owners).action == Action::Deny
        })
    }

    fn denied_to_all(
        &mut self,
        address: IpAddr,
        protocol: u8,
        ports: &RangeInclusive<u16>,
    ) -> Option<u16> {
        let Self {
            draft,
            owners,
            rules,
            outside_v4,
            outside_v6,
        } = self;
        let v6 = address.is_ipv6();
        let outside = if v6 { outside_v6 } else { outside_v4 };
        let outside = outside.get_or_insert_with(|| {
            let own = draft.vip.iter().map(|vip| vip.value.trunc());
            let own: Vec<IpNet> = own.collect();
            let is_inside = |ip: IpAddr| {
                own.iter().any(|net| net.contains(&ip)) || owners.of_network(ip).is_some()
            };
            let of_peers = draft.peers.iter().flat_map(parties::networks);
            let inside: Vec<IpNet> = own.iter().copied().chain(of_peers).collect();
            rules.outside(v6, &inside, is_inside, owners)
        });
        rules.closed_port(outside, address, protocol, ports, owners)
    }
}
