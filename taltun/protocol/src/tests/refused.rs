//! Peers that are refused: no session, and none that is left.

use taltun_common::drops::DropReason;

use super::super::batch::NotSealed;
use super::super::device::Event;
use super::pair::*;

fn refuse(world: &mut World, refused: bool) {
    world.with(B, |device, now| {
        device.set_refused(&public_key(A), refused, now);
    });
}

#[test]
fn a_refused_peer_has_no_session_and_gets_none() {
    let mut world = World::connected();
    world.strict = false;
    let index = world.nodes[B].session(A).local_index();
    refuse(&mut world, true);
    let tables_have = |world: &World| world.nodes[B].device.tunnel().tables().sessions.len();
    assert_eq!(tables_have(&world), 0, "{index}");
    // Neither way, whoever begins.
    let received = world.nodes[B].inbox.len();
    world.ping(A, B, 1).unwrap();
    let dropped = NotSealed::Dropped(DropReason::PeerRefused);
    assert_eq!(world.ping(B, A, 2), Err(dropped));
    world.run(secs(200));
    world.ping(A, B, 3).ok();
    world.with(B, |device, now| device.initiate(&public_key(A), now));
    let before = world.nodes[B].peer(A).handshakes();
    world.run(secs(30));
    assert_eq!(world.nodes[B].inbox.len(), received);
    assert_eq!(world.nodes[B].peer(A).handshakes(), before);
    assert_eq!(tables_have(&world), 0);
    // Once it isn't any more, it is as before.
    refuse(&mut world, false);
    world.run(secs(10));
    world.ping(A, B, 4).unwrap();
    world.ping(B, A, 5).unwrap();
    world.run(secs(10));
    assert!(world.nodes[B].ids().contains(&4));
    assert!(world.nodes[A].ids().contains(&5));
}

#[test]
fn its_handshakes_are_dropped_by_their_own_reason() {
    let mut world = World::pair();
    refuse(&mut world, true);
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    let initiation = world.last_sent(A).payload.clone();
    let outcome = world.inject(B, outer(A), &initiation);
    assert_eq!(outcome, Err(DropReason::PeerRefused));
    // It isn't asked for its answer to one of ours, either.
    refuse(&mut world, false);
    let sent = world.nodes[B].peer(A).tx_packets();
    refuse(&mut world, true);
    world.run(secs(100));
    assert_eq!(world.nodes[B].peer(A).tx_packets(), sent);
}

#[test]
fn what_waits_for_a_session_of_a_refused_peer_is_dropped() {
    let mut world = World::pair();
    let _ = world.ping(B, A, 1);
    refuse(&mut world, true);
    refuse(&mut world, false);
    world.run(secs(30));
    assert!(!world.nodes[A].ids().contains(&1));
}

#[test]
fn messages_are_counted_beside_their_bytes() {
    let mut world = World::connected();
    world.strict = false;
    let counts = |world: &World, node: usize, of: usize| {
        let peer = world.nodes[node].peer(of);
        (peer.rx_packets(), peer.tx_packets(), peer.rx_bytes())
    };
    let (before, there) = (counts(&world, B, A), counts(&world, A, B));
    for id in 0..10 {
        world.ping(A, B, id).unwrap();
    }
    world.run(secs(1));
    let (after, sent) = (counts(&world, B, A), counts(&world, A, B));
    assert_eq!(after.0 - before.0, 10);
    assert_eq!(sent.1 - there.1, 10);
    assert!(after.2 - before.2 >= 10 * 32);
}

#[test]
fn who_is_no_peer_is_not_refused() {
    let mut world = World::pair();
    world.with(B, |device, now| {
        device.set_refused(&public_key(C), true, now);
    });
    world.ping(A, B, 1).ok();
    world.run(secs(10));
    let came = world.nodes[B].ids().contains(&1);
    assert!(came);
    let _: Option<Event> = world.nodes[B].device.poll_event();
}
