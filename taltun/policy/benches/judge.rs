//! What a verdict costs: of a known flow, of its neighbour in a batch, and of a new flow, by how
//! many rules there are.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use taltun_crypto::PublicKey;
use taltun_policy::{
    Action, Ends, Groups, Judge, Owners, Party, Policy, Rule, RuleSet, Side, World,
};

/// Peers, each with an address.
const PEERS: u32 = 10_000;
/// Packets that are judged in turn.
const PACKETS: u32 = 4096;

struct Peers;

impl Owners for Peers {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        match address {
            IpAddr::V4(address) => Some(key(address.to_bits() & 0xff_ffff)),
            IpAddr::V6(address) => Some(key(address.to_bits() as u32)),
        }
    }
}

fn key(peer: u32) -> PublicKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&peer.to_le_bytes());
    PublicKey(key)
}

/// Rules of which each is about two peers and a port, and the last one allows the rest.
fn rules(count: u32) -> RuleSet {
    let rule = |number: u32| Rule {
        from: vec![Party::Peer(key(number % PEERS))],
        to: vec![Party::Peer(key((number * 7 + 1) % PEERS))],
        services: vec![taltun_policy::Service::Tcp(
            443,
            443 + (number % 500) as u16,
        )],
        action: Action::Deny,
        log: false,
    };
    let mut rules: Vec<Rule> = (1..count).map(rule).collect();
    rules.push(Rule {
        from: vec![Party::Any],
        to: vec![Party::Any],
        services: vec![taltun_policy::Service::Any],
        action: Action::Allow,
        log: false,
    });
    let policy = Policy {
        default: Action::Deny,
        groups: Groups::default(),
        rules,
    };
    RuleSet::compile(&policy, &World::default())
}

/// A version of IP, as the packets have it.
struct Family {
    name: &'static str,
    /// A UDP datagram without addresses and ports.
    blank: fn() -> Vec<u8>,
    /// Where the number of the peer ends in its address, source and destination.
    ends: [usize; 2],
    ports: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        blank: || {
            let mut packet = vec![0; 64];
            (packet[0], packet[3], packet[9]) = (0x45, 64, 17);
            (packet[12], packet[16]) = (10, 10);
            packet
        },
        ends: [16, 20],
        ports: 20,
    },
    Family {
        name: "IPv6",
        blank: || {
            let mut packet = vec![0; 84];
            (packet[0], packet[5], packet[6]) = (0x60, 44, 17);
            (packet[8], packet[24]) = (0xfd, 0xfd);
            packet
        },
        ends: [24, 40],
        ports: 40,
    },
];

impl Family {
    /// A UDP datagram between two peers.
    fn packet(&self, number: u32) -> Vec<u8> {
        let mut packet = (self.blank)();
        self.set_peer(&mut packet, 0, number);
        self.set_peer(&mut packet, 1, number.wrapping_mul(3).wrapping_add(1));
        self.set_ports(&mut packet, number);
        packet
    }

    fn set_peer(&self, packet: &mut [u8], end: usize, peer: u32) {
        let peer = &(peer % PEERS).to_be_bytes()[1..];
        let end = self.ends[end];
        packet[end - peer.len()..end].copy_from_slice(peer);
    }

    fn set_ports(&self, packet: &mut [u8], number: u32) {
        packet[self.ports..self.ports + 4].copy_from_slice(&number.to_be_bytes());
    }
}

const BETWEEN_PEERS: Ends = Ends {
    from: Side::Peer,
    to: Side::Peer,
};

fn verdicts(criterion: &mut Criterion) {
    for family in &FAMILIES {
        for count in [1, 100, 10_000] {
            verdicts_of(criterion, family, count);
        }
    }
}

fn verdicts_of(criterion: &mut Criterion, family: &Family, count: u32) {
    let packets: Vec<Vec<u8>> = (0..PACKETS).map(|number| family.packet(number)).collect();
    let name = |what: &str| BenchmarkId::new(format!("{what}, {}", family.name), count);
    let mut group = criterion.benchmark_group("verdict");
    let judge = Judge::new(rules(count), [1, 2], 1 << 18);
    let now = Duration::from_secs(1);
    for packet in &packets {
        judge.session(now).judge(packet, BETWEEN_PEERS, &Peers);
    }
    let mut at = 0;
    let mut next = move || {
        at = (at + 1) % PACKETS as usize;
        at
    };
    group.bench_function(name("known flow"), |bencher| {
        let mut session = judge.session(now);
        bencher.iter(|| {
            let packet = &packets[next()];
            black_box(session.judge(packet, BETWEEN_PEERS, &Peers))
        });
    });
    group.bench_function(name("the same flow again"), |bencher| {
        let mut session = judge.session(now);
        bencher.iter(|| black_box(session.judge(&packets[7], BETWEEN_PEERS, &Peers)));
    });
    // Goes on from sample to sample, or they would be known by the second.
    let mut number = PACKETS;
    group.bench_function(name("new flow"), |bencher| {
        let mut packet = family.packet(1);
        let mut session = judge.session(now);
        bencher.iter(|| {
            number = number.wrapping_add(1);
            family.set_peer(&mut packet, 0, number);
            family.set_ports(&mut packet, number);
            black_box(session.judge(&packet, BETWEEN_PEERS, &Peers))
        });
    });
    group.finish();
}

criterion_group!(benches, verdicts);
criterion_main!(benches);
