//! The vectors of Project Wycheproof, each asked of every implementation that can express it.
//!
//! `WireGuard` uses fewer inputs than the vectors have: its nonces begin with zeros, and transport
//! messages have no associated data. So these vectors are asked below the seam where they don't fit it.

use wycheproof::aead::{self, TestName as AeadName};
use wycheproof::xdh::{TestName as XdhName, TestSet as XdhSet};

use super::aead::portable;
#[cfg(feature = "ring")]
use super::aead::with_ring;
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
use super::lanes::{Avx2, Avx512, Unit};
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
use super::wide;
use super::{KEY_LEN, PrivateKey, PublicKey, TAG_LEN, diffie_hellman_all, xopen, xseal};

/// A vector of ChaCha20-Poly1305 whose nonce has 96 bits.
struct Vector {
    id: usize,
    key: [u8; KEY_LEN],
    nonce: [u8; 12],
    aad: Vec<u8>,
    text: Vec<u8>,
    sealed: Vec<u8>,
    tag: [u8; TAG_LEN],
    is_valid: bool,
}

/// All of them: those with other nonces can't be said to any of these implementations.
fn vectors() -> Vec<Vector> {
    let set = aead::TestSet::load(AeadName::ChaCha20Poly1305).expect("the vectors are readable");
    let tests = set.test_groups.into_iter().flat_map(|group| group.tests);
    let vector = |test: aead::Test| {
        Some(Vector {
            id: test.tc_id,
            key: test.key[..].try_into().expect("keys have 32 bytes"),
            nonce: test.nonce[..].try_into().ok()?,
            aad: test.aad.to_vec(),
            text: test.pt.to_vec(),
            sealed: test.ct.to_vec(),
            tag: test.tag[..].try_into().expect("tags have 16 bytes"),
            is_valid: !test.result.must_fail(),
        })
    };
    let vectors: Vec<Vector> = tests.filter_map(vector).collect();
    assert!(vectors.len() >= 300, "{}", vectors.len());
    vectors
}

#[test]
fn what_seals_all_else_meets_every_vector() {
    let mut refused = 0;
    for vector in vectors() {
        let Vector { id, key, nonce, .. } = vector;
        let (sealed, tag) = (&vector.sealed, &vector.tag);
        let check = |seal: &dyn Fn(&mut [u8]) -> [u8; TAG_LEN],
                     open: &dyn Fn(&mut [u8]) -> bool| {
            if vector.is_valid {
                let mut data = vector.text.clone();
                assert_eq!(seal(&mut data), *tag, "{id}");
                assert_eq!(data, *sealed, "{id}");
            }
            let mut data = sealed.clone();
            assert_eq!(open(&mut data), vector.is_valid, "{id}");
            assert!(!vector.is_valid || data == vector.text, "{id}");
        };
        let portable = portable::Key::new(&key);
        check(&|data| portable.seal(nonce, &vector.aad, data), &|data| {
            portable.open(nonce, &vector.aad, data, tag)
        });
        #[cfg(feature = "ring")]
        {
            let ring = with_ring::Key::new(&key);
            check(&|data| ring.seal(nonce, &vector.aad, data), &|data| {
                ring.open(nonce, &vector.aad, data, tag)
            });
        }
        refused += usize::from(!vector.is_valid);
    }
    assert!(refused >= 50, "{refused}");
}

/// ChaCha20 is the same with and without associated data, and the tag is another then: that of
/// `RustCrypto`, which meets the vectors.
#[test]
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn our_own_code_for_single_messages_seals_every_vector_and_opens_it_again() {
    let Some(unit) = Avx512::new() else { return };
    for vector in vectors() {
        let Vector { id, key, nonce, .. } = vector;
        let mut theirs = vector.text.clone();
        let their_tag = portable::Key::new(&key).seal(nonce, &[], &mut theirs);
        let mut sealed = vector.text.clone();
        let tag = wide::seal(unit, &key, nonce, &mut sealed);
        assert_eq!((&sealed, tag), (&theirs, their_tag), "{id}");
        assert!(!vector.is_valid || sealed == vector.sealed, "{id}");

        let mut forged = tag;
        forged[id % TAG_LEN] ^= 1 << (id % 8);
        assert!(!wide::open(unit, &key, nonce, &mut sealed, &forged), "{id}");
        assert!(wide::open(unit, &key, nonce, &mut sealed, &tag), "{id}");
        assert_eq!(sealed, vector.text, "{id}");
    }
}

/// The blocks of associated data and text that a vector's tag is over are all text here, which
/// takes the sums to the same edges.
#[test]
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn our_own_poly1305_meets_the_reference_at_the_edges_of_every_vector() {
    let (keys, texts): (Vec<[u8; KEY_LEN]>, Vec<Vec<u8>>) = vectors()
        .iter()
        .map(|vector| {
            let mut text = vector.aad.clone();
            text.resize(text.len().next_multiple_of(16), 0);
            text.extend(&vector.sealed);
            (one_time_key(&vector.key, vector.nonce), text)
        })
        .unzip();
    let expected: Vec<[u8; TAG_LEN]> = keys.iter().zip(&texts).map(reference_tag).collect();
    if let Some(unit) = Avx512::new() {
        check_tags(unit, &keys, &texts, &expected);
    }
    if let Some(unit) = Avx2::new() {
        check_tags(unit, &keys, &texts, &expected);
    }
}

#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn check_tags<U: Unit>(
    unit: U,
    keys: &[[u8; KEY_LEN]],
    texts: &[Vec<u8>],
    expected: &[[u8; TAG_LEN]],
) {
    for ((key, text), expected) in keys.iter().zip(texts).zip(expected) {
        assert_eq!(unit.tag(key, text), *expected, "{text:02x?}");
    }
    // Each in every lane, beside others than before.
    for shift in 0..U::TAGS {
        let order: Vec<usize> = (0..keys.len())
            .cycle()
            .skip(shift)
            .take(keys.len())
            .collect();
        for group in order.chunks(U::TAGS) {
            let keys: Vec<&[u8; KEY_LEN]> = group.iter().map(|at| &keys[*at]).collect();
            let texts: Vec<&[u8]> = group.iter().map(|at| &texts[*at][..]).collect();
            let mut tags = vec![[0; TAG_LEN]; group.len()];
            unit.tags(&keys, &texts, &mut tags);
            let expected: Vec<[u8; TAG_LEN]> = group.iter().map(|at| expected[*at]).collect();
            assert_eq!(tags, expected);
        }
    }
}

/// The first bytes of the keystream (RFC 8439 §2.6).
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn one_time_key(key: &[u8; KEY_LEN], nonce: [u8; 12]) -> [u8; KEY_LEN] {
    use chacha20::cipher::{KeyIvInit, StreamCipher};
    let mut bytes = [0; KEY_LEN];
    chacha20::ChaCha20::new(key.into(), &nonce.into()).apply_keystream(&mut bytes);
    bytes
}

/// What `poly1305` makes of a text without associated data (RFC 8439 §2.8).
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn reference_tag((one_time_key, text): (&[u8; KEY_LEN], &Vec<u8>)) -> [u8; TAG_LEN] {
    use poly1305::universal_hash::{KeyInit, UniversalHash};
    let mut lengths = [0; 16];
    lengths[8..].copy_from_slice(&(text.len() as u64).to_le_bytes());
    let mut sum = poly1305::Poly1305::new(one_time_key.into());
    sum.update_padded(text);
    sum.update_padded(&lengths);
    sum.finalize().into()
}

/// Cookies are the only text that is sealed so, and have 16 bytes.
#[test]
fn cookies_meet_the_vectors_of_their_length() {
    let set = aead::TestSet::load(AeadName::XChaCha20Poly1305).expect("the vectors are readable");
    let (mut valid, mut invalid) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(key), Ok(nonce)) = (test.key[..].try_into(), test.nonce[..].try_into()) else {
            continue;
        };
        let Ok(sealed) = <[u8; 32]>::try_from([&test.ct[..], &test.tag[..]].concat()) else {
            continue;
        };
        let opened = xopen(&key, &nonce, &test.aad, &sealed);
        if test.result.must_fail() {
            assert!(opened.is_err(), "{}", test.tc_id);
            invalid += 1;
        } else {
            let text = opened.expect("a valid vector");
            assert_eq!(text[..], test.pt[..], "{}", test.tc_id);
            assert_eq!(
                xseal(&key, &nonce, &test.aad, &text),
                sealed,
                "{}",
                test.tc_id
            );
            valid += 1;
        }
    }
    assert!(valid >= 3 && invalid >= 3, "{valid} and {invalid}");
}

/// Alone, and in each of eight lanes beside others.
#[test]
fn x25519_meets_every_vector() {
    let set = XdhSet::load(XdhName::X25519).expect("the vectors are readable");
    let tests = set.test_groups.iter().flat_map(|group| &group.tests);
    let vectors: Vec<(PrivateKey, PublicKey, [u8; KEY_LEN])> = tests
        .map(|test| {
            let read = |bytes: &[u8]| -> [u8; KEY_LEN] { bytes.try_into().expect("32 bytes") };
            (
                PrivateKey::from_bytes(read(&test.private_key)),
                PublicKey(read(&test.public_key)),
                read(&test.shared_secret),
            )
        })
        .collect();
    assert!(vectors.len() >= 500, "{}", vectors.len());
    // A secret of zeros is none (paper §5.4; the vectors call it acceptable).
    let expected = |secret: &[u8; KEY_LEN]| (*secret != [0; KEY_LEN]).then_some(*secret);
    let mut without = 0;
    for (ours, theirs, secret) in &vectors {
        let made = ours.diffie_hellman(theirs).map(|secret| *secret);
        assert_eq!(made, expected(secret), "{theirs}");
        assert_eq!(theirs.is_usable(), made.is_some(), "{theirs}");
        without += usize::from(made.is_none());
    }
    assert!(without >= 10, "{without}");
    for shift in 0..8 {
        let turned: Vec<_> = (0..vectors.len())
            .map(|at| &vectors[(at + shift) % vectors.len()])
            .collect();
        let pairs: Vec<_> = turned
            .iter()
            .map(|(ours, theirs, _)| (ours, theirs))
            .collect();
        let mut done = 0;
        diffie_hellman_all(&pairs, |at, made| {
            assert_eq!(made.map(|secret| *secret), expected(&turned[at].2), "{at}");
            done += 1;
        });
        assert_eq!(done, vectors.len());
    }
}
