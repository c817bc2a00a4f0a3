//! What workers and the controller share, used by several threads at once. `cargo xtask tsan`
//! runs these with `ThreadSanitizer`, which sees a data race even where nothing came of it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::drops::DropReason;

use super::super::batch::{NotSealed, Opened};
use super::super::device::{Device, PeerSettings, RouteEdit, Settings};
use super::super::messages::{DATA_HEADER_LEN, MAX_STAGED_PACKETS, Message, REJECT_AFTER_MESSAGES};
use super::super::peer::{Amount, Endpoint, Peer};
use super::super::randomness::Randomness;
use super::super::session::Session;
use super::super::time::Time;
use super::super::tunnel::Tunnel;
use super::pair::*;
use taltun_crypto::PresharedKey;

/// Packets that are sealed or opened together.
const BATCH: usize = 16;
/// Seconds that pass while the workers work: enough for several sessions.
const SECONDS: u64 = 600;
/// How long each of these takes.
const TICK: Duration = Duration::from_millis(1);

/// A device that knows some others, and relays nothing.
fn device(number: usize, peers: &[usize]) -> Device {
    let mut device = Device::new(Settings {
        private_key: private_key(number),
        randomness: Randomness::seeded([number as u8; 32]),
        wall_clock_at_zero: WALL_CLOCK,
        mtu: 1420,
        local_addresses: vec![inner(number)],
        relay: false,
    });
    for peer in peers {
        device.add_peer(settings(*peer), Time::START).unwrap();
    }
    device
}

fn settings(peer: usize) -> PeerSettings {
    PeerSettings {
        public_key: public_key(peer),
        preshared_key: PresharedKey::default(),
        endpoint: Some(outer(peer).into()),
        allowed_ips: vec![inner(peer).into()],
        persistent_keepalive: None,
    }
}

/// Two devices, a clock, and what their workers did.
struct Stage {
    tunnels: [Arc<Tunnel>; 2],
    /// Nanoseconds since [`Time::START`].
    clock: AtomicU64,
    over: AtomicBool,
    next_id: AtomicU64,
    /// Receiver and counter of all that was sealed.
    sealed: Mutex<HashSet<(u32, u64)>>,
    /// What arrived.
    opened: Mutex<HashSet<u32>>,
    refused: Mutex<Vec<DropReason>>,
}

impl Stage {
    fn now(&self) -> Time {
        Time::START + Duration::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    /// A worker's way out: packets for the other, and some for one who comes and goes. Every
    /// second batch goes to both openers.
    fn seal(&self, out: &[SyncSender<Vec<Vec<u8>>>; 2]) {
        let mut turn = 0;
        while !self.over.load(Ordering::Relaxed) {
            let mut datagrams = Vec::new();
            let mut batch = self.tunnels[A].batch(self.now());
            for _ in 0..BATCH {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed) as u32;
                let to = if id.is_multiple_of(5) { C } else { B };
                let packet = packet(inner(A), inner(to), id, 84);
                let mut buffer = vec![0; DATA_HEADER_LEN + packet.len() + 64];
                buffer[DATA_HEADER_LEN..][..packet.len()].copy_from_slice(&packet);
                match batch.seal(&mut buffer, packet.len()) {
                    // What is for C goes the way of others who aren't there.
                    Ok(sealed) if sealed.endpoint.remote == outer(B) => {
                        buffer.truncate(sealed.len);
                        datagrams.push(buffer);
                    }
                    Ok(_)
                    | Err(NotSealed::Staged { .. } | NotSealed::Dropped(DropReason::NoPeer)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            drop(batch);
            self.take_note(&datagrams);
            turn += 1;
            if turn % 2 == 0 {
                let _ = out[0].send(datagrams.clone());
                let _ = out[1].send(datagrams);
            } else {
                let _ = out[turn / 2 % 2].send(datagrams);
            }
        }
    }

    fn take_note(&self, datagrams: &[Vec<u8>]) {
        let mut sealed = self.sealed.lock().unwrap();
        for datagram in datagrams {
            let Ok(Message::Data { receiver, counter }) = Message::parse(datagram) else {
                panic!("sealed as something else than data");
            };
            assert!(sealed.insert((receiver, counter)), "a counter used twice");
        }
    }

    /// A worker's way in.
    fn open(&self, from: &Receiver<Vec<Vec<u8>>>) {
        while let Ok(mut datagrams) = from.recv() {
            let mut batch = self.tunnels[B].batch(self.now());
            for datagram in &mut datagrams {
                let Ok(Message::Data { receiver, counter }) = Message::parse(datagram) else {
                    panic!("sealed as something else than data");
                };
                match batch.open(receiver, counter, datagram, outer(A).into()) {
                    Ok(Opened::Local(inner)) => {
                        let id = id_of(&datagram[DATA_HEADER_LEN..][..inner.len]);
                        assert!(self.opened.lock().unwrap().insert(id), "{id} came twice");
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(reason) => self.refused.lock().unwrap().push(reason),
                }
            }
        }
    }

    /// The controller of both: handshakes, timers, and all that may change under the workers.
    fn control(&self, devices: &mut [Device; 2]) {
        for second in 0..SECONDS {
            self.clock.fetch_add(1_000_000_000, Ordering::Relaxed);
            let now = self.now();
            for device in devices.iter_mut() {
                let _ = device.tunnel().take_wake();
                device.handle_requests(now);
                device.handle_timeout(now);
            }
            for from in [A, B, A, B] {
                self.carry(devices, from, now);
            }
            change(&mut devices[A], second, now);
            for device in devices.iter_mut() {
                while device.poll_event().is_some() {}
            }
            sleep(TICK);
        }
        self.over.store(true, Ordering::Relaxed);
    }

    fn carry(&self, devices: &mut [Device; 2], from: usize, now: Time) {
        while let Some(mut transmit) = devices[from].poll_transmit() {
            let to = 1 - from;
            if transmit.endpoint.remote != outer(to) {
                continue;
            }
            let payload = &mut transmit.payload;
            let source = outer(from).into();
            match Message::parse(payload) {
                Ok(Message::Data { receiver, counter }) => {
                    let mut batch = self.tunnels[to].batch(now);
                    let _ = batch.open(receiver, counter, payload, source);
                }
                // Two initiations within one tick are one too many, for one.
                _ => drop(devices[to].handle_handshake(payload, source, false, now)),
            }
            devices[to].handle_requests(now);
        }
    }
}

/// What a reload or `wg set` does, something else each second.
fn change(device: &mut Device, second: u64, now: Time) {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    match second % 8 {
        0 => drop(device.add_peer(settings(C), now).unwrap()),
        1 => device.set_allowed_ips(&public_key(C), &[inner(C).into(), net("10.7.0.0/16")]),
        2 => {
            let peer = Arc::clone(device.peer(&public_key(C)).unwrap());
            device.edit_routes(&[
                RouteEdit::Remove(peer.id(), net("10.7.0.0/16")),
                RouteEdit::Add(peer, net("10.8.0.0/16")),
            ]);
        }
        3 => device.tunnel().set_mtu(1280),
        4 => device.set_endpoint(&public_key(C), Some(outer(C).into())),
        5 => device.tunnel().set_listen_port(9000),
        6 => device.tunnel().set_mtu(1420),
        _ => assert!(device.remove_peer(&public_key(C))),
    }
}

/// Two workers seal, two open, and a controller renews sessions and changes peers, routes and
/// MTU meanwhile: no counter is used twice, nothing arrives twice, wrong or from a stranger.
#[test]
fn workers_and_the_controller_do_not_get_in_each_others_way() {
    let mut devices = [device(A, &[B]), device(B, &[A])];
    let stage = Stage {
        tunnels: [A, B].map(|number| Arc::clone(devices[number].tunnel())),
        clock: AtomicU64::new(0),
        over: AtomicBool::new(false),
        next_id: AtomicU64::new(0),
        sealed: Mutex::default(),
        opened: Mutex::default(),
        refused: Mutex::default(),
    };
    thread::scope(|scope| {
        let (first, from_first) = sync_channel(2);
        let (second, from_second) = sync_channel(2);
        for out in [[first.clone(), second.clone()], [first, second]] {
            let stage = &stage;
            scope.spawn(move || stage.seal(&out));
        }
        for from in [from_first, from_second] {
            let stage = &stage;
            scope.spawn(move || stage.open(&from));
        }
        stage.control(&mut devices);
    });
    let (sealed, opened) = (stage.sealed.into_inner(), stage.opened.into_inner());
    let (sealed, opened) = (sealed.unwrap().len(), opened.unwrap().len());
    assert!(opened > 0 && opened <= sealed, "{opened} of {sealed}");
    let handshakes = devices[A].peer(&public_key(B)).unwrap().handshakes();
    assert!(handshakes > 2, "{handshakes} sessions in {SECONDS} s");
    let refused = stage.refused.into_inner().unwrap();
    assert!(refused.contains(&DropReason::Replay));
    // A worker that the machine kept waiting may be late for a session.
    let fine = [
        DropReason::Replay,
        DropReason::Expired,
        DropReason::UnknownIndex,
    ];
    let other = refused.iter().find(|reason| !fine.contains(reason));
    assert_eq!(other, None);
}

/// The session of a connected world's [`A`].
fn session() -> Arc<Session> {
    World::connected().nodes[A].session(B)
}

/// Runs `work` on several threads at once; what each returned.
fn on_threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        running.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

/// Paper §5.4.6: a nonce is used once.
#[test]
fn no_two_threads_get_the_same_counters() {
    let session = session();
    let start = session.reserve(1).unwrap() + 1;
    let reserved = on_threads(4, |number| {
        let count = number as u64 + 1;
        let firsts: Vec<_> = (0..5_000)
            .map(|_| session.reserve(count).unwrap())
            .collect();
        firsts
            .into_iter()
            .flat_map(|first| first..first + count)
            .collect::<Vec<u64>>()
    });
    let mut all = reserved.concat();
    all.sort_unstable();
    let expected = start..start + 5_000 * (1 + 2 + 3 + 4);
    assert!(all.into_iter().eq(expected));
}

/// Paper §6.1: nor does any thread get one beyond what a session may use.
#[test]
fn threads_use_a_session_up_to_its_last_counter_and_no_further() {
    let session = session();
    session.set_counter(REJECT_AFTER_MESSAGES - 1_000);
    let reserved = on_threads(4, |_| {
        let counters: Vec<u64> = std::iter::from_fn(|| session.reserve(1)).collect();
        assert!((0..100).all(|_| session.reserve(1).is_none()));
        counters
    });
    let mut all = reserved.concat();
    all.sort_unstable();
    let expected = REJECT_AFTER_MESSAGES - 1_000..REJECT_AFTER_MESSAGES;
    assert!(all.into_iter().eq(expected));
}

/// Paper §5.4.6: of a datagram that two workers get, one accepts it.
#[test]
fn a_counter_that_two_threads_see_is_accepted_by_one() {
    const COUNT: u64 = 30_000;
    let session = session();
    let accepted = on_threads(2, |_| {
        let counters = (10..COUNT).filter(|counter| session.accept(*counter));
        counters.collect::<Vec<_>>()
    });
    let mut all = accepted.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(10..COUNT));
}

/// Of packets that wait for a session none gets lost but those that are said to.
#[test]
fn packets_staged_by_several_threads_are_taken_or_displaced() {
    const EACH: usize = 3_000;
    let device = device(A, &[B]);
    let peer = device.peer(&public_key(B)).unwrap();
    let (done, staging) = (AtomicU64::new(0), 2);
    let counts = on_threads(staging + 1, |number| {
        if number < staging {
            let displaced = (0..EACH).map(|_| peer.stage(&[4; 40])).sum();
            done.fetch_add(1, Ordering::Release);
            return displaced;
        }
        let mut taken = 0;
        while done.load(Ordering::Acquire) < staging as u64 {
            let staged = peer.take_staged().len();
            assert!(staged <= MAX_STAGED_PACKETS);
            taken += staged;
        }
        taken + peer.take_staged().len()
    });
    assert_eq!(counts.iter().sum::<usize>(), staging * EACH);
}

/// A peer is only ever where it was heard, and each request of it is handed over once.
#[test]
fn a_peer_that_several_threads_move_is_at_one_of_these_places() {
    let device = device(A, &[B]);
    let peer: &Peer = device.peer(&public_key(B)).unwrap();
    let place = |number: usize| {
        let number = number as u8 + 1;
        let remote = SocketAddr::from(([192, 0, 2, number], 1000 + u16::from(number)));
        Endpoint::from(remote)
    };
    on_threads(4, |number| {
        for _ in 0..3_000 {
            peer.roam(place(number), false);
            peer.activity
                .received(Time::START + secs(1), Amount::one(number as u64), true);
            let endpoint = peer.endpoint().unwrap();
            assert!((0..4).any(|number| place(number) == endpoint));
        }
    });
    let IpAddr::V4(address) = peer.endpoint().unwrap().remote.ip() else {
        panic!("an address of another family");
    };
    assert!((1..=4).contains(&address.octets()[3]));
    assert_eq!(peer.rx_bytes(), 3_000 * (1 + 2 + 3));
}
