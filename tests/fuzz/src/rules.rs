//! Rules against a judge as simple as can be, which asks one rule after the other: about any start,
//! between any ends; and a whole packet that starts something passes exactly if it may, and its answer
//! passes then.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use taltun_crypto::PublicKey;
use taltun_policy::rules::Start;
use taltun_policy::{
    Action, Ends, Groups, Judge, Owners, Party, Policy, Rule, RuleSet, Service, Side, World,
};
use taltun_protocol::allowed_ips::canonical;

use crate::choices::Choices;

const ADDRESSES: [&str; 12] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.17",
    "192.168.50.7",
    "224.0.0.251",
    "203.0.113.9",
    "255.255.255.255",
    "fd00::1",
    "fd00::2",
    "ff02::fb",
    "fe80::7",
];
const NETS: [&str; 10] = [
    "10.0.0.0/24",
    "10.0.0.2/32",
    "10.0.0.16/28",
    "0.0.0.0/0",
    "::/0",
    "fd00::/64",
    "fd00::2/128",
    "192.168.50.0/24",
    "::ffff:10.0.0.0/125",
    "224.0.0.0/4",
];
const PROTOCOLS: [u8; 6] = [1, 6, 17, 47, 58, 132];
const PORTS: [u16; 6] = [0, 1, 22, 443, 8080, 65_535];

/// Peers by the networks that they have.
pub(crate) struct Peers(pub(crate) Vec<Vec<IpNet>>);

pub(crate) fn key(peer: usize) -> PublicKey {
    PublicKey([peer as u8 + 1; 32])
}

impl Owners for Peers {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        let nets = self.0.iter().enumerate();
        let nets = nets.flat_map(|(peer, nets)| nets.iter().map(move |net| (peer, net)));
        nets.filter(|(_, net)| net.contains(&address))
            .max_by_key(|(_, net)| net.prefix_len())
            .map(|(peer, _)| key(peer))
    }
}

fn net(choices: &mut Choices<'_>) -> IpNet {
    choices.of(&NETS).parse().unwrap()
}

fn address(choices: &mut Choices<'_>) -> IpAddr {
    choices.of(&ADDRESSES).parse().unwrap()
}

fn parties(choices: &mut Choices<'_>, groups: usize) -> Vec<Party> {
    let count = choices.below(3) + 1;
    let party = |choices: &mut Choices<'_>| match choices.below(6) {
        0 => Party::Any,
        1 => Party::Hub,
        2 => Party::Peer(key(choices.below(4))),
        3 if groups > 0 => Party::Group(choices.below(groups)),
        _ => Party::Net(net(choices)),
    };
    (0..count).map(|_| party(choices)).collect()
}

fn service(choices: &mut Choices<'_>) -> Service {
    let ports = |choices: &mut Choices<'_>| {
        let (a, b) = (choices.of(&PORTS), choices.of(&PORTS));
        (a.min(b), a.max(b))
    };
    match choices.below(6) {
        0 => Service::Any,
        1 => Service::Icmp,
        2 => Service::Protocol(choices.of(&PROTOCOLS)),
        3 | 4 => {
            let (first, last) = ports(choices);
            Service::Tcp(first, last)
        }
        _ => {
            let (first, last) = ports(choices);
            Service::Udp(first, last)
        }
    }
}

fn action(choices: &mut Choices<'_>) -> Action {
    choices.of(&[Action::Allow, Action::Deny])
}

fn policy(choices: &mut Choices<'_>) -> Policy {
    let count = choices.below(4);
    // Each has those before it at the most, so that none is in itself.
    let members = (0..count).map(|group| parties(choices, group)).collect();
    let groups = Groups::new(members).expect("no group is in itself");
    let default = action(choices);
    let rules = (0..choices.below(9)).map(|_| Rule {
        from: parties(choices, count),
        to: parties(choices, count),
        services: (0..=choices.below(2)).map(|_| service(choices)).collect(),
        action: action(choices),
        log: choices.byte() & 1 == 0,
    });
    let rules = rules.collect();
    Policy {
        default,
        groups,
        rules,
    }
}

/// What the simple judge says, and by which rule.
pub(crate) fn decide(
    policy: &Policy,
    world: &World,
    peers: &Peers,
    start: &Start,
) -> (Action, Option<usize>) {
    let is_service = |service: &Service| match *service {
        Service::Any => true,
        Service::Icmp => matches!(start.protocol, 1 | 58),
        Service::Protocol(number) => number == start.protocol,
        Service::Tcp(first, last) => start.protocol == 6 && (first..=last).contains(&start.port),
        Service::Udp(first, last) => start.protocol == 17 && (first..=last).contains(&start.port),
    };
    let is_of =
        |side, address, parties: &[Party]| is_one_of(policy, world, peers, side, address, parties);
    let rule = policy.rules.iter().position(|rule| {
        is_of(start.ends.from, start.source, &rule.from)
            && is_of(start.ends.to, start.destination, &rule.to)
            && rule.services.iter().any(is_service)
    });
    let action = rule.map_or(policy.default, |rule| policy.rules[rule].action);
    (action, rule)
}

fn is_one_of(
    policy: &Policy,
    world: &World,
    peers: &Peers,
    side: Side,
    address: IpAddr,
    parties: &[Party],
) -> bool {
    parties.iter().any(|party| match *party {
        Party::Any => true,
        Party::Hub => {
            let on_link = matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
            let for_all = address.is_multicast() || address == IpAddr::from([255; 4]) || on_link;
            side == Side::Host && (for_all || world.hub.contains(&address))
        }
        Party::Net(net) => canonical(net).contains(&address),
        Party::Peer(peer) => {
            (side == Side::Peer || world.kernel_relays) && peers.owner(side, address) == Some(peer)
        }
        Party::Group(group) => {
            let members = policy.groups.members(group);
            is_one_of(policy, world, peers, side, address, members)
        }
    })
}

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let peers = Peers(
        (0..4)
            .map(|_| vec![net(&mut choices), net(&mut choices)])
            .collect(),
    );
    let world = World {
        hub: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        kernel_relays: choices.byte() & 1 == 0,
    };
    let policy = policy(&mut choices);
    let rules = RuleSet::compile(&policy, &world);
    assert_eq!(rules.len(), policy.rules.len());
    for _ in 0..64 {
        if choices.is_over() {
            return;
        }
        let side = |choices: &mut Choices<'_>| choices.of(&[Side::Peer, Side::Host]);
        let (source, destination) = (address(&mut choices), address(&mut choices));
        let ends = Ends {
            from: side(&mut choices),
            to: side(&mut choices),
        };
        let start = Start {
            ends,
            source,
            destination,
            protocol: choices.of(&PROTOCOLS),
            port: choices.of(&PORTS),
        };
        let found = rules.decide(&start, &peers);
        let expected = decide(&policy, &world, &peers, &start);
        assert_eq!((found.action, found.rule), expected, "{start:?}");
        packet(&rules, &start, &peers, expected.0);
    }
}

/// The same start as a packet of TCP or UDP, and then its answer.
fn packet(rules: &RuleSet, start: &Start, peers: &Peers, action: Action) {
    let is_one_family = start.source.is_ipv4() == start.destination.is_ipv4();
    if !is_one_family || !matches!(start.protocol, 6 | 17) {
        return;
    }
    let judge = Judge::new(rules.clone(), [1, 2], 64);
    let mut session = judge.session(Duration::from_secs(1));
    let syn = bytes(
        start.source,
        start.destination,
        start.protocol,
        [4000, start.port],
        0x02,
    );
    let passes = session.judge(&syn, start.ends, peers).passes();
    assert_eq!(passes, action == Action::Allow, "{start:?}");
    if passes {
        let ports = [start.port, 4000];
        let answer = bytes(start.destination, start.source, start.protocol, ports, 0x12);
        let verdict = session.judge(&answer, start.ends.reversed(), peers);
        assert!(verdict.passes(), "the answer to {start:?}: {verdict:?}");
    }
}

/// A packet without payload.
fn bytes(source: IpAddr, destination: IpAddr, protocol: u8, ports: [u16; 2], flags: u8) -> Vec<u8> {
    let mut transport: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    if protocol == 6 {
        transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 8, 0, 0]);
    }
    let len = transport.len() as u8;
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 20 + len, 0, 0, 0, 0, 64, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, len, protocol, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => unreachable!("both are of one family"),
    };
    packet.extend(transport);
    packet
}
