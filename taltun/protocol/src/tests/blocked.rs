//! A hub that is lost together with its session, or at all of its ports for a while: it is found
//! again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::device::{HopSettings, Place};
use super::super::time::Time;
use super::hopping::talk;
use super::pair::*;

const FIRST_PORT: u16 = 7000;
const LAST_PORT: u16 = 7999;

fn range() -> Place {
    Place::new(SocketAddr::new(outer(B).ip(), FIRST_PORT), LAST_PORT)
}

/// A pair in which [`B`] is at many ports, of which [`A`] has so many at once; after other draws for
/// each seed.
fn pair(seed: u64, pool: usize) -> World {
    let mut world = World::pair_from_seed(seed);
    // A hub that started anew knows no index.
    world.strict = false;
    world.nodes[B].also_at.push(range());
    world.with(A, |device, now| {
        let settings = HopSettings {
            pool,
            ..HopSettings::default()
        };
        device.set_hop(settings, now);
        device.set_places(&public_key(B), &[range()], now);
    });
    world
}

/// The same with a session that was used for a while.
fn used(seed: u64, pool: usize) -> World {
    let mut world = pair(seed, pool);
    let _ = world.ping(A, B, 0);
    world.run(secs(3));
    talk(&mut world, secs(40) + secs(seed));
    world
}

/// [`B`] starts anew at the same places, and has forgotten all.
fn start_anew(world: &mut World) {
    world.restart(B, 77);
    world.nodes[B].also_at.push(range());
    world.with(B, |device, now| {
        let settings = HopSettings {
            always_marked: true,
            ..HopSettings::default()
        };
        device.set_hop(settings, now);
    });
}

fn endpoint(world: &World) -> SocketAddr {
    world.nodes[A].peer(B).endpoint().unwrap().remote
}

/// How long [`A`] sends packets until one arrives.
fn until_one_arrives(world: &mut World) -> Duration {
    let (began, before) = (world.now, world.nodes[B].inbox.len());
    while world.nodes[B].inbox.len() == before {
        let _ = world.ping(A, B, 1);
        world.run(millis(100));
        assert!(world.now.since(began) < secs(1200), "never");
    }
    world.now.since(began)
}

fn even_ports(sent: &Sent) -> bool {
    sent.from == A && sent.to.port().is_multiple_of(2)
}

fn odd_ports(sent: &Sent) -> bool {
    sent.from == A && !sent.to.port().is_multiple_of(2)
}

/// What loses all that goes to the port in use, and to every second other.
fn as_the_one_in_use(world: &World) -> fn(&Sent) -> bool {
    match endpoint(world).port() % 2 {
        0 => even_ports,
        _ => odd_ports,
    }
}

fn the_range(sent: &Sent) -> bool {
    sent.from == A && (FIRST_PORT..=LAST_PORT).contains(&sent.to.port())
}

fn the_listen_port(sent: &Sent) -> bool {
    sent.from == A && sent.to == outer(B)
}

#[test]
fn a_hub_that_starts_anew_is_found_though_the_port_in_use_is_blocked() {
    for seed in 0..20 {
        let mut world = used(seed, 8);
        world.lose = as_the_one_in_use(&world);
        start_anew(&mut world);
        let took = until_one_arrives(&mut world);
        // Two lost probes, and ports at which initiations ask.
        assert!(took < secs(15), "{seed}: {took:?}");
        // And all goes on.
        assert!(talk(&mut world, secs(20)) <= 1, "{seed}");
    }
}

#[test]
fn a_hub_that_starts_anew_is_found_though_all_ports_work() {
    for seed in 0..4 {
        let mut world = used(seed, 8);
        start_anew(&mut world);
        let took = until_one_arrives(&mut world);
        assert!(took < secs(11), "{seed}: {took:?}");
    }
}

/// It spoke from there once while its range was blocked.
#[test]
fn a_hub_that_starts_anew_is_found_from_its_listen_port() {
    for seed in 0..10 {
        let mut world = used(seed, 8);
        start_anew(&mut world);
        world.lose = the_range;
        world.with(B, |device, _| {
            device.forget_local_address(&public_key(A));
        });
        let _ = world.ping(B, A, 7);
        world.run(millis(100));
        assert_eq!(talk(&mut world, secs(20)), 0);
        assert_eq!(endpoint(&world), outer(B));
        world.lose = the_listen_port;
        start_anew(&mut world);
        let took = until_one_arrives(&mut world);
        assert!(took < secs(18), "{seed}: {took:?}");
        assert!((FIRST_PORT..=LAST_PORT).contains(&endpoint(&world).port()));
    }
}

/// Nothing that the client sends there arrives, and it sends nothing by itself.
#[test]
fn a_hub_that_speaks_from_a_blocked_port_is_answered_at_its_range() {
    for seed in 0..10 {
        let mut world = used(seed, 8);
        world.run(secs(60));
        world.lose = match seed % 2 {
            0 => the_listen_port,
            _ => |sent| the_listen_port(sent) || even_ports(sent),
        };
        start_anew(&mut world);
        let (began, before) = (world.now, world.nodes[A].inbox.len());
        let _ = world.ping(B, A, 7);
        while world.nodes[A].inbox.len() == before {
            world.run(millis(100));
            assert!(world.now.since(began) < secs(120), "never");
        }
        let took = world.now.since(began);
        assert!(took < secs(5), "{seed}: {took:?}");
        assert!((FIRST_PORT..=LAST_PORT).contains(&endpoint(&world).port()));
    }
}

/// For so long that nobody knows of a port that works.
#[test]
fn a_client_recovers_from_a_block_of_all_ports() {
    for pool in [1, 2, 8] {
        for blocked in [secs(20), secs(70), secs(300), secs(900)] {
            for is_partly in [false, true] {
                let mut world = used(3, pool);
                let since = world.now;
                world.lose = the_range;
                talk(&mut world, blocked);
                world.lose = if is_partly {
                    // Just one of those asked lately may work, or none.
                    as_the_one_in_use(&world)
                } else {
                    |_| false
                };
                let took = until_one_arrives(&mut world);
                // One asked in vain gives its place to another after two minutes.
                let most = match (is_partly, pool) {
                    (false, _) => secs(8),
                    (true, 8) => secs(130),
                    // Each new one is one that works in half of the cases.
                    (true, _) => secs(600),
                };
                assert!(took < most, "{pool} {blocked:?} {is_partly}: {took:?}");
                let sent = world.sent_since(A, since).into_iter();
                let sent: Vec<(Time, u16)> = sent.map(|sent| (sent.at, sent.to.port())).collect();
                for (at, _) in &sent {
                    let live = sent
                        .iter()
                        .filter(|(other, _)| other <= at && at.since(*other) < secs(120));
                    let live: BTreeSet<u16> = live.map(|(_, port)| *port).collect();
                    assert!(live.len() <= pool.max(2), "{pool} {blocked:?}: {live:?}");
                }
            }
        }
    }
}

/// While all are blocked, new ones are asked all the time, as many as the pool lets.
#[test]
fn ports_are_asked_for_as_long_as_all_are_blocked() {
    for pool in [1, 2, 8] {
        let mut world = used(5, pool);
        world.lose = the_range;
        let mut asked = BTreeSet::new();
        for _ in 0..10 {
            let since = world.now;
            talk(&mut world, secs(260));
            let sent = world.sent_since(A, since).into_iter();
            let ports: BTreeSet<u16> = sent.map(|sent| sent.to.port()).collect();
            let new = ports.difference(&asked).count();
            assert!(new >= 1.max(pool / 2), "{pool}: {ports:?}");
            asked.extend(ports);
        }
    }
}
