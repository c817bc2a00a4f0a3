//! Peers whose name has several addresses, or leads elsewhere meanwhile.

use std::net::SocketAddr;

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
