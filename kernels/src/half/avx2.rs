//! Eight numbers at a time, by the conversion of the machine (F16C).

use std::arch::x86_64::{
    _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
    _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps, _mm256_storeu_ps,
};

use super::{MAX, decode_each, encode_each};

/// As [`encode`](super::encode) for lengths that were checked.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn encode(x: &[f32], code: &mut [[u8; 2]]) {
    let (blocks, rest) = x.as_chunks::<8>();
    let (codes, code_rest) = code.as_chunks_mut::<8>();
    let (low, high) = (_mm256_set1_ps(-MAX), _mm256_set1_ps(MAX));
    for (x, code) in blocks.iter().zip(codes) {
        // SAFETY: `x` is 8 floats; no alignment is asked for.
        let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
        // Of a NaN and a number these instructions return their second operand.
        let x = _mm256_max_ps(_mm256_min_ps(x, high), low);
        let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
        // SAFETY: `code` is 16 bytes; no alignment is asked for.
        unsafe { _mm_storeu_si128(code.as_mut_ptr().cast(), halves) };
    }
    encode_each(rest, code_rest);
}

/// As [`decode`](super::decode) for lengths that were checked.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn decode(code: &[[u8; 2]], x: &mut [f32]) {
    let (codes, code_rest) = code.as_chunks::<8>();
    let (blocks, rest) = x.as_chunks_mut::<8>();
    for (code, x) in codes.iter().zip(blocks) {
        // SAFETY: `code` is 16 bytes; no alignment is asked for.
        let halves = unsafe { _mm_loadu_si128(code.as_ptr().cast()) };
        let numbers = _mm256_cvtph_ps(halves);
        // SAFETY: `x` is 8 floats; no alignment is asked for.
        unsafe { _mm256_storeu_ps(x.as_mut_ptr(), numbers) };
    }
    decode_each(code_rest, rest);
}
