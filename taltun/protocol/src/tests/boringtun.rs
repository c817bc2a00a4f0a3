//! The whole protocol against an independent implementation: boringtun's `Tunn`.
//!
//! [`A`] is ours, [`B`] is boringtun with B's keys. boringtun reads the real clock, which
//! doesn't matter here: what is compared is bytes, not timers.

use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use super::pair::*;
use taltun_crypto::PresharedKey;

/// Our device and boringtun's tunnel, joined by a network without delay.
struct Mixed {
    world: World,
    tunn: Tunn,
    /// Packets that boringtun would write to its TUN.
    inbox: Vec<Vec<u8>>,
    /// How much of what ours sent was handed to boringtun.
    handed: usize,
    /// What boringtun sent.
    theirs: Vec<Vec<u8>>,
}

fn boringtun_public(node: usize) -> x25519::PublicKey {
    public_key(node).0.into()
}

impl Mixed {
    fn new(psk: Option<[u8; 32]>) -> Self {
        Self::with_limit(psk, u64::MAX)
    }

    /// `limit` is how many handshake messages boringtun takes before it is under load.
    fn with_limit(psk: Option<[u8; 32]>, limit: u64) -> Self {
        let mut world = World::pair();
        world.nodes.truncate(1);
        if let Some(psk) = psk {
            let psk = PresharedKey(psk);
            world.with(A, |device, _| device.set_preshared_key(&public_key(B), psk));
        }
        let tunn = Tunn::new(
            (*private_key(B).as_bytes()).into(),
            boringtun_public(A),
            psk,
            None,
            0x00ab_cdef,
            Some(Arc::new(RateLimiter::new(&boringtun_public(B), limit))),
        );
        Self {
            world,
            tunn,
            inbox: Vec::new(),
            handed: 0,
            theirs: Vec::new(),
        }
    }

    /// Hands over what either side sent until both are quiet.
    fn exchange(&mut self) {
        while let Some(sent) = self.world.sent.get(self.handed) {
            let datagram = sent.payload.clone();
            self.handed += 1;
            let mut out = vec![0; 2048];
            let mut input = &datagram[..];
            loop {
                let source = Some(outer(A).ip());
                match self.tunn.decapsulate(source, input, &mut out) {
                    TunnResult::WriteToNetwork(bytes) => {
                        let bytes = bytes.to_vec();
                        self.reply(&bytes);
                        // What boringtun had queued leaves by calls with nothing.
                        input = &[];
                    }
                    TunnResult::WriteToTunnelV4(bytes, _)
                    | TunnResult::WriteToTunnelV6(bytes, _) => {
                        self.inbox.push(bytes.to_vec());
                        break;
                    }
                    TunnResult::Done => break,
                    TunnResult::Err(error) => panic!("boringtun refuses: {error:?}"),
                }
            }
        }
    }

    /// boringtun sent a datagram: it arrives at once.
    fn reply(&mut self, datagram: &[u8]) {
        self.theirs.push(datagram.to_vec());
        let _ = self.world.inject(A, outer(B), datagram);
    }

    fn ping_from_boringtun(&mut self, id: u32) {
        let bytes = packet(inner(B), inner(A), id, 84);
        let mut out = vec![0; 2048];
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(&bytes, &mut out) {
            let datagram = datagram.to_vec();
            self.reply(&datagram);
        }
        self.exchange();
    }

    fn ping_from_ours(&mut self, id: u32) {
        let _ = self.world.ping(A, B, id);
        self.exchange();
    }

    /// boringtun starts a new handshake.
    fn renew_from_boringtun(&mut self) {
        let mut out = vec![0; 2048];
        let TunnResult::WriteToNetwork(datagram) =
            self.tunn.format_handshake_initiation(&mut out, true)
        else {
            panic!("boringtun starts no handshake");
        };
        let datagram = datagram.to_vec();
        self.reply(&datagram);
        self.exchange();
    }

    fn renew_from_ours(&mut self) {
        self.world
            .with(A, |device, now| device.initiate(&public_key(B), now));
        self.exchange();
    }

    fn ids_at_boringtun(&self) -> Vec<u32> {
        self.inbox.iter().map(|packet| id_of(packet)).collect()
    }

    fn ids_at_ours(&self) -> Vec<u32> {
        self.world.nodes[A].ids()
    }
}

const PSKS: [Option<[u8; 32]>; 2] = [None, Some([0x5a; 32])];

/// §5.4: boringtun answers our handshake, with and without a preshared key.
#[test]
fn our_handshake_is_answered_by_boringtun() {
    for psk in PSKS {
        let mut mixed = Mixed::new(psk);
        mixed.ping_from_ours(1);
        assert_eq!(mixed.ids_at_boringtun(), [1], "what waited came through");
        for id in 2..50 {
            mixed.ping_from_ours(id);
            mixed.ping_from_boringtun(id);
        }
        assert_eq!(mixed.ids_at_boringtun(), (1..50).collect::<Vec<_>>());
        assert_eq!(mixed.ids_at_ours(), (2..50).collect::<Vec<_>>());
        assert_eq!(mixed.world.nodes[A].peer(B).handshakes(), 1);
    }
}

/// §5.4: we answer boringtun's handshake, with and without a preshared key.
#[test]
fn boringtuns_handshake_is_answered_by_us() {
    for psk in PSKS {
        let mut mixed = Mixed::new(psk);
        mixed.ping_from_boringtun(1);
        assert_eq!(mixed.ids_at_ours(), [1], "what waited came through");
        for id in 2..50 {
            mixed.ping_from_ours(id);
            mixed.ping_from_boringtun(id);
        }
        assert_eq!(mixed.ids_at_ours(), (1..50).collect::<Vec<_>>());
        assert_eq!(mixed.ids_at_boringtun(), (2..50).collect::<Vec<_>>());
        assert!(mixed.world.sent_by(A, INITIATION).is_empty());
    }
}

/// §5.2: with different preshared keys there is no session, in either direction.
#[test]
fn a_wrong_preshared_key_fails_against_boringtun() {
    let mut mixed = Mixed::new(Some([1; 32]));
    let wrong = PresharedKey([2; 32]);
    mixed.world.with(A, |device, _| {
        device.set_preshared_key(&public_key(B), wrong);
    });
    mixed.ping_from_ours(1);
    assert_eq!(mixed.theirs.len(), 1, "boringtun answers");
    assert_eq!(mixed.world.nodes[A].peer(B).handshakes(), 0, "in vain");
    assert!(mixed.ids_at_boringtun().is_empty());
}

/// §6.3: new keys from either side, again and again, lose nothing.
#[test]
fn keys_are_renewed_with_boringtun_from_both_sides() {
    let mut mixed = Mixed::new(PSKS[1]);
    mixed.ping_from_ours(0);
    for round in 1..=10 {
        mixed.world.run(secs(6));
        if round % 2 == 0 {
            mixed.renew_from_ours();
        } else {
            mixed.renew_from_boringtun();
        }
        mixed.ping_from_ours(round);
        mixed.ping_from_boringtun(round);
        assert_eq!(
            mixed.world.nodes[A].peer(B).handshakes(),
            u64::from(round) + 1
        );
    }
    assert_eq!(mixed.ids_at_boringtun(), (0..=10).collect::<Vec<_>>());
    assert_eq!(mixed.ids_at_ours(), (1..=10).collect::<Vec<_>>());
}

/// §5.4.7: our retry carries what boringtun's cookie reply asked for.
#[test]
fn boringtuns_cookie_is_used_by_us() {
    let mut mixed = Mixed::with_limit(None, 0);
    mixed.ping_from_ours(1);
    assert_eq!(mixed.theirs.last().unwrap()[0], COOKIE_REPLY);
    assert!(mixed.ids_at_boringtun().is_empty());
    mixed.world.run(secs(6));
    mixed.exchange();
    assert_eq!(mixed.ids_at_boringtun(), [1]);
}

/// §5.4.7: boringtun's retry carries what our cookie reply asked for.
#[test]
fn our_cookie_is_used_by_boringtun() {
    let mut mixed = Mixed::new(None);
    mixed.world.nodes[A].under_load = true;
    mixed.ping_from_boringtun(1);
    assert_eq!(mixed.world.last_sent(A).kind(), COOKIE_REPLY);
    assert!(mixed.ids_at_ours().is_empty());
    mixed.world.run(secs(1));
    mixed.renew_from_boringtun();
    assert_eq!(mixed.world.sent_by(A, RESPONSE).len(), 1);
    assert_eq!(mixed.ids_at_ours(), [1]);
}

/// §5.4.6: IPv6 and every length up to the MTU, both ways.
#[test]
fn packets_of_every_length_pass_both_ways() {
    let mut mixed = Mixed::new(None);
    mixed.ping_from_ours(0);
    mixed.inbox.clear();
    for len in 44..=1420 {
        let ours = packet(inner6(A), inner6(B), len, len as usize);
        mixed.world.send(A, &ours).unwrap();
        mixed.exchange();
        assert_eq!(mixed.inbox.pop().unwrap(), ours);

        let theirs = packet(inner6(B), inner6(A), len, len as usize);
        let mut out = vec![0; 2048];
        let TunnResult::WriteToNetwork(datagram) = mixed.tunn.encapsulate(&theirs, &mut out) else {
            panic!("boringtun has no session");
        };
        let datagram = datagram.to_vec();
        mixed.reply(&datagram);
        assert_eq!(mixed.world.nodes[A].inbox.pop().unwrap(), theirs);
    }
}
