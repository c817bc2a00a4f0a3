//! How long packets wait.

use std::collections::{HashMap, VecDeque};

use super::*;

/// A ping of a small packet now and then.
fn ping(key: u32, flow: u64) -> Sender {
    Sender {
        key,
        flow,
        size: 84,
        every: 100_000,
        capable: false,
    }
}

#[test]
fn an_idle_peers_ping_waits_less_than_five_milliseconds_beside_a_crowd() {
    let classes: Vec<ClassSettings> = (0..50).map(|key| down(key, None)).collect();
    let mut lab = Lab::new(Direction::Down, &classes, Some(mbit(100)));
    let mut senders: Vec<Sender> = (0..49).map(|key| Sender::of(key, 1, 1420, 10)).collect();
    senders.push(ping(49, 1));
    lab.run(&senders, 10);
    let ping = lab.outcome(49, 1);
    assert_eq!(ping.packets, 100);
    assert!(ping.longest < 5_000, "{} µs", ping.longest);
}

#[test]
fn a_ping_passes_by_the_same_peers_download() {
    let mut lab = Lab::new(Direction::Down, &[down(1, Some(10))], None);
    let senders = [
        Sender::of(1, 1, 1420, 50),
        Sender::of(1, 2, 1420, 50),
        ping(1, 3),
    ];
    lab.run(&senders, 10);
    let ping = lab.outcome(1, 3);
    assert_eq!(ping.packets, 100);
    assert!(ping.longest < 5_000, "{} µs", ping.longest);
}

/// Senders that take a lost or marked packet for congestion, as TCP does: the window grows by a
/// packet each round trip, and is halved once a round trip at the most.
fn streams(flows: u64, capable: bool, mbits: u64, seconds: u64) -> (Lab, u64, u64) {
    const TRIP: u64 = 20_000;
    let mut lab = Lab::new(Direction::Down, &[down(1, Some(mbits))], None);
    let mut windows: HashMap<u64, (f64, u64)> = (0..flows).map(|flow| (flow, (10.0, 0))).collect();
    let mut unanswered: HashMap<u64, VecDeque<u64>> = HashMap::new();
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    let mut answers: VecDeque<(u64, Released<Tag>)> = VecDeque::new();
    let (mut waited, mut counted) = (0, 0);
    let end = lab.now + seconds * 1_000_000;
    while lab.now < end {
        while answers.front().is_some_and(|(at, _)| *at <= lab.now) {
            let (_, Released { marked, tag, .. }) = answers.pop_front().unwrap();
            let flow = tag.flow;
            let flying = unanswered.entry(flow).or_default();
            let mut congested = marked;
            // Those before it that aren't answered are lost, as a flow keeps its order.
            while let Some(number) = flying.pop_front() {
                if number == tag.number {
                    break;
                }
                congested = true;
            }
            let (window, cut) = windows.get_mut(&flow).unwrap();
            if congested && lab.now > *cut + TRIP {
                (*window, *cut) = ((*window / 2.0).max(2.0), lab.now);
            } else {
                *window += 1.0 / *window;
            }
        }
        for flow in 0..flows {
            let flying = unanswered.entry(flow).or_default();
            let stuck = flying.len() as f64 >= windows[&flow].0;
            // A tail that was lost whole: the timer.
            let (window, cut) = windows.get_mut(&flow).unwrap();
            let heard = lab.outcome(1, flow).last.unwrap_or(0);
            if stuck
                && flying.front().is_some()
                && lab.now > *cut + 300_000
                && heard > *flying.back().unwrap()
            {
                flying.clear();
                (*window, *cut) = (2.0, lab.now);
            }
        }
        for flow in 0..flows {
            while (unanswered[&flow].len() as f64) < windows[&flow].0 {
                let number = numbers.entry(flow).or_default();
                *number += 1;
                let number = *number;
                unanswered.get_mut(&flow).unwrap().push_back(number);
                let sender = Sender {
                    key: 1,
                    flow,
                    size: 1420,
                    every: 1,
                    capable,
                };
                lab.offer(&sender, number);
            }
        }
        for released in lab.look() {
            waited += lab.now - released.tag.sent;
            counted += 1;
            answers.push_back((lab.now + TRIP, released));
        }
        lab.now += 50;
    }
    let mean = waited / counted;
    let marked = lab.outcomes.values().map(|outcome| outcome.marked).sum();
    (lab, mean, marked)
}

#[test]
fn streams_fill_their_rate_and_keep_their_queue_short() {
    for flows in [1, 20] {
        let (lab, mean, marked) = streams(flows, false, 20, 20);
        let rate = lab.rate(None, 20);
        assert!(rate > 18e6 && rate < 20.4e6, "{flows} flows: {rate:.0}");
        assert!(mean < 40_000, "{flows} flows: {mean} µs");
        assert!(lab.dropped > 0 && marked == 0);
        assert!(
            lab.dropped < lab.offered / 10,
            "{} of {}",
            lab.dropped,
            lab.offered
        );
    }
}

#[test]
fn what_can_be_marked_is_marked_and_not_dropped() {
    let (lab, mean, marked) = streams(4, true, 20, 20);
    assert_eq!(lab.dropped, 0);
    assert!(marked > 0);
    assert!(mean < 40_000, "{mean} µs");
    assert!(lab.rate(None, 20) > 18e6);
}
