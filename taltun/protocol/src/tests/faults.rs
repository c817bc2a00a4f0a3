//! Hostile input and a hostile network: nothing panics, nothing leaks, and what can heal
//! heals (paper §5.3 and §6).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::batch::Opened;
use super::super::device::PeerSettings;
use super::super::messages::REKEY_ATTEMPT_TIME;
use super::pair::*;
use taltun_crypto::PresharedKey;

/// What no datagram may change that doesn't authenticate.
fn state(world: &World, node: usize) -> impl PartialEq + std::fmt::Debug + use<> {
    let peer = world.nodes[node].peer(1 - node);
    (
        peer.endpoint(),
        peer.current_session().map(|session| session.local_index()),
        peer.rx_bytes(),
        peer.handshakes(),
        world.nodes[node].indices.clone(),
        world.nodes[node].inbox.len(),
    )
}

/// §5.3: random bytes of any length, with the types and indices that get furthest.
#[test]
fn random_datagrams_change_nothing() {
    let mut world = World::connected();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let before = [state(&world, A), state(&world, B)];
    let elsewhere = "203.0.113.1:1".parse().unwrap();
    for round in 0..20_000_usize {
        let len = match round % 50 {
            0 => (rng.next_u32() % 65_536) as usize,
            1 => 148,
            2 => 92,
            3 => 64,
            _ => round % 300,
        };
        let mut datagram = vec![0; len];
        rng.fill_bytes(&mut datagram);
        let node = round % 2;
        if round % 5 != 0 && len >= 12 {
            let kind = 1 + rng.next_u32() % 4;
            datagram[..4].copy_from_slice(&kind.to_le_bytes());
            let index = world.nodes[node].session(1 - node).local_index();
            let at = if kind == 2 { 8 } else { 4 };
            datagram[at..at + 4].copy_from_slice(&index.to_le_bytes());
        }
        world.nodes[node].under_load = round % 3 == 0;
        assert!(world.inject(node, elsewhere, &datagram).is_err());
    }
    assert_eq!([state(&world, A), state(&world, B)], before);
    world.ping(A, B, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [1]);
}

/// §5.3: messages that were good once, with bits changed, bytes cut off or added.
#[test]
fn mutated_messages_change_nothing() {
    let mut world = World::connected();
    for id in 0..3 {
        world.ping(A, B, id).unwrap();
        world.ping(B, A, id).unwrap();
        world.run(millis(100));
    }
    // A cookie reply is among what is mutated as well.
    world.nodes[B].under_load = true;
    let (_, limited) = initiation(A, B, 1, WALL_CLOCK + secs(9));
    assert!(world.inject(B, outer(A), &limited).is_err());
    let genuine: Vec<_> = world.sent.iter().map(|sent| sent.payload.clone()).collect();
    let kinds: HashSet<u8> = genuine.iter().map(|message| message[0]).collect();
    assert_eq!(kinds.len(), 4);
    world.run(secs(1));

    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let before = [state(&world, A), state(&world, B)];
    let elsewhere = "203.0.113.1:1".parse().unwrap();
    for round in 0..20_000_usize {
        let mut message = genuine[rng.next_u32() as usize % genuine.len()].clone();
        match round % 4 {
            0 => message.truncate(rng.next_u32() as usize % message.len()),
            1 => message.resize(message.len() + round % 40, round as u8),
            _ => {
                for _ in 0..=round % 3 {
                    let at = rng.next_u32() as usize % message.len();
                    message[at] ^= 1 << (rng.next_u32() % 8);
                }
            }
        }
        let node = round % 2;
        world.nodes[node].under_load = round % 3 == 0;
        let _ = world.inject(node, elsewhere, &message);
    }
    assert_eq!([state(&world, A), state(&world, B)], before);
}

/// §2: whatever a peer seals, or an operating system sends, is handled without a panic.
#[test]
fn random_inner_packets_never_panic() {
    let mut world = World::hub();
    for spoke in [B, C] {
        let _ = world.ping(spoke, A, 0);
    }
    world.run(secs(1));
    let tunnel = std::sync::Arc::clone(world.nodes[A].device.tunnel());
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut relayed = 0;
    for round in 0..20_000_usize {
        let len = round % 130;
        let mut inner_packet = vec![0; len];
        rng.fill_bytes(&mut inner_packet);
        if round % 3 > 0 && len >= 40 {
            let good = if round % 2 == 0 {
                packet(inner(B), inner(C), 1, len)
            } else {
                packet(inner6(B), inner6(C), 1, len)
            };
            inner_packet[..40].copy_from_slice(&good[..40]);
            inner_packet[round % 12] ^= rng.next_u32() as u8 & 0x0f;
        }
        let mut buffer = vec![0; 16 + len + 32];
        buffer[16..16 + len].copy_from_slice(&inner_packet);
        let _ = tunnel.batch(world.now).seal(&mut buffer.clone(), len);

        let session = world.nodes[B].session(A);
        let counter = session.reserve(1).unwrap();
        session.seal(counter, &mut buffer[..16 + len + 16]);
        let index = receiver(&buffer).unwrap();
        let mut batch = tunnel.batch(world.now);
        let message = &mut buffer[..16 + len + 16];
        if let Ok(Opened::Relay(inner)) = batch.open(index, counter, message, outer(B).into()) {
            relayed += usize::from(batch.relay(&mut buffer, &inner).is_ok());
        }
    }
    assert!(relayed > 1000, "{relayed}");
}

/// What came of a run over a bad network.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    trace: Vec<Sent>,
    delivered: [Vec<u32>; 2],
}

/// Twenty minutes of data both ways over a network with 30 % loss, where a tenth comes
/// twice and datagrams overtake each other.
fn soak(seed: u64) -> Outcome {
    let mut world = World::pair_from_seed(seed);
    world.network = Network {
        latency: millis(20),
        jitter: millis(300),
        loss_percent: 30,
        duplication_percent: 10,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut last_heard = [world.now; 2];
    let mut id = 0;
    while world.now < at(secs(1200)) {
        for node in [A, B] {
            let heard = world.nodes[node].inbox.len();
            let _ = world.ping(1 - node, node, id);
            world.run(millis(rng.next_u64() % 100));
            if world.nodes[node].inbox.len() > heard {
                last_heard[node] = world.now;
            }
            let silence = world.now.since(last_heard[node]);
            assert!(
                silence < REKEY_ATTEMPT_TIME,
                "seed {seed}: silent for {silence:?}"
            );
        }
        id += 1;
    }
    let delivered = [A, B].map(|node| world.nodes[node].ids());
    for ids in &delivered {
        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "a packet was delivered twice");
        let share = ids.len() as f64 / f64::from(id);
        assert!(
            share > 0.6,
            "seed {seed}: only {share} arrived of 0.7 expected"
        );
    }
    for node in [A, B] {
        world.with(node, |device, _| device.remove_peer(&public_key(1 - node)));
        assert!(world.nodes[node].indices.is_empty());
    }
    Outcome {
        trace: world.sent,
        delivered,
    }
}

/// §6: over a bad network, packets arrive at most once, the tunnel is never out for longer
/// than a handshake is tried, and no session is retired that the other side still uses.
#[test]
fn a_bad_network_is_survived() {
    for seed in 0..8 {
        soak(seed);
    }
}

/// Nothing but time, input and seed decides what a device does.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let first = soak(99);
    assert!(first.trace.len() > 10_000);
    assert!(first == soak(99));
    assert!(first.trace[0] != soak(98).trace[0]);
}

/// Whatever operators and networks do in whatever order, a tunnel that may work again does.
#[test]
fn a_tunnel_heals_after_anything() {
    for seed in 0..60 {
        let mut world = World::pair_from_seed(seed);
        world.strict = false;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for step in 0..300 {
            let node = rng.next_u32() as usize % 2;
            let key = public_key(1 - node);
            match rng.next_u32() % 16 {
                0 => world.restart(node, seed * 1000 + step),
                1 => world.with(node, |device, _| device.set_endpoint(&key, None)),
                2 => world.with(node, |device, _| {
                    device.set_preshared_key(&key, PresharedKey([step as u8; 32]));
                }),
                3 => world.with(node, |device, now| {
                    let interval = secs(step % 30);
                    device.set_persistent_keepalive(&key, Some(interval), now);
                }),
                4 => world.nodes[node].under_load ^= true,
                5 => {
                    world.nodes[node].address.set_port(1000 + step as u16);
                }
                6 => {
                    world.sleep_through(secs(u64::from(rng.next_u32() % 700)));
                    world.wake_all();
                }
                7 => {
                    world.with(node, |device, _| device.remove_peer(&key));
                    assert!(world.nodes[node].indices.is_empty());
                    add_again(&mut world, node);
                }
                8 => world.network.loss_percent = u64::from(rng.next_u32() % 100),
                9 => world.with(node, |device, now| device.initiate(&key, now)),
                _ => {
                    let _ = world.ping(node, 1 - node, step as u32);
                }
            }
            world.run(millis(u64::from(rng.next_u32() % 8000)));
        }
        // Everything is set right again.
        world.network.loss_percent = 0;
        for node in [A, B] {
            world.nodes[node].address = outer(node);
            world.nodes[node].under_load = false;
        }
        for node in [A, B] {
            let key = public_key(1 - node);
            world.with(node, |device, now| {
                device.set_preshared_key(&key, PresharedKey::default());
                device.set_endpoint(&key, Some(outer(1 - node).into()));
                device.set_persistent_keepalive(&key, None, now);
            });
        }
        // The longest any of it may take: unanswered data, and a retry or two.
        for id in 0..30 {
            let _ = world.ping(A, B, 1_000_000 + id);
            let _ = world.ping(B, A, 1_000_000 + id);
            world.run(secs(1));
        }
        world.run(secs(1));
        for node in [A, B] {
            let arrived = world.nodes[node].ids();
            let last = arrived.contains(&1_000_029);
            assert!(last, "seed {seed}: node {node} hears nothing");
        }
        // And in the end all is forgotten.
        world.run(secs(700));
        for node in [A, B] {
            assert!(world.nodes[node].indices.is_empty(), "seed {seed}");
        }
    }
}

fn add_again(world: &mut World, node: usize) {
    let settings = PeerSettings {
        public_key: public_key(1 - node),
        preshared_key: PresharedKey::default(),
        endpoint: Some(world.nodes[1 - node].address.into()),
        allowed_ips: vec![inner(1 - node).into()],
        persistent_keepalive: None,
    };
    world.with(node, |device, now| device.add_peer(settings, now).unwrap());
}

/// §5.1: a peer that floods us with honest initiations costs a bounded number of indices,
/// and gets its answers.
#[test]
fn an_authentic_flood_of_initiations_is_bounded() {
    let mut world = World::pair();
    let mut most = 0;
    for n in 1..2000 {
        let (_, message) = initiation(A, B, n, WALL_CLOCK + millis(u64::from(n) * 20));
        let _ = world.inject(B, outer(A), &message);
        most = most.max(world.nodes[B].indices.len());
        world.run(millis(5));
    }
    assert!(most <= 5, "{most} indices");
    let answered = world.sent_by(B, RESPONSE).len();
    assert!((490..=500).contains(&answered), "{answered} in ten seconds");
}

/// Workers and controller are threads: whatever a worker asks for between any two steps of
/// the controller is done, and somebody is told to wake the controller for it.
#[test]
fn no_request_is_lost_between_threads() {
    const PACKETS: u32 = 20_000;
    const WORKERS: u32 = 3;
    let mut world = World::connected();
    let now = world.now;
    let tunnel = std::sync::Arc::clone(world.nodes[A].device.tunnel());
    let peer = std::sync::Arc::clone(world.nodes[A].peer(B));
    let sent = AtomicU32::new(0);
    let staged = AtomicU32::new(0);
    let (wake, woken) = mpsc::channel();
    std::thread::scope(|threads| {
        for _ in 0..WORKERS {
            let (tunnel, peer, wake) = (&tunnel, &peer, wake.clone());
            let (sent, staged) = (&sent, &staged);
            threads.spawn(move || {
                for id in 0..PACKETS {
                    // Never more than fit into the queue, so that each must come out.
                    while staged.load(SeqCst).saturating_sub(sent.load(SeqCst)) > 100 {
                        std::thread::yield_now();
                    }
                    staged.fetch_add(1, SeqCst);
                    tunnel.stage_for_test(peer, &packet(inner(A), inner(B), id, 84));
                    if tunnel.take_wake() {
                        wake.send(()).unwrap();
                    }
                }
            });
        }
        drop(wake);
        let device = &mut world.nodes[A].device;
        while sent.load(SeqCst) < PACKETS * WORKERS {
            woken
                .recv_timeout(secs(10))
                .expect("packets wait and nobody wakes the controller");
            device.handle_requests(now);
            while device.poll_transmit().is_some() {
                sent.fetch_add(1, SeqCst);
            }
        }
    });
}
