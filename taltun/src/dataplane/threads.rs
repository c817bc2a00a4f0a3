//! What all threads of the data plane share, used by several at once. `cargo xtask tsan` runs
//! these with `ThreadSanitizer`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::budget::COOKIE_REPLIES;
use taltun_common::drops::DropReason;

use super::counters::{Counters, Tally};
use super::filter::Filter;
use super::gate::Gate;
use super::tap::{Place, Subject, Wants, Watch};
use crate::layer::Layer;
use crate::protocol::cookie::Proof;
use crate::protocol::messages::{INITIATION_LEN, Message};
use crate::protocol::time::Time;

const THREADS: u64 = 4;
/// What is counted, of which nothing is known.
const NOTHING: Subject<'_> = Subject::Unknown(Place::Arrived);

/// Whether `work` is to go on is told by the flag, which is cleared when `meanwhile` is over.
fn beside<T: Send>(work: impl Fn(&AtomicBool) -> T + Sync, meanwhile: impl FnOnce()) -> Vec<T> {
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| work(&go_on))).collect();
        meanwhile();
        go_on.store(false, Ordering::Relaxed);
        running.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

#[test]
fn what_several_threads_count_adds_up() {
    const BATCHES: u64 = 2_000;
    let counters = Counters::default();
    let count = |_: &AtomicBool| {
        let mut tally = Tally::default();
        for _ in 0..BATCHES {
            tally.receive(100, || NOTHING);
            tally.send(10, || NOTHING);
            tally.drop_packet(DropReason::Replay, NOTHING);
            counters.add(&mut tally);
            counters.drop_packet(DropReason::UdpSend, NOTHING);
        }
    };
    beside(count, || {
        // Whoever asks meanwhile sees counts that only rise.
        let mut before = 0;
        for _ in 0..1_000 {
            let now = counters.traffic().rx_packets;
            assert!(now >= before && counters.drops().largest_first().len() <= 2);
            before = now;
        }
    });
    let (all, traffic) = (THREADS * BATCHES, counters.traffic());
    assert_eq!((traffic.rx_packets, traffic.rx_bytes), (all, 100 * all));
    assert_eq!((traffic.tx_packets, traffic.tx_bytes), (all, 10 * all));
    let drops = counters.drops();
    assert_eq!(
        (drops[DropReason::Replay], drops[DropReason::UdpSend]),
        (all, all)
    );
}

#[test]
fn what_threads_tell_a_watch_adds_up_with_what_was_left_out() {
    const BATCHES: u64 = 2_000;
    let counters = Counters::default();
    let wants = Wants {
        peer: None,
        passed: true,
        inner: true,
        outer: false,
        lost: true,
        snap: 16,
        room: 1 << 12,
    };
    let mut watch = Watch::begin(counters.taps(), wants).unwrap();
    let told = std::sync::atomic::AtomicU64::new(0);
    let finished = std::sync::atomic::AtomicU64::new(0);
    let count = |_: &AtomicBool| {
        let mut tally = Tally::default();
        for number in 0..BATCHES {
            let packet = number.to_be_bytes();
            tally.begin(&counters, Time::START);
            tally.receive(8, || Subject::Packet {
                place: Place::ToHost,
                from: None,
                to: None,
                packet: &packet,
                rule: None,
            });
            counters.add(&mut tally);
            counters.drop_packet(DropReason::UdpSend, NOTHING);
        }
        finished.fetch_add(1, Ordering::Release);
    };
    beside(count, || {
        loop {
            let all = finished.load(Ordering::Acquire) == THREADS;
            let read = watch.drain(usize::MAX, &mut |observed| {
                assert!(matches!(observed.bytes.len(), 0 | 8));
                told.fetch_add(observed.packets, Ordering::Relaxed);
            });
            if all && read == 0 {
                break;
            }
        }
    });
    let told = told.into_inner() + watch.take_left_out();
    assert_eq!(told, 2 * THREADS * BATCHES);
}

#[test]
fn a_batch_sees_bans_as_they_were_before_a_change_or_after() {
    let net = |text: &str| vec![text.parse::<IpNet>().unwrap()];
    let (outer, inner): (IpAddr, IpAddr) = (
        "198.51.100.7".parse().unwrap(),
        "10.0.0.66".parse().unwrap(),
    );
    let filter = Filter::default();
    let look = |go_on: &AtomicBool| {
        let mut banned = 0_u64;
        while go_on.load(Ordering::Relaxed) {
            let lists = filter.read();
            let denied = lists.denies(Layer::Outer, outer);
            assert_eq!(denied, lists.denies(Layer::Inner, inner));
            banned += u64::from(denied);
            drop(lists);
            thread::yield_now();
        }
        banned
    };
    beside(look, || {
        for _ in 0..500 {
            filter.set(&net("198.51.100.0/24"), &net("10.0.0.66/32"));
            thread::yield_now();
            filter.set(&[], &[]);
            thread::yield_now();
        }
    });
    assert!(!filter.read().denies(Layer::Outer, outer));
}

#[test]
fn several_threads_get_no_more_through_the_gate_than_one() {
    const BURST: u64 = COOKIE_REPLIES.bucket / COOKIE_REPLIES.token;
    let gate = Gate::default();
    let now = Time::START + Duration::from_secs(1);
    gate.close_until(now + Duration::from_secs(60));
    let mut datagram = [0; INITIATION_LEN];
    datagram[0] = 1;
    let message = Message::parse(&datagram).unwrap();
    let (stranger, peer): (IpAddr, IpAddr) = (
        "198.51.100.1".parse().unwrap(),
        "192.0.2.1".parse().unwrap(),
    );
    let ask = |_: &AtomicBool| {
        let passes = |_: &u64| gate.admit(&message, Proof::Mac1, stranger, now).is_ok();
        (0..2 * BURST).filter(passes).count() as u64
    };
    let passed = beside(ask, || {
        for number in 0..200 {
            let endpoints = if number % 2 == 0 { Some(peer) } else { None };
            gate.set_endpoints(HashSet::from_iter(endpoints));
            gate.close_until(now + Duration::from_secs(60 + number));
        }
    });
    assert_eq!(passed.iter().sum::<u64>(), BURST);
}
