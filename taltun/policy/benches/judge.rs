//! What a verdict costs: of a known flow, of its neighbour in a batch, and of a new flow, by how
//! many rules there are.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use taltun_crypto::PublicKey;
use taltun_policy::{Action, Ends, Judge, Owners, Party, Policy, Rule, RuleSet, Side, World};

/// Peers, each with an address.
const PEERS: u32 = 10_000;
/// Packets that are judged in turn.
const PACKETS: u32 = 4096;

struct Peers;

impl Owners for Peers {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        match address {
            IpAddr::V4(address) => Some(key(address.to_bits() & 0xff_ffff)),
            IpAddr::V6(_) => None,
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
        groups: Vec::new(),
        rules,
    };
    RuleSet::compile(&policy, &World::default())
}

/// A UDP datagram between two peers.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0; 64];
    packet[0] = 0x45;
    packet[3] = 64;
    packet[9] = 17;
    let address = |peer: u32| ((10 << 24) | (peer % PEERS)).to_be_bytes();
    packet[12..16].copy_from_slice(&address(number));
    packet[16..20].copy_from_slice(&address(number * 3 + 1));
    packet[20..22].copy_from_slice(&((number >> 16) as u16).to_be_bytes());
    packet[22..24].copy_from_slice(&(number as u16).to_be_bytes());
    packet
}

const BETWEEN_PEERS: Ends = Ends {
    from: Side::Peer,
    to: Side::Peer,
};

fn verdicts(criterion: &mut Criterion) {
    let packets: Vec<Vec<u8>> = (0..PACKETS).map(packet).collect();
    for count in [1, 100, 10_000] {
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
        group.bench_function(BenchmarkId::new("known flow", count), |bencher| {
            let mut session = judge.session(now);
            bencher.iter(|| {
                let packet = &packets[next()];
                black_box(session.judge(packet, BETWEEN_PEERS, &Peers))
            });
        });
        group.bench_function(BenchmarkId::new("the same flow again", count), |bencher| {
            let mut session = judge.session(now);
            bencher.iter(|| black_box(session.judge(&packets[7], BETWEEN_PEERS, &Peers)));
        });
        group.bench_function(BenchmarkId::new("new flow", count), |bencher| {
            let mut packet = packet(1);
            let mut number = 0_u32;
            let mut session = judge.session(now);
            bencher.iter(|| {
                number = number.wrapping_add(1);
                packet[12..16].copy_from_slice(&((10 << 24) | (number % PEERS)).to_be_bytes());
                packet[20..24].copy_from_slice(&number.to_be_bytes());
                black_box(session.judge(&packet, BETWEEN_PEERS, &Peers))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, verdicts);
criterion_main!(benches);
