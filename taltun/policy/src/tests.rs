//! The judge against one that is as simple as can be, and by itself.

mod early;
mod hub;
mod idle;
mod packets;
mod random;
mod simple;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use self::hub::{ADDRESSES, Peers, number, peers, world};
use self::packets::{Made, What, answer};
use self::random::{Random, random_packet, random_policy};
use self::simple::Simple;
use crate::groups::Groups;
use crate::idle::Reason;
use crate::judge::{Judge, Verdict};
use crate::packet::{Packet, Ports, flags};
use crate::rules::{Action, Ends, Party, Policy, Rule, Side, Start};
use crate::service::Service;
use crate::set::RuleSet;

const SECRET: [u64; 2] = [7, 11];

/// Compares the two judges over so many packets.
fn compare(seed: u64, packets: usize) {
    let mut random = Random(seed);
    let mut now = Duration::from_secs(1);
    let mut left = packets;
    let (mut passed, mut dropped) = (0_u64, 0_u64);
    while left > 0 {
        let world = world(random.one_in(2));
        let policy = random_policy(&mut random);
        let mut judge = Judge::new(RuleSet::compile(&policy, &world), SECRET, 1 << 14);
        let peers = peers();
        let mut simple = Simple {
            policy,
            world,
            peers: peers.clone(),
            generation: 0,
            flows: HashMap::new(),
            fragments: HashMap::new(),
        };
        for _ in 0..10 {
            for _ in 0..20 {
                let mut session = judge.session(now);
                for _ in 0..50 {
                    let made = random_packet(&mut random);
                    let bytes = made.bytes();
                    let verdict = session.judge(&bytes, made.ends, &peers);
                    let expected = simple.judge(&made, now);
                    assert_eq!(
                        verdict.passes(),
                        expected,
                        "seed {seed}: {verdict:?} on {made:?} by {:?}",
                        simple.policy
                    );
                    passed += u64::from(expected);
                    dropped += u64::from(!expected);
                    left = left.saturating_sub(1);
                }
                let pause = random.of(&[0, 0, 250, 1000, 11_000, 70_000, 400_000]);
                now += Duration::from_millis(pause);
            }
            let policy = random_policy(&mut random);
            judge = judge.with_rules(RuleSet::compile(&policy, &simple.world));
            simple.policy = policy;
            simple.generation += 1;
        }
    }
    assert!(
        passed > packets as u64 / 10 && dropped > packets as u64 / 10,
        "{passed} {dropped}"
    );
}

/// Sets how many packets there are, for a longer run than usual: ten million take a minute with
/// `--release`.
const PACKETS: &str = "TALTUN_JUDGE_PACKETS";

fn packets_asked_for() -> usize {
    let packets = std::env::var(PACKETS).map(|packets| packets.parse().unwrap());
    packets.unwrap_or(200_000)
}

#[test]
fn the_judge_agrees_with_a_simple_one() {
    let mut left = packets_asked_for();
    for seed in 1.. {
        let some = left.min(1_000_000);
        compare(seed, some);
        left -= some;
        if left == 0 {
            break;
        }
    }
}

/// Rules by which one peer may start all with another, and nobody else anything.
fn one_may_start() -> (Judge, Made) {
    let policy = Policy {
        default: Action::Deny,
        groups: Groups::default(),
        rules: vec![Rule {
            from: vec![Party::Peer(number(0))],
            to: vec![Party::Peer(number(1))],
            services: vec![Service::Any],
            action: Action::Allow,
            log: false,
        }],
    };
    let judge = Judge::new(RuleSet::compile(&policy, &world(false)), SECRET, 64);
    let made = Made {
        source: "10.0.0.2".parse().unwrap(),
        destination: "10.0.0.3".parse().unwrap(),
        ends: Ends {
            from: Side::Peer,
            to: Side::Peer,
        },
        what: What::Udp(Ports {
            source: 4,
            destination: 5,
        }),
        padded: false,
        fragment: None,
    };
    (judge, made)
}

#[test]
fn a_full_table_forgets_who_was_silent_longest_and_keeps_connections() {
    let (judge, made) = one_may_start();
    let tcp = |flags, answers: bool| {
        let ports = Ports {
            source: 4,
            destination: 5,
        };
        let back = Ports {
            source: 5,
            destination: 4,
        };
        if answers {
            answer(&made, What::Tcp(back, flags))
        } else {
            Made {
                what: What::Tcp(ports, flags),
                ..made
            }
        }
    };
    let mut now = Duration::from_secs(1);
    let passes = |made: &Made, now| {
        judge
            .session(now)
            .judge(&made.bytes(), made.ends, &peers())
            .passes()
    };
    assert!(passes(&tcp(flags::SYN, false), now));
    assert!(passes(&tcp(flags::SYN | flags::ACK, true), now));
    assert!(passes(&tcp(flags::ACK, false), now));
    for port in 0..4000 {
        now += Duration::from_millis(10);
        let ports = Ports {
            source: 1000 + port,
            destination: 5,
        };
        let made = Made {
            what: What::Udp(ports),
            ..made
        };
        assert!(passes(&made, now));
    }
    assert!(judge.flows().displaced() > 3000);
    assert!(
        passes(&tcp(flags::ACK, true), now),
        "the connection goes on"
    );
    assert_eq!(judge.flows().capacity(), 64);
}

#[test]
fn only_the_one_who_may_starts_and_the_other_answers() {
    let (judge, made) = one_may_start();
    let mut session = judge.session(Duration::from_secs(1));
    let mut passes = |made: &Made| session.judge(&made.bytes(), made.ends, &peers()).passes();
    let back = Ports {
        source: 5,
        destination: 4,
    };
    assert!(
        !passes(&answer(&made, What::Udp(back))),
        "nothing was asked"
    );
    assert!(passes(&made));
    assert!(passes(&answer(&made, What::Udp(back))));
    assert!(passes(&Made {
        what: What::Query(9),
        ..made
    }));
    assert!(passes(&answer(&made, What::Answer(9))));
    assert!(
        !passes(&answer(&made, What::Query(9))),
        "to answer isn't to ask"
    );
    let ports = Ports {
        source: 4,
        destination: 5,
    };
    assert!(passes(&answer(
        &made,
        What::ErrorAbout(made.destination, ports)
    )));
    let of_a_third = Made {
        source: "10.0.0.4".parse().unwrap(),
        ..answer(&made, What::ErrorAbout(made.destination, ports))
    };
    assert!(!passes(&of_a_third), "it wasn't on the way");
    let other = Ports {
        source: 4,
        destination: 6,
    };
    assert!(!passes(&answer(
        &made,
        What::ErrorAbout(made.destination, other)
    )));
}

#[test]
fn what_is_for_all_who_listen_is_for_the_hub_too() {
    let policy = Policy {
        default: Action::Allow,
        groups: Groups::default(),
        rules: vec![Rule {
            from: vec![Party::Any],
            to: vec![Party::Hub],
            services: vec![Service::Any],
            action: Action::Deny,
            log: false,
        }],
    };
    let set = RuleSet::compile(&policy, &world(false));
    let action = |to: &str| {
        let start = Start {
            ends: Ends {
                from: Side::Peer,
                to: Side::Host,
            },
            source: "10.0.0.2".parse().unwrap(),
            destination: to.parse().unwrap(),
            protocol: 17,
            port: 5353,
        };
        set.decide(&start, &peers()).action
    };
    for hub in [
        "10.0.0.1",
        "255.255.255.255",
        "224.0.0.251",
        "ff02::fb",
        "ff05::2",
        "fe80::7",
    ] {
        assert_eq!(action(hub), Action::Deny, "{hub}");
    }
    for other in ["172.16.0.5", "223.255.255.255", "240.0.0.1", "fd01::5"] {
        assert_eq!(action(other), Action::Allow, "{other}");
    }
}

#[test]
fn a_rule_that_never_decides_is_found() {
    let rule = |from, to, service: &str, action| Rule {
        from: vec![from],
        to: vec![to],
        services: vec![service.parse().unwrap()],
        action,
        log: false,
    };
    let net = |text: &str| Party::Net(text.parse().unwrap());
    let policy = Policy {
        default: Action::Allow,
        groups: Groups::default(),
        rules: vec![
            rule(
                Party::Peer(number(0)),
                Party::Any,
                "tcp/1-100",
                Action::Deny,
            ),
            // Behind the first in part.
            rule(
                Party::Peer(number(0)),
                Party::Hub,
                "tcp/50-101",
                Action::Allow,
            ),
            // Wholly.
            rule(net("192.168.50.0/26"), Party::Hub, "tcp/7", Action::Allow),
            // From outside to outside, which is not through the tunnel.
            rule(net("172.16.0.0/12"), Party::Hub, "any", Action::Deny),
            rule(Party::Any, Party::Any, "any", Action::Allow),
            rule(Party::Peer(number(1)), Party::Any, "udp", Action::Deny),
        ],
    };
    // Without the peer that has all addresses, which are others' then.
    let peers = Peers(peers().0.into_iter().take(2).collect());
    let networks: Vec<IpNet> = peers.0.iter().flatten().copied().collect();
    let rules = RuleSet::compile(&policy, &world(false));
    let idle = rules.idle(&networks, &peers);
    let never = [
        (2, Reason::Before),
        (3, Reason::Nobody),
        (5, Reason::Before),
    ];
    assert_eq!(idle.never, never);
    // The fifth keeps the last one from denying, the second keeps none from it.
    assert_eq!(idle.allowed_anyway, [1]);
}

#[test]
fn a_rule_about_two_families_never_decides() {
    let peer = |n| Party::Peer(number(n));
    let net = |text: &str| Party::Net(text.parse().unwrap());
    let v4_only = Peers(vec![
        hub::nets(&["10.0.0.2/32"]),
        hub::nets(&["10.0.0.3/32", "fd00::3/128"]),
        hub::nets(&["fd00::4/128"]),
    ]);
    let cases = [
        (peer(0), net("fd50::/64"), "any", Some(Reason::Families)),
        (peer(0), peer(2), "any", Some(Reason::Families)),
        (peer(2), net("10.0.0.0/24"), "tcp", Some(Reason::Families)),
        (peer(0), peer(1), "any", None),
        (peer(1), net("fd50::/64"), "any", None),
        (peer(0), peer(1), "icmp", None),
        (peer(0), peer(1), "ip/1", None),
        // ICMP of the other family.
        (peer(0), peer(1), "ip/58", Some(Reason::Families)),
        (peer(2), Party::Any, "ip/58", None),
        (peer(2), Party::Any, "ip/1", Some(Reason::Families)),
        // The hub may have addresses of either on other interfaces.
        (peer(0), Party::Hub, "any", None),
        (peer(2), Party::Hub, "any", None),
        (peer(0), net("::/0"), "any", Some(Reason::Families)),
        (net("::ffff:10.0.0.2/128"), peer(1), "any", None),
        (
            net("172.16.0.0/12"),
            net("172.16.0.0/12"),
            "any",
            Some(Reason::Nobody),
        ),
    ];
    let networks: Vec<IpNet> = v4_only.0.iter().flatten().copied().collect();
    for (from, to, service, expected) in cases {
        let rule = Rule {
            from: vec![from],
            to: vec![to],
            services: vec![service.parse().unwrap()],
            action: Action::Deny,
            log: false,
        };
        let policy = Policy {
            rules: vec![rule],
            ..Policy::default()
        };
        let rules = RuleSet::compile(&policy, &world(false));
        let never = rules.idle(&networks, &v4_only).never;
        let expected: Vec<_> = expected.map(|reason| (0, reason)).into_iter().collect();
        assert_eq!(never, expected, "{from:?} {to:?} {service}");
    }
}

#[test]
fn what_is_idle_can_be_left_out() {
    let networks: Vec<IpNet> = peers().0.iter().flatten().copied().collect();
    let addresses = ADDRESSES.iter().map(|(text, side)| {
        let address: IpAddr = text.parse().unwrap();
        (address, *side)
    });
    let addresses: Vec<_> = addresses.collect();
    let mut random = Random(11);
    let mut left_out = [0, 0];
    for _ in 0..300 {
        let policy = random_policy(&mut random);
        let kernel_relays = random.one_in(2);
        let rules = RuleSet::compile(&policy, &world(kernel_relays));
        let idle = rules.idle(&networks, &peers());
        left_out[0] += idle.never.len();
        left_out[1] += idle.allowed_anyway.len();
        let never: Vec<usize> = idle.never.iter().map(|(rule, _)| *rule).collect();
        let mut less = policy.clone();
        let mut number = 0;
        less.rules.retain(|_| {
            number += 1;
            !never.contains(&(number - 1)) && !idle.allowed_anyway.contains(&(number - 1))
        });
        let less = RuleSet::compile(&less, &world(kernel_relays));
        for _ in 0..400 {
            let (source, destination) = (random.of(&addresses), random.of(&addresses));
            let protocol = random.of(&[1, 6, 17, 47, 58]);
            let other = if source.0.is_ipv6() { 1 } else { 58 };
            if source.0.is_ipv6() != destination.0.is_ipv6()
                || (source.1, destination.1) == (Side::Host, Side::Host)
                || protocol == other
            {
                continue;
            }
            let start = Start {
                ends: Ends {
                    from: source.1,
                    to: destination.1,
                },
                source: source.0,
                destination: destination.0,
                protocol,
                port: 1 + random.below(6) as u16,
            };
            let decision = rules.decide(&start, &peers());
            assert!(decision.rule.is_none_or(|rule| !never.contains(&rule)));
            assert_eq!(decision.action, less.decide(&start, &peers()).action);
        }
    }
    assert!(left_out.iter().all(|count| *count > 50), "{left_out:?}");
}

#[test]
fn where_there_are_too_many_kinds_only_rules_behind_all_that_deny_are_idle() {
    let rule = |port: u16, action, log| Rule {
        from: vec![Party::Any],
        to: vec![Party::Any],
        services: vec![Service::Tcp(port, port)],
        action,
        log,
    };
    let many = (0..60_000)
        .step_by(4)
        .map(|n| rule(n + 1, Action::Allow, false));
    let mut policy = Policy {
        rules: many.collect(),
        ..Policy::default()
    };
    let count = policy.rules.len();
    policy.rules.push(rule(2, Action::Deny, false));
    policy.rules.push(rule(3, Action::Allow, true));
    policy.rules.push(rule(4, Action::Allow, false));
    let networks: Vec<IpNet> = peers().0.iter().flatten().copied().collect();
    let idle = |policy: &Policy| {
        let idle = RuleSet::compile(policy, &world(false)).idle(&networks, &peers());
        assert_eq!((idle.never, idle.too_many), (vec![], true));
        idle.allowed_anyway
    };
    assert_eq!(idle(&policy), [count + 2]);
    policy.default = Action::Deny;
    assert_eq!(idle(&policy), []);
}

#[test]
fn a_packet_may_have_eight_extension_headers() {
    let parsed = |extensions: usize| {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 60, 64];
        packet.extend([1; 32]);
        for left in (0..extensions).rev() {
            packet.extend([if left > 0 { 60 } else { 17 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        packet.extend([0, 7, 0, 53, 0, 8, 0, 0]);
        Packet::parse(&packet).map(|packet| packet.protocol)
    };
    assert_eq!(parsed(1), Some(17));
    assert_eq!(parsed(8), Some(17));
    assert_eq!(parsed(9), None);
}

#[test]
fn packets_that_lie_are_malformed_and_never_more() {
    let (judge, made) = one_may_start();
    let mut random = Random(5);
    let mut session = judge.session(Duration::from_secs(1));
    for _ in 0..100_000 {
        let mut bytes = Made {
            padded: random.one_in(2),
            ..random_packet(&mut random)
        }
        .bytes();
        bytes.truncate(random.below(bytes.len() + 1));
        for _ in 0..random.below(4) {
            if let Some(at) = bytes.len().checked_sub(1) {
                let at = random.below(at + 1);
                bytes[at] = random.next() as u8;
            }
        }
        session.judge(&bytes, made.ends, &peers());
    }
    assert_eq!(session.judge(&[], made.ends, &peers()), Verdict::Malformed);
}
