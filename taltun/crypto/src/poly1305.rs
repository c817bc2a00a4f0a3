//! Poly1305 (RFC 8439 §2.5) with AVX-512: eight blocks at a time.
//!
//! A tag is a polynomial in `r`, whose coefficients are the message's blocks of 16 bytes,
//! modulo 2^130 − 5. Eight lanes take every eighth block each, and go on by r^8:
//!
//! ```text
//! lane 0:  (b0 · r^8 + b8)  · r^8      the last step multiplies by r^8, r^7, … r^1
//! lane 1:  (b1 · r^8 + b9)  · r^7      instead, lane by lane, so that the sum of the
//! …                                    lanes is what one after the other would give
//! lane 7:  (b7 · r^8 + b15) · r^1
//! ```
//!
//! Numbers are in limbs of 44, 44 and 42 bits, which leaves the 52-bit multiplication of
//! IFMA room to add up in.
//!
//! There is no crate for this: ring's Poly1305 can't be had without its `ChaCha20`, and the
//! one of `poly1305` takes longer for a packet than both of ring's together. It is tested
//! against these, and used where [`super::aead`] says.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_or_si512, _mm512_reduce_add_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use crate::register512::{LANES, load};

const BLOCK: usize = 16;
const GROUP: usize = LANES * BLOCK;

pub(super) const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;
/// 2^128, the bit above a block's bytes, in the third limb.
pub(super) const HIGH_BIT: u64 = 1 << 40;
/// Which block of a group each lane holds, as unpacking leaves them.
const ORDER: [usize; LANES] = [0, 4, 1, 5, 2, 6, 3, 7];

/// A number modulo 2^130 − 5 in limbs of 44, 44 and 42 bits, each of which may be larger by
/// the little that a carry leaves.
pub(super) type Limbs = [u64; 3];
/// Eight numbers, one a lane.
pub(super) type Lanes = [__m512i; 3];

/// The tag of `ciphertext` without associated data, over what RFC 8439 §2.8 makes of it:
/// the text, zeros up to a whole block, and a block with the lengths.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn tag(one_time_key: &[u8; 32], ciphertext: &[u8]) -> [u8; BLOCK] {
    let (r, pad) = read_key(one_time_key);
    let (by_eighth, by_each) = multipliers(r);

    // Zeros in front of the message change nothing in the polynomial, so that it is the
    // first group which may lack blocks.
    let blocks = ciphertext.len().div_ceil(BLOCK) + 1;
    let mut lacking = blocks.next_multiple_of(LANES) - blocks;
    let mut sum = [_mm512_setzero_si512(); 3];
    let mut rest = ciphertext;
    if lacking > 0 && blocks > LANES {
        let (part, after) = rest.split_at(GROUP - lacking * BLOCK);
        sum = by_eighth.multiply(read_lanes(&group(part, lacking), lacking));
        rest = after;
        lacking = 0;
    }
    if rest.len() >= 4 * GROUP {
        // Two groups in one step share its carries, and the second needn't wait for the sum.
        let by_sixteenth = by_eighth.squared();
        while let Some((groups, after)) = rest.split_first_chunk::<{ 2 * GROUP }>() {
            let (one, two) = halves(groups);
            let product = by_eighth.add_product(Product::zero(), read_lanes(two, 0));
            let product = by_sixteenth.add_product(product, add(sum, read_lanes(one, 0)));
            sum = product.carry();
            rest = after;
        }
    }
    while let Some((group, after)) = rest.split_first_chunk() {
        sum = by_eighth.multiply(add(sum, read_lanes(group, 0)));
        rest = after;
    }
    let mut last = group(rest, lacking);
    last[GROUP - 8..].copy_from_slice(&(ciphertext.len() as u64).to_le_bytes());
    sum = by_each.multiply(add(sum, read_lanes(&last, lacking)));
    finish(add_lanes(sum), pad)
}

/// A group of which the first `lacking` blocks, and what follows `part`, are zero.
fn group(part: &[u8], lacking: usize) -> [u8; GROUP] {
    let mut group = [0; GROUP];
    group[lacking * BLOCK..][..part.len()].copy_from_slice(part);
    group
}

/// `r`, clamped, and what is added at the end.
pub(super) fn read_key(one_time_key: &[u8; 32]) -> (Limbs, u128) {
    let (r, pad) = clamp(one_time_key);
    let limbs = [
        r as u64 & MASK_44,
        (r >> 44) as u64 & MASK_44,
        (r >> 88) as u64,
    ];
    (limbs, pad)
}

/// The same, with `r` as one number.
pub(super) fn clamp(one_time_key: &[u8; 32]) -> (u128, u128) {
    let half = |at: usize| {
        let bytes = one_time_key[at..at + 16].try_into();
        u128::from_le_bytes(bytes.expect("a half of 32 bytes is 16"))
    };
    (
        half(0) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff,
        half(16),
    )
}

fn multiply(a: Limbs, b: Limbs) -> Limbs {
    let [a0, a1, a2] = a.map(u128::from);
    let [b0, b1, b2] = b.map(u128::from);
    // What reaches 2^132 comes back as 4 · 5, since 2^130 is 5.
    let mut d0 = a0 * b0 + 20 * (a1 * b2 + a2 * b1);
    let mut d1 = a0 * b1 + a1 * b0 + 20 * (a2 * b2);
    let mut d2 = a0 * b2 + a1 * b1 + a2 * b0;
    d1 += d0 >> 44;
    d2 += d1 >> 44;
    d0 = (d0 & u128::from(MASK_44)) + 5 * (d2 >> 42);
    d1 = (d1 & u128::from(MASK_44)) + (d0 >> 44);
    [d0 as u64 & MASK_44, d1 as u64, d2 as u64 & MASK_42]
}

/// What multiplies every lane by r^8, and what multiplies each by the power that its block
/// of the last group has, which is 8 less the block's place.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multipliers(r: Limbs) -> (Multiplier, Multiplier) {
    let two = multiply(r, r);
    let four = multiply(two, two);
    let eight = multiply(four, four);
    // r^(1 + a + 2b + 4c), where a, b and c are the bits of 7 less the block's place: set
    // in these lanes, see `ORDER`.
    let (a, b, c) = (0b0011_0011, 0b0000_1111, 0b0101_0101);
    let one = [1, 0, 0];
    let powers = Multiplier::new(blend(b, one, two)).multiply(blend(a, r, two));
    let powers = Multiplier::new(blend(c, one, four)).multiply(powers);
    (
        Multiplier::new(blend(0, eight, eight)),
        Multiplier::new(powers),
    )
}

/// `set` in the lanes of `mask`, `clear` in the others.
#[inline]
#[target_feature(enable = "avx512f")]
fn blend(mask: u8, clear: Limbs, set: Limbs) -> Lanes {
    let limb = |at: usize| {
        let [clear, set] = [clear, set].map(|limbs| _mm512_set1_epi64(limbs[at].cast_signed()));
        _mm512_mask_blend_epi64(mask, clear, set)
    };
    [limb(0), limb(1), limb(2)]
}

/// Factors, one a lane, with what multiplying by them needs beside.
pub(super) struct Multiplier {
    r: Lanes,
    /// The second and third limb times 20: see [`multiply`].
    s: [__m512i; 2],
}

impl Multiplier {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(factors: Lanes) -> Self {
        let twenty =
            |limb| _mm512_add_epi64(_mm512_slli_epi64::<4>(limb), _mm512_slli_epi64::<2>(limb));
        Self {
            r: factors,
            s: [twenty(factors[1]), twenty(factors[2])],
        }
    }

    /// Factors that do at once what these do one after the other.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn squared(&self) -> Self {
        Self::new(self.multiply(self.r))
    }

    /// Products, lane by lane. Limbs of `h` may have up to 47 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn multiply(&self, h: Lanes) -> Lanes {
        self.add_product(Product::zero(), h).carry()
    }

    /// Adds such products to others; see [`multiply`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn add_product(&self, product: Product, [h0, h1, h2]: Lanes) -> Product {
        let [r0, r1, r2] = self.r;
        let [s1, s2] = self.s;
        product
            .add([h0, h0, h0], [r0, r1, r2])
            .add([h1, h1, h1], [s2, r0, r1])
            .add([h2, h2, h2], [s1, s2, r0])
    }
}

/// Sums of products, of which the lower 52 bits and what is above them are kept apart.
pub(super) struct Product {
    low: Lanes,
    high: Lanes,
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn zero() -> Self {
        let zero = _mm512_setzero_si512();
        Self {
            low: [zero; 3],
            high: [zero; 3],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add(mut self, a: Lanes, b: Lanes) -> Self {
        for at in 0..3 {
            self.low[at] = _mm512_madd52lo_epu64(self.low[at], a[at], b[at]);
            self.high[at] = _mm512_madd52hi_epu64(self.high[at], a[at], b[at]);
        }
        self
    }

    /// The sums as numbers. The upper halves count 2^52: 2^8 of the next limb where that
    /// has 44 bits, 2^10 where it has 42.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn carry(self) -> Lanes {
        let mask_44 = _mm512_set1_epi64(MASK_44.cast_signed());
        let mask_42 = _mm512_set1_epi64(MASK_42.cast_signed());
        let [low0, low1, low2] = self.low;
        let [high0, high1, high2] = self.high;
        let (high0, over0) = (_mm512_slli_epi64::<8>(high0), _mm512_srli_epi64::<44>(low0));
        let low1 = _mm512_add_epi64(low1, _mm512_add_epi64(high0, over0));
        let (high1, over1) = (_mm512_slli_epi64::<8>(high1), _mm512_srli_epi64::<44>(low1));
        let low2 = _mm512_add_epi64(low2, _mm512_add_epi64(high1, over1));
        let (high2, over2) = (
            _mm512_slli_epi64::<10>(high2),
            _mm512_srli_epi64::<42>(low2),
        );
        let up = _mm512_add_epi64(high2, over2);
        let five_up = _mm512_add_epi64(up, _mm512_slli_epi64::<2>(up));
        let low0 = _mm512_add_epi64(_mm512_and_si512(low0, mask_44), five_up);
        let low1 = _mm512_and_si512(low1, mask_44);
        [
            _mm512_and_si512(low0, mask_44),
            _mm512_add_epi64(low1, _mm512_srli_epi64::<44>(low0)),
            _mm512_and_si512(low2, mask_42),
        ]
    }
}

/// Two groups that lie behind each other.
fn halves(groups: &[u8; 2 * GROUP]) -> (&[u8; GROUP], &[u8; GROUP]) {
    let [one, two] = groups.as_chunks().0 else {
        unreachable!("two groups are two")
    };
    (one, two)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
    [
        _mm512_add_epi64(a[0], b[0]),
        _mm512_add_epi64(a[1], b[1]),
        _mm512_add_epi64(a[2], b[2]),
    ]
}

/// The blocks of a group as numbers, one a lane, of which the first `lacking` aren't there.
#[inline]
#[target_feature(enable = "avx512f")]
fn read_lanes(group: &[u8; GROUP], lacking: usize) -> Lanes {
    let (front, back) = group.split_at(GROUP / 2);
    // SAFETY: 64 bytes can be read from a half of 128; no alignment is asked.
    let (front, back) = unsafe {
        (
            _mm512_loadu_si512(front.as_ptr().cast()),
            _mm512_loadu_si512(back.as_ptr().cast()),
        )
    };
    let low = _mm512_unpacklo_epi64(front, back);
    let high = _mm512_unpackhi_epi64(front, back);
    let mask = _mm512_set1_epi64(MASK_44.cast_signed());
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    let above = if lacking == 0 {
        _mm512_set1_epi64(HIGH_BIT.cast_signed())
    } else {
        load(&ORDER.map(|block| if block < lacking { 0 } else { HIGH_BIT }))
    };
    [
        _mm512_and_si512(low, mask),
        _mm512_and_si512(middle, mask),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), above),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_lanes(lanes: Lanes) -> Limbs {
    [
        _mm512_reduce_add_epi64(lanes[0]).cast_unsigned(),
        _mm512_reduce_add_epi64(lanes[1]).cast_unsigned(),
        _mm512_reduce_add_epi64(lanes[2]).cast_unsigned(),
    ]
}

/// Takes `h` modulo 2^130 − 5 for good, without branching on it, and adds `pad` modulo
/// 2^128.
pub(super) fn finish(h: Limbs, pad: u128) -> [u8; BLOCK] {
    let [h0, h1, h2] = carry(carry(h));
    // Is it still 2^130 − 5 or more? Then adding 5 reaches 2^130.
    let g0 = h0 + 5;
    let g1 = h1 + (g0 >> 44);
    let g2 = h2 + (g1 >> 44);
    let keep = (g2 >> 42).wrapping_sub(1);
    let select = |h: u64, g: u64, mask: u64| u128::from((h & keep) | (g & mask & !keep));
    let number =
        select(h0, g0, MASK_44) | select(h1, g1, MASK_44) << 44 | select(h2, g2, MASK_42) << 88;
    number.wrapping_add(pad).to_le_bytes()
}

fn carry([h0, h1, h2]: Limbs) -> Limbs {
    let h1 = h1 + (h0 >> 44);
    let h2 = h2 + (h1 >> 44);
    let h0 = (h0 & MASK_44) + 5 * (h2 >> 42);
    [h0 & MASK_44, (h1 & MASK_44) + (h0 >> 44), h2 & MASK_42]
}
