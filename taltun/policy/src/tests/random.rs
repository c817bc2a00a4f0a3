//! Random numbers of a seed, and what tests choose by them: rules and packets.

use std::net::IpAddr;

use super::hub::{ADDRESSES, number};
use super::packets::{Made, What};
use crate::groups::Groups;
use crate::packet::Ports;
use crate::rules::{Action, Ends, Party, Policy, Rule, Side};
use crate::service::Service;

/// Random numbers of a seed (`SplitMix64`).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

pub(super) fn random_policy(random: &mut Random) -> Policy {
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
    let groups = random.below(5);
    // Of groups, only those before it, so that none is in itself.
    let members = |random: &mut Random, before: usize| {
        let count = random.below(4);
        (0..count).map(|_| party(random, before)).collect()
    };
    let groups = (0..groups).map(|group| members(random, group)).collect();
    let groups = Groups::new(groups).unwrap();
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

pub(super) fn random_packet(random: &mut Random) -> Made {
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
