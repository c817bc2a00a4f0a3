//! Each data message counts once (paper §5.4.6), seen from outside a device.

use taltun_common::drops::DropReason;

use super::super::messages::REPLAY_WINDOW as WINDOW;
use super::pair::*;

/// A message from [`A`] to [`B`] with this counter, which [`A`] hands to nobody.
fn message(world: &World, counter: u64) -> Vec<u8> {
    let session = world.nodes[A].session(B);
    let mut message = vec![0; 16 + 96 + 16];
    message[16..100].copy_from_slice(&packet(inner(A), inner(B), counter as u32, 84));
    session.seal(counter, &mut message);
    message
}

fn outcomes(world: &mut World, counters: &[u64]) -> Vec<Result<(), DropReason>> {
    counters
        .iter()
        .map(|counter| {
            let message = message(world, *counter);
            world.inject(B, outer(A), &message)
        })
        .collect()
}

const REPLAY: Result<(), DropReason> = Err(DropReason::Replay);

/// §5.4.6: whatever was seen is refused, in whatever order it comes.
#[test]
fn each_counter_is_accepted_once_in_any_order() {
    let mut world = World::connected();
    let got = outcomes(&mut world, &[5, 3, 9, 3, 4, 5, 9, 10, 8, 8]);
    let expected = [
        Ok(()),
        Ok(()),
        Ok(()),
        REPLAY,
        Ok(()),
        REPLAY,
        REPLAY,
        Ok(()),
        Ok(()),
        REPLAY,
    ];
    assert_eq!(got, expected);
}

/// §5.4.6: at the edge of the window a counter is in, one below it is out.
#[test]
fn the_window_ends_at_its_edge() {
    let mut world = World::connected();
    let top = 20_000;
    let got = outcomes(
        &mut world,
        &[top, top - WINDOW, top - WINDOW - 1, top - WINDOW],
    );
    assert_eq!(got, [Ok(()), Ok(()), REPLAY, REPLAY]);
}

/// §5.4.6: a jump ahead forgets what lies too far behind, and nothing else.
#[test]
fn counter_jump_slides_the_window() {
    let mut world = World::connected();
    let got = outcomes(
        &mut world,
        &[1, 1_000_000, 1, 2, 999_999, 1_000_001, 1_000_000],
    );
    assert_eq!(
        got,
        [Ok(()), Ok(()), REPLAY, REPLAY, Ok(()), Ok(()), REPLAY]
    );
}

/// §5.4.6: a counter that is not authentic doesn't move the window.
#[test]
fn a_forged_counter_does_not_move_the_window() {
    let mut world = World::connected();
    let good = message(&world, 5);
    let mut forged = message(&world, 6);
    forged[8..16].copy_from_slice(&(1_u64 << 50).to_le_bytes());
    let refused = Err(DropReason::Authentication);
    assert_eq!(world.inject(B, outer(A), &forged), refused);
    assert_eq!(world.inject(B, outer(A), &good), Ok(()));
}

/// §5.4.6: a replay neither moves the endpoint nor keeps anything awake.
#[test]
fn a_replay_changes_nothing() {
    let mut world = World::connected();
    let good = message(&world, 5);
    assert_eq!(world.inject(B, outer(A), &good), Ok(()));
    world.run(secs(30));
    let start = world.now;
    let bytes = world.nodes[B].peer(A).rx_bytes();
    let elsewhere = "203.0.113.5:5".parse().unwrap();
    assert_eq!(world.inject(B, elsewhere, &good), REPLAY);
    world.run(secs(30));
    assert_eq!(world.nodes[B].peer(A).endpoint().unwrap().remote, outer(A));
    assert_eq!(world.nodes[B].peer(A).rx_bytes(), bytes);
    assert!(world.sent_since(B, start).is_empty(), "no keepalive for it");
}

/// §5.4.6: a recorded packet is worth nothing on the session that followed.
#[test]
fn packets_of_one_session_do_not_open_on_the_next() {
    let mut world = World::connected();
    let recorded = message(&world, 77);
    world.run(secs(121));
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    let mut moved = recorded;
    let index = world.nodes[B].session(A).local_index();
    moved[4..8].copy_from_slice(&index.to_le_bytes());
    let refused = Err(DropReason::Authentication);
    assert_eq!(world.inject(B, outer(A), &moved), refused);
}
