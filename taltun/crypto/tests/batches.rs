//! Batches against one message at a time by other implementations: the bytes have to be the
//! same, whatever the lengths and keys beside each other, and whichever messages are forged.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_crypto::aead::{BATCH, Message, open_all, seal_all};
use taltun_crypto::{AeadKey, BackEnd, TAG_LEN};

/// So many messages are done in lanes by AVX-512, fewer perhaps by others.
const IN_LANES: usize = 5;

/// What makes batches on this machine: forced, also where it isn't the fastest.
fn back_ends() -> Vec<BackEnd> {
    let all = [
        BackEnd::Avx512,
        BackEnd::Avx2,
        BackEnd::Ring,
        BackEnd::Portable,
    ];
    let here = all.map(|back_end| AeadKey::by(back_end, &[0; 32]).map(|_| back_end));
    here.into_iter().flatten().collect()
}

/// A message, and what it is under which key.
struct Case {
    key: [u8; 32],
    counter: u64,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Case {
    fn new(key: [u8; 32], counter: u64, plain: Vec<u8>) -> Self {
        let mut sealed = plain.clone();
        // The oracle of most cases, since it is fast.
        let tag = match AeadKey::by(BackEnd::Ring, &key) {
            Some(ring) => ring.seal(counter, &[], &mut sealed),
            None => by_rust_crypto(&key, counter, &mut sealed),
        };
        sealed.extend(tag);
        Self {
            key,
            counter,
            plain,
            sealed,
        }
    }
}

fn by_rust_crypto(key: &[u8; 32], counter: u64, data: &mut [u8]) -> [u8; TAG_LEN] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let tag: Tag = ChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&nonce.into(), &[], data.into())
        .unwrap();
    tag.into()
}

/// Seals and opens all at once by this back end; those of `forged` have one bit changed.
fn check(back_end: BackEnd, cases: &[Case], forged: impl Fn(usize) -> Option<usize>) {
    let key = |case: &Case| AeadKey::by(back_end, &case.key).unwrap();
    let keys: Vec<AeadKey> = cases.iter().map(key).collect();
    let with_room = |case: &Case| [&case.plain[..], &[0; TAG_LEN]].concat();
    let mut buffers: Vec<Vec<u8>> = cases.iter().map(with_room).collect();
    let mut messages: Vec<Message<'_>> = cases
        .iter()
        .zip(&keys)
        .zip(&mut buffers)
        .map(|((case, key), bytes)| Message::new(key, case.counter, bytes))
        .collect();
    seal_all(&mut messages);
    drop(messages);
    let lens = || {
        cases
            .iter()
            .map(|case| case.plain.len())
            .collect::<Vec<_>>()
    };
    for (at, (case, sealed)) in cases.iter().zip(&buffers).enumerate() {
        assert!(
            case.sealed == *sealed,
            "{back_end:?} sealed {at} of {:?}",
            lens()
        );
    }
    for (at, sealed) in buffers.iter_mut().enumerate() {
        if let Some(bit) = forged(at) {
            let bit = bit % (sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
    }
    let before = buffers.clone();
    let mut messages: Vec<Message<'_>> = cases
        .iter()
        .zip(&keys)
        .zip(&mut buffers)
        .map(|((case, key), bytes)| Message::new(key, case.counter, bytes))
        .collect();
    open_all(&mut messages);
    // How many are done together with this one.
    let beside = |at: usize| BATCH.min(cases.len() - at / BATCH * BATCH);
    let authentic: Vec<bool> = messages.iter().map(Message::is_authentic).collect();
    drop(messages);
    for (at, (case, opened)) in cases.iter().zip(&buffers).enumerate() {
        assert_eq!(
            authentic[at],
            forged(at).is_none(),
            "{back_end:?}, {at} of {:?}",
            lens()
        );
        let text = &opened[..case.plain.len()];
        if authentic[at] {
            assert!(
                text == case.plain,
                "{back_end:?} opened {at} of {:?}",
                lens()
            );
        } else if matches!(back_end, BackEnd::Avx512) && beside(at) >= IN_LANES {
            assert!(*opened == before[at], "what isn't authentic isn't touched");
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn random(rng: &mut ChaCha8Rng, below: u32) -> usize {
    (rng.next_u32() % below) as usize
}

fn batch(rng: &mut ChaCha8Rng, count: usize, len: impl Fn(&mut ChaCha8Rng) -> usize) -> Vec<Case> {
    let mut keys = [[0; 32]; 5];
    for key in &mut keys {
        rng.fill_bytes(key);
    }
    let sort = random(rng, 3);
    let case = |at: usize| {
        let key = match sort {
            0 => keys[0],
            1 => keys[at / 7 % 5],
            _ => keys[random(rng, 5)],
        };
        let mut plain = vec![0; len(rng)];
        rng.fill_bytes(&mut plain);
        let counter = match random(rng, 4) {
            0 => rng.next_u64(),
            1 => u64::from(rng.next_u32()),
            2 => u64::from(u32::MAX) + at as u64 - 3,
            _ => at as u64,
        };
        Case::new(key, counter, plain)
    };
    (0..count).map(case).collect()
}

/// A million messages, or as many as `TALTUN_CASES` says (from another `TALTUN_SEED`), in batches of all sizes.
#[test]
fn batches_of_any_lengths_and_keys_are_what_single_messages_are() {
    let cases = setting("TALTUN_CASES", 1_000_000);
    let mut rng = ChaCha8Rng::seed_from_u64(setting("TALTUN_SEED", 17));
    let mut done = 0_u64;
    let mut round = 0_u64;
    while done < cases {
        round += 1;
        let count = 1 + random(&mut rng, BATCH as u32 + 6);
        let most = [17, 65, 130, 300, 1100, 1500][random(&mut rng, 6)];
        let same = random(&mut rng, most + 1);
        let is_same = random(&mut rng, 3) == 0;
        let mut cases = batch(&mut rng, count, |rng| {
            if is_same { same } else { random(rng, most + 1) }
        });
        if round.is_multiple_of(512) {
            cases.push(Case::new(
                [9; 32],
                round,
                vec![3; 65_000 + random(&mut rng, 536)],
            ));
        }
        if round.is_multiple_of(64) {
            for case in &cases {
                let mut sealed = case.plain.clone();
                let tag = by_rust_crypto(&case.key, case.counter, &mut sealed);
                sealed.extend(tag);
                assert!(sealed == case.sealed, "the oracles agree");
            }
        }
        let bit = rng.next_u32() as usize;
        let every = 1 + random(&mut rng, 9);
        for back_end in back_ends() {
            check(back_end, &cases, |at| {
                (every > 1 && (at + bit).is_multiple_of(every)).then_some(bit + at * 77)
            });
        }
        done += cases.len() as u64;
    }
}

/// Numbered messages of mixed lengths, of which each in turn has a wrong tag, whatever its lane:
/// that one is refused, untouched, and all others are opened.
#[test]
fn a_wrong_tag_is_found_in_any_lane_and_touches_no_other() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let lens = [
        0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 200, 576, 1023, 1024, 1025, 1420,
    ];
    for count in [2, 4, 5, 8, 9, 16, 17, 33, 64, 65, 130] {
        let mut cases = batch(&mut rng, count, |_| 0);
        for (at, case) in cases.iter_mut().enumerate() {
            let mut plain = vec![0; lens[at * 7 % lens.len()]];
            let number = (at as u64).to_le_bytes();
            for (byte, number) in plain.iter_mut().zip(number.iter().cycle()) {
                *byte = *number;
            }
            *case = Case::new(case.key, at as u64, plain);
        }
        for back_end in back_ends() {
            for wrong in 0..count {
                let bit = cases[wrong].plain.len() * 8 + wrong * 5 % 128;
                check(back_end, &cases, |at| (at == wrong).then_some(bit));
            }
            check(back_end, &cases, |at| Some(at * 13));
        }
    }
}

/// Every length, beside its neighbours and beside itself.
#[test]
fn every_length_seals_and_opens_in_a_batch() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for len in 0..1500 {
        let cases: Vec<Case> = batch(&mut rng, 10, |rng| match random(rng, 2) {
            0 => len,
            _ => len + random(rng, 20),
        });
        for back_end in back_ends() {
            check(back_end, &cases, |_| None);
        }
    }
}

/// What is sealed is text whose sums reach the edges of the arithmetic's limbs.
#[test]
fn texts_at_the_edges_of_the_arithmetic_agree() {
    for byte in [0x00, 0xff, 0xfb, 0x80, 0x01] {
        for len in [16, 48, 64, 112, 113, 128, 240, 256, 1024, 1408] {
            let case = |seed: u8| {
                // The tag is over what is sealed: seal twice.
                let mut text = vec![byte; len];
                by_rust_crypto(&[seed; 32], 1, &mut text);
                let case = Case::new([seed; 32], 1, text);
                assert!(case.sealed[..len].iter().all(|sealed| *sealed == byte));
                case
            };
            let cases: Vec<Case> = (0..40).map(case).collect();
            for back_end in back_ends() {
                check(back_end, &cases, |_| None);
            }
        }
    }
}

#[test]
fn messages_without_room_for_a_tag_are_not_authentic() {
    for back_end in back_ends() {
        let key = AeadKey::by(back_end, &[1; 32]).unwrap();
        let mut buffers: Vec<Vec<u8>> = (0..40).map(|at| vec![0; at % 16]).collect();
        let mut messages: Vec<Message<'_>> = buffers
            .iter_mut()
            .map(|bytes| Message::new(&key, 0, bytes))
            .chain([Message::none()])
            .collect();
        open_all(&mut messages);
        assert!(!messages.iter().any(Message::is_authentic));
    }
}
