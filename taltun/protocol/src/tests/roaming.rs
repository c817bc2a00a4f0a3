//! A peer is where its last authentic message came from (paper §2.1).

use super::super::messages::Message;
use super::pair::*;

fn endpoint_of_a(world: &World) -> std::net::SocketAddr {
    world.nodes[B].peer(A).endpoint().unwrap().remote
}

/// §2.1: data from a new address moves the peer there, and answers follow.
#[test]
fn a_peer_that_moves_is_followed() {
    let mut world = World::connected();
    for (id, to) in [
        "198.51.100.1:1000",
        "[2001:db8::7]:2000",
        "198.51.100.1:1001",
    ]
    .into_iter()
    .enumerate()
    {
        world.nodes[A].address = to.parse().unwrap();
        world.ping(A, B, id as u32).unwrap();
        world.run(secs(1));
        assert_eq!(endpoint_of_a(&world), to.parse().unwrap());
        world.ping(B, A, id as u32).unwrap();
        world.run(secs(1));
    }
    assert_eq!(world.nodes[A].ids(), [0, 1, 2]);
}

/// §2.1: so do keepalives and initiations.
#[test]
fn keepalives_and_initiations_move_a_peer_too() {
    let mut world = World::connected();
    world.nodes[A].address = "198.51.100.1:1".parse().unwrap();
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(5)), now);
    });
    world.run(secs(6));
    assert_eq!(endpoint_of_a(&world), world.nodes[A].address, "keepalive");

    world.nodes[A].address = "198.51.100.2:2".parse().unwrap();
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(millis(15));
    assert_eq!(world.sent_by(A, INITIATION).len(), 2);
    assert_eq!(endpoint_of_a(&world), world.nodes[A].address, "initiation");
}

/// Who sorts messages by where peers are is told only when that has changed: with many
/// peers, looking at all of them each second is what an idle hub would be busy with.
#[test]
fn only_a_peer_that_moves_has_its_address_told() {
    let mut world = World::connected();
    let told = |world: &World| world.nodes[B].device.tunnel().take_places_changed();
    assert!(told(&world), "the first time");
    for id in 0..3 {
        world.ping(A, B, id).unwrap();
        world.run(secs(1));
        assert!(!told(&world), "it is where it was");
    }
    world.nodes[A].address = "198.51.100.1:1000".parse().unwrap();
    world.ping(A, B, 3).unwrap();
    world.run(secs(1));
    assert!(told(&world), "data from elsewhere");
    world.with(B, |device, _| {
        device.set_endpoint(
            &public_key(A),
            Some(
                "192.0.2.9:1"
                    .parse::<std::net::SocketAddr>()
                    .unwrap()
                    .into(),
            ),
        );
    });
    assert!(told(&world), "another endpoint by hand");
    world.with(B, |device, _| assert!(device.remove_peer(&public_key(A))));
    assert!(told(&world), "a peer that is no more");
}

/// §2.1: and so does a response.
#[test]
fn a_response_moves_a_peer_too() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(millis(15));
    let response = world.sent_by(B, RESPONSE)[0].payload.clone();
    let elsewhere = "198.51.100.4:4".parse().unwrap();
    assert_eq!(world.inject(A, elsewhere, &response), Ok(()));
    let moved = world.nodes[A].peer(B).endpoint().unwrap().remote;
    assert_eq!(moved, elsewhere);
}

/// §2.1: nothing that doesn't authenticate moves anybody.
#[test]
fn only_authentic_messages_move_a_peer() {
    let mut world = World::connected();
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    let elsewhere = "203.0.113.66:6".parse().unwrap();
    let recorded: Vec<_> = world.sent.iter().map(|sent| sent.payload.clone()).collect();
    for payload in recorded {
        for node in [A, B] {
            let mut forged = payload.clone();
            let at = forged.len() - 20;
            forged[at] ^= 1;
            for message in [&payload, &forged] {
                assert!(Message::parse(message).is_ok());
                assert!(world.inject(node, elsewhere, message).is_err());
            }
            let peer = world.nodes[node].peer(1 - node);
            assert_eq!(peer.endpoint().unwrap().remote, outer(1 - node));
        }
    }
}

/// §2.1: an older packet that arrives late, still authentic, moves the peer: the network
/// can't be told apart from the peer. The next packet moves it back.
#[test]
fn the_last_authentic_message_decides() {
    let mut world = World::connected();
    let old: std::net::SocketAddr = "198.51.100.1:1".parse().unwrap();
    world.lose = |sent| sent.from == A;
    world.ping(A, B, 1).unwrap();
    let late = world.last_sent(A).payload.clone();
    world.lose = |_| false;
    assert_eq!(world.inject(B, old, &late), Ok(()));
    assert_eq!(endpoint_of_a(&world), old);
    world.ping(A, B, 2).unwrap();
    world.run(secs(1));
    assert_eq!(endpoint_of_a(&world), outer(A));
}

/// The address of ours that a peer used is what we answer from, until it stays silent.
#[test]
fn the_local_address_is_remembered_until_silence() {
    let mut world = World::connected();
    let local = world.nodes[A].peer(B).endpoint().unwrap().local;
    assert_eq!(local.unwrap().address, outer(A).ip());
    world.lose = |sent| sent.from == B;
    world.ping(A, B, 1).unwrap();
    world.run(secs(14));
    assert!(world.nodes[A].peer(B).endpoint().unwrap().local.is_some());
    world.run(secs(2));
    let endpoint = world.nodes[A].peer(B).endpoint().unwrap();
    assert_eq!(endpoint.local, None);
    assert_eq!(endpoint.remote, outer(B), "where the peer is stays known");
}

/// What was under way while a route changed brings an address back that was forgotten for it:
/// whoever watches the routes is told.
#[test]
fn an_old_address_that_comes_back_is_told() {
    let mut world = World::connected();
    let id = world.nodes[A].peer(B).id();
    assert!(world.nodes[A].device.take_moved().contains(&id));
    world.ping(B, A, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].device.take_moved(), []);
    world.nodes[A].device.forget_local_address(&public_key(B));
    world.ping(B, A, 2).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].device.take_moved(), [id]);
    assert!(world.nodes[A].device.peer_by_id(id).is_some());
}

/// §2.1: a peer without a configured endpoint is learned from its first handshake.
#[test]
fn an_endpoint_is_learned_from_the_first_handshake() {
    let mut world = World::pair();
    world.with(B, |device, _| device.set_endpoint(&public_key(A), None));
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    assert_eq!(endpoint_of_a(&world), outer(A));
    world.ping(B, A, 2).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [2]);
}
