//! Configurations that agree again: what people do after they have set something wrong.

use crate::cast::{self, HUB, SPOKES, STRANGER};
use crate::node::Known;
use crate::world::World;

/// People have put right what they had set wrong.
pub(crate) fn agree(world: &mut World) {
    let now = world.now;
    world.network.open();
    for node in &mut world.nodes {
        node.under_load = false;
        node.correct_wall_clock(now);
        node.tell_time(now);
    }
    for spoke in SPOKES {
        know(world, spoke);
    }
    world.nodes[HUB].device.set_initiations_per_second(None);
    world.rules.change(0);
    for spoke in SPOKES {
        learn(world, HUB, spoke);
        learn(world, spoke, HUB);
        let hub = &mut world.nodes[HUB];
        hub.set_nets(spoke, cast::own_nets(spoke));
        hub.set_refused(spoke, false, now);
        let psk = hub.disk.peers.get(&spoke).map_or(0, |known| known.psk);
        world.nodes[spoke].set_psk(HUB, psk);
        for (who, peer) in [(spoke, HUB), (HUB, spoke)] {
            let node = &mut world.nodes[who];
            let key = node.key_of(peer).expect("they know each other");
            let at = node.clock(now);
            node.device.set_persistent_keepalive(&key, None, at);
        }
    }
    let stranger = &mut world.nodes[STRANGER];
    let key = stranger.key_of(HUB).expect("it knows the hub");
    let at = stranger.clock(now);
    stranger.device.set_persistent_keepalive(&key, None, at);
    for who in 0..world.nodes.len() {
        world.settle(who);
    }
}

/// One learns which key its peer has, as by a change of its configuration.
pub(crate) fn learn(world: &mut World, who: usize, peer: usize) {
    let now = world.now;
    let generation = world.nodes[peer].disk.generation;
    let node = &mut world.nodes[who];
    let known = node.disk.peers.get(&peer);
    if known.is_some_and(|known| known.generation != generation)
        && let Some(mut known) = node.remove(peer)
    {
        known.generation = generation;
        node.add(peer, known, now);
    }
}

/// The hub knows a spoke again, as that is by now.
pub(crate) fn know(world: &mut World, spoke: usize) {
    let now = world.now;
    let theirs = &world.nodes[spoke].disk;
    let psk = theirs.peers.get(&HUB).map_or(0, |known| known.psk);
    let known = Known {
        generation: theirs.generation,
        psk,
        nets: cast::own_nets(spoke),
    };
    if !world.nodes[HUB].disk.peers.contains_key(&spoke) {
        world.nodes[HUB].add(spoke, known, now);
    }
}
