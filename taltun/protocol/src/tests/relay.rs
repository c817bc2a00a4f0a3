//! From one peer straight to another, in the same buffer (paper §2: both peers' allowed
//! IPs are checked).

use taltun_common::drops::DropReason;

use super::super::device::PeerSettings;
use super::super::messages::DATA_HEADER_LEN;
use super::pair::*;
use taltun_crypto::PresharedKey;

/// A hub with a session with each spoke.
fn connected_hub() -> World {
    let mut world = World::hub();
    for spoke in [B, C] {
        let _ = world.ping(spoke, A, 0);
    }
    world.run(secs(1));
    world.nodes[A].inbox.clear();
    world
}

/// A packet from one spoke to another doesn't touch the hub's TUN and is 32 bytes longer
/// than itself, padded, on both of its ways.
#[test]
fn a_packet_goes_from_spoke_to_spoke() {
    let mut world = connected_hub();
    world.ping(B, C, 7).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[C].ids(), [7]);
    assert!(world.nodes[A].inbox.is_empty());
    let relayed = world.last_sent(A);
    assert_eq!((relayed.to, relayed.payload.len()), (outer(C), 128));
    world.send(C, &packet(inner6(C), inner6(B), 8, 90)).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[B].ids(), [8]);
}

/// A hub is a hop: TTL and hop limit fall by one, and the checksum stays right.
#[test]
fn relaying_takes_one_hop() {
    let mut world = connected_hub();
    let mut v4 = packet(inner(B), inner(C), 1, 84);
    let sum: u32 = v4[..20]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    v4[10..12].copy_from_slice(&sum.to_be_bytes());
    world.send(B, &v4).unwrap();
    world.send(B, &packet(inner6(B), inner6(C), 2, 84)).unwrap();
    world.run(secs(1));
    let inbox = &world.nodes[C].inbox;
    assert_eq!(inbox[0][8], 63);
    assert_eq!(inbox[1][7], 63);
    let sum: u32 = inbox[0][..20]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

/// The last hop ends at the hub, so that no packet circles.
#[test]
fn a_packet_without_hops_left_is_dropped() {
    let mut world = connected_hub();
    let mut bytes = packet(inner(B), inner(C), 1, 84);
    bytes[8] = 1;
    world.send(B, &bytes).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::HopLimit]);
    assert!(world.nodes[C].inbox.is_empty());
}

/// What is for the hub itself is for its operating system.
#[test]
fn the_hubs_own_addresses_are_never_relayed() {
    let mut world = connected_hub();
    // A spoke that claims the hub's own address gets nothing of it.
    world.with(A, |device, _| {
        let nets = ["10.0.0.3/32", "10.0.0.1/32"].map(|net| net.parse().unwrap());
        device.set_allowed_ips(&public_key(C), &nets);
    });
    world.ping(B, A, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1]);
    assert!(world.nodes[C].inbox.is_empty());
}

/// Behind a default route is the operating system's choice, not a peer's network.
#[test]
fn nothing_is_relayed_by_a_default_route() {
    let mut world = connected_hub();
    world.with(A, |device, _| {
        let nets = ["10.0.0.3/32", "0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap());
        device.set_allowed_ips(&public_key(C), &nets);
    });
    world.with(B, |device, _| {
        let nets = ["0.0.0.0/0"].map(|net| net.parse().unwrap());
        device.set_allowed_ips(&public_key(A), &nets);
    });
    world
        .send(B, &packet(inner(B), [8, 8, 8, 8].into(), 1, 84))
        .unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1]);
    assert!(world.nodes[C].inbox.is_empty());
}

/// A packet is never sent back to the peer it came from.
#[test]
fn nothing_is_relayed_back_to_its_sender() {
    let mut world = connected_hub();
    world.with(A, |device, _| {
        let nets = ["10.0.0.2/32", "10.0.5.0/24"].map(|net| net.parse().unwrap());
        device.set_allowed_ips(&public_key(B), &nets);
    });
    world.with(B, |device, _| {
        let nets = ["10.0.0.0/16"].map(|net| net.parse().unwrap());
        device.set_allowed_ips(&public_key(A), &nets);
    });
    let start = world.now;
    world
        .send(B, &packet(inner(B), [10, 0, 5, 1].into(), 1, 84))
        .unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1], "the operating system decides");
    assert!(world.sent_since(A, start).is_empty());
}

/// Both peers' allowed IPs hold: a spoke can't send as another spoke.
#[test]
fn a_spoofed_source_is_not_relayed() {
    let mut world = connected_hub();
    let start = world.now;
    world
        .send(B, &packet([10, 0, 0, 99].into(), inner(C), 1, 84))
        .unwrap();
    world.send(B, &packet(inner(C), inner(C), 1, 84)).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::InnerSource; 2]);
    assert!(world.sent_since(A, start).is_empty());
}

/// Only where relaying is on; otherwise the operating system routes.
#[test]
fn without_relay_everything_goes_to_the_operating_system() {
    let mut world = World::pair();
    world.with(A, |device, now| {
        let settings = PeerSettings {
            public_key: public_key(C),
            preshared_key: PresharedKey::default(),
            endpoint: Some(outer(C).into()),
            allowed_ips: vec!["10.0.0.3/32".parse().unwrap()],
            persistent_keepalive: None,
        };
        device.add_peer(settings, now).unwrap();
    });
    world.with(B, |device, _| {
        device.set_allowed_ips(&public_key(A), &["10.0.0.0/24".parse().unwrap()]);
    });
    world.ping(B, C, 1).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.nodes[A].ids(), [1]);
    assert_eq!(world.nodes[A].inbox[0][8], 64, "and takes the hop");
}

/// The first packet to a spoke without a session waits for its handshake, as any other.
#[test]
fn a_relayed_packet_waits_for_the_handshake_it_causes() {
    let mut world = World::hub();
    let _ = world.ping(B, A, 0);
    world.run(secs(1));
    world.ping(B, C, 1).unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[C].ids(), [1]);
    assert_eq!(world.nodes[C].inbox[0][8], 63);
}

/// A relayed packet grows by at most its padding: with 32 bytes of overhead both ways it
/// fits the buffer that it came in.
#[test]
fn a_relayed_packet_fits_the_buffer_it_came_in() {
    let mut world = connected_hub();
    for len in 40..1420 {
        world.lose = |sent| sent.from == B;
        world.send(B, &packet(inner(B), inner(C), 1, len)).unwrap();
        let mut message = world.last_sent(B).payload.clone();
        let (index, before) = (receiver(&message).unwrap(), message.len());
        let counter = u64::from_le_bytes(message[8..16].try_into().unwrap());
        let tunnel = std::sync::Arc::clone(world.nodes[A].device.tunnel());
        let mut batch = tunnel.batch(world.now);
        let opened = batch.open(index, counter, &mut message, outer(B).into());
        let Ok(super::super::batch::Opened::Relay(inner)) = opened else {
            panic!("{opened:?}");
        };
        assert_eq!(inner.len, len);
        let sealed = batch.relay(&mut message, &inner).unwrap();
        assert_eq!(sealed.len, before);
        assert!(sealed.len >= DATA_HEADER_LEN + len + 16);
    }
}

/// Nobody speaks as the hub, or from an address that no host has, to other peers or to the
/// hub itself, even where its allowed IPs cover all there is.
#[test]
fn the_hubs_own_source_and_those_of_no_host_are_dropped() {
    let mut world = connected_hub();
    world.with(A, |device, _| {
        let nets = ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap());
        device.set_allowed_ips(&public_key(B), &nets);
    });
    for source in [
        "10.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "fd00::1",
        "::1",
        "::",
        "ff02::1",
        "::ffff:10.0.0.2",
        "fe80::1",
        "::10.0.0.2",
    ] {
        let source: std::net::IpAddr = source.parse().unwrap();
        let to = |node| {
            if source.is_ipv4() {
                inner(node)
            } else {
                inner6(node)
            }
        };
        for to in [to(A), to(C)] {
            world.nodes[A].drops.clear();
            world.send(B, &packet(source, to, 1, 84)).unwrap();
            world.run(secs(1));
            assert_eq!(
                world.nodes[A].drops,
                [DropReason::InnerSource],
                "{source} to {to}"
            );
        }
    }
    assert!(world.nodes[A].inbox.is_empty());
    assert!(world.nodes[C].inbox.is_empty());
    // Any other source behind the default route is its own.
    let (start, drops) = (world.now, world.nodes[A].drops.len());
    world
        .send(B, &packet([8, 8, 8, 8].into(), inner(C), 2, 84))
        .unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops.len(), drops);
    assert_eq!(world.sent_since(A, start)[0].to, outer(C));
    // So is one of its link, by a prefix of its own.
    world.with(A, |device, _| {
        device.set_allowed_ips(&public_key(B), &["fe80::2/128".parse().unwrap()]);
    });
    for (source, accepted) in [("fe80::2", true), ("fe80::1", false)] {
        let before = world.nodes[A].drops.len();
        let source: std::net::IpAddr = source.parse().unwrap();
        world.send(B, &packet(source, inner6(A), 3, 84)).unwrap();
        world.run(secs(1));
        assert_eq!(world.nodes[A].drops.len() == before, accepted, "{source}");
    }
}

/// What waits for a peer that is away is no larger than what could leave, however large
/// what a peer sends.
#[test]
fn nothing_above_the_mtu_waits_for_a_peer() {
    let mut world = World::hub();
    let _ = world.ping(B, A, 0);
    world.run(secs(1));
    world.lose = |sent| sent.to == outer(C);
    for len in [1420, 1421, 65_000] {
        world.send(B, &packet(inner(B), inner(C), 1, len)).unwrap();
        world.run(secs(1));
    }
    assert_eq!(world.nodes[A].drops, [DropReason::Oversized; 2]);
    let staged = world.nodes[A].peer(C).take_staged();
    let lens: Vec<usize> = staged.iter().map(Vec::len).collect();
    assert_eq!(lens, [1420]);
}

/// What the host has on another interface isn't a peer's that owns a wider network; a peer's
/// narrower one is.
#[test]
fn the_hosts_own_narrower_networks_are_not_relayed() {
    let mut world = connected_hub();
    world.with(A, |device, _| {
        let nets = ["10.0.0.3/32", "192.168.0.0/16", "172.16.5.0/24"];
        device.set_allowed_ips(&public_key(C), &nets.map(|net| net.parse().unwrap()));
        let own = ["192.168.77.1"].map(|own| own.parse().unwrap());
        let nets = ["192.168.77.0/24", "192.168.77.1/32", "172.16.0.0/12"];
        device.set_foreign(&own, &nets.map(|net| net.parse().unwrap()));
    });
    world.with(B, |device, _| {
        device.set_allowed_ips(&public_key(A), &["0.0.0.0/0".parse().unwrap()]);
    });
    for (id, to, local) in [
        (1, [192, 168, 77, 5], true),
        (2, [192, 168, 77, 1], true),
        (3, [192, 168, 78, 5], false),
        (4, [172, 16, 5, 9], false),
    ] {
        world.send(B, &packet(inner(B), to.into(), id, 84)).unwrap();
        let start = world.now;
        world.run(secs(1));
        assert_eq!(world.nodes[A].ids().contains(&id), local, "{to:?}");
        let relayed = world.sent_since(A, start).iter().any(|s| s.to == outer(C));
        assert_eq!(relayed, !local, "{to:?}");
    }
    // Nobody speaks as the host from there, either.
    world.with(A, |device, _| {
        device.set_allowed_ips(&public_key(B), &["192.168.0.0/16".parse().unwrap()]);
    });
    world.nodes[A].drops.clear();
    world
        .send(B, &packet([192, 168, 77, 1].into(), inner(C), 5, 84))
        .unwrap();
    world.run(secs(1));
    assert_eq!(world.nodes[A].drops, [DropReason::InnerSource]);
}

/// Without relay all goes to the operating system, and with it again it doesn't.
#[test]
fn relaying_can_be_left_to_the_operating_system() {
    let mut world = connected_hub();
    for (id, relay) in [(1, false), (2, true)] {
        world.with(A, |device, _| device.set_relay(relay));
        world.ping(B, C, id).unwrap();
        world.run(secs(1));
        assert_eq!(world.nodes[A].ids().contains(&id), !relay);
        assert_eq!(world.nodes[C].ids().contains(&id), relay);
    }
}
