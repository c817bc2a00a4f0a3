//! Poly1305 with AVX2: four messages side by side, as [`super::poly512`] has eight.
//!
//! Numbers are in five limbs of 26 bits, as AVX2 multiplies 32 bits.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256, _mm256_mul_epu32,
    _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi64x, _mm256_setzero_si256,
    _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi64,
};

use super::pieces::{PIECE, Pieces};
use crate::TAG_LEN;
use crate::poly1305::{MASK_44, clamp, finish};

/// Messages side by side.
pub(super) const LANES: usize = 4;

const MASK_26: u64 = (1 << 26) - 1;
/// 2^128, the bit above a block's bytes, in the fifth limb.
const HIGH_BIT: u64 = 1 << 24;

/// Four numbers, one a lane, in limbs of 26 bits.
type Lanes = [__m256i; 5];

/// The tags of these messages under these one-time keys.
#[target_feature(enable = "avx2")]
pub(super) fn tags(keys: [&[u8; 32]; LANES], texts: [&[u8]; LANES]) -> [[u8; TAG_LEN]; LANES] {
    let keys: [(u128, u128); LANES] = keys.map(clamp);
    let limb = |by: u32| load(&keys.map(|(r, _)| (r >> by) as u64 & MASK_26));
    let factors = [limb(0), limb(26), limb(52), limb(78), limb(104)];
    let pieces = Pieces::new(texts);
    let mut sum = [_mm256_setzero_si256(); 5];
    for at in 0..pieces.count() {
        for block in read(&pieces, at) {
            sum = multiply(add(sum, block), &factors);
        }
    }
    // What RFC 8439 §2.8 has at the end: how long the associated data are, and the text.
    let lengths = load(&texts.map(|text| text.len() as u64));
    let above = _mm256_set1_epi64x(HIGH_BIT.cast_signed());
    let last = limbs(_mm256_setzero_si256(), lengths, above);
    let sum = multiply(add(sum, last), &factors);
    let sum = [
        store(sum[0]),
        store(sum[1]),
        store(sum[2]),
        store(sum[3]),
        store(sum[4]),
    ];
    std::array::from_fn(|lane| {
        let limb = |at: usize| u128::from(sum[at][lane]);
        // As three limbs of 44 bits and more.
        let low = limb(0) + (limb(1) << 26) + (limb(2) << 52);
        let middle = (low >> 44) + (limb(3) << 34);
        let high = (middle >> 44) + (limb(4) << 16);
        let mask = u128::from(MASK_44);
        let limbs = [low & mask, middle & mask, high].map(|limb| limb as u64);
        finish(limbs, keys[lane].1)
    })
}

/// Products, lane by lane. Limbs of `h` may have up to 29 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply([h0, h1, h2, h3, h4]: Lanes, [r0, r1, r2, r3, r4]: &Lanes) -> Lanes {
    let five = |limb: __m256i| _mm256_add_epi64(limb, _mm256_slli_epi64::<2>(limb));
    // What reaches 2^130 comes back as 5.
    let (s1, s2, s3, s4) = (five(*r1), five(*r2), five(*r3), five(*r4));
    let times = |a: __m256i, b: __m256i| _mm256_mul_epu32(a, b);
    let sum = |a, b, c, d, e| {
        let front = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
        _mm256_add_epi64(front, e)
    };
    let d0 = sum(
        times(h1, s4),
        times(h2, s3),
        times(h3, s2),
        times(h4, s1),
        times(h0, *r0),
    );
    let d1 = sum(
        times(h0, *r1),
        times(h2, s4),
        times(h3, s3),
        times(h4, s2),
        times(h1, *r0),
    );
    let d2 = sum(
        times(h0, *r2),
        times(h1, *r1),
        times(h3, s4),
        times(h4, s3),
        times(h2, *r0),
    );
    let d3 = sum(
        times(h0, *r3),
        times(h1, *r2),
        times(h2, *r1),
        times(h4, s4),
        times(h3, *r0),
    );
    let d4 = sum(
        times(h0, *r4),
        times(h1, *r3),
        times(h2, *r2),
        times(h3, *r1),
        times(h4, *r0),
    );
    carry([d0, d1, d2, d3, d4])
}

/// Two chains of carries side by side, of which each starts where the other ends.
#[inline]
#[target_feature(enable = "avx2")]
fn carry([d0, d1, d2, d3, d4]: Lanes) -> Lanes {
    let mask = _mm256_set1_epi64x(MASK_26.cast_signed());
    let keep = |limb: __m256i| _mm256_and_si256(limb, mask);
    let over = |limb: __m256i| _mm256_srli_epi64::<26>(limb);
    let (d1, d0) = (_mm256_add_epi64(d1, over(d0)), keep(d0));
    let (d4, d3) = (_mm256_add_epi64(d4, over(d3)), keep(d3));
    let (d2, d1) = (_mm256_add_epi64(d2, over(d1)), keep(d1));
    let (up, d4) = (over(d4), keep(d4));
    let d0 = _mm256_add_epi64(d0, _mm256_add_epi64(up, _mm256_slli_epi64::<2>(up)));
    let (d3, d2) = (_mm256_add_epi64(d3, over(d2)), keep(d2));
    let (d1, d0) = (_mm256_add_epi64(d1, over(d0)), keep(d0));
    let (d4, d3) = (_mm256_add_epi64(d4, over(d3)), keep(d3));
    [d0, d1, d2, d3, d4]
}

/// The four blocks of the piece at this place of all messages.
#[inline]
#[target_feature(enable = "avx2")]
fn read(pieces: &Pieces<'_, LANES>, at: usize) -> [Lanes; 4] {
    let rows = pieces.rows(at);
    let present = pieces.present(at);
    let block = |low, high, nth: usize| {
        let bit = |lane: usize| u64::from(present[nth] >> lane & 1) * HIGH_BIT;
        limbs(low, high, load(&[bit(0), bit(1), bit(2), bit(3)]))
    };
    let [low0, high0, low1, high1] = two_blocks::<0>(rows);
    let [low2, high2, low3, high3] = two_blocks::<1>(rows);
    [
        block(low0, high0, 0),
        block(low1, high1, 1),
        block(low2, high2, 2),
        block(low3, high3, 3),
    ]
}

/// The lower and upper halves of the blocks in this half of the rows.
#[inline]
#[target_feature(enable = "avx2")]
fn two_blocks<const HALF: usize>(rows: [&[u8; PIECE]; LANES]) -> [__m256i; 4] {
    const { assert!(32 * HALF + 32 <= PIECE) };
    // SAFETY: a piece has 32 bytes from there on; no alignment is asked.
    let row =
        |lane: usize| unsafe { _mm256_loadu_si256(rows[lane].as_ptr().add(32 * HALF).cast()) };
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let (ab_low, ab_high) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab_low, cd_low),
        _mm256_permute2x128_si256::<0x20>(ab_high, cd_high),
        _mm256_permute2x128_si256::<0x31>(ab_low, cd_low),
        _mm256_permute2x128_si256::<0x31>(ab_high, cd_high),
    ]
}

/// Numbers of 128 bits, and the bits above, as limbs.
#[inline]
#[target_feature(enable = "avx2")]
fn limbs(low: __m256i, high: __m256i, above: __m256i) -> Lanes {
    let mask = _mm256_set1_epi64x(MASK_26.cast_signed());
    let middle = _mm256_or_si256(_mm256_srli_epi64::<52>(low), _mm256_slli_epi64::<12>(high));
    [
        _mm256_and_si256(low, mask),
        _mm256_and_si256(_mm256_srli_epi64::<26>(low), mask),
        _mm256_and_si256(middle, mask),
        _mm256_and_si256(_mm256_srli_epi64::<14>(high), mask),
        _mm256_or_si256(_mm256_srli_epi64::<40>(high), above),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Lanes, b: Lanes) -> Lanes {
    [
        _mm256_add_epi64(a[0], b[0]),
        _mm256_add_epi64(a[1], b[1]),
        _mm256_add_epi64(a[2], b[2]),
        _mm256_add_epi64(a[3], b[3]),
        _mm256_add_epi64(a[4], b[4]),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &[u64; LANES]) -> __m256i {
    // SAFETY: 32 bytes can be read from four u64; no alignment is asked.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(lanes: __m256i) -> [u64; LANES] {
    let mut out = [0; LANES];
    // SAFETY: four u64 are 32 bytes; no alignment is asked.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), lanes) };
    out
}
