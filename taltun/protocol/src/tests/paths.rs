//! Several addresses of one peer: which of them is used, as probes have it.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::device::{HopSettings, PathChange, PathReport, PathState, Why};
use super::super::place::Place;
use super::hopping::{CONTROL, data, probes, talk};
use super::pair::*;

/// The second address of [`B`].
fn second() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 2], 6000))
}

/// A pair with a session, in which [`A`] knows two addresses of [`B`].
fn two_addresses() -> World {
    let mut world = World::pair();
    world.nodes[B].also_at.push(second().into());
    world.with(A, |device, now| {
        device.set_places(&public_key(B), &[outer(B), second()], now);
    });
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [0]);
    world
}

fn endpoint(world: &World) -> SocketAddr {
    world.nodes[A].peer(B).endpoint().unwrap().remote
}

fn paths(world: &World) -> Vec<PathReport> {
    let peer = world.nodes[A].peer(B);
    world.nodes[A].device.paths(peer, world.now)
}

fn states(world: &World) -> Vec<PathState> {
    paths(world).into_iter().map(|path| path.state).collect()
}

fn first_is_dark(sent: &Sent) -> bool {
    sent.to == outer(B) || sent.source == outer(B)
}

fn first_brings_nothing_back(sent: &Sent) -> bool {
    sent.source == outer(B)
}

fn both_are_dark(sent: &Sent) -> bool {
    first_is_dark(sent) || sent.to == second() || sent.source == second()
}

#[test]
fn each_path_is_measured_and_data_stays_on_the_first() {
    let mut world = two_addresses();
    assert_eq!(talk(&mut world, secs(60)), 0);
    assert!(data(&world, A).iter().all(|(_, to)| *to == outer(B)));
    let probes = probes(&world, A);
    for address in [outer(B), second()] {
        let count = probes.iter().filter(|(_, to)| *to == address).count();
        assert!((11..17).contains(&count), "{address}: {count}");
    }
    for path in paths(&world) {
        assert_eq!(path.delay, Some(millis(20)));
        assert_eq!(path.loss, Some(0));
    }
    assert_eq!(states(&world), [PathState::Used, PathState::Ready]);
}

/// How long [`A`] pings until data goes to the second address.
fn until_second(world: &mut World) -> Duration {
    let began = world.now;
    while endpoint(world) != second() {
        let _ = world.ping(A, B, 1);
        world.run(Duration::from_millis(20));
        let _ = world.ping(B, A, 1);
        assert!(world.now.since(began) < secs(60), "never");
    }
    world.now.since(began)
}

#[test]
fn data_that_gets_no_answer_leaves_an_address_within_a_second() {
    for dark in [first_is_dark, first_brings_nothing_back] {
        let mut world = two_addresses();
        talk(&mut world, secs(30));
        world.lose = dark;
        let took = until_second(&mut world);
        assert!(took < secs(1), "{took:?}");
    }
}

/// What is at the second address has the same key and knows no session; and the last handshake isn't long ago.
#[test]
fn a_hub_that_is_gone_is_left_for_one_at_the_next_address_within_a_second() {
    let mut world = two_addresses();
    talk(&mut world, secs(3));
    world.strict = false;
    world.restart(B, 77);
    world.nodes[B].also_at.push(second().into());
    world.lose = first_is_dark;
    let took = until_second(&mut world);
    assert!(took < millis(1200), "{took:?}");
    world.run(secs(1));
    let before = world.nodes[B].inbox.len();
    talk(&mut world, secs(1));
    assert!(world.nodes[B].inbox.len() > before);
}

/// The peer answers no data, as that goes one way only.
#[test]
fn data_that_goes_one_way_makes_few_probes() {
    let mut world = two_addresses();
    talk(&mut world, secs(30));
    let since = world.now;
    for _ in 0..600 {
        world.ping(A, B, 1).unwrap();
        world.run(Duration::from_millis(100));
    }
    assert_eq!(endpoint(&world), outer(B));
    let probes = probes(&world, A);
    let count = probes.iter().filter(|(at, _)| *at > since).count();
    // Two paths each five seconds, and each two seconds more on both.
    assert!(count < 100, "{count}");
}

/// Within two probes, and without a handshake.
#[test]
fn traffic_moves_off_an_address_that_is_dark_and_back_later() {
    let mut world = two_addresses();
    talk(&mut world, secs(30));
    let initiations = world.sent_by(A, INITIATION).len();
    let since = world.now;
    world.lose = first_is_dark;
    talk(&mut world, secs(10));
    let moved = data(&world, A).into_iter().find(|(_, to)| *to == second());
    let (at, _) = moved.expect("it moves");
    // One interval, and what two answers are waited for.
    let took = at.since(since);
    assert!(took < millis(7500 + 2100), "{took:?}");
    assert_eq!(world.sent_by(A, INITIATION).len(), initiations);
    // The other side's data comes this way, too.
    let before = world.nodes[A].inbox.len();
    assert_eq!(talk(&mut world, secs(30)), 0);
    assert_eq!(world.nodes[A].inbox.len() - before, 300);
    assert_eq!(states(&world), [PathState::Silent, PathState::Used]);
    // It is there again, which has to last for a while.
    world.lose = |_| false;
    talk(&mut world, secs(12));
    assert_eq!(endpoint(&world), second());
    assert_eq!(states(&world), [PathState::SetAside, PathState::Used]);
    assert_eq!(talk(&mut world, secs(60)), 0);
    assert_eq!(endpoint(&world), outer(B));
    let change = |from, to, why| PathChange { from, to, why };
    let expected = [
        change(outer(B), second(), Why::Silent),
        change(second(), outer(B), Why::Returned),
    ];
    assert_eq!(world.nodes[A].changes, expected);
    // The other one did nothing wrong.
    assert_eq!(states(&world), [PathState::Used, PathState::Ready]);
}

/// Only one way: the answers of a path that gets our data through, but nothing back.
#[test]
fn a_path_that_brings_nothing_back_is_left() {
    let mut world = two_addresses();
    talk(&mut world, secs(30));
    world.lose = |sent| sent.source == outer(B);
    talk(&mut world, secs(10));
    assert_eq!(endpoint(&world), second());
    let before = world.nodes[A].inbox.len();
    talk(&mut world, secs(10));
    assert_eq!(world.nodes[A].inbox.len() - before, 100);
}

#[test]
fn a_path_that_loses_too_much_is_left() {
    let mut world = two_addresses();
    talk(&mut world, secs(30));
    // Each third datagram, but never two probes in a row.
    world.lose = |sent| {
        sent.to == outer(B) && sent.payload.len() == CONTROL && {
            let turn = sent.payload[8];
            turn % 3 == 0
        }
    };
    talk(&mut world, secs(400));
    assert!(data(&world, A).iter().any(|(_, to)| *to == second()));
    assert_eq!(world.nodes[A].peer(B).handshakes(), 4, "renewals alone");
}

#[test]
fn where_all_paths_are_dark_the_handshake_finds_the_first_that_is_back() {
    let mut world = two_addresses();
    talk(&mut world, secs(30));
    world.lose = both_are_dark;
    talk(&mut world, secs(60));
    world.lose = first_is_dark;
    talk(&mut world, secs(30));
    assert_eq!(endpoint(&world), second());
    assert_eq!(talk(&mut world, secs(30)), 0);
}

#[test]
fn a_peer_of_another_program_is_left_by_handshakes_alone() {
    let mut world = two_addresses();
    // No hello ever arrives.
    world.lose = |sent| sent.from == B && sent.payload.len() == CONTROL;
    world.strict = false;
    world.restart(B, 3);
    world.nodes[B].also_at.push(second().into());
    world.run(secs(200));
    let since = world.now;
    talk(&mut world, secs(30));
    world.lose = |sent| first_is_dark(sent) || sent.from == B && sent.payload.len() == CONTROL;
    talk(&mut world, secs(60));
    assert_eq!(endpoint(&world), second());
    let change = PathChange {
        from: outer(B),
        to: second(),
        why: Why::Handshake,
    };
    assert_eq!(world.nodes[A].changes, [change]);
    let later = probes(&world, A);
    assert!(later.iter().all(|(at, _)| *at < since));
}

/// Many addresses of a name come in another order with each look-up.
#[test]
fn the_same_addresses_in_another_order_change_nothing() {
    let mut world = two_addresses();
    talk(&mut world, secs(30));
    world.with(A, |device, now| {
        device.set_places(&public_key(B), &[second(), outer(B)], now);
    });
    talk(&mut world, secs(60));
    assert_eq!(endpoint(&world), outer(B));
    // A new one is measured from now on; the others are known.
    let third = SocketAddr::from(([198, 51, 100, 3], 6000));
    world.with(A, |device, now| {
        device.set_places(&public_key(B), &[outer(B), second(), third], now);
    });
    assert!(paths(&world)[0].delay.is_some());
    talk(&mut world, secs(30));
    let [.., last] = states(&world)[..] else {
        panic!("no paths");
    };
    assert_eq!(last, PathState::Silent);
    assert_eq!(endpoint(&world), outer(B));
}

/// Before a handshake, and once the session is over.
#[test]
fn without_a_session_no_path_is_in_use_and_nothing_is_known() {
    let mut world = World::pair();
    world.nodes[B].also_at.push(second().into());
    world.with(A, |device, now| {
        device.set_places(&public_key(B), &[outer(B), second()], now);
    });
    assert_eq!(states(&world), [PathState::Unknown; 2]);
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(1));
    talk(&mut world, secs(60));
    assert_eq!(states(&world), [PathState::Used, PathState::Ready]);
    world.lose = both_are_dark;
    world.run(secs(400));
    for path in paths(&world) {
        assert_eq!(path.state, PathState::Unknown);
        assert_eq!((path.delay, path.loss), (None, None));
    }
}

#[test]
fn settings_may_change_meanwhile() {
    let mut world = two_addresses();
    talk(&mut world, secs(10));
    let since = world.now;
    world.with(A, |device, now| {
        let settings = HopSettings {
            probe_interval: secs(1),
            retry_after: Duration::ZERO,
            ..HopSettings::default()
        };
        device.set_hop(settings, now);
    });
    talk(&mut world, secs(30));
    let probes = probes(&world, A);
    let later = probes
        .iter()
        .filter(|(at, to)| *at > since && *to == second());
    assert!(later.count() > 20);
    world.lose = first_is_dark;
    talk(&mut world, secs(4));
    assert_eq!(endpoint(&world), second());
    world.lose = |_| false;
    talk(&mut world, secs(8));
    assert_eq!(endpoint(&world), outer(B));
}

/// A hub at one socket answers from the port that it was asked at last.
#[test]
fn no_two_ports_of_an_address_are_asked_at_once() {
    let mut world = World::pair();
    let ports = [9000, 9001, 9002].map(|port| SocketAddr::new(outer(B).ip(), port));
    world.nodes[B].also_at.extend(ports.map(Place::from));
    world.with(A, |device, now| {
        let places = [outer(B), ports[0], ports[1], ports[2], second()];
        device.set_places(&public_key(B), &places, now);
    });
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(1));
    talk(&mut world, secs(60));
    let probes = probes(&world, A);
    for port in ports {
        let count = probes.iter().filter(|(_, to)| *to == port).count();
        assert!((9..17).contains(&count), "{port}: {count}");
    }
    let of_one: Vec<_> = probes
        .iter()
        .filter(|(_, to)| to.ip() == outer(B).ip())
        .collect();
    for pair in of_one.windows(2).filter(|pair| pair[0].1 != pair[1].1) {
        let apart = pair[1].0.since(pair[0].0);
        assert!(apart >= millis(100), "{pair:?}");
    }
}
