//! How sessions come to be and follow each other (paper §5.4 and §6.3).

use std::collections::{HashMap, HashSet};

use taltun_common::drops::DropReason;
use taltun_common::steering::worker_of;

use super::super::device::{AddPeerError, Event, PeerSettings};
use zerocopy::FromBytes;

use super::super::messages::Response;
use super::super::noise::Identity;
use super::pair::*;
use taltun_crypto::{PresharedKey, PublicKey};

/// §5.4: one round trip, then the packet that asked for it.
#[test]
fn the_first_packet_starts_a_handshake_and_follows_it() {
    let mut world = World::pair();
    world.ping(A, B, 7).unwrap_err();
    world.run(secs(1));
    let wire: Vec<_> = world
        .sent
        .iter()
        .map(|sent| (sent.from, sent.payload.len()))
        .collect();
    assert_eq!(wire, [(A, 148), (B, 92), (A, 128)]);
    assert_eq!(world.nodes[B].ids(), [7]);
    assert_eq!(world.nodes[A].peer(B).handshakes(), 1);
    assert_eq!(world.nodes[B].peer(A).handshakes(), 1);
}

/// §5.4.3: the initiator confirms the session at once, with nothing to send by a keepalive.
#[test]
fn an_initiator_without_data_confirms_by_a_keepalive() {
    let mut world = World::pair();
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(1));
    assert!(world.last_sent(A).is_keepalive());
    assert_eq!(world.nodes[B].keepalives, 1);
    world.ping(B, A, 1).unwrap();
}

/// §5.4.3: until it has received data on it, a responder can't know that the initiator has
/// the keys.
#[test]
fn a_responder_does_not_send_on_a_session_nobody_confirmed() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == A && sent.kind() == DATA;
    world.ping(A, B, 1).unwrap_err();
    world.run(millis(30));
    world.ping(B, A, 2).unwrap_err();
    world.run(secs(3));
    assert_eq!(world.sent_by(B, RESPONSE).len(), 1);
    assert!(world.nodes[A].inbox.is_empty() || !world.sent_by(B, INITIATION).is_empty());
    let first_data = world.sent_by(B, DATA).first().map(|sent| sent.at);
    let own_handshake = world.sent_by(B, INITIATION).first().map(|sent| sent.at);
    assert!(
        own_handshake < first_data,
        "B sends only on the session that it made itself"
    );
}

/// §6.3: packets in flight across a change of keys arrive.
#[test]
fn previous_session_remains_usable_during_rekey_transition() {
    let mut world = World::connected();
    world.run_until(at(secs(121)));
    world.network.latency = millis(400);
    // B's packet leaves on the old session while the new one is negotiated.
    world.ping(A, B, 1).unwrap();
    world.run(millis(500));
    world.ping(B, A, 2).unwrap();
    world.run(millis(350));
    let renewed = world.nodes[A].peer(B).handshakes();
    assert_eq!(renewed, 2, "A has changed over already");
    assert!(world.nodes[A].inbox.is_empty());
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [2]);
    assert_eq!(world.nodes[B].ids(), [1]);
}

/// §6.3: with traffic both ways all the time, no packet is lost to a change of keys.
#[test]
fn no_packet_is_lost_across_many_rekeys() {
    let mut world = World::connected();
    for id in 0..9000 {
        world.ping(A, B, id).unwrap();
        world.ping(B, A, id).unwrap();
        world.run(millis(100));
    }
    world.run(secs(1));
    let all: Vec<u32> = (0..9000).collect();
    assert_eq!(world.nodes[A].ids(), all);
    assert_eq!(world.nodes[B].ids(), all);
    assert_eq!(world.nodes[A].peer(B).handshakes(), 8, "one each 120 s");
    assert!(world.nodes[A].indices.len() <= 5, "old indices are freed");
}

/// §5.4: two initiations that cross give working sessions, and both sides settle on one.
#[test]
fn simultaneous_handshake_initiations_converge() {
    for seed in 0..40 {
        let mut world = World::pair_from_seed(seed);
        world.network.latency = millis(50);
        world.network.jitter = millis(100);
        world.ping(A, B, 1).unwrap_err();
        world.ping(B, A, 2).unwrap_err();
        world.run(secs(2));
        assert_eq!(world.sent_by(A, INITIATION).len(), 1);
        assert_eq!(world.sent_by(B, INITIATION).len(), 1);
        assert_eq!(world.nodes[B].ids(), [1], "seed {seed}");
        assert_eq!(world.nodes[A].ids(), [2], "seed {seed}");
        // One more exchange, so that both have heard of the other's choice.
        for id in 3..5 {
            world.ping(A, B, id).unwrap();
            world.ping(B, A, id).unwrap();
            world.run(secs(1));
        }
        let to_b = receiver(&world.last_sent(A).payload).unwrap();
        let to_a = receiver(&world.last_sent(B).payload).unwrap();
        assert_eq!(world.nodes[B].session(A).local_index(), to_b, "seed {seed}");
        assert_eq!(world.nodes[A].session(B).local_index(), to_a, "seed {seed}");
    }
}

/// §6.2: after initiations that crossed, only one side renews, so that they don't cross
/// again every two minutes.
#[test]
fn initiations_that_crossed_once_do_not_cross_forever() {
    for seed in 0..10 {
        let mut world = World::pair_from_seed(seed);
        world.network.latency = millis(50);
        world.ping(A, B, 0).unwrap_err();
        world.ping(B, A, 0).unwrap_err();
        for id in 1..6000 {
            world.run(millis(100));
            let _ = world.ping(A, B, id);
            let _ = world.ping(B, A, id);
        }
        world.run(secs(1));
        let initiations = world.sent_by(A, INITIATION).len() + world.sent_by(B, INITIATION).len();
        assert_eq!(initiations, 2 + 4, "two that crossed, then one each 120 s");
        assert_eq!(world.nodes[A].inbox.len(), 6000, "seed {seed}");
        assert_eq!(world.nodes[B].inbox.len(), 6000, "seed {seed}");
    }
}

/// §6.4: an answer that takes longer than the retry is as good as any.
#[test]
fn delayed_response_to_a_superseded_initiation_is_accepted() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    world.ping(A, B, 1).unwrap_err();
    world.run(millis(5500));
    let initiations = world.sent_by(A, INITIATION).len();
    assert_eq!(initiations, 2);
    let first = world.sent_by(B, RESPONSE)[0].payload.clone();
    world.strict = false;
    assert_eq!(world.inject(A, outer(B), &first), Ok(()));
    assert_eq!(world.nodes[A].peer(B).handshakes(), 1);
}

/// §6.4: where a round trip takes longer than the retry, the tunnel still comes up: the
/// answer to the newer initiation is awaited even when the older one was answered.
#[test]
fn a_round_trip_above_the_retry_still_gives_a_session() {
    let mut world = World::pair();
    world.network.latency = secs(3);
    for id in 0..60 {
        let _ = world.ping(A, B, id);
        world.run(secs(1));
    }
    world.run(secs(10));
    let all: Vec<u32> = (0..60).collect();
    assert_eq!(world.nodes[B].ids(), all);
}

/// §6.4: while packets wait, they keep their order, and only the last 128 are kept.
#[test]
fn waiting_packets_keep_their_order_and_the_oldest_go_first() {
    use super::super::batch::NotSealed;
    let mut world = World::pair();
    for id in 0..200 {
        let displaced = usize::from(id >= 128);
        assert_eq!(
            world.ping(A, B, id),
            Err(NotSealed::Staged { displaced }),
            "packet {id}"
        );
    }
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), (72..200).collect::<Vec<_>>());
}

/// §5.1: the timestamp of each initiation must be above all before it.
#[test]
fn replayed_and_older_initiations_are_refused() {
    let mut world = World::pair();
    let (_, newer) = initiation(A, B, 1, WALL_CLOCK + secs(10));
    let (_, older) = initiation(A, B, 2, WALL_CLOCK + secs(9));
    let (_, newest) = initiation(A, B, 3, WALL_CLOCK + secs(11));
    let refused = Err(DropReason::Handshake);
    assert_eq!(world.inject(B, outer(A), &newer), Ok(()));
    world.run(secs(1));
    let born = world.nodes[B].births.len();
    let thief = "203.0.113.9:9".parse().unwrap();
    assert_eq!(world.inject(B, thief, &newer), refused);
    assert_eq!(world.inject(B, thief, &older), refused);
    assert_eq!(world.nodes[B].births.len(), born, "a replay costs no index");
    assert_eq!(
        world.nodes[B].peer(A).endpoint().unwrap().remote,
        outer(A),
        "a replay moves nobody"
    );
    assert_eq!(world.inject(B, outer(A), &newest), Ok(()));
}

#[test]
fn an_initiation_of_a_clock_that_went_backwards_is_told_and_a_late_one_is_not() {
    let mut world = World::pair();
    let (_, first) = initiation(A, B, 1, WALL_CLOCK + secs(1000));
    let (_, late) = initiation(A, B, 2, WALL_CLOCK + secs(990));
    let (_, old) = initiation(A, B, 3, WALL_CLOCK + secs(10));
    let told = |world: &mut World, message: &[u8]| {
        let before = world.nodes[B].clocks_behind.len();
        let _ = world.inject(B, outer(A), message);
        world.run(secs(1));
        world.nodes[B].clocks_behind[before..].to_vec()
    };
    assert_eq!(told(&mut world, &first), []);
    assert_eq!(told(&mut world, &late), []);
    assert_eq!(told(&mut world, &old), [secs(990)]);
}

/// §5.1: a replay doesn't cost a session: everything still flows.
#[test]
fn replayed_initiations_leave_sessions_alone() {
    let mut world = World::connected();
    let recorded = world.sent_by(A, INITIATION)[0].payload.clone();
    for id in 0..10 {
        assert!(world.inject(B, outer(A), &recorded).is_err());
        world.ping(A, B, id).unwrap();
        world.ping(B, A, id).unwrap();
        world.run(millis(50));
    }
    assert_eq!(world.nodes[A].inbox.len(), 10);
    assert_eq!(world.nodes[B].inbox.len(), 10);
}

/// §5.1 and the kernel: even an honest key may start only one handshake each 20 ms.
#[test]
fn initiations_closer_than_twenty_milliseconds_are_refused() {
    let mut world = World::pair();
    let stamped = |n: u64| initiation(A, B, n as u32, WALL_CLOCK + secs(n)).1;
    assert_eq!(world.inject(B, outer(A), &stamped(1)), Ok(()));
    world.run(millis(19));
    let refused = Err(DropReason::Handshake);
    assert_eq!(world.inject(B, outer(A), &stamped(2)), refused);
    world.run(millis(1));
    assert_eq!(world.inject(B, outer(A), &stamped(3)), Ok(()));
}

/// §5.4.3: a response is believed only whole, and a forged one doesn't end the handshake.
#[test]
fn a_forged_response_is_refused_and_the_true_one_still_counts() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(millis(100));
    let genuine = world.sent_by(B, RESPONSE)[0].payload.clone();
    for at in 0..genuine.len() - 16 {
        let mut forged = genuine.clone();
        forged[at] ^= 1;
        assert!(world.inject(A, outer(B), &forged).is_err(), "byte {at}");
    }
    // With a right first MAC, which anybody can make who knows A's public key.
    for at in 12..60 {
        let mut forged = genuine.clone();
        forged[at] ^= 1;
        super::super::cookie::Sealer::new(&public_key(A)).seal(&mut forged, world.now);
        let outcome = world.inject(A, outer(B), &forged);
        assert_eq!(outcome, Err(DropReason::Handshake), "byte {at}");
    }
    world.strict = false;
    assert_eq!(world.inject(A, outer(B), &genuine), Ok(()));
    assert_eq!(
        world.inject(A, outer(B), &genuine),
        Err(DropReason::UnknownIndex),
        "a response counts once"
    );
}

/// §5.4: a key that is no peer's starts nothing.
#[test]
fn a_stranger_gets_no_answer() {
    let mut world = World::pair();
    let (_, message) = initiation(C, B, 1, WALL_CLOCK);
    let outcome = world.inject(B, outer(C), &message);
    assert_eq!(outcome, Err(DropReason::Handshake));
    assert!(world.sent.is_empty());
    assert!(world.nodes[B].births.is_empty());
}

/// §5.2: different preshared keys never form a session.
#[test]
fn different_preshared_keys_never_form_a_session() {
    let mut world = World::pair();
    world.with(A, |device, _| {
        device.set_preshared_key(&public_key(B), PresharedKey([1; 32]));
    });
    for id in 0..60 {
        let _ = world.ping(A, B, id);
        let _ = world.ping(B, A, id);
        world.run(secs(1));
    }
    assert!(world.nodes[A].inbox.is_empty() && world.nodes[B].inbox.is_empty());
    assert_eq!(world.nodes[A].peer(B).handshakes(), 0);
    assert!(world.sent_by(A, DATA).is_empty() && world.sent_by(B, DATA).is_empty());
}

/// §5.2: changing the preshared key leaves sessions alone; the next handshake needs it.
#[test]
fn a_new_preshared_key_takes_effect_with_the_next_handshake() {
    let mut world = World::connected();
    let psk = PresharedKey([7; 32]);
    world.with(A, |device, _| {
        device.set_preshared_key(&public_key(B), psk.clone());
    });
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [1], "the session goes on");
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(4));
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(4));
    assert_eq!(world.nodes[A].peer(B).handshakes(), 1, "the keys differ");
    world.with(B, |device, _| {
        device.set_preshared_key(&public_key(A), psk);
    });
    world.run(secs(10));
    assert_eq!(world.nodes[A].peer(B).handshakes(), 2, "the keys are equal");
    world.ping(A, B, 2).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [1, 2]);
}

/// §5.4: for the seven points of low order, nothing ever leaves.
#[test]
fn a_public_key_of_low_order_never_causes_a_packet() {
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    for point in points {
        let mut world = World::pair();
        let settings = PeerSettings {
            public_key: point.parse().unwrap(),
            preshared_key: PresharedKey::default(),
            endpoint: Some(outer(C).into()),
            allowed_ips: vec!["10.9.9.0/24".parse().unwrap()],
            persistent_keepalive: Some(secs(1)),
        };
        world.with(A, |device, now| device.add_peer(settings, now).unwrap());
        for id in 0..10 {
            let packet = packet(inner(A), [10, 9, 9, 9].into(), id, 84);
            let _ = world.send(A, &packet);
            world.run(secs(1));
        }
        assert!(world.sent.is_empty(), "{point}");
        assert!(world.nodes[A].indices.is_empty());
    }
}

/// §2: a peer with our own key would be ourselves, and a key names one peer.
#[test]
fn our_own_key_and_a_known_key_are_no_new_peers() {
    let mut world = World::pair();
    let settings = |public_key: PublicKey| PeerSettings {
        public_key,
        preshared_key: PresharedKey::default(),
        endpoint: None,
        allowed_ips: vec!["10.7.0.0/16".parse().unwrap()],
        persistent_keepalive: None,
    };
    let now = world.now;
    let device = &mut world.nodes[A].device;
    let own = device.add_peer(settings(public_key(A)), now);
    assert_eq!(own.unwrap_err(), AddPeerError::OurOwnKey);
    let known = device.add_peer(settings(public_key(B)), now);
    assert_eq!(known.unwrap_err(), AddPeerError::Known);
    assert_eq!(device.peers().count(), 1);
    let to_nobody = packet(inner(A), [10, 7, 0, 1].into(), 0, 84);
    assert!(world.send(A, &to_nobody).is_err());
    assert!(world.sent.is_empty(), "a refused peer gets no routes");
}

/// §5.4: whoever is removed leaves no index behind, at any point of its life.
#[test]
fn removing_a_peer_frees_its_indices() {
    for stop in [0, 5, 15, 25, 35, 1000, 6000, 121_000, 130_000] {
        for node in [A, B] {
            let mut world = World::pair();
            world.strict = false;
            world.ping(A, B, 1).unwrap_err();
            world.ping(B, A, 1).unwrap_err();
            world.run(millis(stop));
            let _ = world.ping(A, B, 2);
            let removed = world.with(node, |device, _| device.remove_peer(&public_key(1 - node)));
            assert!(removed);
            assert_eq!(world.nodes[node].indices, HashSet::new(), "after {stop} ms");
            assert_eq!(world.nodes[node].device.poll_timeout(), None);
            let again = world.with(node, |device, _| device.remove_peer(&public_key(1 - node)));
            assert!(!again);
            world.run(secs(30));
            assert!(world.nodes[node].indices.is_empty());
        }
    }
}

/// §5.4: indices tell nothing: all of their bits vary, and none comes twice.
#[test]
fn indices_are_random_and_unique() {
    let mut world = World::pair();
    world.lose = |_| true;
    for n in 1..=1000_u32 {
        let stamp = WALL_CLOCK + secs(u64::from(n));
        let (_, message) = initiation(A, B, n, stamp);
        assert_eq!(world.inject(B, outer(A), &message), Ok(()));
        world.run(millis(20));
    }
    let births = &world.nodes[B].births;
    assert_eq!(births.len(), 1000);
    assert_eq!(births.iter().collect::<HashSet<_>>().len(), 1000);
    for bit in 0..32 {
        let ones = births.iter().filter(|index| *index >> bit & 1 == 1).count();
        // Ten standard deviations: 500 ± 158.
        assert!((342..=658).contains(&ones), "bit {bit} is set in {ones}");
    }
    assert!(
        world.nodes[B].indices.len() <= 5,
        "the unconfirmed are freed"
    );
}

/// Where several workers share a port, the lowest bits of an index name the peer's worker;
/// the others stay random, and peers are spread over all workers.
#[test]
fn an_index_names_the_worker_of_its_peer() {
    let mut world = World::pair();
    world.nodes[A].device.set_workers(3);
    let now = world.now;
    let device = &mut world.nodes[A].device;
    for byte in 50..80 {
        let settings = PeerSettings {
            public_key: public_key(byte),
            preshared_key: PresharedKey::default(),
            endpoint: Some(outer(B).into()),
            allowed_ips: Vec::new(),
            persistent_keepalive: None,
        };
        device.add_peer(settings, now).unwrap();
    }
    let mut seen = HashMap::new();
    let keys: Vec<PublicKey> = device.peers().map(|peer| *peer.public_key()).collect();
    for key in keys {
        device.initiate(&key, now);
        let Some(Event::IndexBorn(index)) = device.poll_event() else {
            panic!("no index was born");
        };
        let worker = worker_of(index, 3).expect("one of the three");
        assert_eq!(worker, device.peer(&key).unwrap().id().0 % 3);
        seen.entry(worker)
            .or_insert_with(HashSet::new)
            .insert(index >> 2);
    }
    assert_eq!(seen.len(), 3, "all workers have peers");
    assert!(seen.values().all(|rest| rest.len() >= 10), "{seen:?}");
}

/// §5.4: a filter in front of us knows an index before the message that carries it leaves.
#[test]
fn an_index_is_born_before_its_message_leaves() {
    let mut world = World::pair();
    let now = world.now;
    let device = &mut world.nodes[A].device;
    device.initiate(&public_key(B), now);
    let Some(Event::IndexBorn(index)) = device.poll_event() else {
        panic!("no index was born");
    };
    let sent = device.poll_transmit().unwrap();
    assert_eq!(sent.payload[4..8], index.to_le_bytes());
}

/// §6: after a restart of one side, its first packet brings the tunnel back.
#[test]
fn a_restarted_peer_comes_back_with_its_first_packet() {
    let mut world = World::connected();
    world.strict = false;
    world.run(secs(20));
    world.restart(A, 99);
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    world.ping(B, A, 2).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [1]);
    assert_eq!(world.nodes[A].ids(), [2]);
}

/// §6.5: after a restart of the other side, data that nobody answers brings it back.
#[test]
fn a_restarted_responder_is_found_within_fifteen_seconds() {
    let mut world = World::connected();
    world.strict = false;
    world.run(secs(20));
    world.restart(B, 99);
    world.ping(A, B, 1).unwrap();
    world.run(millis(15_400));
    world.ping(A, B, 2).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [2]);
}

/// A worker that still held the old state when a session came asks for a handshake that
/// is no longer needed: what it staged leaves on the session, and no handshake starts.
#[test]
fn a_packet_staged_while_a_session_comes_up_leaves_on_it() {
    let mut world = World::connected();
    let staged = packet(inner(A), inner(B), 5, 84);
    let tunnel = std::sync::Arc::clone(world.nodes[A].device.tunnel());
    tunnel.stage_for_test(world.nodes[A].peer(B), &staged);
    world.with(A, |_, _| ());
    world.run(secs(20));
    assert_eq!(world.nodes[B].ids(), [5]);
    assert_eq!(world.sent_by(A, INITIATION).len(), 1);
}

/// §5.4.3: the handshake alone, without devices, is what the devices do.
#[test]
fn a_device_answers_a_bare_noise_initiator() {
    let mut world = World::pair();
    let (initiator, message) = initiation(A, B, 0x0102_0304, WALL_CLOCK);
    assert_eq!(world.inject(B, outer(A), &message), Ok(()));
    let response = world.sent_by(B, RESPONSE)[0].payload.clone();
    let response: [u8; 92] = response.try_into().unwrap();
    assert_eq!(
        Response::ref_from_bytes(&response).unwrap().receiver.get(),
        0x0102_0304
    );
    let identity = Identity::new(private_key(A));
    let keys = initiator.finish(
        &identity,
        &PresharedKey::default(),
        Response::ref_from_bytes(&response).unwrap(),
    );
    assert!(keys.is_ok());
}
