//! When something happens without a packet asking for it, and when no longer (paper §6).

use std::time::Duration;

use taltun_common::drops::DropReason;

use super::super::batch::NotSealed;
use super::super::device::Device;
use super::super::messages::{REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
use super::super::time::Time;
use super::pair::*;

fn initiations_since(world: &World, node: usize, since: Time) -> Vec<Duration> {
    world
        .sent_since(node, since)
        .into_iter()
        .filter(|sent| sent.kind() == INITIATION)
        .map(|sent| sent.at.since(since))
        .collect()
}

/// A pair whose session, initiated by [`A`], is this old for `node`.
fn aged_for(node: usize, age: Duration) -> World {
    let mut world = World::connected();
    let born = if node == A { millis(20) } else { millis(10) };
    world.run_until(at(born) + age);
    world
}

fn aged(age: Duration) -> World {
    aged_for(A, age)
}

/// §6.2: the initiator renews a session when it sends 120 s after it was made, not before.
#[test]
fn the_initiator_renews_when_it_sends_after_120_seconds() {
    let mut world = aged(millis(119_999));
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.sent_by(A, INITIATION).len(), 1);
    let mut world = aged(secs(120));
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.sent_by(A, INITIATION).len(), 2);
    assert_eq!(
        world.nodes[B].ids(),
        [1],
        "the old session still carries it"
    );
}

/// §6.2: keepalives are transport messages too: a tunnel kept open by them alone is renewed
/// before it dies.
#[test]
fn a_keepalive_after_120_seconds_renews_a_session_too() {
    let mut world = World::connected();
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(25)), now);
    });
    world.run_until(at(secs(160)));
    let renewals = initiations_since(&world, A, at(secs(1)));
    assert_eq!(renewals.len(), 1);
    assert!(renewals[0] <= secs(146), "{renewals:?}");
}

/// §6.2: a responder doesn't renew by age, or both sides would at once.
#[test]
fn the_responder_does_not_renew_by_age() {
    for age in [120, 150, 165, 174] {
        let mut world = aged(secs(age));
        world.ping(B, A, 1).unwrap();
        world.run(millis(5));
        assert!(world.sent_by(B, INITIATION).is_empty(), "at {age} s");
    }
}

/// §6.2: an initiator that only receives renews at 165 s, while answers still get through.
#[test]
fn the_initiator_renews_when_it_receives_after_165_seconds() {
    let mut world = aged(secs(164));
    world.ping(B, A, 1).unwrap();
    world.run(millis(500));
    assert_eq!(world.sent_by(A, INITIATION).len(), 1);
    world.run(millis(600));
    world.ping(B, A, 2).unwrap();
    world.ping(B, A, 3).unwrap();
    world.run(secs(1));
    assert_eq!(world.sent_by(A, INITIATION).len(), 2, "once");
    assert_eq!(world.nodes[A].peer(B).handshakes(), 2);
}

/// §6.2: nothing is sent that would arrive after the session's death.
#[test]
fn initiator_stops_sending_on_a_session_close_to_expiry() {
    for node in [A, B] {
        let mut world = aged_for(node, millis(174_999));
        assert_eq!(world.ping(node, 1 - node, 1), Ok(()), "just in time");
        let mut world = aged_for(node, secs(175));
        let staged = NotSealed::Staged { displaced: 0 };
        assert_eq!(world.ping(node, 1 - node, 1), Err(staged));
        world.run(secs(1));
        assert_eq!(world.nodes[1 - node].ids(), [1], "by a new session");
    }
}

/// §6.2: after 180 s a session opens nothing any more, on either side.
#[test]
fn a_session_rejects_after_180_seconds() {
    for node in [A, B] {
        for (age, outcome) in [
            (millis(179_980), Ok(())),
            (secs(181), Err(DropReason::Expired)),
        ] {
            let mut world = aged(secs(100));
            world.lose = |sent| sent.at > at(secs(50));
            world.ping(1 - node, node, 1).unwrap();
            let packet = world.last_sent(1 - node).payload.clone();
            world.run_until(at(millis(20)) + age);
            assert_eq!(world.inject(node, outer(1 - node), &packet), outcome);
        }
    }
}

/// §6.1: after 2^60 messages either side renews.
#[test]
fn either_side_renews_after_two_to_the_sixty_messages() {
    for node in [A, B] {
        let mut world = aged(secs(10));
        world.nodes[node]
            .session(1 - node)
            .set_counter(REKEY_AFTER_MESSAGES - 1);
        let before = world.sent_by(node, INITIATION).len();
        world.ping(node, 1 - node, 1).unwrap();
        world.run(secs(1));
        assert_eq!(world.sent_by(node, INITIATION).len(), before + 1);
        assert_eq!(world.nodes[1 - node].ids(), [1]);
    }
}

/// §6.1: a session that used up its counters sends nothing; a new one takes over.
#[test]
fn no_message_is_sent_past_the_last_counter() {
    let mut world = aged(secs(10));
    world.nodes[A]
        .session(B)
        .set_counter(REJECT_AFTER_MESSAGES - 1);
    assert_eq!(world.ping(A, B, 1), Ok(()));
    world.lose = |sent| sent.from == B;
    let staged = NotSealed::Staged { displaced: 0 };
    assert_eq!(world.ping(A, B, 2), Err(staged));
    world.run(secs(1));
    world.lose = |_| false;
    world.run(secs(10));
    assert_eq!(world.nodes[B].ids(), [1, 2]);
}

/// §6.4: unanswered initiations are repeated each 5 s, up to a third of a second later, for
/// 90 s; then what waited is dropped.
#[test]
fn initiations_are_retried_for_90_seconds_and_then_given_up() {
    let mut jitters = Vec::new();
    for seed in 0..10 {
        let mut world = World::pair_from_seed(seed);
        world.lose = |sent| sent.from == B;
        world.ping(A, B, 1).unwrap_err();
        world.run(secs(300));
        let times = initiations_since(&world, A, Time::START);
        for pair in times.windows(2) {
            let wait = pair[1].checked_sub(pair[0]).unwrap();
            assert!(wait >= secs(5) && wait <= millis(5333), "{wait:?}");
            jitters.push(wait.checked_sub(secs(5)).unwrap());
        }
        let last = *times.last().unwrap();
        assert!(last >= secs(80) && last < secs(90), "{last:?}");
        assert_eq!(world.nodes[A].given_up.len(), 1);
        let given_up = world.nodes[A].given_up[0].since(Time::START);
        assert!(given_up >= secs(90) && given_up <= millis(95_333));
        assert!(world.nodes[A].indices.is_empty());
        // What waited is gone: the next handshake carries only what is new.
        world.lose = |_| false;
        world.ping(A, B, 2).unwrap_err();
        world.run(secs(1));
        assert_eq!(world.nodes[B].ids(), [2], "new data starts again");
    }
    let spread = jitters
        .iter()
        .max()
        .unwrap()
        .checked_sub(*jitters.iter().min().unwrap());
    assert!(spread.unwrap() > millis(250), "retries are jittered");
}

/// §6.4: two initiations are never closer than 5 s, whatever asks for them.
#[test]
fn initiations_are_never_closer_than_five_seconds() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    for id in 0..2000 {
        let _ = world.ping(A, B, id);
        world.with(A, |device, now| device.initiate(&public_key(B), now));
        world.run(millis(100));
    }
    let times = initiations_since(&world, A, Time::START);
    assert!(times.len() > 30);
    for pair in times.windows(2) {
        assert!(pair[1].checked_sub(pair[0]).unwrap() >= secs(5));
    }
}

/// §6.4: an endpoint that goes away in the middle of a handshake and comes back later
/// finds the peer able to start again.
#[test]
fn a_handshake_cut_short_by_a_lost_endpoint_can_be_started_again() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    world.with(A, |device, _| device.set_endpoint(&public_key(B), None));
    world.run(secs(60));
    assert_eq!(world.sent_by(A, INITIATION).len(), 1);
    world.lose = |_| false;
    world.with(A, |device, _| {
        device.set_endpoint(&public_key(B), Some(outer(B).into()));
    });
    world.ping(A, B, 2).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [2]);
}

/// §6.5: data that nobody answers in kind is acknowledged by an empty packet after 10 s.
#[test]
fn one_way_data_is_answered_by_a_keepalive_after_10_seconds() {
    let mut world = aged(secs(20));
    let start = world.now;
    for id in 0..50 {
        world.ping(A, B, id).unwrap();
        world.run(millis(100));
    }
    world.run(millis(5005));
    assert!(world.sent_since(B, start).is_empty());
    world.run(secs(30));
    let answers = world.sent_since(B, start);
    assert_eq!(answers.len(), 1);
    assert!(answers[0].is_keepalive());
    // Counted from the first packet, which was 10 ms on its way.
    assert_eq!(answers[0].at.since(start), millis(10_010));
}

/// §6.5: with data both ways no keepalive is needed.
#[test]
fn data_that_is_answered_needs_no_keepalive() {
    let mut world = aged(secs(20));
    let start = world.now;
    for id in 0..60 {
        world.ping(A, B, id).unwrap();
        world.run(millis(500));
        world.ping(B, A, id).unwrap();
        world.run(millis(500));
    }
    world.run(millis(9000));
    assert!(
        world
            .sent_since(B, start)
            .iter()
            .all(|sent| !sent.is_keepalive())
    );
    assert!(
        world
            .sent_since(A, start)
            .iter()
            .all(|sent| !sent.is_keepalive())
    );
}

/// §6.5: keepalives aren't answered by keepalives.
#[test]
fn keepalives_do_not_answer_each_other() {
    let mut world = aged(secs(20));
    let start = world.now;
    world.ping(A, B, 1).unwrap();
    world.run(secs(60));
    assert_eq!(world.sent_since(A, start).len(), 1);
    assert_eq!(world.sent_since(B, start).len(), 1);
}

/// §6: an idle tunnel is silent, even across the age at which sessions are renewed.
#[test]
fn an_idle_tunnel_is_silent() {
    let mut world = aged(secs(20));
    let start = world.now;
    world.run(secs(3600));
    assert!(world.sent_since(A, start).is_empty());
    assert!(world.sent_since(B, start).is_empty());
}

/// §6: who answered a handshake has no reason to start one, even if it came to nothing.
#[test]
fn a_responder_never_starts_a_handshake_because_it_answered_one() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(600));
    assert!(world.sent_by(B, RESPONSE).len() > 10);
    assert!(world.sent_by(B, INITIATION).is_empty());
    assert!(world.sent_by(B, DATA).is_empty());
}

/// §6.5: data that nothing answers for 15 s starts a handshake.
#[test]
fn data_unanswered_for_15_seconds_starts_a_handshake() {
    let mut world = aged(secs(20));
    world.lose = |sent| sent.from == B;
    let start = world.now;
    world.ping(A, B, 1).unwrap();
    world.run(secs(4));
    world.ping(A, B, 2).unwrap();
    world.run(millis(10_999));
    assert!(initiations_since(&world, A, start).is_empty());
    world.run(millis(335));
    assert_eq!(initiations_since(&world, A, start).len(), 1);
}

/// §6.5: data that is answered, be it by a keepalive, doesn't.
#[test]
fn answered_data_starts_no_handshake() {
    let mut world = aged(secs(20));
    let start = world.now;
    world.ping(A, B, 1).unwrap();
    world.run(secs(90));
    assert!(initiations_since(&world, A, start).is_empty());
}

/// §6 and the kernel: persistent keepalives come exactly at their interval after the last
/// packet either way.
#[test]
fn persistent_keepalives_keep_their_interval() {
    let mut world = aged(secs(20));
    world.ping(A, B, 1).unwrap();
    let start = world.now;
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(25)), now);
    });
    world.run(secs(80));
    let times: Vec<_> = world
        .sent_since(A, start)
        .into_iter()
        .filter(|sent| sent.is_keepalive())
        .map(|sent| sent.at.since(start).as_millis())
        .collect();
    // B acknowledges the ping at 10.01 s; that arrives at 10.02 s and counts as well.
    assert_eq!(times, [35_020, 60_020]);
}

/// The same, for a tunnel without a session: the keepalive starts a handshake.
#[test]
fn a_persistent_keepalive_without_a_session_starts_a_handshake() {
    let mut world = World::pair();
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(25)), now);
    });
    world.run(secs(1));
    assert_eq!(world.sent[0].at, Time::START, "at once");
    assert_eq!(world.nodes[B].keepalives, 1);
    world.run(secs(3600));
    world.ping(B, A, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1], "it is kept open by itself");
}

/// The same, for a peer that is away: it is looked for again and again.
#[test]
fn a_persistent_keepalive_never_gives_up() {
    let mut world = World::pair();
    world.lose = |sent| sent.from == B && sent.at < at(secs(1000));
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(25)), now);
    });
    world.run(secs(1000));
    assert!(world.nodes[A].given_up.len() >= 8);
    world.run(secs(30));
    world.ping(B, A, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1]);
}

/// The same: an interval of zero means off, as in `wg set … persistent-keepalive 0`.
#[test]
fn a_persistent_keepalive_of_zero_is_off() {
    let mut world = aged(secs(20));
    let start = world.now;
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(Duration::ZERO), now);
    });
    world.run(secs(100));
    assert!(world.sent_since(A, start).is_empty());
}

/// §6.3: 540 s after the last session was made, no key and no index is left.
#[test]
fn tunnel_is_wiped_after_three_times_reject_after_time() {
    let mut world = aged(millis(539_970));
    for node in [A, B] {
        assert_eq!(world.nodes[node].indices.len(), 1);
    }
    world.run(millis(40));
    for node in [A, B] {
        assert!(world.nodes[node].indices.is_empty());
        assert!(world.nodes[node].peer(1 - node).current_session().is_none());
        assert_eq!(world.nodes[node].device.poll_timeout(), None);
    }
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [1], "and it starts anew");
}

/// §6.3: what waits for a new session is not old key material: wiping leaves it.
#[test]
fn wiping_old_keys_does_not_lose_what_waits_for_new_ones() {
    let mut world = aged(secs(536));
    world.lose = |sent| sent.from == B && sent.at < at(millis(540_020));
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(20));
    assert_eq!(world.nodes[B].ids(), [1]);
}

/// A machine that slept for hours and looks once sees all that happened meanwhile.
#[test]
fn a_single_late_poll_observes_the_expiry() {
    let mut world = aged(secs(20));
    world.sleep_through(secs(3 * 3600));
    world.wake_all();
    for node in [A, B] {
        assert!(world.nodes[node].indices.is_empty());
        assert!(world.nodes[node].peer(1 - node).current_session().is_none());
    }
    // In the middle of a handshake: its 90 s are over.
    let mut world = World::pair();
    world.lose = |sent| sent.from == B;
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(30));
    let before = world.sent.len();
    world.sleep_through(secs(3 * 3600));
    world.wake_all();
    assert_eq!(world.nodes[A].given_up.len(), 1);
    assert_eq!(
        world.sent.len(),
        before,
        "nothing is sent for what is long over"
    );
    assert!(world.nodes[A].indices.is_empty());
}

/// A deadline is exact: just before it nothing happens, and at it the deadline moves on.
#[test]
fn next_timer_update_never_points_into_the_past() {
    for seed in 0..20 {
        let mut world = World::pair_from_seed(seed);
        world.network.loss_percent = 30;
        world.with(A, |device, now| {
            device.set_persistent_keepalive(&public_key(B), Some(secs(7)), now);
        });
        // World::wake_all asserts it at each of the wake-ups, some late by chance.
        for step in 0..300 {
            if step % 3 == 0 {
                let _ = world.ping(A, B, step);
            }
            if step % 7 == 0 {
                let _ = world.ping(B, A, step);
            }
            if step % 50 == 49 {
                world.sleep_through(secs(u64::from(step)));
                world.wake_all();
            }
            world.run(millis(u64::from(step) * 97 % 5000));
        }
        assert!(world.nodes[A].peer(B).handshakes() > 3);
    }
}

/// `handle_timeout` may be called at any time, and does nothing where nothing is due.
#[test]
fn an_early_timeout_does_nothing() {
    let mut world = aged(secs(20));
    let start = world.now;
    world.ping(A, B, 1).unwrap();
    for _ in 0..100 {
        for node in [A, B] {
            world.with(node, Device::handle_timeout);
        }
    }
    assert_eq!(world.sent_since(A, start).len(), 1);
    assert!(world.sent_since(B, start).is_empty());
}

/// A peer that comes and goes leaves no deadline behind that nobody handles.
#[test]
fn deadlines_of_removed_peers_are_gone() {
    let mut world = World::connected();
    world.strict = false;
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(1)), now);
        assert!(device.poll_timeout().is_some());
        device.remove_peer(&public_key(B));
        assert_eq!(device.poll_timeout(), None);
        device.set_persistent_keepalive(&public_key(B), Some(secs(1)), now);
        device.initiate(&public_key(B), now);
        device.handle_timeout(now + secs(1000));
        assert_eq!(device.poll_timeout(), None);
    });
    assert!(world.sent_since(A, at(secs(1))).is_empty());
}

/// §6.3: a handshake that starts in the same wake-up that wipes old keys is not wiped.
#[test]
fn a_late_wake_up_does_not_spoil_the_handshake_it_starts() {
    let mut world = aged(secs(20));
    world.with(A, |device, now| {
        device.set_persistent_keepalive(&public_key(B), Some(secs(25)), now);
    });
    world.sleep_through(secs(3600));
    world.run(secs(1));
    world.ping(A, B, 1).unwrap();
}
