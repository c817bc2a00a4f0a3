//! A batch in steps does what packets one by one do, to the byte and to the last counter,
//! however its cipher work is cut and in whatever order the parts are done.

use std::ops::Range;
#[cfg(test)]
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_common::drops::DropReason;

use super::super::batch::{NotSealed, Opened, Sealed};
use super::super::messages::{DATA_HEADER_LEN, Message, REJECT_AFTER_MESSAGES};
use super::super::peer::Endpoint;
use super::super::plan::{CipherPlan, CipherWork};
use super::pair::*;
use taltun_crypto::TAG_LEN;

/// Room around a packet of any length that is tested.
const OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;

/// What is done for one datagram that arrives, or one packet that leaves.
#[derive(Debug, PartialEq, Eq)]
struct Fate {
    opened: Option<Result<Opened, DropReason>>,
    sealed: Option<Result<Sealed, NotSealed>>,
    /// The opened packet or the sealed message.
    bytes: Vec<u8>,
}

/// A datagram or a packet in an arena.
struct Arrival {
    place: Range<usize>,
    from: Endpoint,
}

/// All that is known of the hub's peers: counters, replay windows, endpoints, requests; but not
/// which places a peer passed through within a batch. A message between two of a peer's that
/// isn't authentic parts them only where each is opened in its turn.
fn state(world: &World) -> String {
    let peers = [B, C].map(|spoke| world.nodes[A].peer(spoke));
    let asks = peers.each_ref().map(|peer| peer.forget_moves());
    let wakes = world.nodes[A].device.tunnel().take_wake();
    format!("{peers:#?} {}", wakes && asks.contains(&true))
}

fn connected_hub() -> World {
    let mut world = World::hub();
    for spoke in [B, C] {
        let _ = world.ping(spoke, A, 0);
    }
    world.run(secs(1));
    world
}

// ---- the way in ----------------------------------------------------------------------------

/// What a bad and a good world send to the hub in one batch: good packets for it and for the
/// other spoke, forged ones, repeated ones, keepalives, and more.
fn arrivals(world: &World, seed: u64, count: usize) -> (Vec<u8>, Vec<Arrival>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut arena = Vec::new();
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut counters = [0, 500, 700];
    for id in 0..count as u32 {
        let spoke = if rng.next_u32().is_multiple_of(3) {
            C
        } else {
            B
        };
        let other = B + C - spoke;
        let len = 64 + (rng.next_u32() % 1356) as usize;
        let mut inner_packet = match rng.next_u32() % 10 {
            0..=3 => packet(inner(spoke), inner(A), id, len),
            4 => packet(inner6(spoke), inner6(A), id, len),
            5..=6 => packet(inner(spoke), inner(other), id, len),
            7 => packet(inner6(spoke), inner6(other), id, len),
            8 => packet(inner(other), inner(A), id, len),
            _ => Vec::new(),
        };
        if rng.next_u32().is_multiple_of(20) && !inner_packet.is_empty() {
            // Neither version, or no hop left.
            let at = if id.is_multiple_of(2) { 0 } else { 8 };
            inner_packet[at] = 1;
        }
        let padded = inner_packet.len().next_multiple_of(16);
        let mut message = vec![0; OVERHEAD + padded];
        message[DATA_HEADER_LEN..DATA_HEADER_LEN + inner_packet.len()]
            .copy_from_slice(&inner_packet);
        counters[spoke] += u64::from(rng.next_u32() % 3);
        world.nodes[spoke]
            .session(A)
            .seal(counters[spoke], &mut message);
        match rng.next_u32() % 12 {
            0 => {
                let at = 4 + rng.next_u32() as usize % (message.len() - 4);
                message[at] ^= 0x20;
            }
            1 | 2 => {
                if let Some(earlier) = arrivals.last() {
                    message = arena[earlier.place.clone()].to_vec();
                }
            }
            _ => {}
        }
        // Some come from elsewhere, and some don't lie next to their neighbours.
        let mut remote = outer(spoke);
        if rng.next_u32().is_multiple_of(9) {
            remote.set_port(4000 + (id % 3) as u16);
        }
        if rng.next_u32().is_multiple_of(5) {
            arena.resize(arena.len() + 700, 0xee);
        }
        let start = arena.len();
        arena.extend(message);
        arrivals.push(Arrival {
            place: start..arena.len(),
            from: remote.into(),
        });
    }
    (arena, arrivals)
}

fn bytes_of(arena: &[u8], start: usize, fate: &Fate) -> Vec<u8> {
    match (&fate.sealed, &fate.opened) {
        (Some(Ok(sealed)), _) => arena[start..start + sealed.len].to_vec(),
        (None, Some(Ok(Opened::Local(inner)))) => {
            arena[start + DATA_HEADER_LEN..][..inner.len].to_vec()
        }
        _ => Vec::new(),
    }
}

fn open_alone(world: &World, mut arena: Vec<u8>, arrivals: &[Arrival]) -> Vec<Fate> {
    let mut batch = world.nodes[A].device.tunnel().batch(world.now);
    let mut fates = Vec::new();
    for Arrival { place, from } in arrivals {
        let datagram = &mut arena[place.clone()];
        let Ok(Message::Data { receiver, counter }) = Message::parse(datagram) else {
            panic!("only data is sent");
        };
        let opened = batch.open(receiver, counter, datagram, *from);
        let sealed = match &opened {
            Ok(Opened::Relay(inner)) => Some(batch.relay(datagram, inner)),
            _ => None,
        };
        let mut fate = Fate {
            opened: Some(opened),
            sealed,
            bytes: Vec::new(),
        };
        fate.bytes = bytes_of(&arena, place.start, &fate);
        fates.push(fate);
    }
    fates
}

fn open_in_steps(
    world: &World,
    mut arena: Vec<u8>,
    arrivals: &[Arrival],
    carry: &dyn Fn(CipherWork<'_>),
) -> Vec<Fate> {
    let mut batch = world.nodes[A].device.tunnel().batch(world.now);
    let (mut open, mut relay) = (CipherPlan::default(), CipherPlan::default());
    let mut fates: Vec<Fate> = Vec::new();
    for (origin, Arrival { place, .. }) in arrivals.iter().enumerate() {
        let Ok(Message::Data { receiver, counter }) = Message::parse(&arena[place.clone()]) else {
            panic!("only data is sent");
        };
        let planned = batch.plan_open(&mut open, receiver, counter, place.clone(), origin as u32);
        fates.push(Fate {
            opened: planned.err().map(Err),
            sealed: None,
            bytes: Vec::new(),
        });
    }
    carry(open.work(&mut arena));
    for planned in open.opened() {
        let at = planned.origin as usize;
        let opened = batch.accept(&planned, &arena, arrivals[at].from);
        if let Ok(Opened::Relay(inner)) = &opened {
            let sealed = batch.plan_relay(&mut relay, &mut arena, planned.place, inner);
            fates[at].sealed = Some(sealed);
        }
        fates[at].opened = Some(opened);
    }
    carry(relay.work(&mut arena));
    for (fate, arrival) in fates.iter_mut().zip(arrivals) {
        fate.bytes = bytes_of(&arena, arrival.place.start, fate);
    }
    fates
}

/// Sends a batch of everything through a hub, packet by packet, and through its twin, in
/// steps whose work `carry` does; panics where they differ.
pub fn the_way_in_is_the_same(seed: u64, count: usize, carry: &dyn Fn(CipherWork<'_>)) {
    the_way_in_is_the_same_of(seed, count, carry, |arena, datagrams| {
        (arena.to_vec(), datagrams)
    });
    // As frames of AF_XDP lie, which come off a ring in any order.
    the_way_in_is_the_same_of(seed, count, carry, scattered);
}

type Datagrams = (Vec<u8>, Vec<Arrival>);

/// The same datagrams, in another order in the arena than they come in.
fn scattered(arena: &[u8], datagrams: Vec<Arrival>) -> Datagrams {
    let mut elsewhere = Vec::new();
    let mut order: Vec<usize> = (0..datagrams.len()).collect();
    order.sort_by_key(|at| (at % 3, usize::MAX - at));
    let mut places = vec![0..0; datagrams.len()];
    for at in order {
        let start = elsewhere.len();
        elsewhere.extend(&arena[datagrams[at].place.clone()]);
        places[at] = start..elsewhere.len();
    }
    let moved = datagrams.into_iter().zip(places);
    let moved = moved.map(|(datagram, place)| Arrival { place, ..datagram });
    (elsewhere, moved.collect())
}

fn the_way_in_is_the_same_of(
    seed: u64,
    count: usize,
    carry: &dyn Fn(CipherWork<'_>),
    moved: fn(&[u8], Vec<Arrival>) -> Datagrams,
) {
    let (one, twin) = (connected_hub(), connected_hub());
    let (arena, datagrams) = arrivals(&one, seed, count);
    let alone = open_alone(&one, arena.clone(), &datagrams);
    let (arena, datagrams) = moved(&arena, datagrams);
    let in_steps = open_in_steps(&twin, arena, &datagrams, carry);
    for (at, (alone, in_steps)) in alone.iter().zip(&in_steps).enumerate() {
        assert_eq!(alone, in_steps, "datagram {at} of seed {seed}");
    }
    assert_eq!(state(&one), state(&twin), "seed {seed}");
}

// ---- the way out ---------------------------------------------------------------------------

/// Packets from the hub's TUN, each with room for what it becomes.
fn departures(seed: u64, count: usize) -> (Vec<u8>, Vec<(Range<usize>, usize)>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut arena = Vec::new();
    let mut packets = Vec::new();
    for id in 0..count as u32 {
        let len = 64 + (rng.next_u32() % 1356) as usize;
        let bytes = match rng.next_u32() % 8 {
            0..=3 => packet(inner(A), inner(B), id, len),
            4 => packet(inner6(A), inner6(B), id, len),
            5 | 6 => packet(inner(A), inner(C), id, len),
            _ => packet(inner(A), [10, 9, 9, 9].into(), id, len),
        };
        let room = match rng.next_u32() % 30 {
            // Too small for it, or for its padding.
            0 => len - 1,
            1 => len,
            _ => len.next_multiple_of(16),
        };
        let start = arena.len();
        arena.resize(start + OVERHEAD + room, 0xee);
        let len = len.min(room + TAG_LEN);
        arena[start + DATA_HEADER_LEN..][..len].copy_from_slice(&bytes[..len]);
        packets.push((start..arena.len(), len));
    }
    (arena, packets)
}

fn sealed_fates(
    arena: &[u8],
    starts: &[usize],
    sealed: Vec<Result<Sealed, NotSealed>>,
) -> Vec<Fate> {
    let fates = sealed.into_iter().zip(starts).map(|(sealed, start)| {
        let mut fate = Fate {
            opened: None,
            sealed: Some(sealed),
            bytes: Vec::new(),
        };
        fate.bytes = bytes_of(arena, *start, &fate);
        fate
    });
    fates.collect()
}

/// The same of what leaves, on sessions of which one has only so many counters `left`.
pub fn the_way_out_is_the_same(seed: u64, count: usize, left: u64, carry: &dyn Fn(CipherWork<'_>)) {
    let (one, twin) = (connected_hub(), connected_hub());
    for world in [&one, &twin] {
        let session = world.nodes[A].session(B);
        session.set_counter(REJECT_AFTER_MESSAGES - left);
    }
    let (arena, packets) = departures(seed, count);
    let starts: Vec<usize> = packets.iter().map(|(place, _)| place.start).collect();

    let mut alone = arena.clone();
    let mut batch = one.nodes[A].device.tunnel().batch(one.now);
    let fates = packets.iter().map(|(place, len)| {
        let buffer = &mut alone[place.clone()];
        batch.seal(buffer, *len)
    });
    let fates = fates.collect();
    drop(batch);
    let alone = sealed_fates(&alone, &starts, fates);

    let mut in_steps = arena;
    let mut plan = CipherPlan::default();
    let mut batch = twin.nodes[A].device.tunnel().batch(twin.now);
    let fates = packets
        .iter()
        .map(|(place, len)| batch.plan_seal(&mut plan, &in_steps, place.clone(), *len));
    let fates = fates.collect();
    drop(batch);
    carry(plan.work(&mut in_steps));
    let in_steps = sealed_fates(&in_steps, &starts, fates);

    for (at, (alone, in_steps)) in alone.iter().zip(&in_steps).enumerate() {
        assert_eq!(alone, in_steps, "packet {at} of seed {seed}");
    }
    assert_eq!(state(&one), state(&twin), "seed {seed}");
}

// ---- how work may be done ------------------------------------------------------------------

fn whole(work: CipherWork<'_>) {
    work.run();
}

/// The last part first, each a single message.
fn backwards(work: CipherWork<'_>) {
    match work.halves() {
        Ok((first, second)) => {
            backwards(second);
            backwards(first);
        }
        Err(single) => single.run(),
    }
}

/// Each part on a thread of its own.
fn on_threads(work: CipherWork<'_>) {
    if work.weight() < 8000 {
        return work.run();
    }
    match work.halves() {
        Ok((first, second)) => {
            std::thread::scope(|threads| {
                threads.spawn(|| on_threads(second));
                on_threads(first);
            });
        }
        Err(single) => single.run(),
    }
}

#[test]
fn a_batch_in_steps_arrives_as_packet_by_packet() {
    for seed in 0..40 {
        the_way_in_is_the_same(seed, 150, &whole);
        the_way_in_is_the_same(seed, 150, &backwards);
    }
    for seed in 40..50 {
        the_way_in_is_the_same(seed, 150, &on_threads);
    }
    for count in 0..4 {
        the_way_in_is_the_same(50, count, &backwards);
    }
}

#[test]
fn a_batch_in_steps_leaves_as_packet_by_packet() {
    for seed in 0..40 {
        the_way_out_is_the_same(seed, 150, 1 << 60, &whole);
        the_way_out_is_the_same(seed, 150, 1 << 60, &backwards);
    }
    for seed in 40..50 {
        the_way_out_is_the_same(seed, 150, 1 << 60, &on_threads);
    }
}

/// §6.1: a session that is used up in the middle of a batch seals no packet more in steps, and
/// what is left waits for the next session in its order.
#[test]
fn a_session_used_up_within_a_batch_ends_at_the_same_packet() {
    for left in [0, 1, 37] {
        the_way_out_is_the_same(7, 150, left, &backwards);
    }
}

/// What arrives twice in one batch is authentic twice, and counts once.
#[test]
fn a_duplicate_within_a_batch_counts_once() {
    let world = connected_hub();
    let (arena, datagrams) = {
        let mut message = vec![0; OVERHEAD + 96];
        message[16..100].copy_from_slice(&packet(inner(B), inner(A), 1, 84));
        world.nodes[B].session(A).seal(50, &mut message);
        let len = message.len();
        let arrivals = (0..64).map(|n| Arrival {
            place: n * len..(n + 1) * len,
            from: outer(B).into(),
        });
        (message.repeat(64), arrivals.collect::<Vec<_>>())
    };
    let fates = open_in_steps(&world, arena, &datagrams, &on_threads);
    assert!(matches!(fates[0].opened, Some(Ok(Opened::Local(_)))));
    for fate in &fates[1..] {
        assert_eq!(fate.opened, Some(Err(DropReason::Replay)));
    }
}

/// A peer that is removed while a batch is under way has to wait for it: all of it is opened
/// as if nothing happened, and nothing after it.
#[test]
fn a_session_may_die_between_the_steps() {
    let mut world = connected_hub();
    let (mut arena, datagrams) = arrivals(&world, 3, 60);
    let expected = open_alone(&connected_hub(), arena.clone(), &datagrams);
    let tunnel = Arc::clone(world.nodes[A].device.tunnel());
    let now = world.now;
    let index = world.nodes[A].session(B).local_index();
    let mut plan = CipherPlan::default();
    let mut batch = tunnel.batch(now);
    for (origin, Arrival { place, .. }) in datagrams.iter().enumerate() {
        let Ok(Message::Data { receiver, counter }) = Message::parse(&arena[place.clone()]) else {
            panic!("only data is sent");
        };
        let _ = batch.plan_open(&mut plan, receiver, counter, place.clone(), origin as u32);
    }
    std::thread::scope(|threads| {
        let device = &mut world.nodes[A].device;
        let removal = threads.spawn(|| device.remove_peer(&public_key(B)));
        std::thread::sleep(millis(20));
        plan.work(&mut arena).run();
        for planned in plan.opened() {
            let at = planned.origin as usize;
            let opened = batch.accept(&planned, &arena, datagrams[at].from);
            assert_eq!(Some(opened), expected[at].opened, "datagram {at}");
        }
        drop(batch);
        assert!(removal.join().unwrap());
    });
    plan.clear();
    let planned = tunnel
        .batch(now)
        .plan_open(&mut plan, index, 1000, 0..32, 0);
    assert_eq!(planned, Err(DropReason::UnknownIndex));
}

/// On the way out nothing holds the peer while its packets are sealed.
#[test]
fn a_planned_packet_is_sealed_though_its_peer_is_gone() {
    let mut world = connected_hub();
    let session = world.nodes[A].session(B);
    let mut arena = vec![0xee; OVERHEAD + 96];
    arena[16..100].copy_from_slice(&packet(inner(A), inner(B), 1, 84));
    let mut plan = CipherPlan::default();
    let place = 0..arena.len();
    let tunnel = Arc::clone(world.nodes[A].device.tunnel());
    let sealed = tunnel
        .batch(world.now)
        .plan_seal(&mut plan, &arena, place, 84);
    assert!(sealed.is_ok());
    world.with(A, |device, _| assert!(device.remove_peer(&public_key(B))));
    plan.work(&mut arena).run();
    let counter = u64::from_le_bytes(arena[8..16].try_into().unwrap());
    assert_eq!(session.reserve(1), Some(counter + 1));
    let opened = world.nodes[B].session(A).open(counter, &mut arena).unwrap();
    assert_eq!(id_of(&opened[..84]), 1);
}

#[test]
fn halves_weigh_about_the_same_and_lose_nothing() {
    let world = connected_hub();
    let (mut arena, packets) = departures(11, 120);
    let mut plan = CipherPlan::default();
    let mut batch = world.nodes[A].device.tunnel().batch(world.now);
    for (place, len) in packets {
        let _ = batch.plan_seal(&mut plan, &arena, place, len);
    }
    let work = plan.work(&mut arena);
    let whole = work.weight();
    let (first, second) = work.halves().unwrap();
    assert_eq!(first.weight() + second.weight(), whole);
    assert!(first.weight().abs_diff(second.weight()) < 4000);

    plan.clear();
    let nothing = plan.work(&mut arena);
    assert_eq!(nothing.weight(), 0);
    nothing.halves().unwrap_err().run();
}
