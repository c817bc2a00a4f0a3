//! How fast all together are, how even, and in which order.

use super::*;

const SECONDS: u64 = 10;

#[test]
fn a_peer_gets_its_rate_within_two_percent_with_one_flow_and_with_twenty() {
    for direction in [Direction::Up, Direction::Down] {
        for mbits in [1, 5, 20, 100] {
            for flows in [1, 20] {
                let settings = ClassSettings {
                    key: 7,
                    up: Some(mbit(mbits)),
                    down: Some(mbit(mbits)),
                };
                let mut lab = Lab::new(direction, &[settings], None);
                let sender = |flow: u64| {
                    let size = if flow.is_multiple_of(2) { 1420 } else { 1000 };
                    Sender::of(7, hash(flow), size, (2 * mbits).div_ceil(flows).max(1))
                };
                let senders: Vec<Sender> = (0..flows).map(sender).collect();
                lab.run(&senders, SECONDS);
                assert_close(lab.rate(None, SECONDS), mbits, 2.0);
            }
        }
    }
}

#[test]
fn what_is_below_the_rate_passes_whole() {
    let mut lab = Lab::new(Direction::Up, &[up(7, 10)], None);
    lab.run(&[Sender::of(7, 1, 1420, 9)], SECONDS);
    assert_eq!(lab.dropped, 0);
    assert!(lab.outcome(7, 1).longest < 5_000);
    assert_close(lab.rate(None, SECONDS), 9, 1.0);
}

#[test]
fn peers_share_an_uplink_fairly_whatever_they_send() {
    let classes: Vec<ClassSettings> = (0..50).map(|key| down(key, None)).collect();
    let mut lab = Lab::new(Direction::Down, &classes, Some(mbit(100)));
    // The one sends large packets by one flow, the other small ones by five, and some too much.
    let mut senders = Vec::new();
    for key in 0..50 {
        let (size, flows) = [(1420, 1), (200, 5), (900, 2)][key as usize % 3];
        let mbits = [3, 4, 8, 20][key as usize % 4];
        for flow in 0..flows {
            senders.push(Sender::of(key, 0x0101_0101 * (flow + 1), size, mbits));
        }
    }
    lab.run(&senders, SECONDS);
    assert_close(lab.rate(None, SECONDS), 100, 2.0);
    let shares: Vec<f64> = (0..50).map(|key| lab.rate(Some(key), SECONDS)).collect();
    let index = jain(&shares);
    assert!(index >= 0.95, "{index}: {shares:?}");
}

#[test]
fn a_slow_peer_leaves_the_rest_of_the_uplink_to_the_others() {
    let classes = [down(1, Some(5)), down(2, Some(80)), down(3, None)];
    let mut lab = Lab::new(Direction::Down, &classes, Some(mbit(50)));
    let senders: Vec<Sender> = (1..4).map(|key| Sender::of(key, 1, 1420, 60)).collect();
    lab.run(&senders, SECONDS);
    assert_close(lab.rate(Some(1), SECONDS), 5, 2.0);
    assert_close(
        lab.rate(Some(2), SECONDS) + lab.rate(Some(3), SECONDS),
        45,
        2.0,
    );
    let shares = [2, 3].map(|key| lab.rate(Some(key), SECONDS));
    assert!(jain(&shares) > 0.99, "{shares:?}");
}

#[test]
fn flows_of_a_peer_share_its_rate() {
    let mut lab = Lab::new(Direction::Down, &[down(1, Some(20))], None);
    let sender = |flow: u64| Sender::of(1, hash(flow), 1420, 2 + flow);
    let senders: Vec<Sender> = (0..20).map(sender).collect();
    lab.run(&senders, SECONDS);
    let shares: Vec<f64> = senders
        .iter()
        .map(|sender| lab.outcome(1, sender.flow).bytes as f64)
        .collect();
    assert!(jain(&shares) > 0.95, "{shares:?}");
}

/// The lab asserts the order of each flow.
#[test]
fn more_flows_than_there_are_queues_keep_their_order() {
    let mut lab = Lab::new(Direction::Up, &[up(1, 20)], None);
    let mut senders = Vec::new();
    for flow in 0..400 {
        senders.push(Sender::of(1, hash(flow), 300, 1));
    }
    // They come and go.
    for round in 0..10 {
        let from = round * 30;
        lab.run(&senders[from..from + 100], 1);
    }
    assert!(lab.outcomes.len() > 300);
    assert_close(lab.rate(None, 10), 20, 5.0);
}

#[test]
fn packets_of_any_size_go_at_the_rate() {
    let mut lab = Lab::new(Direction::Up, &[up(1, 50)], None);
    let senders = [
        Sender::of(1, 1, 65_000, 30),
        Sender::of(1, 2, 60, 3),
        Sender::of(1, 3, 9_000, 30),
        Sender::of(1, 4, 513, 10),
    ];
    lab.run(&senders, SECONDS);
    assert_close(lab.rate(None, SECONDS), 50, 2.0);
    assert!((1..5).all(|flow| lab.outcome(1, flow).packets > 10));
}

#[test]
fn a_flood_takes_no_more_memory_than_there_is_and_all_is_counted() {
    let classes: Vec<ClassSettings> = (0..40).map(|key| down(key, Some(100))).collect();
    let mut lab = Lab::new(Direction::Down, &classes, Some(mbit(100)));
    let mut floods: Vec<Sender> = (0..30).map(|key| Sender::of(key, 1, 1420, 100)).collect();
    lab.run(&floods, 2);
    // Those who come when all is full find room.
    lab.start_over();
    floods.extend((30..40).map(|key| Sender::of(key, 1, 1420, 1)));
    lab.run(&floods, 2);
    for key in 30..40 {
        assert_close(lab.rate(Some(key), 2), 1, 10.0);
    }
    // What waits goes, or is dropped, and then all is accounted for.
    let quiet: [Sender; 0] = [];
    lab.run(&quiet, 20);
    let released: u64 = lab.outcomes.values().map(|outcome| outcome.packets).sum();
    assert!(lab.shaper.next_release().is_none());
    assert!(released > 0 && lab.dropped > lab.offered / 2);
}

#[test]
fn every_packet_is_released_or_counted_as_dropped() {
    let mut lab = Lab::new(Direction::Up, &[up(1, 2), up(2, 3)], None);
    let mut senders: Vec<Sender> = (0..6)
        .map(|flow| Sender::of(1 + flow as u32 % 2, flow, 700, 9))
        .collect();
    senders.push(Sender::of(9, 1, 100, 1));
    lab.run(&senders, 5);
    lab.run(&[], 20);
    let released: u64 = lab.outcomes.values().map(|outcome| outcome.packets).sum();
    assert_eq!(lab.offered, released + lab.dropped);
    assert_eq!(lab.outcome(9, 1).packets, 0, "it has no class");
}
