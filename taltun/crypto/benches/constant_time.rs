//! Whether durations tell secrets: `cargo bench -p taltun-crypto --bench constant_time`.
//!
//! Each line has two classes of inputs, which differ in what must stay secret alone. They are
//! timed in turn at random, the slowest tenth of all is left out, as it is the machine's, and
//! Welch's t compares the means (as dudect does). Below 5 nothing is seen; a leak grows with the
//! root of the number of measurements, 100,000 or as many as `TALTUN_CASES` says.

use std::hint::black_box;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_crypto::aead::{Message, open_all, seal_all};
use taltun_crypto::{
    AeadKey, BackEnd, PrivateKey, PublicKey, TAG_LEN, constant_time_eq, diffie_hellman_all, mac,
};

/// Above this a difference is certain (dudect takes the same).
const TELLS: f64 = 10.0;
const COUNT: usize = 16;

fn main() {
    let cases = std::env::var("TALTUN_CASES").map_or(100_000, |text| {
        text.parse().expect("TALTUN_CASES is a number")
    });
    let mut tells = false;
    for back_end in [BackEnd::Avx512, BackEnd::Avx2] {
        if AeadKey::by(back_end, &[0; 32]).is_none() {
            continue;
        }
        // AVX2's lanes take small packets only.
        let lens: &[usize] = match back_end {
            BackEnd::Avx512 => &[64, 1424],
            _ => &[64],
        };
        for &len in lens {
            let name = |what: &str| format!("{back_end:?}, {COUNT} × {len}: {what}");
            tells |= compare(
                &name("seal text of zeros or at random"),
                cases,
                |rng, class| {
                    let mut packets = vec![vec![0; len + TAG_LEN]; COUNT];
                    for packet in &mut packets {
                        fill(packet, rng, class);
                    }
                    time_batch(back_end, [7; 32], &mut packets, seal_all)
                },
            );
            tells |= compare(
                &name("seal by a key of zeros or at random"),
                cases,
                |rng, class| {
                    let mut key = [0; 32];
                    fill(&mut key, rng, class);
                    let mut packets = vec![vec![0; len + TAG_LEN]; COUNT];
                    time_batch(back_end, key, &mut packets, seal_all)
                },
            );
            let sealed = {
                let mut packets = vec![vec![1; len + TAG_LEN]; COUNT];
                time_batch(back_end, [7; 32], &mut packets, seal_all);
                packets
            };
            let what = "refuse tags wrong in their first or last byte";
            tells |= compare(&name(what), cases, |_, class| {
                let mut packets = sealed.clone();
                for packet in &mut packets {
                    packet[len + if class { TAG_LEN - 1 } else { 0 }] ^= 1;
                }
                time_batch(back_end, [7; 32], &mut packets, open_all)
            });
        }
    }
    let name = "X25519, eight: scalars with few bits or at random";
    tells |= compare(name, cases / 10, |rng, class| {
        let keys: [_; 8] = std::array::from_fn(|_| {
            let mut bytes = [0; 32];
            fill(&mut bytes, rng, class);
            PrivateKey::from_bytes(bytes)
        });
        let point = PublicKey([5; 32]);
        let pairs = keys.each_ref().map(|key| (key, &point));
        let start = Instant::now();
        diffie_hellman_all(&pairs, |_, secret| drop(black_box(secret)));
        start.elapsed().as_nanos() as f64
    });
    tells |= compare(
        "MAC of a handshake: compare with one that is wrong in its first or last byte",
        cases,
        |_, class| {
            let expected = mac(&[7; 32], &[&[1; 116]]);
            let mut given = expected;
            given[if class { expected.len() - 1 } else { 0 }] ^= 1;
            // One takes less than the clock can tell.
            let start = Instant::now();
            for _ in 0..64 {
                black_box(constant_time_eq(black_box(&expected), black_box(&given)));
            }
            start.elapsed().as_nanos() as f64
        },
    );
    assert!(!tells, "a duration tells a secret");
}

/// At random or with zeros, by the same steps: what is different before the clock starts would be
/// seen after it.
fn fill(bytes: &mut [u8], rng: &mut ChaCha8Rng, random: bool) {
    rng.fill_bytes(bytes);
    let mask = if random { 0xff } else { 0 };
    for byte in bytes {
        *byte &= black_box(mask);
    }
}

fn time_batch(
    back_end: BackEnd,
    key: [u8; 32],
    packets: &mut [Vec<u8>],
    work: fn(&mut [Message<'_>]),
) -> f64 {
    let key = AeadKey::by(back_end, &key).expect("it was there before");
    let mut messages: Vec<_> = packets
        .iter_mut()
        .enumerate()
        .map(|(at, bytes)| Message::new(&key, at as u64, bytes))
        .collect();
    let start = Instant::now();
    work(black_box(&mut messages));
    start.elapsed().as_nanos() as f64
}

/// Prints and says whether the classes can be told from each other.
fn compare(name: &str, cases: usize, mut time: impl FnMut(&mut ChaCha8Rng, bool) -> f64) -> bool {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..cases {
        let class = rng.next_u32().is_multiple_of(2);
        let taken = time(&mut rng, class);
        times[usize::from(class)].push(taken);
    }
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    let most = all[all.len() * 9 / 10];
    let [one, other] = times.map(|times| {
        let kept: Vec<f64> = times.into_iter().filter(|time| *time <= most).collect();
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let spread = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, spread / count)
    });
    let t = (one.0 - other.0) / (one.1 + other.1).sqrt();
    println!("{name}: {:.1} and {:.1} ns, t = {t:.1}", one.0, other.0);
    t.abs() > TELLS
}
