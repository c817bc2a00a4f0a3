//! Hubs of a fleet as peers of each other: what one may bring, what it says beside packets, and peers that are
//! at home at another one.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::drops::DropReason;
use taltun_crypto::PrivateKey;

use super::super::device::{Device, HubKeys, PeerSettings};
use super::super::messages::REKEY_AFTER_TIME;
use super::super::peer::FleetPart;
use super::super::tai64n::Tai64n;
use super::pair::*;

/// [`A`] and [`B`] are hubs with a session, and [`C`] is a peer of A's that all hubs have.
fn hubs() -> World {
    let mut world = World::hub();
    for spoke in [B, C] {
        let _ = world.ping(spoke, A, 0);
    }
    world.run(secs(1));
    world.nodes[A].inbox.clear();
    world.nodes[A].peer(B).set_fleet_part(FleetPart::Hub);
    world.nodes[A].peer(C).set_fleet_part(FleetPart::Peer);
    world.nodes[B].peer(A).set_fleet_part(FleetPart::Hub);
    world
}

/// Leads what is C's to B, at hub A.
fn lead_to_other_hub(world: &mut World) {
    let hub = world.nodes[A].peer(B).clone();
    world.nodes[A].peer(C).set_home(hub, false);
}

#[test]
fn a_message_of_a_hub_comes_to_the_controller_alone() {
    let mut world = hubs();
    let sent = world.with(A, |device, now| {
        device.send_to_hub(&public_key(B), b"a message", now)
    });
    assert!(sent);
    world.run(secs(1));
    let heard = world.nodes[B].device.tunnel().take_of_hubs();
    assert_eq!(heard.len(), 1);
    assert!(heard[0].content.starts_with(b"a message\0"));
    assert_eq!(heard[0].peer, world.nodes[B].peer(A).id());
    assert!(world.nodes[B].inbox.is_empty() && world.nodes[B].drops.is_empty());
    // To a peer that is no hub none is sent, and of one none is taken.
    let sent = world.with(A, |device, now| {
        device.send_to_hub(&public_key(C), b"a message", now)
    });
    assert!(!sent);
    world.nodes[B].peer(A).set_fleet_part(FleetPart::None);
    world.with(A, |device, now| {
        device.send_to_hub(&public_key(B), b"x", now)
    });
    world.run(secs(1));
    assert_eq!(world.nodes[B].drops, [DropReason::Control]);
    // One that is too long isn't sent.
    let long = vec![0; 1300];
    assert!(!world.with(A, |device, now| device.send_to_hub(
        &public_key(B),
        &long,
        now
    )));
}

#[test]
fn messages_of_hubs_renew_their_session() {
    let mut world = hubs();
    let first = world.nodes[A].session(B).local_index();
    world.run(REKEY_AFTER_TIME + secs(1));
    for _ in 0..3 {
        for (from, to) in [(A, B), (B, A)] {
            world.with(from, |device, now| {
                device.send_to_hub(&public_key(to), b"x", now)
            });
        }
        world.run(secs(5));
    }
    assert_ne!(world.nodes[A].session(B).local_index(), first);
}

#[test]
fn a_hub_brings_what_peers_of_the_fleet_send_and_nothing_else() {
    let mut world = hubs();
    // C is at home at A by what A knows, and B has heard of it earlier.
    world.send(B, &packet(inner(C), inner(A), 1, 84)).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1]);
    for source in [inner(A), [10, 0, 0, 77].into(), [8, 8, 8, 8].into()] {
        world.nodes[A].drops.clear();
        world.send(B, &packet(source, inner(A), 2, 84)).unwrap();
        world.run(secs(1));
        assert_eq!(world.nodes[A].drops, [DropReason::InnerSource], "{source}");
    }
    // A peer that is this hub's alone is nobody else's to speak for.
    world.nodes[A].peer(C).set_fleet_part(FleetPart::None);
    world.nodes[A].drops.clear();
    world.send(B, &packet(inner(C), inner(A), 3, 84)).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::InnerSource]);
    assert_eq!(world.nodes[A].ids(), [1]);
}

#[test]
fn what_a_hub_brings_goes_to_no_third_one() {
    let mut world = hubs();
    world.ping(B, C, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[C].ids(), [1]);
    // C is a hub as well, from now on.
    world.nodes[A].peer(C).set_fleet_part(FleetPart::Hub);
    world.ping(B, C, 2).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::HopLimit]);
    assert_eq!(world.nodes[C].ids(), [1]);
    // Nor to one where a peer is at home.
    world.nodes[A].drops.clear();
    let third = world.nodes[A].peer(B).clone();
    world.nodes[A].peer(C).set_home(third, false);
    world.ping(B, C, 3).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::HopLimit]);
}

#[test]
fn data_of_another_hubs_session_is_passed_on_to_that_hub_and_from_nowhere_else() {
    let world = hubs();
    let hub = world.nodes[A].peer(B).clone();
    let device = &world.nodes[A].device;
    let passed_to = |from: SocketAddr| {
        let endpoint = device.tunnel().batch(world.now).misrouted(from.into());
        endpoint.map(|endpoint| endpoint.remote)
    };
    let elsewhere = SocketAddr::from(([192, 0, 2, 77], 1));
    device.expect_misrouted(&public_key(C), Some((outer(C), hub.clone())));
    // That hub goes on with its peers.
    assert_eq!(passed_to(outer(C)), None);
    device.pass_misrouted_to(vec![hub.id()]);
    assert_eq!(passed_to(outer(C)), Some(outer(B)));
    assert_eq!(passed_to(elsewhere), None);
    // The peer moved, and then came here.
    device.expect_misrouted(&public_key(C), Some((elsewhere, hub.clone())));
    assert_eq!(
        (passed_to(outer(C)), passed_to(elsewhere)),
        (None, Some(outer(B)))
    );
    device.expect_misrouted(&public_key(C), None);
    assert_eq!(passed_to(elsewhere), None);
    // Another peer is where one was before.
    device.expect_misrouted(&public_key(C), Some((elsewhere, hub.clone())));
    device.expect_misrouted(&public_key(B), Some((elsewhere, hub)));
    device.expect_misrouted(&public_key(C), None);
    assert_eq!(passed_to(elsewhere), Some(outer(B)));
}

#[test]
fn the_controller_is_told_once_a_second_of_a_peer_of_another_hub_that_sends_here() {
    let world = hubs();
    let device = &world.nodes[A].device;
    let hub = world.nodes[A].peer(B).clone();
    device.expect_misrouted(&public_key(C), Some((outer(C), hub)));
    let send = |from: SocketAddr, after: Duration| {
        let batch = device.tunnel().batch(world.now + after);
        assert_eq!(batch.misrouted(from.into()), None);
    };
    for after in [0, 1, 999] {
        send(outer(C), Duration::from_millis(after));
        send(
            SocketAddr::from(([192, 0, 2, 77], 1)),
            Duration::from_millis(after),
        );
    }
    let told = device.tunnel().take_sending_here();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].peer, world.nodes[A].peer(C).id());
    send(outer(C), secs(1));
    assert_eq!(device.tunnel().take_sending_here().len(), 1);
    assert_eq!(device.expected_at(), [outer(C).ip()]);
}

#[test]
fn what_another_hub_passes_on_is_taken_and_moves_no_peer() {
    let mut world = hubs();
    let hub = world.nodes[A].peer(B).clone();
    world.nodes[A].device.tunnel().tables_mut().hubs.push(hub);
    for (id, from) in [(1, outer(B)), (2, SocketAddr::from(([192, 0, 2, 77], 1)))] {
        world.lose = |_| true;
        world.ping(C, A, id).unwrap();
        let message = world.last_sent(C).payload.clone();
        world.lose = |_| false;
        world.inject(A, from, &message).unwrap();
        assert_eq!(world.nodes[A].ids().last(), Some(&id));
        let at = world.nodes[A].peer(C).endpoint().unwrap().remote;
        assert_eq!(at, if id == 1 { outer(C) } else { from });
    }
}

#[test]
fn a_peer_that_was_handed_over_gets_what_a_third_hub_still_brings_here() {
    let mut world = hubs();
    for (handed_over, drops) in [(true, vec![]), (false, vec![DropReason::HopLimit])] {
        // B stands for both other hubs: it brings the packet, and is where C is at home.
        let hub = world.nodes[A].peer(B).clone();
        world.nodes[A].peer(C).set_home(hub, handed_over);
        world.ping(B, C, 7).unwrap();
        world.run(secs(1));
        assert_eq!(world.nodes[A].drops, drops);
        assert_eq!(world.nodes[C].ids(), [7]);
        // What is sent here goes to the hub.
        world.ping(A, C, 8).unwrap();
        assert_eq!(world.last_sent(A).to, outer(B));
        world.run(secs(1));
    }
    // Once the session is over there is nothing to send it on.
    world.nodes[A].drops.clear();
    let hub = world.nodes[A].peer(B).clone();
    world.nodes[A].peer(C).set_home(hub, true);
    world.with(A, |device, now| device.set_away(&public_key(C), true, now));
    world.run(secs(4));
    world.ping(B, C, 9).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::HopLimit]);
}

#[test]
fn a_peer_at_home_elsewhere_isnt_called_back_and_comes_by_itself() {
    let mut world = hubs();
    lead_to_other_hub(&mut world);
    world.with(A, |device, now| device.set_away(&public_key(C), true, now));
    let since = world.now;
    world.with(A, |device, now| device.initiate(&public_key(C), now));
    // A keepalive would be due, and no handshake of C's yet.
    world.run(secs(12));
    assert!(
        world
            .sent_since(A, since)
            .iter()
            .all(|sent| sent.to != outer(C))
    );
    // What is for it goes to the other hub.
    assert!(world.ping(A, C, 4).is_ok());
    assert_eq!(world.last_sent(A).to, outer(B));
    // Its handshake is answered, as it may be on its way here.
    world.with(C, |device, now| device.initiate(&public_key(A), now));
    world.run(secs(1));
    assert!(world.nodes[A].peer(C).last_handshake().is_some());
}

#[test]
fn a_handshake_that_another_hub_had_isnt_taken_again() {
    let mut world = hubs();
    let (_, message) = initiation(C, A, 9, WALL_CLOCK + secs(50));
    let heard = Tai64n::from_unix(WALL_CLOCK + secs(60));
    world.with(A, |device, _| {
        device.note_timestamp(&public_key(C), heard);
        // What is older is no news.
        device.note_timestamp(&public_key(C), Tai64n::default());
    });
    assert_eq!(
        world.nodes[A].device.newest_timestamp(&public_key(C)),
        Some(heard)
    );
    let outcome = world.with(A, |device, now| {
        device.handle_handshake(&message, outer(C).into(), false, now)
    });
    assert_eq!(outcome, Err(DropReason::Handshake));
}

/// Two hubs that answer with one key, and know each other by keys of their own.
#[test]
fn hubs_with_one_key_know_each_other_by_their_own() {
    let own = |number: u8| PrivateKey::from_bytes([number; 32]);
    let shared = own(70);
    let mut world = World::pair();
    for (node, number) in [(A, 71), (B, 72)] {
        let other = own(143 - number).public_key();
        world.with(node, |device, now| {
            for key in [public_key(A), public_key(B)] {
                device.remove_peer(&key);
            }
            device.set_private_key(Some(shared.clone()), now);
            let settings = PeerSettings {
                public_key: other,
                allowed_ips: vec![IpNet::from(inner(1 - node))],
                ..settings_of(1 - node)
            };
            let keys = HubKeys {
                own: own(number),
                answers_as: shared.public_key(),
            };
            device.add_hub(settings, keys, now).unwrap();
        });
    }
    // Each of them starts one.
    for (from, number) in [(A, 72), (B, 71)] {
        let _ = world.ping(from, 1 - from, 1);
        world.run(secs(1));
        assert_eq!(world.nodes[1 - from].ids(), [1]);
        world.with(1 - from, Device::start_over);
        world.run(secs(10));
        let peer = world.nodes[from].device.peer(&own(number).public_key());
        assert!(peer.unwrap().is_hub());
    }
    // Who has the shared key alone isn't taken for either of them.
    let drops = world.nodes[A].drops.len();
    world.with(B, |device, now| {
        device.remove_peer(&own(71).public_key());
        let settings = PeerSettings {
            public_key: own(71).public_key(),
            ..settings_of(A)
        };
        let keys = HubKeys {
            own: own(73),
            answers_as: shared.public_key(),
        };
        device.add_hub(settings, keys, now).unwrap();
        device.initiate(&own(71).public_key(), now);
    });
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops[drops..], [DropReason::Handshake]);
}
