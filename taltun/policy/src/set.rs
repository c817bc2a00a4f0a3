//! The rules of a hub: compiled ones, with what the hub is by now.

use std::net::IpAddr;
use std::sync::Arc;

use taltun_common::headers::protocol;

use crate::compiled::{Compiled, SideRows};
use crate::rows::RowId;
use crate::rules::{Decision, Owners, Policy, Side, Start, World};

/// Compiled rules, and the hub that they are for.
#[derive(Debug, Clone)]
pub struct RuleSet {
    pub(crate) compiled: Arc<Compiled>,
    /// Its addresses in ascending order.
    pub(crate) world: World,
}

/// The rows of one end: those of its address, of the peer that has it, and of the hub, each of
/// which may be empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndRows([SideRows; 3]);

impl EndRows {
    pub(crate) fn new(net: SideRows, owner: SideRows, hub: SideRows) -> Self {
        Self([net, owner, hub])
    }

    pub(crate) fn parts(self) -> [SideRows; 3] {
        self.0
    }

    #[inline]
    pub(crate) fn from(self) -> [RowId; 3] {
        self.0.map(|rows| rows.from)
    }

    #[inline]
    pub(crate) fn to(self) -> [RowId; 3] {
        self.0.map(|rows| rows.to)
    }
}

impl RuleSet {
    /// Compiled rules in a world.
    pub fn new(compiled: Arc<Compiled>, world: World) -> Self {
        let mut world = world;
        world.hub.iter_mut().for_each(|ip| *ip = ip.to_canonical());
        world.hub.sort_unstable();
        world.hub.dedup();
        Self { compiled, world }
    }

    /// Rules in a world, which are compiled for it alone.
    pub fn compile(policy: &Policy, world: &World) -> Self {
        Self::new(Arc::new(Compiled::new(policy)), world.clone())
    }

    /// Whether a packet may start a flow.
    pub fn decide(&self, start: &Start, owners: &impl Owners) -> Decision {
        let compiled = &*self.compiled;
        let from = self.rows_of(start.ends.from, start.source, owners).from();
        let to = self.rows_of(start.ends.to, start.destination, owners).to();
        let service = match start.protocol {
            protocol::TCP => compiled.tcp.row(start.port),
            protocol::UDP => compiled.udp.row(start.port),
            other => compiled.protocols[usize::from(other)],
        };
        self.decision(from, to, service)
    }

    /// Of rows.
    #[inline]
    pub(crate) fn decision(&self, from: [RowId; 3], to: [RowId; 3], service: RowId) -> Decision {
        let compiled = &*self.compiled;
        match compiled.rows.first_in_all(from, to, service) {
            Some(rule) => {
                let (action, log) = compiled.rules[rule];
                Decision {
                    action,
                    rule: Some(rule),
                    log,
                }
            }
            None => Decision {
                action: compiled.default,
                rule: None,
                log: false,
            },
        }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.compiled.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.compiled.rules.is_empty()
    }

    /// The rows of an address on a side.
    #[inline]
    pub(crate) fn rows_of(&self, side: Side, address: IpAddr, owners: &impl Owners) -> EndRows {
        let compiled = &*self.compiled;
        let net = compiled.nets.lookup(address);
        let has_owner = side == Side::Peer || self.world.kernel_relays;
        let owner = has_owner.then(|| owners.owner(side, address)).flatten();
        let peer = owner.and_then(|key| compiled.peers.get(&key));
        let is_hub = side == Side::Host && self.world.is_hub(address);
        EndRows::new(
            net.map_or(compiled.nobody, |found| *found.value),
            *peer.unwrap_or(&compiled.nobody),
            if is_hub {
                compiled.hub
            } else {
                compiled.nobody
            },
        )
    }
}
