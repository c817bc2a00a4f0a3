//! X25519 (RFC 7748 §5) with AVX-512 and its 52-bit multiplication: eight at a time, each lane
//! with a scalar and a point of its own.
//!
//! Numbers modulo 2^255 − 19 are in five limbs of 51 bits. The 52-bit multiplication gives the
//! lower and upper 52 bits of a product of two limbs, of which the upper ones count twice the
//! next limb. Limbs that are multiplied have less than 52 bits: each operation carries its
//! result to 51 bits and the little that a carry leaves.
//!
//! Every lane does the same steps whatever it holds: bits of a scalar become masks that blend
//! registers, and there is no branch and no index that depends on one.

#![allow(
    clippy::large_types_passed_by_value,
    clippy::many_single_char_names,
    reason = "numbers are registers, and have the names that RFC 7748 gives them"
)]

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_srli_epi64, _mm512_sub_epi64, _mm512_test_epi64_mask,
};

use zeroize::Zeroize;

use crate::KEY_LEN;
use crate::register512::{load, store};

/// Scalars and points side by side, one a lane.
pub(super) use crate::register512::LANES;

const MASK: u64 = (1 << 51) - 1;
/// Twice 2^255 − 19, limb by limb: what is added before a subtraction, so that no limb becomes
/// negative.
const TWICE_P: [u64; 5] = [
    (1 << 52) - 38,
    (1 << 52) - 2,
    (1 << 52) - 2,
    (1 << 52) - 2,
    (1 << 52) - 2,
];
/// (486662 − 2) / 4 (RFC 7748 §4.1).
const A24: i64 = 121_665;

/// Eight numbers, one a lane.
type Lanes = [__m512i; 5];

/// That this CPU can do it, which a value of the type proves.
#[derive(Clone, Copy)]
pub(super) struct Ifma(());

impl Ifma {
    /// `None` on a CPU that can't.
    pub(super) fn new() -> Option<Self> {
        let has_it = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
        has_it.then_some(Self(()))
    }
}

/// X25519 of each clamped scalar with its point.
pub(super) fn multiply_each(
    _: Ifma,
    scalars: [&[u8; KEY_LEN]; LANES],
    points: [&[u8; KEY_LEN]; LANES],
) -> [[u8; KEY_LEN]; LANES] {
    // SAFETY: the first argument proves that the CPU has what this takes.
    unsafe { ladder(scalars, points) }
}

/// The Montgomery ladder of RFC 7748 §5, whose names of variables these are.
#[target_feature(enable = "avx512f,avx512ifma")]
fn ladder(
    scalars: [&[u8; KEY_LEN]; LANES],
    points: [&[u8; KEY_LEN]; LANES],
) -> [[u8; KEY_LEN]; LANES] {
    let mut words = words(scalars);
    let x1 = decode(points);
    let zero = _mm512_setzero_si512();
    let one = [_mm512_set1_epi64(1), zero, zero, zero, zero];
    let (mut x2, mut z2, mut x3, mut z3) = (one, [zero; 5], x1, one);
    let mut before = 0;
    for at in (0..255).rev() {
        let bit = _mm512_test_epi64_mask(load(&words[at / 64]), _mm512_set1_epi64(1 << (at % 64)));
        swap(before ^ bit, &mut x2, &mut x3);
        swap(before ^ bit, &mut z2, &mut z3);
        before = bit;
        let a = add(x2, z2);
        let b = subtract(x2, z2);
        let c = add(x3, z3);
        let d = subtract(x3, z3);
        let da = multiply(d, a);
        let cb = multiply(c, b);
        let aa = square(a);
        let bb = square(b);
        let e = subtract(aa, bb);
        x3 = square(add(da, cb));
        z3 = multiply(x1, square(subtract(da, cb)));
        x2 = multiply(aa, bb);
        z2 = multiply(e, add(aa, times_a24(e)));
    }
    swap(before, &mut x2, &mut x3);
    swap(before, &mut z2, &mut z3);
    words.zeroize();
    encode(multiply(x2, invert(z2)))
}

/// Exchanges two numbers in the lanes of `mask`.
#[inline]
#[target_feature(enable = "avx512f")]
fn swap(mask: __mmask8, a: &mut Lanes, b: &mut Lanes) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (
            _mm512_mask_blend_epi64(mask, *a, *b),
            _mm512_mask_blend_epi64(mask, *b, *a),
        );
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Lanes, b: Lanes) -> Lanes {
    carry([
        _mm512_add_epi64(a[0], b[0]),
        _mm512_add_epi64(a[1], b[1]),
        _mm512_add_epi64(a[2], b[2]),
        _mm512_add_epi64(a[3], b[3]),
        _mm512_add_epi64(a[4], b[4]),
    ])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn subtract(a: Lanes, b: Lanes) -> Lanes {
    let limb = |at: usize| {
        let twice_p = _mm512_set1_epi64(TWICE_P[at].cast_signed());
        _mm512_sub_epi64(_mm512_add_epi64(a[at], twice_p), b[at])
    };
    carry([limb(0), limb(1), limb(2), limb(3), limb(4)])
}

/// Carries each limb's excess to the next, all at once. With limbs below 2^62 they have at the
/// most 2^51 + 2^16 then.
#[inline]
#[target_feature(enable = "avx512f")]
fn carry(limbs: Lanes) -> Lanes {
    let mask = _mm512_set1_epi64(MASK.cast_signed());
    let keep = |limb| _mm512_and_si512(limb, mask);
    let over = |limb| _mm512_srli_epi64::<51>(limb);
    [
        _mm512_add_epi64(keep(limbs[0]), nineteen(over(limbs[4]))),
        _mm512_add_epi64(keep(limbs[1]), over(limbs[0])),
        _mm512_add_epi64(keep(limbs[2]), over(limbs[1])),
        _mm512_add_epi64(keep(limbs[3]), over(limbs[2])),
        _mm512_add_epi64(keep(limbs[4]), over(limbs[3])),
    ]
}

/// 19 times as much: what 2^255 is.
#[inline]
#[target_feature(enable = "avx512f")]
fn nineteen(limb: __m512i) -> __m512i {
    let three = _mm512_add_epi64(limb, _mm512_slli_epi64::<1>(limb));
    _mm512_add_epi64(three, _mm512_slli_epi64::<4>(limb))
}

/// Sums of products of limbs: the lower 52 bits, and what is above them.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn products<const N: usize>(pairs: [(__m512i, __m512i); N]) -> (__m512i, __m512i) {
    let mut low = _mm512_setzero_si512();
    let mut high = _mm512_setzero_si512();
    for (a, b) in pairs {
        low = _mm512_madd52lo_epu64(low, a, b);
        high = _mm512_madd52hi_epu64(high, a, b);
    }
    (low, high)
}

/// A number from the sums of products of each weight, of which the upper parts count twice the
/// next weight.
#[inline]
#[target_feature(enable = "avx512f")]
fn reduce(sums: &[(__m512i, __m512i); 9]) -> Lanes {
    let twice = |limb| _mm512_slli_epi64::<1>(limb);
    let at = |weight: usize| match weight {
        0 => sums[0].0,
        9 => twice(sums[8].1),
        weight => _mm512_add_epi64(sums[weight].0, twice(sums[weight - 1].1)),
    };
    let limb = |weight: usize| _mm512_add_epi64(at(weight), nineteen(at(weight + 5)));
    carry([limb(0), limb(1), limb(2), limb(3), limb(4)])
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply([a0, a1, a2, a3, a4]: Lanes, [b0, b1, b2, b3, b4]: Lanes) -> Lanes {
    reduce(&[
        products([(a0, b0)]),
        products([(a0, b1), (a1, b0)]),
        products([(a0, b2), (a1, b1), (a2, b0)]),
        products([(a0, b3), (a1, b2), (a2, b1), (a3, b0)]),
        products([(a0, b4), (a1, b3), (a2, b2), (a3, b1), (a4, b0)]),
        products([(a1, b4), (a2, b3), (a3, b2), (a4, b1)]),
        products([(a2, b4), (a3, b3), (a4, b2)]),
        products([(a3, b4), (a4, b3)]),
        products([(a4, b4)]),
    ])
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn square([a0, a1, a2, a3, a4]: Lanes) -> Lanes {
    let twice = |(low, high)| (_mm512_slli_epi64::<1>(low), _mm512_slli_epi64::<1>(high));
    let with = |(low, high), a: __m512i| {
        (
            _mm512_madd52lo_epu64(low, a, a),
            _mm512_madd52hi_epu64(high, a, a),
        )
    };
    reduce(&[
        products([(a0, a0)]),
        twice(products([(a0, a1)])),
        with(twice(products([(a0, a2)])), a1),
        twice(products([(a0, a3), (a1, a2)])),
        with(twice(products([(a0, a4), (a1, a3)])), a2),
        twice(products([(a1, a4), (a2, a3)])),
        with(twice(products([(a2, a4)])), a3),
        twice(products([(a3, a4)])),
        products([(a4, a4)]),
    ])
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn times_a24(a: Lanes) -> Lanes {
    let a24 = _mm512_set1_epi64(A24);
    let product = |limb| products([(limb, a24)]);
    let (low0, high0) = product(a[0]);
    let (low1, high1) = product(a[1]);
    let (low2, high2) = product(a[2]);
    let (low3, high3) = product(a[3]);
    let (low4, high4) = product(a[4]);
    let up = |low, high| _mm512_add_epi64(low, _mm512_slli_epi64::<1>(high));
    carry([
        up(low0, nineteen(high4)),
        up(low1, high0),
        up(low2, high1),
        up(low3, high2),
        up(low4, high3),
    ])
}

/// Squared so many times.
#[target_feature(enable = "avx512f,avx512ifma")]
fn squared(mut a: Lanes, times: usize) -> Lanes {
    for _ in 0..times {
        a = square(a);
    }
    a
}

/// To the power of 2^255 − 21, which is one divided by it.
#[target_feature(enable = "avx512f,avx512ifma")]
fn invert(z: Lanes) -> Lanes {
    let z2 = square(z);
    let z9 = multiply(squared(z2, 2), z);
    let z11 = multiply(z9, z2);
    // To the power of 2^5 − 1, and so on.
    let ones5 = multiply(square(z11), z9);
    let ones10 = multiply(squared(ones5, 5), ones5);
    let ones20 = multiply(squared(ones10, 10), ones10);
    let ones40 = multiply(squared(ones20, 20), ones20);
    let ones50 = multiply(squared(ones40, 10), ones10);
    let ones100 = multiply(squared(ones50, 50), ones50);
    let ones200 = multiply(squared(ones100, 100), ones100);
    let ones250 = multiply(squared(ones200, 50), ones50);
    multiply(squared(ones250, 5), z11)
}

/// The 64-bit words of eight keys: the first of each, the second, and so on.
fn words(keys: [&[u8; KEY_LEN]; LANES]) -> [[u64; LANES]; 4] {
    std::array::from_fn(|word| keys.map(|key| u64::from_le_bytes(key.as_chunks().0[word])))
}

/// Coordinates as RFC 7748 §5 reads them: without the last bit.
#[inline]
#[target_feature(enable = "avx512f")]
fn decode(points: [&[u8; KEY_LEN]; LANES]) -> Lanes {
    let [w0, w1, w2, w3] = words(points);
    let limb = |low: [u64; LANES], high: [u64; LANES], by: u32| {
        let lane = |lane: usize| {
            let both = u128::from(low[lane]) | u128::from(high[lane]) << 64;
            (both >> by) as u64 & MASK
        };
        load(&std::array::from_fn(lane))
    };
    [
        limb(w0, w1, 0),
        limb(w0, w1, 51),
        limb(w1, w2, 102 - 64),
        limb(w2, w3, 153 - 128),
        limb(w3, [0; LANES], 204 - 192),
    ]
}

/// Coordinates, below 2^255 − 19, as bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn encode(a: Lanes) -> [[u8; KEY_LEN]; LANES] {
    let limbs = [
        store(a[0]),
        store(a[1]),
        store(a[2]),
        store(a[3]),
        store(a[4]),
    ];
    std::array::from_fn(|lane| pack([0, 1, 2, 3, 4].map(|limb: usize| limbs[limb][lane])))
}

/// One number, taken modulo 2^255 − 19 for good, without branching on it.
fn pack(limbs: [u64; 5]) -> [u8; KEY_LEN] {
    let mut limbs = carried(carried(limbs));
    // It is 2^255 − 19 or more exactly when adding 19 reaches 2^255; take that off then.
    let mut reaches = (limbs[0] + 19) >> 51;
    for limb in &limbs[1..] {
        reaches = (limb + reaches) >> 51;
    }
    limbs[0] += 19 * reaches;
    let mut up = 0;
    for limb in &mut limbs {
        *limb += up;
        up = *limb >> 51;
        *limb &= MASK;
    }
    let [l0, l1, l2, l3, l4] = limbs;
    let words = [
        l0 | l1 << 51,
        l1 >> 13 | l2 << 38,
        l2 >> 26 | l3 << 25,
        l3 >> 39 | l4 << 12,
    ];
    let mut bytes = [0; KEY_LEN];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

fn carried(mut limbs: [u64; 5]) -> [u64; 5] {
    let mut up = 0;
    for limb in &mut limbs {
        *limb += up;
        up = *limb >> 51;
        *limb &= MASK;
    }
    limbs[0] += 19 * up;
    limbs
}
