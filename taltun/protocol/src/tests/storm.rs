//! Initiations of many peers at once: what is done for several together is what is done for one
//! after the other (§5.4.2, §5.4.3).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use taltun_common::drops::DropReason;

use super::super::device::{Device, PeerSettings, Settings};
use super::super::messages::Message;
use super::super::peer::Endpoint;
use super::super::randomness::Randomness;
use super::super::time::Time;
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};

const NOW: Time = Time::START;
const SPOKES: u8 = 21;

fn key(of: u8) -> PrivateKey {
    PrivateKey::from_bytes([of; 32])
}

fn endpoint(of: u8) -> Endpoint {
    Endpoint::from(SocketAddr::from(([192, 0, 2, of], 9000)))
}

fn device(me: u8, peers: impl Iterator<Item = u8>) -> Device {
    let mut device = Device::new(Settings {
        private_key: key(me),
        randomness: Randomness::seeded([me; 32]),
        wall_clock_at_zero: Duration::from_secs(1_700_000_000),
        mtu: 1420,
        local_addresses: vec![IpAddr::from([10, 0, 0, me])],
        relay: false,
    });
    for peer in peers {
        let settings = PeerSettings {
            public_key: key(peer).public_key(),
            preshared_key: PresharedKey([peer; 32]),
            endpoint: Some(endpoint(peer)),
            allowed_ips: vec![IpNet::from(IpAddr::from([10, 0, 0, peer]))],
            persistent_keepalive: None,
        };
        device.add_peer(settings, NOW).unwrap();
    }
    device
}

/// A message, and where it came from.
type Received = (Vec<u8>, Endpoint);

/// A hub, its spokes, and the first message of each; the last spoke is a stranger.
fn storm() -> (Device, Vec<Device>, Vec<Received>) {
    let hub = device(200, 1..SPOKES);
    let mut spokes = Vec::new();
    let mut messages = Vec::new();
    for spoke in 1..=SPOKES {
        let mut made = device(spoke, [200].into_iter());
        // The hub has the pair's preshared key under the spoke's number.
        made.set_preshared_key(&key(200).public_key(), PresharedKey([spoke; 32]));
        made.initiate(&key(200).public_key(), NOW);
        let sent = made.poll_transmit().unwrap();
        messages.push((sent.payload, endpoint(spoke)));
        spokes.push(made);
    }
    (hub, spokes, messages)
}

fn take(hub: &mut Device, messages: &[Received], at_once: usize) -> Vec<Result<(), DropReason>> {
    let mut outcomes = vec![None; messages.len()];
    for (nth, messages) in messages.chunks(at_once).enumerate() {
        let messages: Vec<_> = messages
            .iter()
            .map(|(bytes, from)| (&bytes[..], *from))
            .collect();
        hub.handle_handshakes(&messages, false, NOW, |at, outcome| {
            let told_before = outcomes[nth * at_once + at].replace(outcome);
            assert_eq!(told_before, None, "each is told once");
        });
    }
    outcomes.into_iter().map(Option::unwrap).collect()
}

/// Sessions come of the answers: each spoke takes its own, and what it then says is opened.
#[test]
fn a_storm_of_initiations_is_answered_however_many_are_taken_at_once() {
    for at_once in [1, 2, 3, 8, 9, 16, 64] {
        let (mut hub, mut spokes, mut messages) = storm();
        // Among them: one changed, one twice, one with a key of low order, and no message at all.
        messages[4].0[40] ^= 1;
        let twice = messages[6].clone();
        messages.insert(9, twice);
        messages.insert(11, (vec![4; 64], endpoint(90)));
        let outcomes = take(&mut hub, &messages, at_once);
        for (at, outcome) in outcomes.iter().enumerate() {
            let expected = match at {
                4 => Err(DropReason::Mac1),
                11 => Err(DropReason::Shape),
                // The repeated one, and the stranger.
                9 | 22 => Err(DropReason::Handshake),
                _ => Ok(()),
            };
            assert_eq!(*outcome, expected, "{at} with {at_once} at once");
        }
        let mut answered = 0;
        while let Some(mut answer) = hub.poll_transmit() {
            let spoke = (1..=SPOKES)
                .find(|spoke| endpoint(*spoke) == answer.endpoint)
                .unwrap();
            let device = &mut spokes[usize::from(spoke) - 1];
            let of_it = device.handle_handshake(&answer.payload, endpoint(200), false, NOW);
            assert_eq!(of_it, Ok(()), "{spoke} with {at_once} at once");
            let keepalive = device.poll_transmit().unwrap();
            answer.payload = keepalive.payload;
            let Ok(Message::Data { receiver, counter }) = Message::parse(&answer.payload) else {
                panic!("a keepalive is data");
            };
            let mut batch = hub.tunnel().batch(NOW);
            let opened = batch.open(receiver, counter, &mut answer.payload, endpoint(spoke));
            assert!(opened.is_ok(), "{spoke} with {at_once} at once");
            answered += 1;
        }
        assert_eq!(answered, usize::from(SPOKES) - 2);
    }
}

/// The bytes are the same: those of two hubs with the same randomness.
#[test]
fn a_single_initiation_is_answered_alike_by_both_calls() {
    let ((mut one, _, messages), (mut other, ..)) = (storm(), storm());
    let (bytes, from) = &messages[0];
    one.handle_handshake(bytes, *from, false, NOW).unwrap();
    assert_eq!(take(&mut other, &messages[..1], 8), [Ok(())]);
    let answer = one.poll_transmit().unwrap();
    assert_eq!(answer.payload, other.poll_transmit().unwrap().payload);
}

/// A key of low order makes no secret, in whatever lane it is; its neighbours are answered.
#[test]
fn an_ephemeral_key_of_low_order_is_refused_beside_others() {
    let (mut hub, _, mut messages) = storm();
    let mac1 = |bytes: &[u8]| {
        let hub_key: PublicKey = key(200).public_key();
        let key = taltun_crypto::hash(&[b"mac1----", &hub_key.0]);
        taltun_crypto::mac(&key, &[&bytes[..116]])
    };
    for at in [0, 3, 10] {
        let bytes = &mut messages[at].0;
        bytes[8..40].fill(0);
        let mac = mac1(bytes);
        bytes[116..132].copy_from_slice(&mac);
    }
    let outcomes = take(&mut hub, &messages[..20], 16);
    for (at, outcome) in outcomes.into_iter().enumerate() {
        let low = [0, 3, 10].contains(&at);
        assert_eq!(
            outcome,
            if low {
                Err(DropReason::Handshake)
            } else {
                Ok(())
            }
        );
    }
}
