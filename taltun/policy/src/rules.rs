//! Rules as written, and as compiled for look-ups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use taltun_common::headers::protocol;
use taltun_crypto::PublicKey;
use taltun_protocol::allowed_ips::{AllowedIps, canonical};

use crate::rows::{Row, RowId, Rows};
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

/// Who a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Everybody.
    Any,
    /// The hub's own addresses.
    Hub,
    /// A peer, by its key.
    Peer(PublicKey),
    /// A network, whoever has it.
    Net(IpNet),
    /// A group, by its place in [`Policy::groups`].
    Group(usize),
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
    /// Each group's members, none of which is a group.
    pub groups: Vec<Vec<Party>>,
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

/// Rules compiled for look-ups: who a packet is from, whom it is for and what it starts each lead
/// to a row of rules. A peer's rules are found by its key, so that they hold for whatever
/// addresses it is given later.
#[derive(Debug, Clone)]
pub struct RuleSet {
    default: Action,
    rules: Vec<(Action, bool)>,
    rows: Rows,
    kernel_relays: bool,
    /// The rules about each peer that some name.
    peers: HashMap<PublicKey, SideRows>,
    /// Those about a peer that none names.
    nobody: SideRows,
    /// The rules about addresses, whoever has them, on the side of the peers.
    nets: AllowedIps<SideRows>,
    /// The same on the side of the host, with the rules about the hub.
    host: AllowedIps<SideRows>,
    tcp: PortRows,
    udp: PortRows,
    /// Rows of protocols, ports aside.
    protocols: Box<[RowId; 256]>,
}

/// The rules in which something is on the one side and on the other.
#[derive(Debug, Clone, Copy)]
struct SideRows {
    from: RowId,
    to: RowId,
}

/// Where ports with another row begin, in ascending order; the first is 0.
#[derive(Debug, Clone)]
struct PortRows(Vec<(u16, RowId)>);

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

impl RuleSet {
    /// Compiles rules for a world.
    pub fn compile(policy: &Policy, world: &World) -> Self {
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
        Self {
            default: policy.default,
            rules: policy
                .rules
                .iter()
                .map(|rule| (rule.action, rule.log))
                .collect(),
            kernel_relays: world.kernel_relays,
            peers,
            nobody: SideRows {
                from: nobody,
                to: nobody,
            },
            nets: compile_nets(&mut rows, &from, &to, &[]),
            host: compile_nets(&mut rows, &from, &to, &world.hub),
            tcp: PortRows::compile(&mut rows, policy, protocol::TCP),
            udp: PortRows::compile(&mut rows, policy, protocol::UDP),
            protocols: compile_protocols(&mut rows, policy),
            rows: rows.finished(),
        }
    }

    /// Whether a packet may start a flow.
    pub fn decide(&self, start: &Start, owners: &impl Owners) -> Decision {
        let (from_net, from_peer) = self.rows_of(start.ends.from, start.source, owners);
        let (to_net, to_peer) = self.rows_of(start.ends.to, start.destination, owners);
        let service = match start.protocol {
            protocol::TCP => self.tcp.row(start.port),
            protocol::UDP => self.udp.row(start.port),
            other => self.protocols[usize::from(other)],
        };
        let from = [from_net.from, from_peer.from];
        let to = [to_net.to, to_peer.to];
        match self.rows.first_in_all(from, to, service) {
            Some(rule) => {
                let (action, log) = self.rules[rule];
                Decision {
                    action,
                    rule: Some(rule),
                    log,
                }
            }
            None => Decision {
                action: self.default,
                rule: None,
                log: false,
            },
        }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules that can never decide, as others before them always do, or as no packet through
    /// the tunnel is from and to those; `None` where there are too many kinds of packets to look
    /// at each. `networks` are all that peers have, of which `owners` knows whose each is.
    pub fn never_matched(&self, networks: &[IpNet], owners: &impl Owners) -> Option<Vec<usize>> {
        const MOST: usize = 20_000_000;
        let services = self.all_services();
        let peers = self.kinds(Side::Peer, networks, owners);
        let host = self.kinds(Side::Host, networks, owners);
        let pairs = [(&peers, &peers), (&peers, &host), (&host, &peers)];
        let kinds = pairs
            .iter()
            .map(|(from, to)| from.from.len().saturating_mul(to.to.len()));
        let kinds = kinds
            .fold(0, usize::saturating_add)
            .saturating_mul(services.len());
        if kinds.saturating_mul(self.rules.len().div_ceil(64)) > MOST {
            return None;
        }
        let mut never: BTreeSet<usize> = (0..self.rules.len()).collect();
        for (from, to) in pairs {
            for from in &from.from {
                for to in &to.to {
                    for service in &services {
                        let rule = self.rows.first_in_all(*from, *to, *service);
                        if let Some(rule) = rule {
                            never.remove(&rule);
                        }
                    }
                }
            }
        }
        Some(never.into_iter().collect())
    }

    /// The rows of an address on a side: those of the address, and those of who has it.
    #[inline]
    fn rows_of(&self, side: Side, address: IpAddr, owners: &impl Owners) -> (SideRows, SideRows) {
        let (nets, has_owner) = match side {
            Side::Peer => (&self.nets, true),
            Side::Host => (&self.host, self.kernel_relays),
        };
        let net = nets
            .lookup(address)
            .map_or(self.nobody, |found| *found.value);
        let owner = has_owner.then(|| owners.owner(side, address)).flatten();
        let peer = owner.and_then(|key| self.peers.get(&key));
        (net, *peer.unwrap_or(&self.nobody))
    }

    /// All combinations of rows on a side.
    fn kinds(&self, side: Side, networks: &[IpNet], owners: &impl Owners) -> Kinds {
        let nets = match side {
            Side::Peer => &self.nets,
            Side::Host => &self.host,
        };
        let named = nets.iter().map(|(net, _)| net);
        let mut kinds = Kinds::default();
        for net in named.chain(networks.iter().copied()) {
            // Within a prefix all addresses that no longer prefix has are alike, and a prefix that
            // is wholly of longer ones has no such address.
            for address in [net.network(), net.broadcast()] {
                let is_owned = owners.owner(side, address).is_some();
                if side == Side::Peer && !is_owned {
                    continue;
                }
                let (net, peer) = self.rows_of(side, address, owners);
                kinds.from.insert([net.from, peer.from]);
                kinds.to.insert([net.to, peer.to]);
            }
        }
        kinds
    }

    fn all_services(&self) -> BTreeSet<RowId> {
        let ports = self.tcp.0.iter().chain(&self.udp.0).map(|(_, row)| *row);
        ports.chain(self.protocols.iter().copied()).collect()
    }
}

/// Kinds of senders and of receivers on a side, by their rows.
#[derive(Debug, Default)]
struct Kinds {
    from: BTreeSet<[RowId; 2]>,
    to: BTreeSet<[RowId; 2]>,
}

/// The rows of networks, and of the hub's addresses.
fn compile_nets(rows: &mut Rows, from: &Named, to: &Named, hub: &[IpAddr]) -> AllowedIps<SideRows> {
    let nets = from.nets.keys().chain(to.nets.keys()).copied();
    let hub: BTreeSet<IpNet> = hub.iter().map(|ip| canonical(IpNet::from(*ip))).collect();
    let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("it is a network"));
    let prefixes: BTreeSet<IpNet> = nets.chain(hub.iter().copied()).chain(everything).collect();
    let (from_nets, to_nets) = (from.nets_by_address(), to.nets_by_address());
    let mut table = AllowedIps::default();
    for prefix in prefixes {
        let is_hub = hub.contains(&prefix);
        let row = SideRows {
            from: rows.intern(from.row(&from_nets, prefix, is_hub)),
            to: rows.intern(to.row(&to_nets, prefix, is_hub)),
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
        // A group's rules once for each member, not each rule once for each member.
        for (rules, members) in groups.iter().zip(&policy.groups) {
            for member in members {
                named.row_of(*member, &none).union(rules);
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
            Party::Group(_) => unreachable!("no member of a group is a group"),
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
    fn row(&self, nets: &AllowedIps<&Row>, prefix: IpNet, is_hub: bool) -> Row {
        let mut row = self.any.clone();
        for (len, rules) in nets.covering(prefix.network()) {
            if len <= prefix.prefix_len() {
                row.union(rules);
            }
        }
        if is_hub {
            row.union(&self.hub);
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
    fn row(&self, port: u16) -> RowId {
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
