//! Packets that have to wait for their turn.

use std::sync::Arc;

use super::super::batch::{NotSealed, Opened};
use super::super::messages::DATA_HEADER_LEN;
use super::super::peer::Handling;
use super::super::plan::CipherPlan;
use super::pair::*;

const HOLD_DOWN: Handling = Handling {
    hold_up: false,
    hold_down: true,
    copy_dscp: false,
};

fn handle(world: &World, peer: usize, handling: Handling) -> super::super::peer::PeerId {
    let device = &world.nodes[A].device;
    let peer = device.peer(&public_key(peer)).unwrap();
    peer.set_handling(handling);
    assert_eq!(peer.handling(), handling);
    peer.id()
}

fn hub() -> World {
    let mut world = World::hub();
    for spoke in [B, C] {
        let _ = world.ping(spoke, A, 0);
    }
    world.run(secs(1));
    world
}

/// What goes to one peer waits, and what goes to another doesn't; released, it is sealed as it
/// would have been.
#[test]
fn what_is_held_is_sealed_once_it_is_released() {
    let world = hub();
    let id = handle(&world, B, HOLD_DOWN);
    let tunnel = Arc::clone(world.nodes[A].device.tunnel());
    let mut batch = tunnel.batch(world.now);
    let held = NotSealed::Held {
        peer: id,
        hop_limit: None,
    };
    let mut plan = CipherPlan::with_capacity(1);
    for _ in 0..2 {
        let mut buffer = vec![0; 256];
        let packet = packet(inner(A), inner(B), 1, 84);
        buffer[DATA_HEADER_LEN..][..84].copy_from_slice(&packet);
        let before = buffer.clone();
        assert_eq!(batch.seal(&mut buffer, 84), Err(held));
        let planned = batch.plan_seal(&mut plan, &buffer, 0..256, 84);
        assert_eq!(planned, Err(held));
        assert_eq!(buffer, before);
        let sealed = batch.release(&mut buffer, 84, Some(9)).unwrap();
        assert_eq!(
            (sealed.endpoint.remote, sealed.hop_limit),
            (outer(B), Some(9))
        );
        assert_ne!(buffer, before);
        let other = super::pair::packet(inner(A), inner(C), 1, 84);
        buffer[DATA_HEADER_LEN..][..84].copy_from_slice(&other);
        assert!(batch.seal(&mut buffer, 84).is_ok());
    }
}

/// A relayed packet has lost its hop already, and loses none when it is released.
#[test]
fn what_is_relayed_waits_for_its_receivers_turn() {
    let mut world = hub();
    let id = handle(&world, C, HOLD_DOWN);
    world.ping(B, C, 7).unwrap();
    world.ping(C, B, 8).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].held, [id]);
    assert_eq!(world.nodes[C].ids(), [7]);
    assert_eq!(world.nodes[B].ids(), [8]);
    assert_eq!(world.nodes[C].inbox[0][8], 63);
}

#[test]
fn a_sender_is_held_for_what_comes_from_it_alone() {
    let mut world = hub();
    let hold_up = Handling {
        hold_up: true,
        ..Handling::default()
    };
    let id = handle(&world, B, hold_up);
    for (sender, held) in [(B, Some(id)), (C, None)] {
        world.ping(sender, A, 3).unwrap();
        let payload = world.last_sent(sender).payload.clone();
        let tunnel = Arc::clone(world.nodes[A].device.tunnel());
        let mut batch = tunnel.batch(world.now);
        assert_eq!(batch.held_sender(), None);
        let counter = u64::from_le_bytes(payload[8..16].try_into().unwrap());
        let mut buffer = payload.clone();
        let opened = batch.open(
            receiver(&payload).unwrap(),
            counter,
            &mut buffer,
            outer(sender).into(),
        );
        assert!(matches!(opened, Ok(Opened::Local(_))), "{opened:?}");
        assert_eq!(batch.held_sender(), held);
    }
}

#[test]
fn the_dscp_of_a_packet_is_copied_for_the_peers_that_want_it() {
    let world = hub();
    let copy_dscp = Handling {
        copy_dscp: true,
        ..Handling::default()
    };
    handle(&world, B, copy_dscp);
    let tunnel = Arc::clone(world.nodes[A].device.tunnel());
    let mut batch = tunnel.batch(world.now);
    for (to, class) in [(B, 0xba), (C, 2), (B, 0xba)] {
        let mut buffer = vec![0; 256];
        let packet = packet(inner(A), inner(to), 1, 84);
        buffer[DATA_HEADER_LEN..][..84].copy_from_slice(&packet);
        buffer[DATA_HEADER_LEN + 1] = 0xbb;
        assert_eq!(batch.seal(&mut buffer, 84).unwrap().class, class);
    }
}
