//! Hops from port to port of one address.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use taltun_common::wire::PROBE_LEN;

use super::super::device::{HopSettings, Place};
use super::super::time::Time;
use super::pair::*;

const FIRST_PORT: u16 = 7000;
const LAST_PORT: u16 = 7999;
/// Bytes of a control message on the wire.
pub(super) const CONTROL: usize = PROBE_LEN;

/// A pair with a session, of which [`B`] is at many ports, and [`A`] hops so often.
fn hopping(interval: Duration) -> World {
    let mut world = World::pair();
    hop(&mut world, interval);
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(3));
    assert_eq!(world.nodes[B].ids(), [0]);
    world
}

/// From now on [`B`] is at many ports, and [`A`] hops so often.
fn hop(world: &mut World, interval: Duration) {
    let place = Place::new(SocketAddr::new(outer(B).ip(), FIRST_PORT), LAST_PORT);
    world.nodes[B].also_at.push(place);
    world.with(A, |device, now| {
        let settings = HopSettings {
            interval,
            ..HopSettings::default()
        };
        device.set_hop(settings, now);
        device.set_places(&public_key(B), &[place], now);
    });
}

/// One packet each way ten times a second; the ids of the packets that were sent.
pub(super) fn talk(world: &mut World, duration: Duration) -> usize {
    let before = world.nodes[B].inbox.len();
    let rounds = duration.as_millis() as usize / 100;
    for round in 0..rounds {
        let _ = world.ping(A, B, round as u32);
        let _ = world.ping(B, A, round as u32);
        world.run(millis(100));
    }
    world.run(secs(1));
    rounds - (world.nodes[B].inbox.len() - before)
}

/// Where data that isn't a control message went, and when.
pub(super) fn data(world: &World, from: usize) -> Vec<(Time, SocketAddr)> {
    let sent = world.sent_by(from, DATA).into_iter();
    sent.filter(|sent| sent.payload.len() != CONTROL && !sent.is_keepalive())
        .map(|sent| (sent.at, sent.to))
        .collect()
}

pub(super) fn probes(world: &World, from: usize) -> Vec<(Time, SocketAddr)> {
    let sent = world.sent_by(from, DATA).into_iter();
    sent.filter(|sent| sent.payload.len() == CONTROL)
        .map(|sent| (sent.at, sent.to))
        .collect()
}

/// The ports that data went to, one after the other, with when each began.
fn turns(world: &World) -> Vec<(Time, u16)> {
    let mut turns: Vec<(Time, u16)> = Vec::new();
    for (at, to) in data(world, A) {
        if turns.last().is_none_or(|(_, port)| *port != to.port()) {
            turns.push((at, to.port()));
        }
    }
    turns
}

#[test]
fn data_goes_to_another_port_each_interval_and_none_of_it_is_lost() {
    let mut world = hopping(secs(1));
    assert_eq!(talk(&mut world, secs(100)), 0);
    assert_eq!(world.nodes[A].inbox.len(), 1000);
    assert!(world.nodes[A].drops.is_empty() && world.nodes[B].drops.is_empty());
    let turns = turns(&world);
    assert!((70..140).contains(&turns.len()), "{}", turns.len());
    // When the next one comes is not to be foreseen.
    let gaps = turns.windows(2).map(|pair| pair[1].0.since(pair[0].0));
    let gaps: BTreeSet<_> = gaps.map(|gap| gap.as_millis() / 100).collect();
    assert!(gaps.len() >= 5, "{gaps:?}");
    // Each port had answered before.
    for (began, port) in &turns[1..] {
        let asked = probes(&world, A)
            .iter()
            .any(|(at, to)| to.port() == *port && at < began);
        assert!(asked, "{port}");
    }
}

#[test]
fn the_other_side_answers_from_the_port_that_was_used_last() {
    let mut world = hopping(secs(1));
    talk(&mut world, secs(30));
    let of_b = world.sent_by(B, DATA).into_iter();
    let sources: BTreeSet<u16> = of_b.map(|sent| sent.source.port()).collect();
    assert!(sources.len() >= 7, "{sources:?}");
    assert!(
        sources
            .iter()
            .all(|port| (FIRST_PORT..=LAST_PORT).contains(port))
    );
    assert_eq!(world.nodes[B].peer(A).endpoint().unwrap().remote, outer(A));
}

/// Those of a game or a telephone, not longer than a probe's datagram used to be.
#[test]
fn the_smallest_packets_are_not_taken_for_probes() {
    let mut world = hopping(secs(1));
    let small = packet(inner(A), inner(B), 7, 24);
    let mut used = BTreeSet::new();
    for _ in 0..300 {
        world.send(A, &small).unwrap();
        let to = world.last_sent(A).to;
        world.run(millis(20));
        world.ping(B, A, 7).unwrap();
        assert_eq!(world.last_sent(B).source, to);
        used.insert(to);
        world.run(millis(80));
    }
    assert!(used.len() >= 7, "{used:?}");
}

/// Answers to the port before are on their way for longer than the next hop takes.
#[test]
fn answers_to_the_port_before_are_taken_and_move_nothing_back() {
    let mut world = hopping(secs(1));
    world.network.latency = millis(700);
    let since = world.now;
    assert_eq!(talk(&mut world, secs(60)), 0);
    assert!(
        world.nodes[A].inbox.len() >= 590,
        "{}",
        world.nodes[A].inbox.len()
    );
    assert!(world.nodes[A].drops.is_empty());
    let turns = turns(&world);
    let later: Vec<_> = turns.iter().filter(|(at, _)| *at > since).collect();
    // A hop takes as long as its probe, too; back and forth within an instant is none.
    assert!((20..60).contains(&later.len()), "{}", later.len());
    for pair in later.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= millis(400));
    }
}

/// How many ports of an address were sent to within 120 s, at the most.
fn most_at_once(world: &World, address: IpAddr) -> usize {
    let sent = [INITIATION, DATA]
        .map(|kind| world.sent_by(A, kind))
        .concat();
    let there = sent.iter().filter(|sent| sent.to.ip() == address);
    let all: Vec<(Time, u16)> = there.map(|sent| (sent.at, sent.to.port())).collect();
    let live_at = |end: Time| {
        let live = all
            .iter()
            .filter(|(at, _)| *at <= end && end.since(*at) < secs(120));
        live.map(|(_, port)| port).collect::<BTreeSet<_>>().len()
    };
    all.iter().map(|(at, _)| live_at(*at)).max().unwrap_or(0)
}

/// Initiations with their copies, for ten minutes and by whatever asks for a session.
#[test]
fn a_dark_hub_is_asked_at_no_more_ports_than_the_pool_has() {
    for pool in [1_usize, 2, 8] {
        let mut world = World::pair();
        let place = Place::new(SocketAddr::new(outer(B).ip(), FIRST_PORT), LAST_PORT);
        world.with(A, |device, now| {
            let settings = HopSettings {
                pool,
                ..HopSettings::default()
            };
            device.set_hop(settings, now);
            device.set_places(&public_key(B), &[place], now);
        });
        for _ in 0..60 {
            let _ = world.ping(A, B, 1);
            world.run(secs(10));
        }
        let most = most_at_once(&world, outer(B).ip());
        assert!((2..=pool.max(2)).contains(&most), "{pool}: {most}");
        let all: BTreeSet<u16> = world
            .sent_by(A, INITIATION)
            .iter()
            .map(|sent| sent.to.port())
            .collect();
        assert!(all.len() >= 3 * pool, "others get their turn: {all:?}");
    }
}

/// Beside a path that works.
#[test]
fn a_dark_path_is_measured_at_no_more_ports_than_the_pool_has() {
    let mut world = World::pair();
    let dark = SocketAddr::from(([198, 51, 100, 2], FIRST_PORT));
    world.with(A, |device, now| {
        let settings = HopSettings {
            probe_interval: secs(1),
            ..HopSettings::default()
        };
        device.set_hop(settings, now);
        let dark = Place::new(dark, LAST_PORT);
        device.set_places(&public_key(B), &[outer(B).into(), dark], now);
    });
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(3));
    assert_eq!(talk(&mut world, secs(600)), 0);
    let most = most_at_once(&world, dark.ip());
    assert!((6..=8).contains(&most), "{most}");
}

/// Whatever is sent to any port arrives; of what the other side answers, only that of odd ports.
fn answers_of_even_ports_are_lost(sent: &Sent) -> bool {
    sent.from == B && sent.source.port().is_multiple_of(2)
}

/// Each that an initiation begins at costs five seconds, whatever the copies do.
#[test]
fn where_answers_of_half_of_the_ports_are_lost_a_client_comes_up_and_stays_up() {
    for seed in 0..10 {
        let mut world = World::pair();
        world.lose = answers_of_even_ports_are_lost;
        // Other draws.
        world.run(secs(seed));
        let interval = [secs(1), Duration::ZERO][seed as usize % 2];
        hop(&mut world, interval);
        world.ping(A, B, 0).unwrap_err();
        world.run(secs(45));
        assert_eq!(world.nodes[B].ids(), [0], "{seed}");
        let before = world.nodes[A].inbox.len();
        let since = world.now;
        assert_eq!(talk(&mut world, secs(300)), 0);
        // Both ways, and over two renewals.
        assert_eq!(world.nodes[A].inbox.len() - before, 3000);
        let used = data(&world, A).into_iter().filter(|(at, _)| *at > since);
        let used: BTreeSet<u16> = used.map(|(_, to)| to.port()).collect();
        assert!(used.iter().all(|port| port % 2 == 1), "{used:?}");
        assert!(used.len() >= 5, "{used:?}");
    }
}

/// Each blocked port costs a probe.
#[test]
fn half_of_the_ports_may_be_blocked_and_no_data_is_lost() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == A && sent.to.port() % 2 == 0;
    hop(&mut world, secs(1));
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(10));
    assert_eq!(world.nodes[B].ids(), [0]);
    let since = world.now;
    assert_eq!(talk(&mut world, secs(300)), 0);
    assert!(data(&world, A).iter().all(|(_, to)| to.port() % 2 == 1));
    let turns = turns(&world).len();
    assert!(turns > 150, "{turns}");
    let mut blocked: Vec<_> = probes(&world, A)
        .into_iter()
        .filter(|(_, to)| to.port() % 2 == 0)
        .collect();
    assert!(!blocked.is_empty());
    blocked.sort_by_key(|(_, to)| to.port());
    for pair in blocked.windows(2) {
        let again = pair[0].1 == pair[1].1;
        assert!(!again || pair[1].0.since(pair[0].0) >= secs(100));
    }
    let sent = world.sent_since(A, since).into_iter();
    let initiations: Vec<_> = sent.filter(|sent| sent.kind() == INITIATION).collect();
    assert!(initiations.len() <= 4, "renewals alone");
}

/// A reload names other ports while a session has just begun, so that the next initiation has to
/// wait: what the first of them doesn't answer is found out before that.
#[test]
fn other_ports_of_a_hub_are_found_soon_where_half_of_them_are_blocked() {
    let mut longest = Duration::ZERO;
    // Other ones for the same draws.
    for seed in 0..40 {
        let mut world = World::pair();
        world.lose = |sent| sent.from == A && sent.to.port() % 2 == 0;
        hop(&mut world, secs(30));
        let _ = world.ping(A, B, 0);
        let began = world.now;
        while world.nodes[B].inbox.is_empty() {
            world.run(millis(100));
            assert!(world.now.since(began) < secs(30), "{seed}");
        }
        world.run(millis(300));
        let others = Place::new(
            SocketAddr::new(outer(B).ip(), LAST_PORT + 1 + seed),
            LAST_PORT + 50,
        );
        world.nodes[B].also_at.push(others);
        world.with(A, |device, now| {
            device.set_places(&public_key(B), &[others], now);
            device.initiate(&public_key(B), now);
        });
        let (began, before) = (world.now, world.nodes[B].inbox.len());
        while world.nodes[B].inbox.len() == before {
            let _ = world.ping(A, B, 1);
            world.run(millis(200));
            assert!(world.now.since(began) < secs(60), "{seed}");
        }
        longest = longest.max(world.now.since(began));
    }
    // Without an answer the next initiation comes after five.
    assert!(longest < secs(8), "{longest:?}");
}

#[test]
fn no_more_ports_than_the_pool_are_used_within_two_minutes() {
    for interval in [Duration::ZERO, secs(1), secs(7)] {
        let mut world = hopping(interval);
        talk(&mut world, secs(600));
        let sent: Vec<(Time, u16)> = world
            .sent
            .iter()
            .filter(|sent| sent.from == A)
            .map(|sent| (sent.at, sent.to.port()))
            .collect();
        let all: BTreeSet<u16> = sent.iter().map(|(_, port)| *port).collect();
        assert!(all.len() > 9, "{interval:?}: it stays with {all:?}");
        for (at, _) in &sent {
            let live = sent
                .iter()
                .filter(|(other, _)| other <= at && at.since(*other) < secs(120));
            let live: BTreeSet<u16> = live.map(|(_, port)| *port).collect();
            assert!(live.len() <= 8, "{interval:?}: {live:?}");
        }
    }
}

#[test]
fn a_hub_that_said_no_hello_is_never_hopped_at() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B && sent.payload.len() == CONTROL;
    hop(&mut world, secs(1));
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(1));
    talk(&mut world, secs(400));
    assert!(probes(&world, A).is_empty());
    assert_eq!(turns(&world).len(), 1);
}

#[test]
fn with_an_interval_of_zero_each_batch_goes_to_a_port_of_the_pool() {
    let mut world = hopping(Duration::ZERO);
    talk(&mut world, secs(3));
    let since = world.now;
    assert_eq!(talk(&mut world, secs(20)), 0);
    let recent: Vec<u16> = data(&world, A)
        .into_iter()
        .filter(|(at, _)| *at >= since)
        .map(|(_, to)| to.port())
        .collect();
    let ports: BTreeSet<u16> = recent.iter().copied().collect();
    assert_eq!(ports.len(), 8, "{ports:?}");
    let changes = recent.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > recent.len() / 2);
}

/// A port of the pool that is blocked later loses what is sent to it until its next probe.
#[test]
fn a_port_of_the_pool_that_is_blocked_leaves_it_after_one_lost_probe() {
    let mut world = hopping(Duration::ZERO);
    talk(&mut world, secs(5));
    world.lose = |sent| sent.from == A && sent.to.port() % 4 == 0;
    talk(&mut world, secs(9));
    let since = world.now;
    assert_eq!(talk(&mut world, secs(60)), 0);
    let recent = data(&world, A).into_iter().filter(|(at, _)| *at >= since);
    let ports: BTreeSet<u16> = recent.map(|(_, to)| to.port()).collect();
    assert!(ports.len() >= 2, "{ports:?}");
    assert!(ports.iter().all(|port| port % 4 != 0), "{ports:?}");
}

/// The port in use, long before the next hop.
#[test]
fn a_port_that_is_blocked_while_it_is_used_is_left_by_its_next_probe() {
    for seed in 0..4 {
        let mut world = hopping(secs(60));
        talk(&mut world, secs(120) + secs(seed));
        let used = world.nodes[A].peer(B).endpoint().unwrap().remote.port();
        world.lose = match used % 2 {
            0 => |sent| sent.from == A && sent.to.port() % 2 == 0,
            _ => |sent| sent.from == A && sent.to.port() % 2 == 1,
        };
        talk(&mut world, secs(12));
        assert_eq!(talk(&mut world, secs(20)), 0);
        let now = world.nodes[A].peer(B).endpoint().unwrap().remote.port();
        assert_ne!(now % 2, used % 2);
        assert_eq!(world.sent_by(A, INITIATION).len(), 2, "and one renewal");
    }
}

#[test]
fn nothing_is_lost_while_sessions_come_and_go() {
    let mut world = hopping(secs(2));
    assert_eq!(talk(&mut world, secs(700)), 0);
    assert!(world.nodes[A].peer(B).handshakes() > 5);
    let turns = turns(&world).len();
    assert!(turns > 250, "{turns}");
}

#[test]
fn an_idle_tunnel_neither_hops_nor_probes() {
    let mut world = hopping(secs(1));
    talk(&mut world, secs(10));
    world.run(secs(45));
    let since = world.now;
    world.run(secs(600));
    assert!(world.sent_since(A, since).is_empty());
    // And goes on once it is used again.
    talk(&mut world, secs(60));
    let probes = probes(&world, A);
    assert!(probes.iter().any(|(at, _)| *at > since + secs(601)));
}

/// Those of either side, renewals of the session included, go on for hours.
#[test]
fn persistent_keepalives_are_no_use() {
    for keeper in [A, B] {
        let mut world = hopping(secs(1));
        world.with(keeper, |device, now| {
            let peer = public_key(1 - keeper);
            device.set_persistent_keepalive(&peer, Some(secs(25)), now);
        });
        talk(&mut world, secs(10));
        world.run(secs(45));
        let since = world.now;
        world.run(secs(1000));
        let sent = world.sent_since(A, since).into_iter();
        let ports: BTreeSet<u16> = sent.map(|sent| sent.to.port()).collect();
        assert!(ports.len() <= 1, "{keeper}: {ports:?}");
        let later = probes(&world, A).into_iter().filter(|(at, _)| *at > since);
        // The answer to the hello of each new session.
        let hellos = world.nodes[A].peer(B).handshakes() as usize;
        assert!(later.count() <= hellos, "{keeper}");
    }
}

/// Whoever sends it.
#[test]
fn the_first_data_wakes_an_idle_tunnel_at_once() {
    for from in [A, B] {
        let mut world = hopping(secs(1));
        talk(&mut world, secs(10));
        world.run(secs(65));
        let since = world.now;
        world.ping(from, 1 - from, 7).unwrap();
        world.run(millis(20));
        let asked = probes(&world, A).into_iter().filter(|(at, _)| *at >= since);
        assert_eq!(asked.count(), 1, "{from}");
        let before = turns(&world).len();
        talk(&mut world, secs(5));
        assert!(turns(&world).len() > before + 2, "{from}");
    }
}

/// A client makes it before anybody sends anything.
#[test]
fn hops_begin_with_the_first_data_of_a_session() {
    let mut world = World::pair();
    hop(&mut world, secs(1));
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(3));
    talk(&mut world, secs(5));
    assert!(turns(&world).len() > 3);
}

/// A hub that always answers from one port: the path works, and no other port is proved to bring
/// anything back.
#[test]
fn answers_from_another_port_tell_of_the_path_and_not_of_the_port() {
    for interval in [Duration::ZERO, secs(1)] {
        let mut world = hopping(interval);
        let before = world.nodes[A].peer(B).endpoint().unwrap().remote;
        world.nodes[B].answer_from(before);
        let since = world.now;
        assert_eq!(talk(&mut world, secs(60)), 0);
        let recent = data(&world, A).into_iter().filter(|(at, _)| *at > since);
        let ports: BTreeSet<u16> = recent.map(|(_, to)| to.port()).collect();
        assert!(ports.contains(&before.port()), "{interval:?}: {ports:?}");
        if !interval.is_zero() {
            assert_eq!(ports.len(), 1, "{ports:?}");
        }
        let [path] = world.nodes[A]
            .device
            .paths(world.nodes[A].peer(B), world.now)[..]
        else {
            panic!("one path");
        };
        assert_eq!(path.loss, Some(0), "{interval:?}");
    }
}

/// The hub may go where nobody said that it is, as any peer.
#[test]
fn a_hub_that_moves_away_from_its_places_is_followed() {
    let mut world = hopping(secs(1));
    talk(&mut world, secs(10));
    let elsewhere = SocketAddr::from(([203, 0, 113, 1], 4444));
    world.nodes[B].address = elsewhere;
    world.nodes[B].also_at.clear();
    world.nodes[B].forget_answers();
    world.with(B, |device, _| device.forget_local_address(&public_key(A)));
    world.ping(B, A, 7).unwrap();
    world.run(millis(50));
    assert_eq!(world.nodes[A].peer(B).endpoint().unwrap().remote, elsewhere);
    assert_eq!(talk(&mut world, secs(20)), 0);
}

/// At once: it hops, and comes from another address in between.
#[test]
fn a_client_that_hops_may_move() {
    let mut world = hopping(secs(1));
    for number in 0..10_u8 {
        world.nodes[A].address = SocketAddr::from(([203, 0, 113, number], 5555));
        world.with(A, |device, _| device.forget_local_address(&public_key(B)));
        world.ping(A, B, 0).unwrap();
        world.run(millis(100));
        assert_eq!(talk(&mut world, secs(7)), 0);
        let at = world.nodes[B].peer(A).endpoint().unwrap().remote;
        assert_eq!(at, world.nodes[A].address);
    }
    assert!(turns(&world).len() > 40);
}

/// As a hub that starts anew does, which knows of no port of its range yet.
#[test]
fn a_hub_that_speaks_from_its_own_port_is_spoken_to_at_its_places_again() {
    for interval in [Duration::ZERO, secs(1)] {
        let mut world = hopping(interval);
        talk(&mut world, secs(10));
        for _ in 0..3 {
            world.nodes[B].forget_answers();
            world.with(B, |device, _| device.forget_local_address(&public_key(A)));
            world.ping(B, A, 7).unwrap();
            world.run(millis(50));
            assert_eq!(talk(&mut world, secs(10)), 0, "{interval:?}");
            let at = world.nodes[A].peer(B).endpoint().unwrap().remote;
            assert!((FIRST_PORT..=LAST_PORT).contains(&at.port()), "{at}");
        }
        // And hops go on.
        let before = turns(&world).len();
        talk(&mut world, secs(20));
        assert!(turns(&world).len() > before + 5, "{interval:?}");
    }
}

#[test]
fn a_smaller_pool_leaves_ports_at_once() {
    let mut world = hopping(secs(1));
    talk(&mut world, secs(60));
    let used = |world: &World, since: Time| -> BTreeSet<u16> {
        let data = data(world, A).into_iter();
        let lately = data.filter(|(at, _)| *at >= since);
        lately.map(|(_, to)| to.port()).collect()
    };
    assert!(used(&world, Time::START).len() >= 7);
    for pool in [2, 1] {
        world.with(A, |device, now| {
            let settings = HopSettings {
                interval: secs(1),
                pool,
                ..HopSettings::default()
            };
            device.set_hop(settings, now);
        });
        let since = world.now;
        assert_eq!(talk(&mut world, secs(30)), 0);
        let ports = used(&world, since);
        assert_eq!(ports.len(), pool, "{ports:?}");
    }
}

/// Both choose among the other's ports, and speak from where they listen.
#[test]
fn two_hubs_that_have_each_other_as_endpoint_settle() {
    let mut world = World::pair();
    let nodes = [(A, B), (B, A)];
    for (own, other) in nodes {
        let address = outer(other).ip();
        let place = Place::new(SocketAddr::new(address, FIRST_PORT), LAST_PORT);
        world.nodes[other].also_at.push(place);
        world.with(own, |device, now| {
            device.set_places(&public_key(other), &[place], now);
        });
    }
    let _ = world.ping(A, B, 0);
    world.run(secs(10));
    let settled = nodes.map(|(own, _)| world.nodes[own].changes.len());
    let since = world.now;
    assert_eq!(talk(&mut world, secs(120)), 0);
    for ((own, other), before) in nodes.into_iter().zip(settled) {
        assert!(before <= 2, "{:?}", world.nodes[own].changes);
        // Once more with each handshake, which comes from where the other listens.
        let later = &world.nodes[own].changes[before..];
        assert!(later.len() <= 1, "{later:?}");
        let at = world.nodes[own].peer(other).endpoint().unwrap().remote;
        assert!((FIRST_PORT..=LAST_PORT).contains(&at.port()), "{at}");
        // It hops all the same, as often as is wanted.
        let ports = data(&world, own).into_iter().filter(|(at, _)| *at >= since);
        let mut ports: Vec<u16> = ports.map(|(_, to)| to.port()).collect();
        ports.dedup();
        assert!((3..=10).contains(&ports.len()), "{ports:?}");
    }
}

/// What it ignores while its port answers moves it when that doesn't any more.
#[test]
fn a_hub_that_is_heard_from_its_own_port_alone_is_followed_there() {
    let mut world = hopping(secs(30));
    talk(&mut world, secs(20));
    world.nodes[B].also_at.clear();
    talk(&mut world, secs(30));
    assert_eq!(world.nodes[A].peer(B).endpoint().unwrap().remote, outer(B));
    assert_eq!(talk(&mut world, secs(30)), 0);
}
