//! The end: configurations agree and the network is kind again. Then everybody has to talk with everybody
//! soon, and once they are silent, all has to come to rest.

use std::time::Duration;

use crate::cast::{self, HUB, SPOKES, STRANGER};
use crate::mending::agree;
use crate::packet::{PORTS, Said};
use crate::world::World;

/// How long it takes at the most until everybody has talked with everybody. A session that only one side
/// has costs 15 s, and an attempt that is lost 5 s more.
const RECOVERY: Duration = Duration::from_secs(60);
/// From one attempt of people to the next.
const AGAIN: Duration = Duration::from_secs(1);
/// After so many stretches of silence nothing is left. What timers send still arrives: two that answer
/// each other for ever are no rest.
const SILENCE: (u32, Duration) = (1200, Duration::from_secs(1));
/// Wake-ups of one of them from then until it rests.
const LAST_WAKES: u64 = 400;

/// Brings a world to its end.
pub(crate) fn end(world: &mut World) {
    agree(world);
    recover(world);
    rest(world);
}

/// Everybody talks until everybody was heard by everybody.
fn recover(world: &mut World) {
    let everybody = || (HUB..SPOKES.end).filter(|who| *who != STRANGER);
    let mut silent: Vec<(usize, usize, Vec<u32>)> = everybody()
        .flat_map(|from| everybody().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| (from, to, Vec::new()))
        .collect();
    let begun = world.now;
    let mut next = begun;
    while !silent.is_empty() {
        let taken = Duration::from_nanos(world.now - begun);
        assert!(
            taken <= RECOVERY,
            "not heard after {taken:?}:\n{}",
            silent
                .iter()
                .map(|(from, to, _)| told(world, *from, *to))
                .collect::<String>()
        );
        if world.now >= next {
            next = world.now + AGAIN.as_nanos() as u64;
            for (from, to, sent) in &mut silent {
                let number = world.ledger.next();
                sent.push(number);
                let v6 = number & 1 == 1;
                let said = Said {
                    source: cast::inner(*from, v6),
                    destination: cast::inner(*to, v6),
                    ports: [1024 + (number % 60_000) as u16, PORTS[0]],
                    number,
                };
                world.talk(*from, said, 0);
            }
        }
        world.flow();
        let ledger = &world.ledger;
        silent.retain(|(.., sent)| !sent.iter().any(|number| ledger.is_delivered(*number)));
    }
    let taken = Duration::from_nanos(world.now - begun);
    world.tally.longest_recovery_ms = taken.as_millis() as u64;
}

/// What one knows of another one: a hint why they don't talk.
fn told(world: &World, from: usize, to: usize) -> String {
    let node = &world.nodes[from];
    let key = node.key_of(to);
    let Some(peer) = key.and_then(|key| node.device.peer(&key)) else {
        return format!("{from} to {to}, by way of the hub\n");
    };
    let now = node.clock(world.now);
    format!(
        "{from} to {to}: at {:?}, psk {:?}, heard {:?} ago, last handshake {:?} ago, places {:?}, paths {:?}\n",
        peer.endpoint().map(|endpoint| endpoint.remote),
        node.disk.peers.get(&to).map(|known| known.psk),
        peer.last_heard().map(|at| now.since(at)),
        peer.last_handshake().map(|at| now.since(at)),
        node.device.places(peer.public_key()),
        node.device.paths(peer, now),
    )
}

/// Nobody says anything any more.
fn rest(world: &mut World) {
    let before: Vec<_> = world.nodes.iter().map(|node| node.wakes).collect();
    for _ in 0..SILENCE.0 {
        world.pass(SILENCE.1);
        world.deliver_all();
    }
    for (node, before) in world.nodes.iter().zip(before) {
        let who = node.who;
        assert!(node.indices.is_empty(), "{who} has sessions without end");
        assert_eq!(node.device.poll_timeout(), None, "{who} wakes for nothing");
        let wakes = node.wakes - before;
        assert!(
            wakes <= LAST_WAKES,
            "{who} woke {wakes} times until it rested"
        );
    }
}
