//! `ChaCha20` (RFC 8439 §2.3) with AVX-512: sixteen blocks at a time, each of any packet.
//!
//! A register holds one word of the state for all sixteen blocks, so that the rounds know
//! nothing of lanes. Before them keys are turned from rows to columns, unless all blocks have
//! the same one; after them the blocks are turned back and meet the text that they hide.

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_castsi128_si512, _mm512_inserti32x4,
    _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_rol_epi32,
    _mm512_set_epi32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::{BLOCK_LEN, Blocks, CONSTANTS, RUN_LEN, high, low};
use crate::KEY_LEN;

/// Hides or shows the text of each of these blocks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn xor(blocks: &mut Blocks<'_>) {
    let keys = if blocks.one_key() {
        broadcast(blocks.keys[0])
    } else {
        columns(&blocks.keys)
    };
    let stream = keystream(
        &keys,
        load(&blocks.numbers),
        load(&blocks.low),
        load(&blocks.high),
    );
    let len = blocks.len;
    for (text, stream) in blocks.texts[..len].iter_mut().zip(&stream) {
        if let Ok(text) = <&mut [u8; BLOCK_LEN]>::try_from(&mut **text) {
            xor_whole(text, *stream);
        } else {
            xor_part(text, *stream);
        }
    }
}

/// The same for sixteen blocks in a row, of which the first has this number.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn xor_run(key: &[u8; KEY_LEN], counter: u64, first: u32, run: &mut [u8; RUN_LEN]) {
    let places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let stream = keystream(
        &broadcast(key),
        _mm512_add_epi32(_mm512_set1_epi32(first.cast_signed()), places),
        _mm512_set1_epi32(low(counter).cast_signed()),
        _mm512_set1_epi32(high(counter).cast_signed()),
    );
    for (text, stream) in run.as_chunks_mut().0.iter_mut().zip(&stream) {
        xor_whole(text, *stream);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor_whole(text: &mut [u8; BLOCK_LEN], stream: __m512i) {
    // SAFETY: 64 bytes can be read and written there; no alignment is asked.
    unsafe {
        let shown = _mm512_loadu_si512(text.as_ptr().cast());
        _mm512_storeu_si512(text.as_mut_ptr().cast(), _mm512_xor_si512(shown, stream));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor_part(text: &mut [u8], stream: __m512i) {
    debug_assert!(text.len() < BLOCK_LEN);
    let mask = (1_u64 << (text.len() % BLOCK_LEN)) - 1;
    // SAFETY: only bytes of the mask are read and written, which are as many as the text has.
    unsafe {
        let shown = _mm512_maskz_loadu_epi8(mask, text.as_ptr().cast());
        let hidden = _mm512_xor_si512(shown, stream);
        _mm512_mask_storeu_epi8(text.as_mut_ptr().cast(), mask, hidden);
    }
}

/// Words 4 to 11 of the state where all blocks have one key.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(key: &[u8; KEY_LEN]) -> [__m512i; 8] {
    let (words, _) = key.as_chunks::<4>();
    let word = |at: usize| _mm512_set1_epi32(i32::from_le_bytes(words[at]));
    [
        word(0),
        word(1),
        word(2),
        word(3),
        word(4),
        word(5),
        word(6),
        word(7),
    ]
}

/// The same where each has its own.
#[inline]
#[target_feature(enable = "avx512f")]
fn columns(keys: &[&[u8; KEY_LEN]; 16]) -> [__m512i; 8] {
    let [a0, a1, a2, a3] = quarter_columns([
        halves::<0>([keys[0], keys[4], keys[8], keys[12]]),
        halves::<0>([keys[1], keys[5], keys[9], keys[13]]),
        halves::<0>([keys[2], keys[6], keys[10], keys[14]]),
        halves::<0>([keys[3], keys[7], keys[11], keys[15]]),
    ]);
    let [b0, b1, b2, b3] = quarter_columns([
        halves::<16>([keys[0], keys[4], keys[8], keys[12]]),
        halves::<16>([keys[1], keys[5], keys[9], keys[13]]),
        halves::<16>([keys[2], keys[6], keys[10], keys[14]]),
        halves::<16>([keys[3], keys[7], keys[11], keys[15]]),
    ]);
    [a0, a1, a2, a3, b0, b1, b2, b3]
}

/// The halves of four keys that begin at this byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves<const AT: usize>(keys: [&[u8; KEY_LEN]; 4]) -> __m512i {
    const { assert!(AT + 16 <= KEY_LEN) };
    // SAFETY: a key has 16 bytes from there on; no alignment is asked.
    let half = |key: &[u8; KEY_LEN]| unsafe { _mm_loadu_si128(key.as_ptr().add(AT).cast()) };
    let all = _mm512_castsi128_si512(half(keys[0]));
    let all = _mm512_inserti32x4::<1>(all, half(keys[1]));
    let all = _mm512_inserti32x4::<2>(all, half(keys[2]));
    _mm512_inserti32x4::<3>(all, half(keys[3]))
}

/// Turns rows of four words to columns, in each quarter of the registers by itself.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarter_columns([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Turns four registers of quarters to columns of quarters.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (
        _mm512_shuffle_i32x4::<0x44>(a, b),
        _mm512_shuffle_i32x4::<0xee>(a, b),
    );
    let (cd_low, cd_high) = (
        _mm512_shuffle_i32x4::<0x44>(c, d),
        _mm512_shuffle_i32x4::<0xee>(c, d),
    );
    [
        _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; 16]) -> __m512i {
    // SAFETY: 64 bytes can be read from sixteen u32; no alignment is asked.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Four quarter rounds (RFC 8439 §2.1) of each block, step by step side by side, since each
/// step of one waits for the one before.
macro_rules! quarter_rounds {
    ($($a:ident $b:ident $c:ident $d:ident),*) => {
        $($a = _mm512_add_epi32($a, $b);)*
        $($d = _mm512_rol_epi32::<16>(_mm512_xor_si512($d, $a));)*
        $($c = _mm512_add_epi32($c, $d);)*
        $($b = _mm512_rol_epi32::<12>(_mm512_xor_si512($b, $c));)*
        $($a = _mm512_add_epi32($a, $b);)*
        $($d = _mm512_rol_epi32::<8>(_mm512_xor_si512($d, $a));)*
        $($c = _mm512_add_epi32($c, $d);)*
        $($b = _mm512_rol_epi32::<7>(_mm512_xor_si512($b, $c));)*
    };
}

/// Sixteen blocks of keystream, one a register.
// Each word has its name: with an array, and an index in a loop, it takes four times as long.
#[inline]
#[target_feature(enable = "avx512f")]
fn keystream(
    keys: &[__m512i; 8],
    numbers: __m512i,
    nonce_low: __m512i,
    nonce_high: __m512i,
) -> [__m512i; 16] {
    let constant = |at: usize| _mm512_set1_epi32(CONSTANTS[at].cast_signed());
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
    let (mut x12, mut x13) = (numbers, _mm512_setzero_si512());
    let (mut x14, mut x15) = (nonce_low, nonce_high);
    for _ in 0..10 {
        quarter_rounds!(x0 x4 x8 x12, x1 x5 x9 x13, x2 x6 x10 x14, x3 x7 x11 x15);
        quarter_rounds!(x0 x5 x10 x15, x1 x6 x11 x12, x2 x7 x8 x13, x3 x4 x9 x14);
    }
    // Rows of a word for all blocks become blocks: words four by four, then these quarters.
    let add = |x, y| _mm512_add_epi32(x, y);
    let [a0, a1, a2, a3] = quarter_columns([add(x0, k0), add(x1, k1), add(x2, k2), add(x3, k3)]);
    let [b0, b1, b2, b3] = quarter_columns([
        add(x4, keys[0]),
        add(x5, keys[1]),
        add(x6, keys[2]),
        add(x7, keys[3]),
    ]);
    let [c0, c1, c2, c3] = quarter_columns([
        add(x8, keys[4]),
        add(x9, keys[5]),
        add(x10, keys[6]),
        add(x11, keys[7]),
    ]);
    let [d0, d1, d2, d3] = quarter_columns([
        add(x12, numbers),
        x13,
        add(x14, nonce_low),
        add(x15, nonce_high),
    ]);
    let [s0, s4, s8, s12] = quarters([a0, b0, c0, d0]);
    let [s1, s5, s9, s13] = quarters([a1, b1, c1, d1]);
    let [s2, s6, s10, s14] = quarters([a2, b2, c2, d2]);
    let [s3, s7, s11, s15] = quarters([a3, b3, c3, d3]);
    [
        s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15,
    ]
}
