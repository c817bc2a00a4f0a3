//! Rules of the hub, and the same once more as simple as can be.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use taltun_crypto::PublicKey;
use taltun_policy::{
    Action, Ends, Groups, Judge, Owners, Party, Policy, Rule, RuleSet, Service, Side, World,
};

use crate::cast::{HUB, inner};
use crate::packet::Said;

/// How many sets of rules there are; the first lets all pass.
pub(crate) const SETS: usize = 5;
/// Few, so that they displace each other.
const FLOWS: usize = 64;

/// A judge, and which rules it has.
#[derive(Debug)]
pub(crate) struct Rules {
    judge: Judge,
    set: usize,
}

/// Who owns which inner address, by the list in which it is simple to find.
#[derive(Debug)]
pub(crate) struct Routed<'a>(pub(crate) &'a [(IpNet, PublicKey)]);

impl Routed<'_> {
    pub(crate) fn find(&self, address: IpAddr) -> Option<PublicKey> {
        let nets = self.0.iter().filter(|(net, _)| net.contains(&address));
        nets.max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, key)| *key)
    }
}

impl Owners for Routed<'_> {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        self.find(address)
    }
}

impl Rules {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            judge: Judge::new(compiled(0), [secret, !secret], FLOWS),
            set: 0,
        }
    }

    /// From now on, other rules.
    pub(crate) fn change(&mut self, set: usize) {
        self.judge = self.judge.with_rules(compiled(set));
        self.set = set;
    }

    /// Whether a packet passes.
    pub(crate) fn pass(
        &self,
        packet: &[u8],
        ends: Ends,
        routed: &Routed<'_>,
        now: Duration,
    ) -> bool {
        self.judge.session(now).judge(packet, ends, routed).passes()
    }

    /// Whether the packet may start something.
    pub(crate) fn may_start(&self, said: &Said) -> bool {
        let first_spoke = [inner(1, false), inner(1, true)];
        let hub = [inner(HUB, false), inner(HUB, true)];
        let from_first = first_spoke.contains(&said.source);
        match self.set {
            0 => true,
            1 => !(from_first && said.ports[1] == 443),
            2 => hub.contains(&said.destination) || hub.contains(&said.source),
            3 => !first_spoke.contains(&said.destination),
            _ => said.ports[1] == 53,
        }
    }
}

fn compiled(set: usize) -> RuleSet {
    let nets = |who| [inner(who, false), inner(who, true)].map(|ip| Party::Net(ip.into()));
    let any = vec![Party::Any];
    let rule = |from: Vec<Party>, to: Vec<Party>, service, action| Rule {
        from,
        to,
        services: vec![service],
        action,
        log: false,
    };
    let hub = || nets(HUB).to_vec();
    let (default, rules) = match set {
        0 => (Action::Allow, vec![]),
        1 => (
            Action::Allow,
            vec![rule(
                nets(1).to_vec(),
                any,
                Service::Udp(443, 443),
                Action::Deny,
            )],
        ),
        2 => (
            Action::Deny,
            vec![
                rule(any.clone(), hub(), Service::Any, Action::Allow),
                rule(hub(), any, Service::Any, Action::Allow),
            ],
        ),
        3 => (
            Action::Allow,
            vec![rule(any, nets(1).to_vec(), Service::Any, Action::Deny)],
        ),
        _ => (
            Action::Deny,
            vec![rule(any.clone(), any, Service::Udp(53, 53), Action::Allow)],
        ),
    };
    let policy = Policy {
        default,
        groups: Groups::new(Vec::new()).expect("there is none"),
        rules,
    };
    let world = World {
        hub: vec![inner(HUB, false), inner(HUB, true)],
        kernel_relays: false,
    };
    RuleSet::compile(&policy, &world)
}
