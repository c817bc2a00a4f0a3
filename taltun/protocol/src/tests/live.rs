//! What changes while a device runs: keys, peers, and who owns which inner addresses.

use super::super::device::{PeerSettings, RouteEdit};
use super::pair::*;
use taltun_crypto::{PresharedKey, PrivateKey};

/// A new key of ours ends all sessions, and the next packet goes out under the new one at
/// once, however young the last handshake is.
#[test]
fn a_new_private_key_starts_over_at_once() {
    let mut world = World::connected();
    let new = PrivateKey::from_bytes([77; 32]);
    let public = new.public_key();
    world.with(A, |device, now| device.set_private_key(Some(new), now));
    // Nobody has shown yet that it knows the new one.
    let peer = world.nodes[A].peer(B);
    assert_eq!((peer.last_handshake(), peer.last_heard()), (None, None));
    world.with(B, |device, now| {
        assert!(device.remove_peer(&public_key(A)));
        let peer = PeerSettings {
            public_key: public,
            preshared_key: PresharedKey::default(),
            endpoint: None,
            allowed_ips: vec![inner(A).into()],
            persistent_keepalive: None,
        };
        device.add_peer(peer, now).unwrap();
    });
    world.ping(A, B, 5).unwrap_err();
    world.run(secs(1));
    assert!(world.nodes[B].ids().contains(&5));
    assert!(world.nodes[A].peer(B).last_handshake().is_some());
}

/// A device without a key neither starts a handshake nor answers one, and one with the key
/// of a peer has no such peer.
#[test]
fn a_device_without_a_key_is_silent() {
    let mut world = World::pair();
    world.with(A, |device, now| device.set_private_key(None, now));
    world.with(A, |device, now| device.initiate(&public_key(B), now));
    world.with(B, |device, now| device.initiate(&public_key(A), now));
    world.run(secs(20));
    assert!(world.sent_by(A, INITIATION).is_empty());
    assert!(world.sent_by(A, RESPONSE).is_empty());
    assert!(world.sent_by(B, INITIATION).len() > 1);
    world.with(A, |device, now| {
        assert!(device.private_key().is_none());
        device.set_private_key(Some(private_key(B)), now);
        assert!(device.peer(&public_key(B)).is_none());
    });
}

/// §6.4: after 90 s without an answer, what waited is handed back, so that its sender can
/// be told.
#[test]
fn packets_that_waited_in_vain_are_handed_back() {
    let mut world = World::pair();
    world.lose = |_| true;
    let waiting = packet(inner(A), inner(B), 9, 100);
    world.send(A, &waiting).unwrap_err();
    world.run(secs(60));
    world.with(A, |device, _| assert_eq!(device.poll_given_up(), None));
    world.run(secs(60));
    world.with(A, |device, _| {
        assert_eq!(device.poll_given_up(), Some(waiting));
        assert_eq!(device.poll_given_up(), None);
    });
}

/// Edits happen in order, also where clearing was brought forward.
#[test]
fn edits_of_allowed_ips_happen_in_order() {
    let mut world = World::hub();
    world.with(A, |device, _| {
        let peers: Vec<_> = device.peers().cloned().collect();
        let (a, b) = (&peers[0], &peers[1]);
        let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
        device.edit_routes(&[
            RouteEdit::Clear(a.id()),
            RouteEdit::Clear(b.id()),
            RouteEdit::Add(a.clone(), net("10.1.0.0/16")),
            RouteEdit::Add(a.clone(), net("10.2.3.4/16")),
            RouteEdit::Add(b.clone(), net("10.3.0.0/16")),
            // Taken by another, taken away, and not one's own to take away.
            RouteEdit::Add(b.clone(), net("10.1.0.0/16")),
            RouteEdit::Remove(b.id(), net("10.3.0.0/16")),
            RouteEdit::Remove(a.id(), net("10.1.0.0/16")),
        ]);
        let owned = device.allowed_ips();
        assert_eq!(owned[&a.id()], [net("10.2.0.0/16")]);
        assert_eq!(owned[&b.id()], [net("10.1.0.0/16")]);
        // Cleared a second time, after it was given something.
        device.edit_routes(&[
            RouteEdit::Add(a.clone(), net("10.9.0.0/16")),
            RouteEdit::Clear(a.id()),
            RouteEdit::Add(a.clone(), net("10.8.0.0/16")),
        ]);
        assert_eq!(device.allowed_ips()[&a.id()], [net("10.8.0.0/16")]);
    });
}
