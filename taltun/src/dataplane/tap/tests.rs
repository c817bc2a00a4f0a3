use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use taltun_common::drops::DropReason;

use super::*;
use crate::dataplane::counters::{Counters, Tally};
use crate::dataplane::runs::{DatagramRun, DatagramRuns};
use crate::protocol::peer::Endpoint;
use crate::protocol::time::Time;

fn wants() -> Wants {
    Wants {
        peer: None,
        passed: true,
        inner: true,
        outer: false,
        lost: true,
        snap: 64,
        room: 1 << 16,
    }
}

fn at(second: u64) -> Time {
    Time::START + Duration::from_secs(second)
}

fn from() -> Endpoint {
    let address: SocketAddr = "192.0.2.7:1234".parse().unwrap();
    address.into()
}

fn packet(bytes: &[u8]) -> Subject<'_> {
    Subject::Packet {
        place: Place::ToHost,
        from: None,
        to: None,
        packet: bytes,
        rule: None,
    }
}

fn datagram(bytes: &[u8]) -> Subject<'_> {
    Subject::Arrived {
        from: from(),
        datagram: bytes,
        peer: None,
    }
}

/// All that has come, with its bytes.
fn read(watch: &mut Watch) -> Vec<(Seen, Vec<u8>)> {
    let mut all = Vec::new();
    watch.drain(usize::MAX, &mut |observed| {
        all.push((observed.seen, observed.bytes.to_vec()));
    });
    all
}

#[test]
fn what_is_counted_is_told_and_nothing_before_or_after_a_watch() {
    let counters = Counters::default();
    let mut tally = Tally::default();
    let mut batch = |second| {
        tally.begin(&counters, at(second));
        tally.drop_packet(DropReason::Shape, datagram(b"bad"));
        tally.receive(5, || packet(b"inner"));
        tally.drop_packets(DropReason::Shaped, 7, Subject::Unknown(Place::FromHost));
        counters.add(&mut tally);
        counters.drop_packet(DropReason::UdpSend, Subject::Unknown(Place::Leaves));
    };
    batch(1);
    let mut watch = Watch::begin(counters.taps(), wants()).unwrap();
    batch(2);
    let told = read(&mut watch);
    let fates: Vec<_> = told
        .iter()
        .map(|(seen, _)| (seen.fate, seen.packets))
        .collect();
    assert!(told[..3].iter().all(|(seen, _)| seen.at == at(2)));
    assert_eq!(
        fates,
        [
            (Fate::Dropped(DropReason::Shape), 1),
            (Fate::Passed, 1),
            (Fate::Dropped(DropReason::Shaped), 7),
            (Fate::Dropped(DropReason::UdpSend), 1),
        ]
    );
    assert_eq!(
        (told[0].1.as_slice(), told[0].0.remote),
        (&b"bad"[..], Some(from().remote))
    );
    assert_eq!((told[1].1.as_slice(), told[1].0.len), (&b"inner"[..], 5));
    drop(watch);
    assert!(!counters.taps().are_on());
    batch(3);
    let mut again = Watch::begin(counters.taps(), wants()).unwrap();
    assert!(read(&mut again).is_empty());
    assert_eq!(counters.drops()[DropReason::Shaped], 21);
}

#[test]
fn each_watch_gets_what_it_wants_and_no_more_bytes() {
    let counters = Counters::default();
    let mut drops = Watch::begin(
        counters.taps(),
        Wants {
            passed: false,
            inner: false,
            snap: 2,
            ..wants()
        },
    )
    .unwrap();
    let mut all = Watch::begin(
        counters.taps(),
        Wants {
            outer: true,
            lost: false,
            snap: 1 << 16,
            ..wants()
        },
    )
    .unwrap();
    let mut tally = Tally::default();
    tally.begin(&counters, at(1));
    let observer = &mut tally.observer;
    assert!(observer.is_on() && observer.wants_outer());
    // One that is opened, and one that isn't authentic: settled in their order.
    observer.arrived(100, b"first", from());
    observer.arrived(200, b"second", from());
    assert!(observer.settle(100, Fate::Passed, None, true));
    assert!(!observer.settle(150, Fate::Passed, None, true));
    let refused = Fate::Dropped(DropReason::Authentication);
    assert!(observer.settle(200, refused, None, false));
    tally.drop_packet(DropReason::Authentication, Subject::Told);
    tally.relay(5, || packet(b"inner"));
    let mut runs = DatagramRuns::default();
    let run = DatagramRun {
        segment: 3,
        ..DatagramRun::of_one(1, 5, from())
    };
    runs.push(run, false);
    tally.observer.leave(b".abcde", &runs);
    counters.add(&mut tally);
    let short: Vec<_> = read(&mut drops);
    assert_eq!(short.len(), 1);
    assert_eq!((short[0].0.fate, short[0].0.len), (refused, 6));
    assert_eq!(short[0].1, b"se");
    let told: Vec<_> = read(&mut all)
        .into_iter()
        .map(|(seen, bytes)| (seen.place, seen.fate, bytes))
        .collect();
    let expected: [(Place, Fate, &[u8]); 5] = [
        (Place::Arrived, Fate::Passed, b"first"),
        (Place::Arrived, refused, b"second"),
        (Place::ToHost, Fate::Passed, b"inner"),
        (Place::Leaves, Fate::Passed, b"abc"),
        (Place::Leaves, Fate::Passed, b"de"),
    ];
    let expected = expected.map(|(place, fate, bytes)| (place, fate, bytes.to_vec()));
    assert_eq!(told, expected);
}

#[test]
fn a_packet_that_is_sealed_where_it_lies_is_told_once_with_its_fate() {
    let counters = Counters::default();
    let mut watch = Watch::begin(counters.taps(), wants()).unwrap();
    let mut tally = Tally::default();
    let told = Subject::ToldBefore { to: None };
    tally.begin(&counters, at(1));
    tally.wait(|| packet(b"sent"));
    tally.send(4, || told);
    tally.wait(|| packet(b"lost"));
    tally.drop_packet(DropReason::NoPeer, told);
    tally.wait(|| packet(b"held"));
    tally.observer.take_back();
    counters.add(&mut tally);
    let told: Vec<_> = read(&mut watch)
        .into_iter()
        .map(|(seen, bytes)| (seen.fate, bytes))
        .collect();
    assert_eq!(
        told,
        [
            (Fate::Passed, b"sent".to_vec()),
            (Fate::Dropped(DropReason::NoPeer), b"lost".to_vec())
        ]
    );
}

#[test]
fn who_does_not_read_loses_packets_and_is_told_how_many() {
    let counters = Counters::default();
    let mut watch = Watch::begin(
        counters.taps(),
        Wants {
            room: 1000,
            ..wants()
        },
    )
    .unwrap();
    let mut tally = Tally::default();
    for _ in 0..10 {
        tally.begin(&counters, at(1));
        for _ in 0..10 {
            tally.receive(50, || packet(&[7; 50]));
        }
        counters.add(&mut tally);
    }
    assert_eq!(read(&mut watch).len(), 20);
    assert_eq!((watch.take_left_out(), watch.take_left_out()), (80, 0));
    // There is room again.
    tally.begin(&counters, at(2));
    tally.receive(50, || packet(&[8; 50]));
    counters.add(&mut tally);
    let told = read(&mut watch);
    assert_eq!((told.len(), told[0].1.as_slice()), (1, &[8; 50][..]));
}

#[test]
fn so_many_may_watch_and_an_end_makes_room() {
    let taps = Arc::new(Taps::default());
    let mut all: Vec<_> = (0..WATCHES)
        .map(|_| Watch::begin(&taps, wants()).unwrap())
        .collect();
    assert!(Watch::begin(&taps, wants()).is_none());
    all.pop();
    assert!(Watch::begin(&taps, wants()).is_some());
}
