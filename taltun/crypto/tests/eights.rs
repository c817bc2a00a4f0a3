//! X25519 of several pairs at once against one pair at a time by another implementation.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_crypto::{BASE_POINT, PrivateKey, PublicKey, diffie_hellman_all};

fn check<const N: usize>(pairs: &[(PrivateKey, PublicKey); N]) {
    let mut together = Vec::new();
    let refs = pairs.each_ref().map(|(ours, theirs)| (ours, theirs));
    diffie_hellman_all(&refs, |at, secret| {
        assert_eq!(at, together.len());
        together.push(secret);
    });
    assert_eq!(together.len(), N);
    for ((ours, theirs), together) in pairs.iter().zip(together) {
        let alone = ours.diffie_hellman(theirs);
        assert_eq!(
            together.map(|secret| *secret),
            alone.map(|secret| *secret),
            "{:02x?} {:02x?}",
            ours.as_bytes(),
            theirs.0
        );
    }
}

/// Bytes at random, or of those that make limbs full, empty or nearly so.
fn bytes(rng: &mut ChaCha8Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    match rng.next_u32() % 8 {
        0 => {
            let fill = [0, 0xff][rng.next_u32() as usize % 2];
            let from = rng.next_u32() as usize % 32;
            bytes[from..].fill(fill);
        }
        1 => {
            let fill = [0, 0xff][rng.next_u32() as usize % 2];
            let to = rng.next_u32() as usize % 33;
            bytes[..to].fill(fill);
        }
        _ => {}
    }
    bytes
}

/// 16,000 pairs, or as many as `TALTUN_CASES` says.
#[test]
fn pairs_together_make_the_secrets_that_they_make_alone() {
    let cases = std::env::var("TALTUN_CASES").map_or(16_000, |text| text.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(25519);
    let mut done = 0_u64;
    while done < cases {
        let pair = |_| {
            let private = PrivateKey::from_bytes(bytes(&mut rng));
            (private, PublicKey(bytes(&mut rng)))
        };
        check::<8>(&std::array::from_fn(pair));
        done += 8;
    }
}

#[test]
fn any_number_of_pairs_may_be_done_together() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut pair = |_| {
        let private = PrivateKey::from_bytes(bytes(&mut rng));
        (private, PublicKey(bytes(&mut rng)))
    };
    check::<0>(&[]);
    check::<1>(&std::array::from_fn(&mut pair));
    check::<2>(&std::array::from_fn(&mut pair));
    check::<3>(&std::array::from_fn(&mut pair));
    check::<9>(&std::array::from_fn(&mut pair));
    check::<24>(&std::array::from_fn(&mut pair));
}

/// Points of low order, points that aren't below 2^255 − 19, and both with the last bit, in each
/// lane beside ordinary ones.
#[test]
fn points_at_the_edges_make_what_they_make_alone_in_any_lane() {
    let ends = |first: u8, between: u8, last: u8| {
        let mut bytes = [between; 32];
        bytes[0] = first;
        bytes[31] = last;
        bytes
    };
    let order_8: PublicKey = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
        .parse()
        .unwrap();
    let mut edges = vec![
        order_8.0,
        [0; 32],
        ends(1, 0, 0),
        ends(2, 0, 0),
        ends(9, 0, 0),
    ];
    assert_eq!(edges[4], BASE_POINT.0);
    edges.extend((0xe8..=0xff).map(|first| ends(first, 0xff, 0x7f)));
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for edge in edges {
        for last_bit in [0, 0x80] {
            let mut edge = edge;
            edge[31] |= last_bit;
            for lane in 0..8 {
                let mut pairs: [_; 8] = std::array::from_fn(|_| {
                    let private = PrivateKey::from_bytes(bytes(&mut rng));
                    (private, PublicKey(bytes(&mut rng)))
                });
                pairs[lane].1 = PublicKey(edge);
                check(&pairs);
            }
        }
    }
}
