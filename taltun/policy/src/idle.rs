//! Rules without effect: that never decide, or that say what would be without them.
//!
//! Packets are looked at by their kinds: those whose ends and services lead to the same rows are
//! alike. Both ends of a packet are of one family, and ICMP is another protocol in each.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use taltun_common::headers::protocol;

use crate::rows::{Row, RowId};
use crate::rules::{Action, Owners, Side};
use crate::set::{EndRows, RuleSet};
use crate::stretches::stretches;

/// Words of rows that are looked at: some tens of milliseconds.
const MOST: usize = 20_000_000;

/// Rules without effect, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Idle {
    /// Those that never decide, with the reason.
    pub never: Vec<(usize, Reason)>,
    /// There are too many kinds of packets to look at each: none of those that never decide is told,
    /// and of the others only those that nothing is behind that denies.
    pub too_many: bool,
    /// Those that decide, and allow what the default allows and no rule after them denies. Rules
    /// that are told in the log aren't among them.
    pub allowed_anyway: Vec<usize>,
}

/// Why a rule never decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Rules before it always do.
    Before,
    /// It is about both IPv4 and IPv6, and about nothing in one of the two alone.
    Families,
    /// Nothing goes through the tunnel from and to those.
    Nobody,
}

/// Kinds of senders and of receivers on a side, by their rows.
#[derive(Debug, Default)]
struct Kinds {
    from: BTreeSet<[RowId; 3]>,
    to: BTreeSet<[RowId; 3]>,
}

impl Kinds {
    fn take(&mut self, rows: EndRows) {
        self.from.insert(rows.from());
        self.to.insert(rows.to());
    }
}

/// All kinds of packets of a family.
#[derive(Debug)]
struct Family {
    peers: Kinds,
    host: Kinds,
    services: BTreeSet<RowId>,
}

/// The rows of a kind of packets.
type Kind = ([RowId; 3], [RowId; 3], RowId);

impl RuleSet {
    /// The rules without effect. `networks` are all that peers have, of which `owners` knows whose
    /// each is.
    pub fn idle(&self, networks: &[IpNet], owners: &impl Owners) -> Idle {
        let named = self.compiled.nets.iter().map(|(net, _)| net);
        let nets = named.chain(self.world.hub_nets());
        let addresses = stretches(nets.chain(networks.iter().copied()));
        let families = [false, true].map(|v6| self.family(v6, &addresses, owners));
        let kinds = families.iter().map(|family| {
            let pairs = family.pairs();
            let pairs = pairs.map(|(from, to)| from.from.len().saturating_mul(to.to.len()));
            let pairs = pairs.into_iter().fold(0, usize::saturating_add);
            pairs.saturating_mul(family.services.len())
        });
        let kinds = kinds.fold(0, usize::saturating_add);
        if kinds.saturating_mul(self.len().div_ceil(64)) > MOST {
            return Idle {
                never: Vec::new(),
                too_many: true,
                allowed_anyway: self.behind_all_that_deny(),
            };
        }
        let mut never: BTreeSet<usize> = (0..self.len()).collect();
        let mut idle = self.that_allow_anyway();
        let denying = self.denying();
        for (from, to, service) in families.iter().flat_map(Family::kinds) {
            let rows = &self.compiled.rows;
            let Some(rule) = rows.first_in_all(from, to, service) else {
                continue;
            };
            never.remove(&rule);
            if idle.contains(&rule) && rows.first_among(&denying, from, to, service).is_some() {
                idle.remove(&rule);
            }
        }
        idle.retain(|rule| !never.contains(rule));
        Idle {
            never: self.with_reasons(&never, &families),
            too_many: false,
            allowed_anyway: idle.into_iter().collect(),
        }
    }

    /// Rules that never decide, each with its reason.
    fn with_reasons(
        &self,
        never: &BTreeSet<usize>,
        families: &[Family; 2],
    ) -> Vec<(usize, Reason)> {
        if never.is_empty() {
            return Vec::new();
        }
        let rows = &self.compiled.rows;
        let mut unmatched = Row::none(self.len());
        for rule in never {
            unmatched.insert(*rule);
        }
        let mut matched_by = |kinds: &mut dyn Iterator<Item = Kind>| {
            let mut matched = BTreeSet::new();
            for (from, to, service) in kinds {
                while let Some(rule) = rows.first_among(&unmatched, from, to, service) {
                    unmatched.remove(rule);
                    matched.insert(rule);
                }
            }
            matched
        };
        let shadowed = matched_by(&mut families.iter().flat_map(Family::kinds));
        let [v4, v6] = families;
        let mixed = matched_by(&mut v4.kinds_to(v6).chain(v6.kinds_to(v4)));
        let reason = |rule: &usize| {
            if shadowed.contains(rule) {
                Reason::Before
            } else if mixed.contains(rule) {
                Reason::Families
            } else {
                Reason::Nobody
            }
        };
        never.iter().map(|rule| (*rule, reason(rule))).collect()
    }

    /// Rules that say what the default says, and nothing in the log.
    fn that_allow_anyway(&self) -> BTreeSet<usize> {
        if self.compiled.default == Action::Deny {
            return BTreeSet::new();
        }
        let rules = self.compiled.rules.iter().enumerate();
        let quiet = rules.filter(|(_, rule)| **rule == (Action::Allow, false));
        quiet.map(|(number, _)| number).collect()
    }

    fn behind_all_that_deny(&self) -> Vec<usize> {
        let denies = |(action, _): &(Action, bool)| *action == Action::Deny;
        let last = self.compiled.rules.iter().rposition(denies);
        let mut idle = self.that_allow_anyway();
        idle.retain(|rule| last.is_none_or(|last| *rule > last));
        idle.into_iter().collect()
    }

    fn denying(&self) -> Row {
        let mut denying = Row::none(self.len());
        for (number, (action, _)) in self.compiled.rules.iter().enumerate() {
            if *action == Action::Deny {
                denying.insert(number);
            }
        }
        denying
    }

    fn family(&self, v6: bool, addresses: &BTreeSet<IpAddr>, owners: &impl Owners) -> Family {
        let of_family = || addresses.iter().filter(|it| it.is_ipv6() == v6).copied();
        Family {
            peers: self.kinds(Side::Peer, of_family(), owners),
            host: self.kinds(Side::Host, of_family(), owners),
            services: self.services(v6),
        }
    }

    /// All combinations of rows that these addresses have on a side.
    fn kinds(
        &self,
        side: Side,
        addresses: impl Iterator<Item = IpAddr>,
        owners: &impl Owners,
    ) -> Kinds {
        let mut kinds = Kinds::default();
        for address in addresses {
            if side == Side::Host {
                self.may_be_of_host(address, owners, |rows| kinds.take(rows));
            } else if owners.owner(side, address).is_some() {
                kinds.take(self.rows_of(side, address, owners));
            }
        }
        kinds
    }

    /// All that an address on the side of the host may be. The hub has addresses on other
    /// interfaces, too, which only a running one knows, and narrower networks than peers have.
    fn may_be_of_host(&self, address: IpAddr, owners: &impl Owners, mut take: impl FnMut(EndRows)) {
        let compiled = &*self.compiled;
        let [net, owner, hub] = self.rows_of(Side::Host, address, owners).parts();
        for owner in [owner, compiled.nobody] {
            for hub in [hub, compiled.hub] {
                take(EndRows::new(net, owner, hub));
            }
        }
    }

    fn services(&self, v6: bool) -> BTreeSet<RowId> {
        let compiled = &*self.compiled;
        let ports = compiled.tcp.0.iter().chain(&compiled.udp.0);
        let ports = ports.map(|(_, row)| *row);
        let others = if v6 { protocol::ICMP } else { protocol::ICMPV6 };
        let protocols = compiled.protocols.iter().enumerate();
        let protocols = protocols.filter(|(number, _)| *number != usize::from(others));
        ports.chain(protocols.map(|(_, row)| *row)).collect()
    }
}

impl Family {
    /// Who sends to whom through the tunnel.
    fn pairs(&self) -> [(&Kinds, &Kinds); 3] {
        self.pairs_to(self)
    }

    fn pairs_to<'f>(&'f self, other: &'f Self) -> [(&'f Kinds, &'f Kinds); 3] {
        [
            (&self.peers, &other.peers),
            (&self.peers, &other.host),
            (&self.host, &other.peers),
        ]
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.kinds_to(self)
    }

    /// From this family to another, of which there is nothing unless it is the same.
    fn kinds_to<'f>(&'f self, other: &'f Self) -> impl Iterator<Item = Kind> + 'f {
        let services = self.services.union(&other.services);
        services.flat_map(move |service| {
            let pairs = self.pairs_to(other).into_iter();
            pairs.flat_map(move |(from, to)| {
                let to = move |from: &'f [RowId; 3]| to.to.iter().map(move |to| (*from, *to));
                let ends = from.from.iter().flat_map(to);
                ends.map(move |(from, to)| (from, to, *service))
            })
        })
    }
}
