//! Control messages: who gets one, and what they leave as it is.

use std::net::SocketAddr;

use taltun_common::drops::DropReason;
use taltun_common::wire::PROBE_LEN;

use super::super::control_message::ControlMessage;
use super::super::device::HopSettings;
use super::super::messages::{DATA_HEADER_LEN, DATA_OVERHEAD};
use super::pair::*;

/// Bytes of a control message on the wire.
const SEALED_LEN: usize = PROBE_LEN;

/// A pair whose initiator, [`A`], says that it takes control messages, and sends none by itself.
fn marked() -> World {
    let mut world = World::pair();
    world.with(A, |device, now| {
        let settings = HopSettings {
            always_marked: true,
            ..HopSettings::default()
        };
        device.set_hop(settings, now);
    });
    world
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 9000))
}

/// Such a pair with a session, once its hellos are over.
fn connected() -> World {
    let mut world = marked();
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [0]);
    world
}

/// Control messages that a node sent: when, and where to.
fn controls(world: &World, from: usize) -> Vec<&Sent> {
    let data = world.sent_by(from, DATA).into_iter();
    data.filter(|sent| sent.payload.len() == SEALED_LEN)
        .collect()
}

/// A plaintext as a node seals it for the other.
fn sealed(world: &World, from: usize, plaintext: &[u8]) -> Vec<u8> {
    let session = world.nodes[from].session(1 - from);
    let mut payload = vec![0; plaintext.len() + DATA_OVERHEAD];
    payload[DATA_HEADER_LEN..][..plaintext.len()].copy_from_slice(plaintext);
    session.seal(session.reserve(1).unwrap(), &mut payload);
    payload
}

fn probe(world: &World, from: usize, id: u64) -> Vec<u8> {
    sealed(world, from, &ControlMessage::Probe(id).to_bytes())
}

#[test]
fn an_initiator_with_nothing_to_choose_is_never_sent_one() {
    let mut world = World::connected();
    for _ in 0..100 {
        world.run(secs(10));
        let _ = world.ping(A, B, 1);
        let _ = world.ping(B, A, 1);
    }
    assert!(world.nodes[A].peer(B).handshakes() > 5);
    for node in [A, B] {
        assert!(controls(&world, node).is_empty());
        assert!(!world.nodes[node].session(1 - node).takes_control());
    }
}

#[test]
fn an_initiator_with_the_mark_gets_one_hello_and_answers_it() {
    let world = connected();
    let [hello] = controls(&world, B)[..] else {
        panic!("{:?}", controls(&world, B));
    };
    let [reply] = controls(&world, A)[..] else {
        panic!("{:?}", controls(&world, A));
    };
    assert_eq!((hello.to, reply.to), (outer(A), outer(B)));
    for node in [A, B] {
        assert!(world.nodes[node].session(1 - node).takes_control());
        assert_eq!(world.nodes[node].controls, 1);
        assert!(world.nodes[node].drops.is_empty());
    }
    assert!(world.nodes[A].inbox.is_empty());
}

/// It must not be the first on a session: the responder may send once it has received.
#[test]
fn the_hello_waits_until_its_session_is_confirmed() {
    let mut world = marked();
    world.lose = |sent| sent.from == A && sent.kind() == DATA;
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(4));
    assert!(controls(&world, B).is_empty());
}

#[test]
fn a_hello_without_an_answer_is_said_four_times() {
    let mut world = marked();
    world.lose = |sent| sent.from == A && sent.payload.len() == SEALED_LEN;
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(30));
    let times = controls(&world, B).into_iter().map(|sent| sent.at);
    let times: Vec<_> = times.collect();
    assert_eq!(times.len(), 4);
    for pair in times.windows(2) {
        assert_eq!(pair[1].since(pair[0]), secs(1));
    }
}

/// The other side's initiations have the mark, too, once it knows that we understand it.
#[test]
fn who_was_said_hello_to_keeps_knowing_it_when_the_other_side_initiates() {
    let mut world = connected();
    world.run(secs(200));
    world.ping(B, A, 1).unwrap_err();
    world.run(secs(3));
    assert_eq!(world.sent_by(B, INITIATION).len(), 1);
    for node in [A, B] {
        assert!(world.nodes[node].session(1 - node).takes_control());
    }
}

/// A key may move to another program.
#[test]
fn the_other_side_is_no_longer_sent_any_once_it_initiates_without_the_mark() {
    let mut world = connected();
    world.restart(B, 7);
    world.ping(B, A, 1).unwrap_err();
    world.run(secs(10));
    assert!(!world.nodes[A].session(B).takes_control());
    let since = world.now;
    world.ping(A, B, 1).unwrap();
    world.run(secs(60));
    let sent = world.sent_since(A, since).into_iter();
    assert_eq!(
        sent.filter(|sent| sent.payload.len() == SEALED_LEN).count(),
        0
    );
}

#[test]
fn a_probe_is_answered_to_where_it_came_from_and_moves_nothing() {
    let mut world = connected();
    let elsewhere = SocketAddr::from(([203, 0, 113, 5], 4321));
    let message = probe(&world, A, 77);
    world.inject(B, elsewhere, &message).unwrap();
    let reply = world.last_sent(B).clone();
    assert_eq!((reply.to, reply.payload.len()), (elsewhere, SEALED_LEN));
    let endpoint = world.nodes[B].peer(A).endpoint().unwrap();
    assert_eq!(endpoint.remote, outer(A));
    world.ping(B, A, 1).unwrap();
    assert_eq!(world.last_sent(B).to, outer(A));
    // The answer doesn't move the other side either, wherever it comes from.
    world.inject(A, elsewhere, &reply.payload).unwrap();
    let endpoint = world.nodes[A].peer(B).endpoint().unwrap();
    assert_eq!(endpoint.remote, outer(B));
}

#[test]
fn a_probe_that_is_sent_twice_is_answered_once() {
    let mut world = connected();
    let message = probe(&world, A, 77);
    let before = controls(&world, B).len();
    world.inject(B, outer(A), &message).unwrap();
    let again = world.inject(B, outer(A), &message);
    assert_eq!(again, Err(DropReason::Replay));
    assert_eq!(controls(&world, B).len(), before + 1);
}

#[test]
fn a_forged_probe_is_worth_nothing() {
    let mut world = connected();
    let mut message = probe(&world, A, 77);
    message[DATA_HEADER_LEN] ^= 1;
    let before = controls(&world, B).len();
    let outcome = world.inject(B, outer(A), &message);
    assert_eq!(outcome, Err(DropReason::Authentication));
    assert_eq!(controls(&world, B).len(), before);
}

#[test]
fn what_has_another_kind_or_is_cut_is_dropped_and_counted() {
    let mut world = connected();
    let known = ControlMessage::Probe(1).to_bytes();
    let mut other_kind = known;
    other_kind[4] = 9;
    for plaintext in [&other_kind[..], &known[..4], &known[..15]] {
        let message = sealed(&world, A, plaintext);
        let outcome = world.inject(B, nobody(), &message);
        assert_eq!(outcome, Err(DropReason::Control));
    }
    let endpoint = world.nodes[B].peer(A).endpoint().unwrap();
    assert_eq!(endpoint.remote, outer(A));
    // Anything else that is no packet is what it always was.
    let message = sealed(&world, A, &[0; 32]);
    let outcome = world.inject(B, outer(A), &message);
    assert_eq!(outcome, Err(DropReason::InnerMalformed));
}

#[test]
fn a_peer_is_answered_so_often_and_no_more() {
    let mut world = connected();
    let before = controls(&world, B).len();
    world.run(secs(5));
    let answered = |world: &mut World| {
        let outcomes = (0..500).map(|id| {
            let message = probe(world, A, id);
            world.inject(B, outer(A), &message)
        });
        let outcomes: Vec<_> = outcomes.collect();
        assert!(outcomes[499] == Err(DropReason::Control));
        outcomes.iter().filter(|outcome| outcome.is_ok()).count()
    };
    assert_eq!(answered(&mut world), 200);
    world.run(secs(1));
    assert_eq!(answered(&mut world), 100);
    assert_eq!(controls(&world, B).len(), before + 300);
    // Data isn't concerned.
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids().last(), Some(&1));
}

/// §6.5: what keeps probing isn't thereby alive, nor does its silence pass for an answer.
#[test]
fn data_without_an_answer_starts_a_handshake_although_probes_come() {
    let mut world = connected();
    world.run(secs(30));
    let since = world.now;
    world.lose = |sent| sent.from == B && sent.kind() == DATA;
    world.ping(A, B, 1).unwrap();
    for id in 0..16 {
        world.run(secs(1));
        let message = probe(&world, B, id);
        world.inject(A, outer(B), &message).unwrap();
    }
    let sent = world.sent_since(A, since).into_iter();
    assert_eq!(sent.filter(|sent| sent.kind() == INITIATION).count(), 1);
}

/// §6.5: the other side waits for data or a keepalive.
#[test]
fn data_is_acknowledged_by_a_keepalive_although_probes_are_answered() {
    let mut world = connected();
    world.run(secs(30));
    let since = world.now;
    world.ping(B, A, 1).unwrap();
    for id in 0..12 {
        world.run(secs(1));
        let message = probe(&world, B, id);
        world.inject(A, outer(B), &message).unwrap();
    }
    let sent = world.sent_since(A, since).into_iter();
    let keepalives: Vec<_> = sent.filter(|sent| sent.is_keepalive()).collect();
    assert_eq!(keepalives.len(), 1);
    assert_eq!(keepalives[0].at.since(since), millis(10_010));
}

/// The mapping that the peer's data goes through has to stay, whatever other paths do.
#[test]
fn persistent_keepalives_are_sent_although_probes_come_and_go() {
    let mut world = connected();
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(5)), now);
    });
    let since = world.now;
    for id in 0..21 {
        world.run(secs(1));
        let message = probe(&world, B, id);
        world.inject(A, outer(B), &message).unwrap();
    }
    let sent = world.sent_since(A, since).into_iter();
    assert_eq!(sent.filter(|sent| sent.is_keepalive()).count(), 4);
}

/// §6.2: a session that nobody uses for data ends.
#[test]
fn probes_renew_no_session() {
    let mut world = connected();
    for id in 0..178 {
        world.run(secs(1));
        let message = probe(&world, B, id);
        let _ = world.inject(A, outer(B), &message);
    }
    world.run(secs(10));
    for node in [A, B] {
        let initiations = world.sent_by(node, INITIATION).len();
        assert_eq!(initiations, usize::from(node == A), "the first alone");
    }
    let message = sealed(&world, A, &ControlMessage::Probe(1).to_bytes());
    assert_eq!(
        world.inject(B, outer(A), &message),
        Err(DropReason::Expired)
    );
}

/// A control message proves as well as any other that the initiator has the keys.
#[test]
fn a_probe_confirms_its_session() {
    let mut world = marked();
    world.lose = |sent| sent.from == A && sent.kind() == DATA;
    world.ping(A, B, 0).unwrap_err();
    world.run(secs(1));
    assert!(world.nodes[B].peer(A).awaits_confirmation());
    let message = probe(&world, A, 1);
    world.inject(B, outer(A), &message).unwrap();
    assert!(!world.nodes[B].peer(A).awaits_confirmation());
    assert_eq!(world.nodes[B].peer(A).handshakes(), 1);
    assert_eq!(controls(&world, B).len(), 2, "the answer, and the hello");
}
