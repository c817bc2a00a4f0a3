//! Peers whose name has several addresses, or leads elsewhere meanwhile.

use std::net::{IpAddr, SocketAddr};

use super::super::device::Place;
use super::pair::*;

/// Where nobody is.
fn nobody(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 9000))
}

fn set_places(world: &mut World, addresses: &[SocketAddr]) {
    world.with(A, |device, now| {
        device.set_places(&public_key(B), addresses, now);
    });
}

fn endpoint_of_b(world: &World) -> SocketAddr {
    world.nodes[A].peer(B).endpoint().unwrap().remote
}

fn initiations(world: &World) -> Vec<SocketAddr> {
    let sent = world.sent_by(A, INITIATION);
    sent.iter().map(|sent| sent.to).collect()
}

#[test]
fn each_initiation_goes_to_the_next_address_until_one_answers() {
    let mut world = World::pair();
    set_places(&mut world, &[nobody(1), nobody(2), outer(B), nobody(3)]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(30));
    assert_eq!(initiations(&world), [nobody(1), nobody(2), outer(B)]);
    assert_eq!(endpoint_of_b(&world), outer(B));
    // The same look-up once more leaves it where it answers.
    set_places(&mut world, &[nobody(1), nobody(2), outer(B), nobody(3)]);
    assert_eq!(endpoint_of_b(&world), outer(B));
}

/// A look-up after each third initiation, as the shell makes them, in another order each time.
#[test]
fn a_look_up_that_says_the_same_doesnt_start_the_turn_anew() {
    let mut world = World::pair();
    let mut all = [nobody(1), nobody(2), nobody(3), nobody(4), outer(B)];
    set_places(&mut world, &all);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(16));
    all.reverse();
    set_places(&mut world, &all);
    world.run(secs(14));
    let expected = [nobody(1), nobody(2), nobody(3), nobody(4), outer(B)];
    assert_eq!(initiations(&world), expected);
    assert_eq!(endpoint_of_b(&world), outer(B));
}

#[test]
fn an_address_that_is_new_is_tried_before_those_that_were_tried_in_vain() {
    let mut world = World::pair();
    set_places(&mut world, &[nobody(1), nobody(2)]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(16));
    set_places(&mut world, &[nobody(1), nobody(2), outer(B)]);
    world.run(secs(6));
    assert_eq!(endpoint_of_b(&world), outer(B));
    assert_eq!(initiations(&world).last(), Some(&outer(B)));
}

#[test]
fn a_peer_with_a_session_stays_where_it_is_while_its_name_has_that_address() {
    let mut world = World::connected();
    set_places(&mut world, &[nobody(1), outer(B)]);
    assert_eq!(endpoint_of_b(&world), outer(B));
    set_places(&mut world, &[nobody(2), outer(B)]);
    assert_eq!(endpoint_of_b(&world), outer(B));
    set_places(&mut world, &[nobody(2), nobody(3)]);
    assert_eq!(endpoint_of_b(&world), nobody(3), "the one that is new");
}

/// How many went unanswered in a row is told with each, and starts anew with an answer.
#[test]
fn initiations_without_an_answer_are_counted() {
    let mut world = World::pair();
    set_places(&mut world, &[nobody(1)]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(17));
    assert_eq!(world.nodes[A].unanswered, [1, 2, 3]);
    set_places(&mut world, &[outer(B)]);
    world.run(secs(6));
    assert_eq!(endpoint_of_b(&world), outer(B));
    assert_eq!(world.nodes[A].unanswered, [1, 2, 3, 4]);
    world.nodes[A].unanswered.clear();
    set_places(&mut world, &[nobody(1)]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    // The one before has to be 5 s old.
    world.run(secs(10));
    assert_eq!(world.nodes[A].unanswered, [1]);
}

/// An address that gets nothing through costs a fraction of a second, not one initiation.
#[test]
fn a_first_initiation_goes_to_all_addresses_one_after_the_other() {
    let mut world = World::pair();
    set_places(&mut world, &[nobody(1), nobody(2), outer(B), nobody(3)]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(millis(700));
    assert_eq!(endpoint_of_b(&world), outer(B));
    let sent = world.sent_by(A, INITIATION);
    assert!(sent.iter().all(|other| other.payload == sent[0].payload));
    let times: Vec<_> = sent.iter().map(|sent| sent.at).collect();
    assert_eq!(times, [at(secs(0)), at(millis(250)), at(millis(500))]);
    assert_eq!(world.sent_by(B, RESPONSE).len(), 1);
}

/// A late answer: the second message is refused by the peer, and nothing else comes of it.
#[test]
fn a_message_that_arrives_twice_is_answered_once() {
    let mut world = World::pair();
    world.network.latency = millis(300);
    let wrong = SocketAddr::new(outer(B).ip(), outer(B).port() + 1);
    set_places(&mut world, &[outer(B), wrong]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(3));
    assert_eq!(world.sent_by(B, RESPONSE).len(), 1);
    assert_eq!(endpoint_of_b(&world), outer(B));
}

/// The peer takes what came there first, and refuses the copies that come to where it could answer.
#[test]
fn an_address_whose_answers_get_lost_doesnt_keep_the_others_from_an_answer() {
    const DARK: [u8; 4] = [203, 0, 113, 7];
    let dark = SocketAddr::from((DARK, 51820));
    let range = Place::new(dark, 51900);
    let first_port = Place::from(dark);
    let other = Place::from(outer(B));
    for places in [
        vec![first_port, other],
        vec![range, other],
        vec![first_port, Place::from(nobody(1)), other],
        vec![first_port, other, Place::from(nobody(1))],
    ] {
        let mut world = World::pair();
        world.nodes[B].also_at.push(range);
        world.lose = |sent| sent.from == B && sent.source.ip() == IpAddr::from(DARK);
        world.with(A, |device, now| {
            device.set_places(&public_key(B), &places, now);
            device.initiate(&public_key(B), now);
        });
        world.run(secs(16));
        assert_eq!(endpoint_of_b(&world), outer(B), "{places:?}");
        assert!(
            world.nodes[A].peer(B).sending_session(world.now).is_some(),
            "{places:?}"
        );
    }
}

#[test]
fn an_initiation_goes_to_eight_ports_of_a_range() {
    let mut world = World::pair();
    let first = SocketAddr::new(outer(B).ip(), 7000);
    // Nobody is there.
    let place = Place::new(first, 7999);
    world.with(A, |device, now| {
        device.set_places(&public_key(B), &[place], now);
        device.initiate(&public_key(B), now);
    });
    world.run(secs(4));
    let ports: Vec<u16> = initiations(&world).iter().map(SocketAddr::port).collect();
    assert_eq!(ports.len(), 8, "one and its copies");
    assert!(ports.iter().all(|port| (7000..=7999).contains(port)));
    let mut different = ports.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 8, "{ports:?}");
}

/// A reload leads a peer elsewhere while there is a session: it is looked for there at once.
#[test]
fn a_peer_that_is_said_to_be_elsewhere_is_looked_for_at_all_the_new_places() {
    let mut world = World::connected();
    world.run(secs(10));
    let before = initiations(&world).len();
    set_places(&mut world, &[nobody(1), nobody(2)]);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(millis(900));
    assert_eq!(initiations(&world)[before..], [nobody(1), nobody(2)]);
}
