//! `ChaCha20` (RFC 8439 §2.3) with AVX2: eight blocks at a time, each of any packet. As
//! [`super::chacha512`], of half the width.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_castsi128_si256, _mm256_inserti128_si256,
    _mm256_loadu_si256, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::{BLOCK_LEN, Blocks, CONSTANTS};
use crate::KEY_LEN;

/// Blocks side by side.
pub(super) const LANES: usize = 8;

/// Hides or shows the text of each of these blocks, which are [`LANES`] at the most.
#[target_feature(enable = "avx2")]
pub(super) fn xor(blocks: &mut Blocks<'_>) {
    let keys = columns(&blocks.keys);
    let stream = keystream(
        &keys,
        load(&blocks.numbers),
        load(&blocks.low),
        load(&blocks.high),
    );
    let len = blocks.len.min(LANES);
    for (text, [front, back]) in blocks.texts[..len].iter_mut().zip(&stream) {
        let (halves, rest) = text.as_chunks_mut();
        match halves {
            [one, two] => {
                xor_half(one, *front);
                xor_half(two, *back);
            }
            [one] => {
                xor_half(one, *front);
                xor_part(rest, *back);
            }
            _ => xor_part(rest, *front),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor_half(text: &mut [u8; BLOCK_LEN / 2], stream: __m256i) {
    // SAFETY: 32 bytes can be read and written there; no alignment is asked.
    unsafe {
        let shown = _mm256_loadu_si256(text.as_ptr().cast());
        _mm256_storeu_si256(text.as_mut_ptr().cast(), _mm256_xor_si256(shown, stream));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor_part(text: &mut [u8], stream: __m256i) {
    if text.is_empty() {
        return;
    }
    let mut bytes = [0; BLOCK_LEN / 2];
    xor_half(&mut bytes, stream);
    for (byte, stream) in text.iter_mut().zip(bytes) {
        *byte ^= stream;
    }
}

/// Words 4 to 11 of the state.
#[inline]
#[target_feature(enable = "avx2")]
fn columns(keys: &[&[u8; KEY_LEN]; 16]) -> [__m256i; 8] {
    let [a0, a1, a2, a3] = quarter_columns([
        halves::<0>(keys[0], keys[4]),
        halves::<0>(keys[1], keys[5]),
        halves::<0>(keys[2], keys[6]),
        halves::<0>(keys[3], keys[7]),
    ]);
    let [b0, b1, b2, b3] = quarter_columns([
        halves::<16>(keys[0], keys[4]),
        halves::<16>(keys[1], keys[5]),
        halves::<16>(keys[2], keys[6]),
        halves::<16>(keys[3], keys[7]),
    ]);
    [a0, a1, a2, a3, b0, b1, b2, b3]
}

/// The halves of two keys that begin at this byte.
#[inline]
#[target_feature(enable = "avx2")]
fn halves<const AT: usize>(one: &[u8; KEY_LEN], other: &[u8; KEY_LEN]) -> __m256i {
    const { assert!(AT + 16 <= KEY_LEN) };
    // SAFETY: a key has 16 bytes from there on; no alignment is asked.
    let half = |key: &[u8; KEY_LEN]| unsafe { _mm_loadu_si128(key.as_ptr().add(AT).cast()) };
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(half(one)), half(other))
}

/// Turns rows of four words to columns, in each half of the registers by itself.
#[inline]
#[target_feature(enable = "avx2")]
fn quarter_columns([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[u32; 16]) -> __m256i {
    // SAFETY: 32 bytes can be read from sixteen u32; no alignment is asked.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Rotates each word to the left by so many bits, which with `RIGHT` are 32.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const LEFT: i32, const RIGHT: i32>(words: __m256i) -> __m256i {
    const { assert!(LEFT + RIGHT == 32) };
    _mm256_or_si256(
        _mm256_slli_epi32::<LEFT>(words),
        _mm256_srli_epi32::<RIGHT>(words),
    )
}

/// Four quarter rounds (RFC 8439 §2.1) of each block, step by step side by side, since each
/// step of one waits for the one before. Rotations by whole bytes are shuffles of them.
macro_rules! quarter_rounds {
    ($by_16:ident, $by_8:ident, $($a:ident $b:ident $c:ident $d:ident),*) => {
        $($a = _mm256_add_epi32($a, $b);)*
        $($d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $by_16);)*
        $($c = _mm256_add_epi32($c, $d);)*
        $($b = rotate::<12, 20>(_mm256_xor_si256($b, $c));)*
        $($a = _mm256_add_epi32($a, $b);)*
        $($d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $by_8);)*
        $($c = _mm256_add_epi32($c, $d);)*
        $($b = rotate::<7, 25>(_mm256_xor_si256($b, $c));)*
    };
}

/// Eight blocks of keystream, two registers each.
#[inline]
#[target_feature(enable = "avx2")]
fn keystream(
    keys: &[__m256i; 8],
    numbers: __m256i,
    nonce_low: __m256i,
    nonce_high: __m256i,
) -> [[__m256i; 2]; LANES] {
    let by_16 = _mm256_setr_epi8(
        2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9,
        14, 15, 12, 13,
    );
    let by_8 = _mm256_setr_epi8(
        3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10,
        15, 12, 13, 14,
    );
    let constant = |at: usize| _mm256_set1_epi32(CONSTANTS[at].cast_signed());
    let (k0, k1, k2, k3) = (constant(0), constant(1), constant(2), constant(3));
    let (mut x0, mut x1, mut x2, mut x3) = (k0, k1, k2, k3);
    let [
        mut x4,
        mut x5,
        mut x6,
        mut x7,
        mut x8,
        mut x9,
        mut x10,
        mut x11,
    ] = *keys;
    let (mut x12, mut x13) = (numbers, _mm256_setzero_si256());
    let (mut x14, mut x15) = (nonce_low, nonce_high);
    for _ in 0..10 {
        quarter_rounds!(by_16, by_8, x0 x4 x8 x12, x1 x5 x9 x13, x2 x6 x10 x14, x3 x7 x11 x15);
        quarter_rounds!(by_16, by_8, x0 x5 x10 x15, x1 x6 x11 x12, x2 x7 x8 x13, x3 x4 x9 x14);
    }
    let add = |x, y| _mm256_add_epi32(x, y);
    let a = quarter_columns([add(x0, k0), add(x1, k1), add(x2, k2), add(x3, k3)]);
    let b = quarter_columns([
        add(x4, keys[0]),
        add(x5, keys[1]),
        add(x6, keys[2]),
        add(x7, keys[3]),
    ]);
    let c = quarter_columns([
        add(x8, keys[4]),
        add(x9, keys[5]),
        add(x10, keys[6]),
        add(x11, keys[7]),
    ]);
    let d = quarter_columns([
        add(x12, numbers),
        x13,
        add(x14, nonce_low),
        add(x15, nonce_high),
    ]);
    // Halves of a register are of blocks four apart.
    let front = |at: usize| {
        [
            _mm256_permute2x128_si256::<0x20>(a[at], b[at]),
            _mm256_permute2x128_si256::<0x20>(c[at], d[at]),
        ]
    };
    let back = |at: usize| {
        [
            _mm256_permute2x128_si256::<0x31>(a[at], b[at]),
            _mm256_permute2x128_si256::<0x31>(c[at], d[at]),
        ]
    };
    [
        front(0),
        front(1),
        front(2),
        front(3),
        back(0),
        back(1),
        back(2),
        back(3),
    ]
}
