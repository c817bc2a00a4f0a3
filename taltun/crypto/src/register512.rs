//! A register of AVX-512 as the eight numbers that it holds, and back.

use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_storeu_si512};

/// Numbers of 64 bits side by side.
pub(super) const LANES: usize = 8;

/// A register with these numbers.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(lanes: &[u64; LANES]) -> __m512i {
    // SAFETY: 64 bytes can be read from eight u64; no alignment is asked.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// The numbers in a register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(lanes: __m512i) -> [u64; LANES] {
    let mut out = [0; LANES];
    // SAFETY: eight u64 are 64 bytes; no alignment is asked.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), lanes) };
    out
}
