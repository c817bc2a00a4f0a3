//! Other limits while packets wait.

use super::*;
use crate::Queued;

#[test]
fn another_rate_holds_at_once_and_loses_nothing() {
    let mut lab = Lab::new(Direction::Up, &[up(1, 10)], None);
    let senders = [Sender::of(1, 1, 1420, 60), Sender::of(1, 2, 1420, 60)];
    lab.run(&senders, 2);
    for mbits in [40, 1, 100, 10] {
        lab.shaper.set(lab.clock(), &[up(1, mbits), up(2, 5)], None);
        // What waited under another rate may take a moment.
        lab.run(&senders, 1);
        lab.start_over();
        lab.run(&senders, 4);
        assert_close(lab.rate(None, 4), mbits, 2.0);
    }
    lab.run(&[], 60);
    let released: u64 = lab.outcomes.values().map(|outcome| outcome.packets).sum();
    assert!(released > 0 && lab.shaper.next_release().is_none());
}

#[test]
fn a_very_slow_peer_is_fast_as_soon_as_it_may_be() {
    let slow = ClassSettings {
        key: 1,
        up: Rate::of_bits(64_000),
        down: None,
    };
    let mut lab = Lab::new(Direction::Up, &[slow], None);
    lab.run(&[Sender::of(1, 1, 1420, 1)], 2);
    lab.shaper.set(lab.clock(), &[up(1, 100)], None);
    let next = lab.shaper.next_release().unwrap();
    assert!(next <= lab.clock() + Duration::from_millis(1));
}

#[test]
fn what_waits_for_a_peer_without_a_limit_leaves_at_once() {
    for others in [&[][..], &[up(2, 5)]] {
        let mut lab = Lab::new(Direction::Up, &[up(1, 1), up(2, 5)], None);
        lab.run(&[Sender::of(1, 1, 1420, 2)], 1);
        let before = lab.outcome(1, 1).packets;
        lab.shaper.set(lab.clock(), others, None);
        lab.run(&[], 1);
        let after = lab.outcome(1, 1);
        assert_eq!(lab.offered, after.packets + lab.dropped);
        assert!(after.packets > before + 10);
        assert!(lab.shaper.next_release().is_none());
        // It is no class any more, until it is one again.
        lab.offer(&Sender::of(1, 1, 1420, 1), 1 << 40);
        assert_eq!(lab.shaper.take_dropped(), 1);
        lab.shaper.set(lab.clock(), &[up(1, 1), up(2, 5)], None);
        lab.offer(&Sender::of(1, 1, 1420, 1), 1 << 41);
        assert_eq!(lab.shaper.take_dropped(), 0);
        lab.run(&[], 1);
        assert_eq!(lab.outcome(1, 1).last, Some(1 << 41));
    }
}

#[test]
fn an_uplink_comes_and_goes() {
    let classes = [down(1, None), down(2, Some(30))];
    let mut lab = Lab::new(Direction::Down, &classes, Some(mbit(10)));
    let senders = [Sender::of(1, 1, 1420, 20), Sender::of(2, 1, 1420, 60)];
    lab.run(&senders, 4);
    assert_close(lab.rate(None, 4), 10, 2.0);
    lab.shaper.set(lab.clock(), &classes, None);
    lab.run(&[senders[1]], 1);
    lab.start_over();
    lab.run(&[senders[1]], 4);
    assert_close(lab.rate(Some(2), 4), 30, 2.0);
}

/// Overhead that is known only once a packet is sealed.
#[test]
fn what_a_packet_takes_besides_is_taken_of_the_uplink() {
    let mut lab = Lab::new(Direction::Down, &[down(1, None)], Some(mbit(10)));
    let sender = Sender::of(1, 1, 1000, 20);
    let end = lab.now + 4_000_000;
    let mut number = 0;
    while lab.now < end {
        number += 1;
        lab.offer(&sender, number);
        for _ in lab.look() {
            lab.shaper.spend_uplink(lab.clock(), 250);
        }
        lab.now += sender.every;
    }
    assert_close(lab.rate(None, 4), 8, 3.0);
}

#[test]
fn what_waits_and_what_was_lost_is_told_by_peer() {
    let mut lab = Lab::new(Direction::Down, &[down(1, Some(1)), down(2, None)], None);
    assert_eq!(lab.shaper.queued(Direction::Up, 1), None);
    assert_eq!(
        lab.shaper.queued(Direction::Down, 1),
        Some(Queued::default())
    );
    lab.shaper.set(
        lab.clock(),
        &[down(1, Some(1)), down(2, None)],
        Some(mbit(50)),
    );
    let flood = Sender::of(1, 1, 1420, 20);
    lab.run(&[flood, Sender::of(2, 1, 1420, 1)], 2);
    let queued = |lab: &Lab, key| lab.shaper.queued(Direction::Down, key).unwrap();
    let full = queued(&lab, 1);
    assert!(
        full.packets > 2 && full.bytes == full.packets * 1420,
        "{full:?}"
    );
    // Between two looks as well.
    lab.dropped += lab.shaper.take_dropped();
    assert_eq!(full.dropped, lab.dropped);
    assert_eq!(queued(&lab, 2), Queued::default());
    lab.run(&[], 10);
    let after = queued(&lab, 1);
    assert_eq!((after.packets, after.bytes), (0, 0));
    let released = lab.outcome(1, 1).packets + lab.outcome(2, 1).packets;
    assert_eq!(released + lab.dropped, lab.offered);
    assert_eq!(after.dropped, lab.dropped);
    // So is what has to make room.
    lab.offer(&Sender::of(1, 1, 60_000, 1), 1 << 40);
    lab.offer(&Sender::of(1, 1, 60_000, 1), 1 << 41);
    let lost = lab.shaper.take_dropped();
    assert_eq!(queued(&lab, 1).dropped, after.dropped + lost);
}
