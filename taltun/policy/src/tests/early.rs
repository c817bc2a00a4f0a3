//! What may be dropped before user space sees it, against what user space says.

use std::time::Duration;

use taltun_crypto::PublicKey;
use taltun_protocol::allowed_ips::AllowedIps;

use super::hub::{number, peers, world};
use super::packets::{Made, What};
use super::random::{Random, random_packet, random_policy};
use super::{SECRET, packets_asked_for};
use crate::judge::Judge;
use crate::packet::flags;
use crate::rules::{Owners as _, Policy, Side};
use crate::set::RuleSet;

fn routes() -> AllowedIps<PublicKey> {
    let mut routes = AllowedIps::default();
    for (peer, nets) in peers().0.into_iter().enumerate() {
        for net in nets {
            routes.insert(net, number(peer));
        }
    }
    routes
}

/// A packet from the host to a peer, mostly one that starts a connection.
fn to_a_peer(random: &mut Random) -> Made {
    loop {
        let made = random_packet(random);
        if made.ends.from != Side::Host || made.ends.to != Side::Peer {
            continue;
        }
        let what = match made.what {
            What::Udp(ports) if random.one_in(2) => What::Tcp(ports, flags::SYN),
            other => other,
        };
        return Made { what, ..made };
    }
}

#[test]
fn nothing_is_closed_that_the_judge_lets_through() {
    let mut random = Random(77);
    let (routes, peers) = (routes(), peers());
    let (mut closed_ones, mut denied) = (0_u64, 0_u64);
    let mut now = Duration::from_secs(1);
    for round in 0..packets_asked_for() / 500 {
        let set = RuleSet::compile(&random_policy(&mut random), &world(round % 2 == 0));
        let closed = set.closed_to_host(&routes);
        let judge = Judge::new(set, SECRET, 1 << 8);
        now += Duration::from_secs(1);
        let mut session = judge.session(now);
        for _ in 0..500 {
            let made = to_a_peer(&mut random);
            let passes = session.judge(&made.bytes(), made.ends, &peers).passes();
            let starts = matches!(made.what, What::Tcp(_, flags) if flags & 18 == flags::SYN);
            let is_later = made.fragment.is_some_and(|(_, is_later)| is_later);
            let owner = peers.owner(Side::Peer, made.destination);
            if !starts || is_later || owner.is_none() {
                continue;
            }
            denied += u64::from(!passes);
            let route = routes
                .iter()
                .filter(|(net, _)| net.contains(&made.destination));
            let route = route.max_by_key(|(net, _)| net.prefix_len());
            if route.is_some_and(|(net, _)| closed.contains(&net)) {
                closed_ones += 1;
                assert!(!passes, "{made:?} by {closed:?}");
            }
        }
    }
    assert!(
        closed_ones * 5 > denied && closed_ones > 0,
        "{closed_ones} of {denied}"
    );
}

#[test]
fn without_a_rule_that_denies_nothing_is_closed() {
    let set = RuleSet::compile(&Policy::default(), &world(false));
    assert!(set.closed_to_host(&routes()).is_empty());
}
