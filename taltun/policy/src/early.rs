//! What can be said of a packet before user space sees it: that no rule lets it through, whatever
//! its ports, and whatever was started before.
//!
//! A TCP segment with SYN and without ACK is judged by the rules alone, never by what was started.
//! So where they deny all of them from the host to a network of a peer, TC may drop them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use taltun_crypto::PublicKey;
use taltun_protocol::allowed_ips::AllowedIps;

use crate::compiled::SideRows;
use crate::rows::RowId;
use crate::rules::Action;
use crate::set::{EndRows, RuleSet};

/// Words of rows that are looked at for all networks together: some tens of milliseconds.
const MOST: usize = 20_000_000;

impl RuleSet {
    /// Those of the peers' networks with which nobody on the side of the host may start a TCP
    /// connection, on any port, without a line in the log. `routes` are all networks that peers
    /// have, with who has each. Of very many rules and networks some may be left out.
    pub fn closed_to_host(&self, routes: &AllowedIps<PublicKey>) -> BTreeSet<IpNet> {
        let compiled = &*self.compiled;
        let denies = |(action, _): &(Action, bool)| *action == Action::Deny;
        if compiled.default == Action::Allow && !compiled.rules.iter().any(denies) {
            return BTreeSet::new();
        }
        let senders = self.senders_on_host(routes);
        let ports: BTreeSet<RowId> = compiled.tcp.0.iter().map(|(_, row)| *row).collect();
        let cost = senders.len() * ports.len() * compiled.rules.len().div_ceil(64).max(1);
        let mut left = MOST;
        let mut known: BTreeMap<[RowId; 3], bool> = BTreeMap::new();
        let mut is_closed = |receiver: [RowId; 3]| {
            *known.entry(receiver).or_insert_with(|| {
                let Some(rest) = left.checked_sub(cost) else {
                    return false;
                };
                left = rest;
                senders.iter().all(|sender| {
                    ports.iter().all(|ports| {
                        let decision = self.decision(*sender, receiver, *ports);
                        decision.action == Action::Deny && !decision.log
                    })
                })
            })
        };
        let closed = routes.iter().filter(|(net, owner)| {
            let owner = compiled.peers.get(*owner).unwrap_or(&compiled.nobody);
            let within = compiled.nets.within(*net).map(|(_, rows)| *rows);
            let mut nets = within.chain([self.net_rows(*net)]);
            nets.all(|net| is_closed(EndRows::new(net, *owner, compiled.nobody).to()))
        });
        closed.map(|(net, _)| net).collect()
    }

    /// All kinds of senders on the side of the host, and maybe some that nobody is of.
    fn senders_on_host(&self, routes: &AllowedIps<PublicKey>) -> BTreeSet<[RowId; 3]> {
        let compiled = &*self.compiled;
        let hub: BTreeSet<IpNet> = self.world.hub.iter().map(|ip| IpNet::from(*ip)).collect();
        let nets = compiled.nets.iter().map(|(net, _)| net);
        // What peers send comes back from the host.
        let relayed = self.world.kernel_relays.then(|| routes.iter());
        let relayed = relayed.into_iter().flatten().map(|(net, _)| net);
        let mut senders = BTreeSet::new();
        for net in nets.chain(hub.iter().copied()).chain(relayed) {
            let rows = self.net_rows(net);
            let is_hub = hub.contains(&net);
            let hub = if is_hub {
                compiled.hub
            } else {
                compiled.nobody
            };
            let owner = self.world.kernel_relays.then(|| longest(routes, net));
            let owner = owner.flatten().and_then(|key| compiled.peers.get(key));
            // The host may know a narrower network of its own than the peer's.
            for owner in [Some(&compiled.nobody), owner].into_iter().flatten() {
                senders.insert(EndRows::new(rows, *owner, hub).from());
            }
        }
        senders
    }

    /// The rows of the addresses of a network that no narrower one holds.
    fn net_rows(&self, net: IpNet) -> SideRows {
        let compiled = &*self.compiled;
        *longest(&compiled.nets, net).unwrap_or(&compiled.nobody)
    }
}

/// The narrowest that holds a whole network.
fn longest<T>(nets: &AllowedIps<T>, net: IpNet) -> Option<&T> {
    let around = nets.covering(net.network());
    let around = around.take_while(|(len, _)| *len <= net.prefix_len());
    around.last().map(|(_, value)| value)
}
