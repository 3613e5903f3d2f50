//! Sixteen numbers at a time, by the conversion of the machine.

use std::arch::x86_64::{
    _MM_FROUND_TO_NEAREST_INT, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_cvtph_ps,
    _mm512_cvtps_ph, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps,
    _mm512_storeu_ps,
};

use super::{MAX, decode_each, encode_each};

/// As [`encode`](super::encode) for lengths that were checked.
#[target_feature(enable = "avx512f")]
pub(super) fn encode(x: &[f32], code: &mut [[u8; 2]]) {
    let (blocks, rest) = x.as_chunks::<16>();
    let (codes, code_rest) = code.as_chunks_mut::<16>();
    let (low, high) = (_mm512_set1_ps(-MAX), _mm512_set1_ps(MAX));
    for (x, code) in blocks.iter().zip(codes) {
        // SAFETY: `x` is 16 floats; no alignment is asked for.
        let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
        // Of a NaN and a number these instructions return their second operand.
        let x = _mm512_max_ps(_mm512_min_ps(x, high), low);
        let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
        // SAFETY: `code` is 32 bytes; no alignment is asked for.
        unsafe { _mm256_storeu_si256(code.as_mut_ptr().cast(), halves) };
    }
    encode_each(rest, code_rest);
}

/// As [`decode`](super::decode) for lengths that were checked.
#[target_feature(enable = "avx512f")]
pub(super) fn decode(code: &[[u8; 2]], x: &mut [f32]) {
    let (codes, code_rest) = code.as_chunks::<16>();
    let (blocks, rest) = x.as_chunks_mut::<16>();
    for (code, x) in codes.iter().zip(blocks) {
        // SAFETY: `code` is 32 bytes; no alignment is asked for.
        let halves = unsafe { _mm256_loadu_si256(code.as_ptr().cast()) };
        let numbers = _mm512_cvtph_ps(halves);
        // SAFETY: `x` is 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), numbers) };
    }
    decode_each(code_rest, rest);
}
