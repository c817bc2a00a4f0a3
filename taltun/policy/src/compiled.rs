//! Rules compiled for look-ups. That takes a while, and depends on nothing but the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use ipnet::IpNet;
use taltun_common::headers::protocol;
use taltun_crypto::PublicKey;
use taltun_protocol::allowed_ips::{AllowedIps, canonical};

use crate::rows::{Row, RowId, Rows};
use crate::rules::{Action, Party, Policy, Rule};
use crate::service::Service;

/// Rules compiled for look-ups: who a packet is from, whom it is for and what it starts each lead
/// to a row of rules. A peer's rules are found by its key, and the hub's by what the hub is, so
/// that they hold for whatever addresses these are given later.
pub struct Compiled {
    pub(crate) default: Action,
    /// Each rule's action, and whether it is told in the log.
    pub(crate) rules: Vec<(Action, bool)>,
    pub(crate) rows: Rows,
    /// The rules about each peer that some name.
    pub(crate) peers: HashMap<PublicKey, SideRows>,
    /// Those about a peer that none names.
    pub(crate) nobody: SideRows,
    /// The rules about the hub.
    pub(crate) hub: SideRows,
    /// The rules about addresses, whoever has them, and about everybody.
    pub(crate) nets: AllowedIps<SideRows>,
    pub(crate) tcp: PortRows,
    pub(crate) udp: PortRows,
    /// Rows of protocols, ports aside.
    pub(crate) protocols: Box<[RowId; 256]>,
}

/// The rules in which something is on the one side and on the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SideRows {
    pub from: RowId,
    pub to: RowId,
}

/// Where ports with another row begin, in ascending order; the first is 0.
#[derive(Debug, Clone)]
pub(crate) struct PortRows(pub Vec<(u16, RowId)>);

impl Compiled {
    /// Compiles rules.
    pub fn new(policy: &Policy) -> Self {
        let mut rows = Rows::new(policy.rules.len());
        let from = Named::collect(policy, |rule| &rule.from);
        let to = Named::collect(policy, |rule| &rule.to);
        let none = Row::none(policy.rules.len());
        let named = from.peers.keys().chain(to.peers.keys());
        let peers = named.map(|key| {
            let rows = SideRows {
                from: rows.intern(from.peers.get(key).unwrap_or(&none).clone()),
                to: rows.intern(to.peers.get(key).unwrap_or(&none).clone()),
            };
            (*key, rows)
        });
        let peers = peers.collect();
        let nobody = rows.intern(none);
        let rules = policy.rules.iter().map(|rule| (rule.action, rule.log));
        Self {
            default: policy.default,
            rules: rules.collect(),
            peers,
            nobody: SideRows {
                from: nobody,
                to: nobody,
            },
            hub: SideRows {
                from: rows.intern(from.hub.clone()),
                to: rows.intern(to.hub.clone()),
            },
            nets: compile_nets(&mut rows, &from, &to),
            tcp: PortRows::compile(&mut rows, policy, protocol::TCP),
            udp: PortRows::compile(&mut rows, policy, protocol::UDP),
            protocols: compile_protocols(&mut rows, policy),
            rows: rows.finished(),
        }
    }

    /// What happens where no rule matches.
    pub fn default_action(&self) -> Action {
        self.default
    }
}

/// Without its rows, which are many.
impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled")
            .field("default", &self.default)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

/// The rows of networks.
fn compile_nets(rows: &mut Rows, from: &Named, to: &Named) -> AllowedIps<SideRows> {
    let nets = from.nets.keys().chain(to.nets.keys()).copied();
    let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("it is a network"));
    let prefixes: BTreeSet<IpNet> = nets.chain(everything).collect();
    let (from_nets, to_nets) = (from.nets_by_address(), to.nets_by_address());
    let mut table = AllowedIps::default();
    for prefix in prefixes {
        let row = SideRows {
            from: rows.intern(from.row(&from_nets, prefix)),
            to: rows.intern(to.row(&to_nets, prefix)),
        };
        table.insert(prefix, row);
    }
    table
}

/// The rules that name each party, on one of their sides.
struct Named {
    any: Row,
    hub: Row,
    peers: BTreeMap<PublicKey, Row>,
    nets: BTreeMap<IpNet, Row>,
}

impl Named {
    fn collect(policy: &Policy, side: impl Fn(&Rule) -> &Vec<Party>) -> Self {
        let none = Row::none(policy.rules.len());
        let mut named = Self {
            any: none.clone(),
            hub: none.clone(),
            peers: BTreeMap::new(),
            nets: BTreeMap::new(),
        };
        let mut groups = vec![none.clone(); policy.groups.len()];
        for (number, rule) in policy.rules.iter().enumerate() {
            for party in side(rule) {
                match party {
                    Party::Group(group) => groups[*group].insert(number),
                    other => named.row_of(*other, &none).insert(number),
                }
            }
        }
        // A group's rules once for each member, not each rule once for each member. A group in it
        // is passed on to with all that it has by then.
        for (group, members) in policy.groups.outermost_first() {
            let rules = std::mem::replace(&mut groups[group], Row::none(0));
            for member in members {
                let row = match member {
                    Party::Group(inner) => groups.get_mut(*inner),
                    other => Some(named.row_of(*other, &none)),
                };
                if let Some(row) = row {
                    row.union(&rules);
                }
            }
        }
        named
    }

    /// The row of a party that is no group.
    fn row_of(&mut self, party: Party, none: &Row) -> &mut Row {
        match party {
            Party::Any => &mut self.any,
            Party::Hub => &mut self.hub,
            Party::Peer(peer) => self.peers.entry(peer).or_insert_with(|| none.clone()),
            Party::Net(net) => {
                let net = self.nets.entry(canonical(net));
                net.or_insert_with(|| none.clone())
            }
            Party::Group(_) => unreachable!("groups have rows of their own"),
        }
    }

    fn nets_by_address(&self) -> AllowedIps<&Row> {
        let mut table = AllowedIps::default();
        for (net, row) in &self.nets {
            table.insert(*net, row);
        }
        table
    }

    /// The rules about the addresses of a network.
    fn row(&self, nets: &AllowedIps<&Row>, prefix: IpNet) -> Row {
        let mut row = self.any.clone();
        for (len, rules) in nets.covering(prefix.network()) {
            if len <= prefix.prefix_len() {
                row.union(rules);
            }
        }
        row
    }
}

impl PortRows {
    /// The rows of the ports of TCP or UDP.
    fn compile(rows: &mut Rows, policy: &Policy, which: u8) -> Self {
        let ranges = |service: &Service| match *service {
            Service::Any => Some((0, u16::MAX)),
            Service::Protocol(number) if number == which => Some((0, u16::MAX)),
            Service::Tcp(first, last) if which == protocol::TCP => Some((first, last)),
            Service::Udp(first, last) if which == protocol::UDP => Some((first, last)),
            _ => None,
        };
        let mut starts = BTreeSet::from([0]);
        let mut edges: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let mut ends: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (number, rule) in policy.rules.iter().enumerate() {
            for (first, last) in rule.services.iter().filter_map(ranges) {
                starts.insert(first);
                edges.entry(first).or_default().push(number);
                if let Some(behind) = last.checked_add(1) {
                    starts.insert(behind);
                    ends.entry(behind).or_default().push(number);
                }
            }
        }
        // How many services of a rule have the port: they may overlap.
        let mut depth = vec![0_u32; policy.rules.len()];
        let mut row = Row::none(policy.rules.len());
        let rows = starts.into_iter().map(|start| {
            for rule in edges.get(&start).into_iter().flatten() {
                depth[*rule] += 1;
                row.insert(*rule);
            }
            for rule in ends.get(&start).into_iter().flatten() {
                depth[*rule] -= 1;
                if depth[*rule] == 0 {
                    row.remove(*rule);
                }
            }
            (start, rows.intern(row.clone()))
        });
        Self(rows.collect())
    }

    #[inline]
    pub(crate) fn row(&self, port: u16) -> RowId {
        let behind = self.0.partition_point(|(start, _)| *start <= port);
        self.0[behind - 1].1
    }
}

/// The rows of protocols without ports.
fn compile_protocols(rows: &mut Rows, policy: &Policy) -> Box<[RowId; 256]> {
    let mut by_protocol = vec![Row::none(policy.rules.len()); 256];
    for (number, rule) in policy.rules.iter().enumerate() {
        for service in &rule.services {
            match service {
                Service::Any => by_protocol.iter_mut().for_each(|row| row.insert(number)),
                Service::Icmp => {
                    for protocol in [protocol::ICMP, protocol::ICMPV6] {
                        by_protocol[usize::from(protocol)].insert(number);
                    }
                }
                Service::Protocol(protocol) => by_protocol[usize::from(*protocol)].insert(number),
                Service::Tcp(..) | Service::Udp(..) => {}
            }
        }
    }
    let mut table = Box::new([RowId::default(); 256]);
    for (id, row) in table.iter_mut().zip(by_protocol) {
        *id = rows.intern(row);
    }
    table
}
