//! Poly1305 with AVX-512 and its 52-bit multiplication: eight messages side by side.
//!
//! Each lane is a message with an `r` of its own, so that no powers of `r` are spent on filling
//! lanes, and one after the other a message's blocks are taken in. Zeros in front of a message
//! change nothing in its polynomial: a shorter message than the others starts later, and all
//! come to their end together.
//!
//! Blocks are taken four at a time, a *piece*; of a message's first piece the first blocks may
//! be lacking, and of its last block the last bytes.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_loadu_si512, _mm512_maskz_set1_epi64, _mm512_or_si512,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_slli_epi64,
    _mm512_srli_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::pieces::{BLOCK, PIECE, Pieces};
use crate::TAG_LEN;
use crate::poly1305::{
    HIGH_BIT, Lanes, Limbs, MASK_44, Multiplier, Product, add, finish, read_key,
};
use crate::register512::{load, store};

/// Messages side by side, one a lane.
pub(super) use crate::register512::LANES;

/// Pieces from which on powers of `r` pay, as four blocks then share their carries.
const WORTH_POWERS: usize = 3;

/// The tags of these messages under these one-time keys.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn tags(keys: [&[u8; 32]; LANES], texts: [&[u8]; LANES]) -> [[u8; TAG_LEN]; LANES] {
    let (keys, pads) = split_keys(keys);
    let by_one = Multiplier::new(keys);
    let pieces = Pieces::new(texts);
    let mut sum = [_mm512_setzero_si512(); 3];
    if pieces.count() >= WORTH_POWERS {
        let two = by_one.multiply(keys);
        let by_two = Multiplier::new(two);
        let by_three = Multiplier::new(by_two.multiply(keys));
        let by_four = Multiplier::new(by_two.multiply(two));
        for at in 0..pieces.count() {
            let [one, two, three, four] = read(&pieces, at);
            let product = by_one.add_product(Product::zero(), four);
            let product = by_two.add_product(product, three);
            let product = by_three.add_product(product, two);
            sum = by_four.add_product(product, add(sum, one)).carry();
        }
    } else {
        for at in 0..pieces.count() {
            for block in read(&pieces, at) {
                sum = by_one.multiply(add(sum, block));
            }
        }
    }
    // What RFC 8439 §2.8 has at the end: how long the associated data are, and the text.
    let lengths = texts.map(|text| text.len() as u64);
    let last = limbs(
        _mm512_setzero_si512(),
        load(&lengths),
        _mm512_set1_epi64(HIGH_BIT.cast_signed()),
    );
    let sum = by_one.multiply(add(sum, last));
    let sum = [store(sum[0]), store(sum[1]), store(sum[2])];
    std::array::from_fn(|lane| finish([sum[0][lane], sum[1][lane], sum[2][lane]], pads[lane]))
}

/// The `r` of each key, one a lane, and what is added at the end.
#[inline]
#[target_feature(enable = "avx512f")]
fn split_keys(keys: [&[u8; 32]; LANES]) -> (Lanes, [u128; LANES]) {
    let keys: [(Limbs, u128); LANES] = keys.map(read_key);
    let limb = |at: usize| load(&keys.map(|(r, _)| r[at]));
    ([limb(0), limb(1), limb(2)], keys.map(|(_, pad)| pad))
}

/// The four blocks of the piece at this place of all messages.
#[inline]
#[target_feature(enable = "avx512f")]
fn read(pieces: &Pieces<'_, LANES>, at: usize) -> [Lanes; 4] {
    let rows = pieces.rows(at);
    // SAFETY: a piece has 64 bytes; no alignment is asked.
    let row = |lane: usize| unsafe { _mm512_loadu_si512(std::ptr::from_ref(rows[lane]).cast()) };
    const { assert!(PIECE == 64 && BLOCK == 16) };
    let pair = |lane: usize| {
        let (even, odd) = (row(lane), row(lane + 1));
        (
            _mm512_unpacklo_epi64(even, odd),
            _mm512_unpackhi_epi64(even, odd),
        )
    };
    let (low01, high01) = pair(0);
    let (low23, high23) = pair(2);
    let (low45, high45) = pair(4);
    let (low67, high67) = pair(6);
    let low = columns([low01, low23, low45, low67]);
    let high = columns([high01, high23, high45, high67]);
    let present = pieces.present(at);
    let block = |nth: usize| {
        let above = _mm512_maskz_set1_epi64(present[nth], HIGH_BIT.cast_signed());
        limbs(low[nth], high[nth], above)
    };
    [block(0), block(1), block(2), block(3)]
}

/// Turns rows of four blocks to columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn columns([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_front, ab_back) = (
        _mm512_shuffle_i64x2::<0x44>(a, b),
        _mm512_shuffle_i64x2::<0xee>(a, b),
    );
    let (cd_front, cd_back) = (
        _mm512_shuffle_i64x2::<0x44>(c, d),
        _mm512_shuffle_i64x2::<0xee>(c, d),
    );
    [
        _mm512_shuffle_i64x2::<0x88>(ab_front, cd_front),
        _mm512_shuffle_i64x2::<0xdd>(ab_front, cd_front),
        _mm512_shuffle_i64x2::<0x88>(ab_back, cd_back),
        _mm512_shuffle_i64x2::<0xdd>(ab_back, cd_back),
    ]
}

/// Numbers of 128 bits, and the bits above, as limbs.
#[inline]
#[target_feature(enable = "avx512f")]
fn limbs(low: __m512i, high: __m512i, above: __m512i) -> Lanes {
    let mask = _mm512_set1_epi64(MASK_44.cast_signed());
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [
        _mm512_and_si512(low, mask),
        _mm512_and_si512(middle, mask),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), above),
    ]
}
