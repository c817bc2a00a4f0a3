//! Rules without effect, against all packets of a world that is small enough.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use taltun_crypto::PublicKey;

use super::hub::{Peers, nets, number};
use super::random::Random;
use crate::groups::Groups;
use crate::rules::{Action, Decision, Ends, Owners, Party, Policy, Rule, Side, Start, World};
use crate::service::Service;
use crate::set::RuleSet;

/// 10.0.0.0/28, and an example of each kind of addresses outside of it.
fn universe() -> Vec<IpAddr> {
    let small = (0..16).map(|last| IpAddr::from([10, 0, 0, last]));
    let outside = ["9.9.9.9", "224.0.0.1", "240.0.0.1", "255.255.255.255"];
    small
        .chain(outside.map(|text| text.parse().unwrap()))
        .collect()
}

/// A network of the universe, or all.
fn random_net(random: &mut Random) -> IpNet {
    let lens = [0, 3, 4, 28, 29, 29, 30, 30, 31, 32, 32];
    let len = random.of(&lens);
    let base = if len == 3 || len == 4 {
        IpAddr::from([224, 0, 0, 0])
    } else {
        IpAddr::from([10, 0, 0, random.below(16) as u8])
    };
    IpNet::new(base, len).unwrap().trunc()
}

fn random_policy(random: &mut Random) -> Policy {
    let parties = |random: &mut Random| {
        let count = 1 + random.below(3);
        let party = |random: &mut Random| match random.below(8) {
            0 => Party::Any,
            1 => Party::Hub,
            2 => Party::Peer(number(random.below(3))),
            _ => Party::Net(random_net(random)),
        };
        (0..count).map(|_| party(random)).collect()
    };
    let count = 1 + random.below(6);
    let rules = (0..count).map(|_| Rule {
        from: parties(random),
        to: parties(random),
        services: vec![random.of(&[Service::Any, Service::Tcp(1, 1), Service::Tcp(1, 2)])],
        action: random.of(&[Action::Allow, Action::Deny]),
        log: false,
    });
    let rules = rules.collect();
    Policy {
        default: random.of(&[Action::Allow, Action::Deny]),
        groups: Groups::default(),
        rules,
    }
}

/// Peers of which the host has nothing.
struct NotOnHost<'p>(&'p Peers);

impl Owners for NotOnHost<'_> {
    fn owner(&self, side: Side, address: IpAddr) -> Option<PublicKey> {
        (side == Side::Peer).then(|| self.0.owner(side, address))?
    }
}

/// The decisions on all packets, whatever of the host's the hub has.
fn decisions(policy: &Policy, known: &World, peers: &Peers) -> Vec<Decision> {
    let universe = universe();
    let all = World {
        hub: universe.clone(),
        ..known.clone()
    };
    let mut decisions = Vec::new();
    for world in [known, &all] {
        let rules = RuleSet::compile(policy, world);
        for (from, to) in [
            (Side::Peer, Side::Peer),
            (Side::Peer, Side::Host),
            (Side::Host, Side::Peer),
        ] {
            let is_there = |side, address: &&IpAddr| {
                side == Side::Host || peers.owner(side, **address).is_some()
            };
            for source in universe.iter().filter(|address| is_there(from, address)) {
                for destination in universe.iter().filter(|address| is_there(to, address)) {
                    for (protocol, port) in [(6, 1), (6, 2), (17, 1)] {
                        let start = Start {
                            ends: Ends { from, to },
                            source: *source,
                            destination: *destination,
                            protocol,
                            port,
                        };
                        decisions.push(rules.decide(&start, peers));
                        decisions.push(rules.decide(&start, &NotOnHost(peers)));
                    }
                }
            }
        }
    }
    decisions
}

#[test]
fn just_the_rules_that_decide_on_no_packet_never_decide() {
    let mut random = Random(23);
    let mut found = [0, 0];
    for round in 0..200 {
        let peers = (0..3).map(|_| (0..2).map(|_| random_net(&mut random)).collect());
        let peers = Peers(peers.collect());
        let networks: Vec<IpNet> = peers.0.iter().flatten().copied().collect();
        let known = World {
            hub: vec![IpAddr::from([10, 0, 0, random.below(16) as u8])],
            kernel_relays: random.one_in(2),
        };
        let policy = random_policy(&mut random);
        let decisions_of_all = decisions(&policy, &known, &peers);
        let idle = RuleSet::compile(&policy, &known).idle(&networks, &peers);
        assert!(!idle.too_many);
        let decide: BTreeSet<usize> = decisions_of_all.iter().filter_map(|it| it.rule).collect();
        let never: Vec<usize> = idle.never.iter().map(|(rule, _)| *rule).collect();
        let expected = (0..policy.rules.len()).filter(|rule| !decide.contains(rule));
        let expected: Vec<usize> = expected.collect();
        assert_eq!(
            never, expected,
            "round {round}: {policy:?} {known:?} {peers:?}"
        );
        // Without those and these, all is as it was.
        let mut less = policy.clone();
        let mut numbers = 0..;
        less.rules.retain(|_| {
            let number = numbers.next().unwrap();
            !never.contains(&number) && !idle.allowed_anyway.contains(&number)
        });
        let actions =
            |all: &[Decision]| -> Vec<Action> { all.iter().map(|it| it.action).collect() };
        let without = decisions(&less, &known, &peers);
        assert_eq!(
            actions(&decisions_of_all),
            actions(&without),
            "round {round}: {policy:?} {known:?} {peers:?}"
        );
        found[0] += never.len();
        found[1] += idle.allowed_anyway.len();
    }
    assert!(found.iter().all(|count| *count > 50), "{found:?}");
}

/// Those of the rules that never decide, and those that change nothing.
fn idle(rules: &[(&[&str], &str, Action)]) -> (Vec<usize>, Vec<usize>) {
    let party = |text: &str| match text {
        "hub" => Party::Hub,
        net => Party::Net(net.parse().unwrap()),
    };
    let rules = rules.iter().map(|(to, service, action)| Rule {
        from: vec![Party::Peer(number(0))],
        to: to.iter().map(|to| party(to)).collect(),
        services: vec![service.parse().unwrap()],
        action: *action,
        log: false,
    });
    let policy = Policy {
        rules: rules.collect(),
        ..Policy::default()
    };
    let peers = Peers(vec![
        nets(&["10.4.0.20/32", "fd04::20/128"]),
        nets(&["10.4.0.10/32", "192.168.50.0/24"]),
    ]);
    let networks: Vec<IpNet> = peers.0.iter().flatten().copied().collect();
    let world = World {
        hub: vec!["10.4.0.1".parse().unwrap(), "fd04::1".parse().unwrap()],
        kernel_relays: false,
    };
    let idle = RuleSet::compile(&policy, &world).idle(&networks, &peers);
    let never = idle.never.iter().map(|(rule, _)| *rule);
    (never.collect(), idle.allowed_anyway)
}

#[test]
fn a_network_whose_ends_are_told_before_decides_in_its_middle() {
    let not_in_internet = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "hub",
    ];
    let (allow, deny) = (Action::Allow, Action::Deny);
    let everywhere: (&[&str], _, _) = (&["0.0.0.0/0"], "any", deny);
    let nothing = (vec![], vec![]);
    assert_eq!(
        idle(&[(&not_in_internet, "any", allow), everywhere]).0,
        [0; 0]
    );
    let v6: &[&str] = &["::/8", "fc00::/7", "fe80::/10", "ff00::/8"];
    assert_eq!(
        idle(&[(v6, "any", deny), (&["::/0"], "any", deny)]),
        nothing
    );
    let ends: &[&str] = &["192.168.50.0/26", "192.168.50.192/26"];
    let whole: (&[&str], _, _) = (&["192.168.50.0/24"], "tcp/80", deny);
    assert_eq!(idle(&[(ends, "any", deny), whole]), nothing);
    let halves: &[&str] = &["192.168.50.0/25", "192.168.50.128/25"];
    assert_eq!(idle(&[(halves, "any", deny), whole]).0, [1]);
}

#[test]
fn any_address_of_the_host_may_be_the_hubs() {
    let (allow, deny) = (Action::Allow, Action::Deny);
    let outside: (&[&str], _, _) = (&["203.0.113.1/32"], "tcp/8080", allow);
    let hub: (&[&str], _, _) = (&["hub"], "any", deny);
    assert_eq!(idle(&[outside, hub]), (vec![], vec![]));
    let hub_first: (&[&str], _, _) = (&["hub"], "any", allow);
    let around: (&[&str], _, _) = (&["203.0.113.0/24"], "any", deny);
    assert_eq!(idle(&[hub_first, around]), (vec![], vec![]));
    // The one that is known to be is.
    let own: (&[&str], _, _) = (&["10.4.0.1/32"], "tcp/8080", deny);
    assert_eq!(idle(&[hub, own]).0, [1]);
}
