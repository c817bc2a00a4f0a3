//! The judge against one that is as simple as can be: rules one after the other, flows in a map.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::headers::protocol;
use taltun_crypto::PublicKey;
use taltun_protocol::allowed_ips::canonical;

use crate::flows::Phase;
use crate::judge::{Judge, Verdict};
use crate::packet::{Ports, flags};
use crate::rules::{Action, Ends, Owners, Party, Policy, Rule, RuleSet, Side, World};
use crate::service::Service;

const SECRET: [u64; 2] = [7, 11];

/// Random numbers of a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A packet to be made, and what the simple judge knows of it.
#[derive(Debug, Clone, Copy)]
struct Made {
    source: IpAddr,
    destination: IpAddr,
    ends: Ends,
    what: What,
    /// Options or extension headers before what IP carries.
    padded: bool,
    fragment: Option<(u16, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Tcp(Ports, u8),
    Udp(Ports),
    Query(u16),
    Answer(u16),
    Other(u8),
    /// An error about UDP that the destination sent to this address.
    ErrorAbout(IpAddr, Ports),
}

impl Made {
    fn protocol(&self) -> u8 {
        let icmp = match self.source {
            IpAddr::V4(_) => protocol::ICMP,
            IpAddr::V6(_) => protocol::ICMPV6,
        };
        match self.what {
            What::Tcp(..) => protocol::TCP,
            What::Udp(_) => protocol::UDP,
            What::Query(_) | What::Answer(_) | What::ErrorAbout(..) => icmp,
            What::Other(number) => number,
        }
    }

    fn ports(&self) -> Ports {
        match self.what {
            What::Tcp(ports, _) | What::Udp(ports) => ports,
            What::Query(id) | What::Answer(id) => Ports {
                source: id,
                destination: id,
            },
            What::Other(_) | What::ErrorAbout(..) => Ports::default(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let is_v4 = self.source.is_ipv4();
        let icmp = |kinds: (u8, u8), id: u16| {
            let kind = if is_v4 { kinds.0 } else { kinds.1 };
            let [high, low] = id.to_be_bytes();
            vec![kind, 0, 0, 0, high, low, 0, 0]
        };
        let content = match self.what {
            What::Tcp(ports, flags) => {
                let mut tcp = ports_of(ports).to_vec();
                tcp.extend([0; 8]);
                tcp.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
                tcp
            }
            What::Udp(ports) => [ports_of(ports), [0; 4]].concat(),
            What::Query(id) => icmp((8, 128), id),
            What::Answer(id) => icmp((0, 129), id),
            What::Other(_) => vec![0; 4],
            What::ErrorAbout(other, ports) => {
                let about = Self {
                    source: self.destination,
                    destination: other,
                    what: What::Udp(ports),
                    padded: false,
                    fragment: None,
                    ..*self
                };
                [icmp((3, 1), 0), about.bytes()].concat()
            }
        };
        ip(self, &content)
    }
}

fn ports_of(ports: Ports) -> [u8; 4] {
    let ([a, b], [c, d]) = (ports.source.to_be_bytes(), ports.destination.to_be_bytes());
    [a, b, c, d]
}

fn ip(made: &Made, content: &[u8]) -> Vec<u8> {
    match (made.source, made.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let options = if made.padded { 4 } else { 0 };
            let mut packet = vec![0; 20 + options];
            packet[0] = 0x45 + options as u8 / 4;
            if let Some((id, is_later)) = made.fragment {
                packet[4..6].copy_from_slice(&id.to_be_bytes());
                packet[6] = 0x20;
                packet[7] = if is_later { 185 } else { 0 };
            }
            packet[9] = made.protocol();
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            packet.extend(content);
            let len = packet.len() as u16;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
            if made.padded {
                headers.push((0, vec![0; 8]));
                headers.push((60, vec![0; 8]));
            }
            if let Some((id, is_later)) = made.fragment {
                let [high, low] = id.to_be_bytes();
                let offset = if is_later { 0xb9 } else { 1 };
                headers.push((44, vec![0, 0, 0, offset, 0, 0, high, low]));
            }
            let mut packet = vec![0; 40];
            packet[0] = 0x60;
            let mut at = 6;
            for (number, header) in headers {
                packet[at] = number;
                at = packet.len();
                packet.extend(header);
            }
            packet[at] = made.protocol();
            packet.extend(content);
            let len = packet.len() as u16 - 40;
            packet[4..6].copy_from_slice(&len.to_be_bytes());
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
            packet
        }
        _ => unreachable!("both are of one family"),
    }
}

/// One side of what is talked, by its address and its port.
type End = (IpAddr, u16);

/// The simple judge.
struct Simple {
    policy: Policy,
    world: World,
    peers: Peers,
    generation: u32,
    flows: HashMap<(u8, End, End), SimpleFlow>,
    fragments: HashMap<(IpAddr, IpAddr, u16), Duration>,
}

#[derive(Debug, Clone, Copy)]
struct SimpleFlow {
    starter: End,
    ends: Ends,
    last: Duration,
    phase: Phase,
    generation: u32,
}

impl Simple {
    fn decide(&self, ends: Ends, from: IpAddr, to: IpAddr, protocol: u8, port: u16) -> Action {
        let rule = self.policy.rules.iter().find(|rule| {
            self.is_one_of(ends.from, from, &rule.from)
                && self.is_one_of(ends.to, to, &rule.to)
                && rule.services.iter().any(|service| match *service {
                    Service::Any => true,
                    Service::Icmp => [protocol::ICMP, protocol::ICMPV6].contains(&protocol),
                    Service::Protocol(number) => number == protocol,
                    Service::Tcp(first, last) => {
                        protocol == protocol::TCP && (first..=last).contains(&port)
                    }
                    Service::Udp(first, last) => {
                        protocol == protocol::UDP && (first..=last).contains(&port)
                    }
                })
        });
        rule.map_or(self.policy.default, |rule| rule.action)
    }

    fn is_one_of(&self, side: Side, address: IpAddr, parties: &[Party]) -> bool {
        parties.iter().any(|party| match *party {
            Party::Any => true,
            Party::Hub => side == Side::Host && self.world.hub.contains(&address),
            Party::Net(net) => canonical(net).contains(&address),
            Party::Peer(peer) => {
                let has_owner = side == Side::Peer || self.world.kernel_relays;
                has_owner && self.peers.owner(side, address) == Some(peer)
            }
            Party::Group(group) => self.is_one_of(side, address, &self.policy.groups[group]),
        })
    }

    fn judge(&mut self, made: &Made, now: Duration) -> bool {
        let Some((id, is_later)) = made.fragment else {
            return self.whole(made, now);
        };
        let key = (made.source, made.destination, id);
        if is_later {
            let first = self.fragments.get(&key);
            return first
                .is_some_and(|first| now.saturating_sub(*first) <= Phase::Fragments.patience());
        }
        let passes = self.whole(made, now);
        if passes {
            self.fragments.insert(key, now);
        }
        passes
    }

    fn whole(&mut self, made: &Made, now: Duration) -> bool {
        if let What::ErrorAbout(other, ports) = made.what {
            let from = (made.destination, ports.source);
            let to = (other, ports.destination);
            if self.known(protocol::UDP, from, to, now).is_some() {
                return true;
            }
        }
        let protocol = made.protocol();
        let ports = made.ports();
        let from = (made.source, ports.source);
        let to = (made.destination, ports.destination);
        let starts = matches!(made.what, What::Tcp(_, flags) if flags & 18 == flags::SYN);
        let known = self.known(protocol, from, to, now);
        if let Some(mut flow) = known
            && !starts
            && !(matches!(made.what, What::Query(_)) && flow.starter != from)
        {
            let is_starters = flow.starter == from;
            flow.last = now;
            flow.phase = match (flow.phase, made.what) {
                (_, What::Tcp(_, flags)) if flags & flags::RST != 0 => Phase::Reset,
                (Phase::Reset, _) => Phase::Reset,
                (_, What::Tcp(_, flags)) if flags & flags::FIN != 0 => Phase::Closing,
                (Phase::Opening, _) if !is_starters => Phase::Answered,
                (Phase::Answered, _) if is_starters => Phase::Established,
                (Phase::OneWay, _) if !is_starters => Phase::BothWays,
                (phase, _) => phase,
            };
            self.flows.insert(key(protocol, from, to), flow);
            return true;
        }
        let action = self.decide(
            made.ends,
            made.source,
            made.destination,
            protocol,
            ports.destination,
        );
        if action == Action::Deny {
            return false;
        }
        let phase = match made.what {
            What::Tcp(_, flags) if flags & flags::RST != 0 => None,
            What::Tcp(_, flags) if flags & flags::FIN != 0 => Some(Phase::Closing),
            What::Tcp(..) => Some(Phase::Opening),
            What::Query(_) => Some(Phase::Query),
            What::Udp(_) => Some(Phase::OneWay),
            What::Other(number) if number != protocol::ICMP && number != protocol::ICMPV6 => {
                Some(Phase::OneWay)
            }
            What::Answer(_) | What::ErrorAbout(..) | What::Other(_) => None,
        };
        if let Some(phase) = phase {
            let flow = SimpleFlow {
                starter: from,
                ends: made.ends,
                last: now,
                phase,
                generation: self.generation,
            };
            self.flows.insert(key(protocol, from, to), flow);
        }
        true
    }

    fn known(&mut self, protocol: u8, from: End, to: End, now: Duration) -> Option<SimpleFlow> {
        let key = key(protocol, from, to);
        let mut flow = *self.flows.get(&key)?;
        if now.saturating_sub(flow.last) > flow.phase.patience() {
            return None;
        }
        if flow.generation != self.generation {
            let (from, to) = if flow.starter == from {
                (from, to)
            } else {
                (to, from)
            };
            if self.decide(flow.ends, from.0, to.0, protocol, to.1) == Action::Deny {
                self.flows.remove(&key);
                return None;
            }
            flow.generation = self.generation;
        }
        Some(flow)
    }
}

fn key(protocol: u8, from: End, to: End) -> (u8, End, End) {
    (protocol, from.min(to), from.max(to))
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|net| net.parse().unwrap()).collect()
}

/// The key of a peer, by its number.
fn number(peer: usize) -> PublicKey {
    PublicKey([peer as u8; 32])
}

/// Each peer's networks, by its number.
#[derive(Debug, Clone)]
struct Peers(Vec<Vec<IpNet>>);

impl Owners for Peers {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        let owned = self.0.iter().enumerate();
        let nets = owned.flat_map(|(peer, nets)| nets.iter().map(move |net| (peer, net)));
        nets.filter(|(_, net)| net.contains(&address))
            .max_by_key(|(_, net)| net.prefix_len())
            .map(|(peer, _)| number(peer))
    }
}

fn peers() -> Peers {
    Peers(vec![
        nets(&["10.0.0.2/32", "fd00::2/128", "192.168.50.0/24"]),
        nets(&["10.0.0.3/32", "fd00::3/128"]),
        nets(&["10.0.0.4/32", "0.0.0.0/0", "::/0"]),
        nets(&["10.0.0.16/28", "192.168.50.64/26"]),
    ])
}

fn world(kernel_relays: bool) -> World {
    World {
        hub: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        kernel_relays,
    }
}

/// Where packets come from and go to, with the side that has each.
const ADDRESSES: &[(&str, Side)] = &[
    ("10.0.0.2", Side::Peer),
    ("10.0.0.3", Side::Peer),
    ("10.0.0.4", Side::Peer),
    ("10.0.0.17", Side::Peer),
    ("192.168.50.7", Side::Peer),
    ("192.168.50.70", Side::Peer),
    ("203.0.113.9", Side::Peer),
    ("10.0.0.1", Side::Host),
    ("172.16.0.5", Side::Host),
    ("10.0.0.200", Side::Host),
    ("fd00::2", Side::Peer),
    ("fd00::3", Side::Peer),
    ("fd00::9", Side::Peer),
    ("fd00::1", Side::Host),
    ("fd01::5", Side::Host),
];

fn random_policy(random: &mut Random) -> Policy {
    let party = |random: &mut Random, groups: usize| match random.below(9) {
        0 => Party::Any,
        1 => Party::Hub,
        2..=4 => Party::Peer(number(random.below(4))),
        5 if groups > 0 => Party::Group(random.below(groups)),
        _ => Party::Net(
            random
                .of(&[
                    "10.0.0.0/24",
                    "10.0.0.0/29",
                    "192.168.50.0/28",
                    "192.168.50.64/26",
                    "172.16.0.0/12",
                    "fd00::/16",
                    "fd00::2/127",
                    "0.0.0.0/0",
                    "::ffff:10.0.0.2/128",
                ])
                .parse()
                .unwrap(),
        ),
    };
    let groups = random.below(3);
    let members = |random: &mut Random| {
        let count = random.below(4);
        (0..count).map(|_| party(random, 0)).collect()
    };
    let groups: Vec<Vec<Party>> = (0..groups).map(|_| members(random)).collect();
    let count = random.of(&[0, 1, 2, 5, 70]);
    let rules = (0..count).map(|_| {
        let parties = |random: &mut Random| {
            let count = 1 + random.below(2);
            (0..count).map(|_| party(random, groups.len())).collect()
        };
        let (from, to) = (parties(random), parties(random));
        let services = (0..=random.below(2)).map(|_| match random.below(7) {
            0 => Service::Any,
            1 => Service::Icmp,
            2 => Service::Protocol(random.of(&[1, 6, 17, 47])),
            3 | 4 => Service::Tcp(1 + random.below(3) as u16, 3 + random.below(3) as u16),
            _ => Service::Udp(1 + random.below(3) as u16, 3 + random.below(3) as u16),
        });
        let services = services.collect();
        Rule {
            from,
            to,
            services,
            action: random.of(&[Action::Allow, Action::Deny]),
            log: random.one_in(4),
        }
    });
    let rules = rules.collect();
    Policy {
        default: random.of(&[Action::Allow, Action::Deny]),
        groups,
        rules,
    }
}

fn random_packet(random: &mut Random) -> Made {
    let (source, destination) = loop {
        let (source, destination) = (random.of(ADDRESSES), random.of(ADDRESSES));
        let is_through = source.1 == Side::Peer || destination.1 == Side::Peer;
        let parse = |(text, side): (&str, Side)| (text.parse::<IpAddr>().unwrap(), side);
        let (source, destination) = (parse(source), parse(destination));
        if is_through && source.0.is_ipv4() == destination.0.is_ipv4() && source.0 != destination.0
        {
            break (source, destination);
        }
    };
    let ports = Ports {
        source: 1 + random.below(6) as u16,
        destination: 1 + random.below(6) as u16,
    };
    let what = match random.below(10) {
        0..=3 => What::Tcp(ports, random.of(&[2, 18, 16, 16, 24, 17, 4, 20])),
        4..=6 => What::Udp(ports),
        7 if random.one_in(2) => What::Query(random.below(3) as u16),
        7 => What::Answer(random.below(3) as u16),
        8 => What::Other(random.of(&[47, 50, 255])),
        _ => {
            let others = ADDRESSES
                .iter()
                .map(|(text, _)| text.parse::<IpAddr>().unwrap());
            let others: Vec<_> = others
                .filter(|other| other.is_ipv4() == source.0.is_ipv4())
                .collect();
            What::ErrorAbout(random.of(&others), ports)
        }
    };
    let fragment = random
        .one_in(6)
        .then(|| (random.below(3) as u16, random.one_in(2)));
    // An error's own first fragment is hardly ever sent, and says the same.
    Made {
        source: source.0,
        destination: destination.0,
        ends: Ends {
            from: source.1,
            to: destination.1,
        },
        what,
        padded: random.one_in(5),
        fragment,
    }
}

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

#[test]
fn the_judge_agrees_with_a_simple_one() {
    let packets = std::env::var(PACKETS).map(|packets| packets.parse().unwrap());
    let mut left: usize = packets.unwrap_or(200_000);
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
        groups: Vec::new(),
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

fn answer(made: &Made, what: What) -> Made {
    Made {
        source: made.destination,
        destination: made.source,
        what,
        ..*made
    }
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
        groups: Vec::new(),
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
    assert_eq!(rules.never_matched(&networks, &peers), Some(vec![2, 3, 5]));
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
