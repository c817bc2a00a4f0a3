//! What the wall clock does to handshakes (paper §5.1), and a machine that goes back in time.

use std::time::Duration;

use taltun_common::drops::DropReason;

use super::super::device::{Device, Settings};
use super::super::messages::{Message, REKEY_TIMEOUT};
use super::super::noise::{self, Identity};
use super::super::tai64n::Tai64n;
use super::super::time::Time;
use super::pair::*;

/// What the timestamps of all initiations say that [`A`] sent.
fn timestamps(world: &World) -> Vec<Tai64n> {
    let read = |sent: &Sent| {
        let Ok(Message::Initiation(message)) = Message::parse(&sent.payload) else {
            panic!("no initiation");
        };
        let identity = Identity::new(private_key(B));
        let claimed = noise::receive(&identity, message).unwrap();
        let static_static = identity.static_static(&public_key(A)).unwrap();
        claimed.verify(&static_static).unwrap().timestamp
    };
    world.sent_by(A, INITIATION).into_iter().map(read).collect()
}

/// Has [`A`] start a handshake while its wall clock shows this.
fn initiate_at(world: &mut World, shown: Duration) {
    world.with(A, |device, now| {
        device.set_wall_clock(shown, now);
        device.initiate(&public_key(B), now);
    });
    world.run(secs(1));
}

/// A board without a clock of its own starts in 1970, and is known to the hub from the days
/// before: once its clock is right it gets in, without a restart.
#[test]
fn a_clock_that_was_wrong_at_the_start_is_right_once_it_is_set() {
    let mut world = World::pair();
    // What B last heard of A, before A started anew.
    let (_, before) = initiation(A, B, 9, WALL_CLOCK);
    world.inject(B, outer(A), &before).unwrap();
    world.run(secs(1));
    initiate_at(&mut world, secs(7));
    assert_eq!(world.nodes[B].drops, [DropReason::Handshake]);
    world.with(A, |device, now| {
        device.set_wall_clock(WALL_CLOCK + secs(3600), now);
    });
    world.run(REKEY_TIMEOUT + secs(1));
    assert_eq!(world.nodes[B].peer(A).handshakes(), 1);
    assert_eq!(
        timestamps(&world)[0],
        Tai64n::from_unix(secs(7)),
        "the clock of now"
    );
    let set = Tai64n::from_unix(WALL_CLOCK + secs(3600));
    assert!(timestamps(&world)[1] > set, "the clock of now");
}

/// A clock that is set back makes no timestamp older than one that was sent.
#[test]
fn a_clock_that_is_set_back_makes_timestamps_that_grow_by_one() {
    let mut world = World::pair();
    initiate_at(&mut world, WALL_CLOCK);
    world.run(secs(10));
    initiate_at(&mut world, secs(60));
    world.run(secs(10));
    initiate_at(&mut world, WALL_CLOCK + secs(1));
    assert!(world.nodes[B].drops.is_empty(), "none is a replay");
    let first = Tai64n::from_unix(WALL_CLOCK);
    let last = Tai64n::from_unix(WALL_CLOCK + secs(1));
    assert_eq!(timestamps(&world), [first, first.next(), last]);
}

/// After a machine was rolled back its sessions would use nonces twice: none of them is used
/// again, and both sides go on by a new one.
#[test]
fn starting_over_ends_all_sessions_and_makes_new_ones() {
    let mut world = World::connected();
    let old = world.nodes[A].session(B);
    let indices = world.nodes[A].indices.clone();
    let theirs = world.nodes[B].indices.clone();
    let start = world.now;
    world.with(A, Device::start_over);
    assert!(
        world.nodes[A].indices.is_disjoint(&indices),
        "old indices died"
    );
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [1]);
    let new = world.nodes[A].session(B).local_index();
    assert_ne!(new, old.local_index(), "another session");
    let sent = world.sent_since(A, start);
    assert_eq!(sent[0].kind(), INITIATION);
    let data = sent.iter().filter(|sent| sent.kind() == DATA);
    assert!(data.clone().count() > 0);
    for sent in data {
        let index = receiver(&sent.payload).unwrap();
        assert!(!theirs.contains(&index), "nothing on the old session");
    }
}

/// A clone makes the same of the same seed; with the system's randomness it doesn't.
#[test]
fn keys_and_indices_are_asked_for_each_time() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::randomness::{NoRandomness, Randomness};

    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let fill = move |bytes: &mut [u8]| match counted.fetch_add(1, Ordering::Relaxed) {
        number if number < 100 => {
            bytes.fill(number as u8 + 1);
            Ok(())
        }
        _ => Err(NoRandomness),
    };
    let mut device = Device::new(Settings {
        private_key: private_key(A),
        randomness: Randomness::new(fill),
        wall_clock_at_zero: WALL_CLOCK,
        mtu: 1420,
        local_addresses: Vec::new(),
        relay: false,
    });
    device.add_peer(settings_of(B), Time::START).unwrap();
    let mut initiations = Vec::new();
    let mut now = at(secs(1));
    for _ in 0..3 {
        let before = asked.load(Ordering::Relaxed);
        device.initiate(&public_key(B), now);
        device.handle_timeout(now);
        assert!(
            asked.load(Ordering::Relaxed) >= before + 2,
            "a key, an index"
        );
        initiations.extend(device.poll_transmit());
        now = now + REKEY_TIMEOUT + secs(1);
    }
    assert_eq!(initiations.len(), 3);
    for pair in initiations.windows(2) {
        // The sender's index and its ephemeral key.
        assert_ne!(pair[0].payload[4..8], pair[1].payload[4..8]);
        assert_ne!(pair[0].payload[8..40], pair[1].payload[8..40]);
    }
    // Without randomness there is no handshake, and no panic.
    asked.store(1000, Ordering::Relaxed);
    device.handle_timeout(now);
    assert_eq!(device.poll_transmit(), None);
}
