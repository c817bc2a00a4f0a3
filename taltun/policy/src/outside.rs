//! Senders outside of the tunnel, of which each kind is looked at once.
//!
//! Their addresses are cut where a network of the rules or one inside begins or ends. All within
//! such a piece are judged alike, so its first address stands for it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use taltun_common::headers::protocol;

use crate::rows::RowId;
use crate::rules::{Action, Owners, Side};
use crate::set::RuleSet;

/// All kinds of senders outside of the tunnel, of one family.
#[derive(Debug)]
pub struct Outside(HashSet<[RowId; 3]>);

impl RuleSet {
    /// The senders of a family that are outside of the tunnel: those that are in none of the
    /// networks `inside`, as `is_inside` says, and aren't the hub.
    pub fn outside(
        &self,
        v6: bool,
        inside: &[IpNet],
        is_inside: impl Fn(IpAddr) -> bool,
        owners: &impl Owners,
    ) -> Outside {
        let named = self.compiled.nets.iter().map(|(net, _)| net);
        let hub = self.world.hub.iter().map(|ip| IpNet::from(*ip));
        let nets = named.chain(hub).chain(inside.iter().copied());
        let nets = nets.filter(|net| net.addr().is_ipv6() == v6);
        let edges = nets.flat_map(|net| [Some(net.network()), next(net.broadcast())]);
        let edges: BTreeSet<IpAddr> = edges.flatten().collect();
        let is_outside = |ip: &IpAddr| !is_inside(*ip) && self.world.hub.binary_search(ip).is_err();
        let kinds = edges.into_iter().filter(is_outside);
        Outside(
            kinds
                .map(|ip| self.rows_of(Side::Host, ip, owners).from())
                .collect(),
        )
    }

    /// The first of the ports of a peer's address with which none of `outside` may start anything.
    /// None, too, where there is too much to look at.
    pub fn closed_port(
        &self,
        outside: &Outside,
        address: IpAddr,
        which: u8,
        ports: &RangeInclusive<u16>,
        owners: &impl Owners,
    ) -> Option<u16> {
        const MOST: usize = 20_000_000;
        let compiled = &*self.compiled;
        let all = match which {
            protocol::TCP => &compiled.tcp,
            _ => &compiled.udp,
        };
        let starts = all.0.iter().map(|(start, _)| *start);
        let others = starts.filter(|start| start > ports.start() && start <= ports.end());
        let unlike: Vec<u16> = [*ports.start()].into_iter().chain(others).collect();
        let cost = outside.0.len().saturating_mul(unlike.len());
        if cost.saturating_mul(self.len().div_ceil(64)) > MOST {
            return None;
        }
        let to = self.rows_of(Side::Peer, address, owners).to();
        let is_closed = |port: &u16| {
            let service = all.row(*port);
            let mut senders = outside.0.iter();
            senders.all(|from| self.decision(*from, to, service).action == Action::Deny)
        };
        unlike.into_iter().find(is_closed)
    }
}

/// The address after that one.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(1)
            .map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(1)
            .map(|next| IpAddr::V6(next.into())),
    }
}
