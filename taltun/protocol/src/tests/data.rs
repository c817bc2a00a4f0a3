//! Data messages: form, size, counters, what is believed of their content (paper §5.4.6).

use taltun_common::drops::DropReason;

use super::super::batch::{NotSealed, Opened};
use super::super::device::PeerSettings;
use super::super::messages::DATA_HEADER_LEN;
use super::pair::*;
use taltun_crypto::PresharedKey;

/// Seals `packet` from [`A`] to [`B`] as it is, whatever it is, and returns the datagram.
fn sealed_raw(world: &mut World, packet: &[u8]) -> Vec<u8> {
    let session = world.nodes[A].session(B);
    let counter = session.reserve(1).unwrap();
    let mut message = vec![0; DATA_HEADER_LEN + packet.len() + 16];
    message[16..16 + packet.len()].copy_from_slice(packet);
    session.seal(counter, &mut message);
    message
}

/// §5.4.6: 16 bytes of header, 16 of tag, padding to the next 16, never past the MTU.
#[test]
fn data_messages_have_32_bytes_of_overhead_after_padding() {
    let mut world = World::connected();
    for (len, wire) in [
        (24, 64),
        (48, 80),
        (49, 96),
        (84, 128),
        (1408, 1440),
        (1409, 1452),
        (1420, 1452),
    ] {
        world.send(A, &packet(inner(A), inner(B), 1, len)).unwrap();
        assert_eq!(world.last_sent(A).payload.len(), wire, "packet of {len}");
    }
    world.run(secs(1));
    let lens: Vec<_> = world.nodes[B].inbox.iter().map(Vec::len).collect();
    assert_eq!(lens, [24, 48, 49, 84, 1408, 1409, 1420]);
}

/// §5.4.6: padding is zeros, whatever was in the buffer before.
#[test]
fn padding_is_zeros() {
    let mut world = World::connected();
    world.send(A, &packet(inner(A), inner(B), 1, 49)).unwrap();
    let mut message = world.last_sent(A).payload.clone();
    let session = world.nodes[B].session(A);
    let counter = u64::from_le_bytes(message[8..16].try_into().unwrap());
    let opened = session.open(counter, &mut message).unwrap();
    assert_eq!(opened.len(), 64);
    assert_eq!(opened[49..], [0; 15]);
}

/// §5.4.6: a keepalive is a data message around nothing, 32 bytes.
#[test]
fn a_keepalive_is_32_bytes() {
    let mut world = World::pair();
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.run(secs(1));
    let keepalive = world.last_sent(A);
    assert_eq!(keepalive.payload.len(), 32);
    assert_eq!(keepalive.payload[..4], [4, 0, 0, 0]);
    assert_eq!(keepalive.payload[8..16], [0; 8], "counters start at zero");
}

/// §5.4.6: the length in the packet's own header tells where padding begins.
#[test]
fn decrypted_packets_are_truncated_to_their_ip_length_field() {
    let mut world = World::connected();
    for (mut bytes, len) in [
        (packet(inner(A), inner(B), 9, 60), 60),
        (packet(inner6(A), inner6(B), 9, 60), 60),
    ] {
        bytes.resize(1000, 0xaa);
        let message = sealed_raw(&mut world, &bytes);
        assert_eq!(world.inject(B, outer(A), &message), Ok(()));
        assert_eq!(world.nodes[B].inbox.pop().unwrap().len(), len);
    }
}

/// §5.4.6: what is sealed and isn't IP, or lies about its length, is dropped by name; the
/// message still counts as authentic.
#[test]
fn garbage_inside_a_good_message_is_dropped() {
    let mut world = World::connected();
    let mut liar = packet(inner(A), inner(B), 1, 60);
    liar[3] = 61;
    for garbage in [
        vec![0; 16],
        vec![0xff; 100],
        vec![0x45; 19],
        vec![0x60; 39],
        liar,
    ] {
        let message = sealed_raw(&mut world, &garbage);
        let before = world.nodes[B].peer(A).rx_bytes();
        let outcome = world.inject(B, outer(A), &message);
        assert_eq!(outcome, Err(DropReason::InnerMalformed));
        let counted = world.nodes[B].peer(A).rx_bytes() - before;
        assert_eq!(counted, message.len() as u64);
    }
    assert!(world.nodes[B].inbox.is_empty());
}

/// §2: what a peer sends must come from its own addresses; it moves all the same.
#[test]
fn a_foreign_inner_source_is_dropped_but_the_endpoint_moves() {
    let mut world = World::connected();
    let elsewhere = "198.51.100.7:4711".parse().unwrap();
    let foreign = packet(inner(C), inner(B), 1, 84);
    let message = sealed_raw(&mut world, &foreign);
    let outcome = world.inject(B, elsewhere, &message);
    assert_eq!(outcome, Err(DropReason::InnerSource));
    assert!(world.nodes[B].inbox.is_empty());
    assert_eq!(world.nodes[B].peer(A).endpoint().unwrap().remote, elsewhere);
}

/// §2: the longest prefix owns an address, also when sources are checked.
#[test]
fn a_more_specific_prefix_of_another_peer_wins_in_the_source_check() {
    let mut world = World::connected();
    world.with(B, |device, now| {
        let wide = [
            "10.0.0.0/16".parse().unwrap(),
            "10.0.0.1/32".parse().unwrap(),
        ];
        device.set_allowed_ips(&public_key(A), &wide);
        let settings = PeerSettings {
            public_key: public_key(C),
            preshared_key: PresharedKey::default(),
            endpoint: None,
            allowed_ips: vec!["10.0.9.0/24".parse().unwrap()],
            persistent_keepalive: None,
        };
        device.add_peer(settings, now).unwrap();
    });
    let from = |world: &mut World, source: [u8; 4]| {
        let message = sealed_raw(world, &packet(source.into(), inner(B), 1, 84));
        world.inject(B, outer(A), &message)
    };
    assert_eq!(from(&mut world, [10, 0, 8, 1]), Ok(()));
    assert_eq!(
        from(&mut world, [10, 0, 9, 1]),
        Err(DropReason::InnerSource)
    );
    assert_eq!(
        from(&mut world, [10, 1, 0, 1]),
        Err(DropReason::InnerSource)
    );
    world.with(B, |device, _| device.remove_peer(&public_key(C)));
    assert_eq!(
        from(&mut world, [10, 0, 9, 1]),
        Ok(()),
        "until its owner is gone"
    );
}

/// §2: what nobody owns goes nowhere, and what has no place to go isn't kept.
#[test]
fn packets_without_a_peer_or_an_endpoint_are_dropped_by_name() {
    let mut world = World::pair();
    let nobody = packet(inner(A), [10, 200, 0, 1].into(), 1, 84);
    let no_peer = Err(NotSealed::Dropped(DropReason::NoPeer));
    assert_eq!(world.send(A, &nobody), no_peer);
    world.with(A, |device, _| device.set_endpoint(&public_key(B), None));
    let no_endpoint = Err(NotSealed::Dropped(DropReason::NoEndpoint));
    assert_eq!(world.ping(A, B, 1), no_endpoint);
    for garbage in [vec![], vec![0], vec![0x45; 19], vec![0xff; 1500]] {
        let malformed = Err(NotSealed::Dropped(DropReason::InnerMalformed));
        assert_eq!(world.send(A, &garbage), malformed);
    }
    assert!(world.sent.is_empty());
}

/// Padding is cut to the buffer, as for a relayed packet that came with less of it; a buffer
/// without room for packet and tag is refused, not overrun.
#[test]
fn a_buffer_that_is_too_small_is_refused() {
    let world = World::connected();
    let tunnel = std::sync::Arc::clone(world.nodes[A].device.tunnel());
    let bytes = packet(inner(A), inner(B), 1, 50);
    let mut buffer = vec![0; 16 + 50 + 15];
    buffer[16..66].copy_from_slice(&bytes);
    let mut batch = tunnel.batch(world.now);
    let oversized = Err(NotSealed::Dropped(DropReason::Oversized));
    assert_eq!(batch.seal(&mut buffer, 50), oversized);
    let malformed = Err(NotSealed::Dropped(DropReason::InnerMalformed));
    assert_eq!(batch.seal(&mut buffer[..60], 50), malformed);
    for (more, len) in [(1, 82), (13, 95), (1, 96), (1, 96)] {
        buffer.resize(buffer.len() + more, 0);
        buffer[16..66].copy_from_slice(&bytes);
        let sealed = batch.seal(&mut buffer, 50);
        assert_eq!(sealed.map(|sealed| sealed.len), Ok(len));
    }
}

/// §6 and the kernel's `netns.sh`: ten pings of 84 bytes, and every byte of handshake and
/// keepalive is counted.
#[test]
fn counters_count_as_the_kernel_does() {
    let mut world = World::pair();
    for id in 0..10 {
        let _ = world.ping(A, B, id);
        world.run(millis(100));
        world.ping(B, A, id).unwrap();
        world.run(millis(100));
    }
    world.run(secs(30));
    let at_a = world.nodes[A].peer(B);
    assert_eq!(at_a.rx_bytes(), 10 * 128 + 92);
    assert_eq!(at_a.tx_bytes(), 10 * 128 + 148 + 32);
    let at_b = world.nodes[B].peer(A);
    assert_eq!(at_b.rx_bytes(), at_a.tx_bytes());
    assert_eq!(at_b.tx_bytes(), at_a.rx_bytes());
}

/// A batch of packets of several peers counts for each peer what is its own.
#[test]
fn runs_of_several_peers_in_one_batch_do_not_mix() {
    let mut world = World::hub();
    for (n, spoke) in [B, C].into_iter().enumerate() {
        let _ = world.ping(spoke, A, n as u32);
    }
    world.run(secs(1));
    let tunnel = std::sync::Arc::clone(world.nodes[A].device.tunnel());
    let before: Vec<_> = [B, C]
        .iter()
        .map(|n| world.nodes[A].peer(*n).tx_bytes())
        .collect();
    {
        let mut batch = tunnel.batch(world.now);
        for n in 0..30 {
            let to = if n % 3 == 0 { B } else { C };
            let mut buffer = vec![0; 200];
            buffer[16..100].copy_from_slice(&packet(inner(A), inner(to), n, 84));
            let sealed = batch.seal(&mut buffer, 84).unwrap();
            assert_eq!(sealed.endpoint.remote, outer(to));
        }
    }
    let after: Vec<_> = [B, C]
        .iter()
        .map(|n| world.nodes[A].peer(*n).tx_bytes())
        .collect();
    assert_eq!(after[0] - before[0], 10 * 128);
    assert_eq!(after[1] - before[1], 20 * 128);
}

/// §5.4.6: each way a data message may be bad has its own name.
#[test]
fn each_bad_data_message_is_dropped_by_its_name() {
    let mut world = World::connected();
    world.ping(A, B, 1).unwrap();
    let good = world.last_sent(A).payload.clone();
    let before = world.nodes[B].peer(A).rx_bytes();

    let mut unknown = good.clone();
    unknown[4] ^= 1;
    assert_eq!(
        world.inject(B, outer(A), &unknown),
        Err(DropReason::UnknownIndex)
    );
    for at in 8..good.len() {
        let mut forged = good.clone();
        forged[at] ^= 0x10;
        let outcome = world.inject(B, outer(A), &forged);
        assert_eq!(outcome, Err(DropReason::Authentication), "byte {at}");
    }
    for len in 0..32 {
        let outcome = world.inject(B, outer(A), &good[..len]);
        assert_eq!(outcome, Err(DropReason::Shape), "length {len}");
    }
    for len in 32..good.len() {
        let outcome = world.inject(B, outer(A), &good[..len]);
        assert_eq!(outcome, Err(DropReason::Authentication), "length {len}");
    }
    assert_eq!(
        world.nodes[B].peer(A).rx_bytes(),
        before,
        "none of it counts"
    );
    assert_eq!(world.inject(B, outer(A), &good), Ok(()));
    assert_eq!(world.inject(B, outer(A), &good), Err(DropReason::Replay));
}

/// A forged message in the middle of a batch takes nothing from its neighbours.
#[test]
fn a_forged_message_does_not_disturb_its_run() {
    let mut world = World::connected();
    world.lose = |sent| sent.from == A;
    for id in 0..9 {
        world.ping(A, B, id).unwrap();
    }
    let messages: Vec<_> = world.sent_by(A, DATA)[1..]
        .iter()
        .map(|sent| sent.payload.clone())
        .collect();
    let tunnel = std::sync::Arc::clone(world.nodes[B].device.tunnel());
    let before = world.nodes[B].peer(A).rx_bytes();
    let mut opened = 0;
    {
        let mut batch = tunnel.batch(world.now);
        for (n, mut message) in messages.into_iter().enumerate() {
            if n % 3 == 1 {
                message[20] ^= 1;
            }
            let index = receiver(&message).unwrap();
            let counter = u64::from_le_bytes(message[8..16].try_into().unwrap());
            match batch.open(index, counter, &mut message, outer(A).into()) {
                Ok(Opened::Local(_)) => opened += 1,
                other => assert_eq!(other, Err(DropReason::Authentication)),
            }
        }
    }
    assert_eq!(opened, 6);
    assert_eq!(world.nodes[B].peer(A).rx_bytes() - before, 6 * 128);
}

/// Changing the allowed IPs of a peer takes effect with the next batch.
#[test]
fn allowed_ips_change_live() {
    let mut world = World::connected();
    let to = packet(inner(A), [172, 16, 0, 1].into(), 1, 84);
    assert!(world.send(A, &to).is_err());
    world.with(A, |device, _| {
        let nets = ["172.16.0.0/12".parse().unwrap()];
        device.set_allowed_ips(&public_key(B), &nets);
    });
    assert_eq!(world.send(A, &to), Ok(()));
    let no_peer = Err(NotSealed::Dropped(DropReason::NoPeer));
    assert_eq!(world.ping(A, B, 1), no_peer, "the old ones are gone");
}
