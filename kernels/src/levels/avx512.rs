//! Up to 32 levels lie in two registers, and one permutation finds 16 of them.

use std::arch::x86_64::{
    _mm256_maskz_loadu_epi16, _mm512_cvtepu16_epi32, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_permutex2var_ps,
};

/// Levels that two registers hold.
pub(super) const HELD: usize = 32;

/// Values at a time.
const LANES: usize = 16;

/// As [`decode`](super::decode), of at most [`HELD`] levels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn decode(levels: &[f32], values: &[u16], out: &mut [f32]) {
    // Repeated, so that bits beyond those that tell them apart do not matter.
    let held: [f32; HELD] = std::array::from_fn(|i| levels[i & (levels.len() - 1)]);
    // SAFETY: 16 floats; no alignment is asked for.
    let low = unsafe { _mm512_loadu_ps(held[..LANES].as_ptr()) };
    // SAFETY: 16 floats; no alignment is asked for.
    let high = unsafe { _mm512_loadu_ps(held[LANES..].as_ptr()) };
    for (values, out) in values.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let there = ((1_u32 << values.len()) - 1) as u16;
        // SAFETY: the mask leaves out what lies beyond the values.
        let index = unsafe { _mm256_maskz_loadu_epi16(there, values.as_ptr().cast()) };
        let found = _mm512_permutex2var_ps(low, _mm512_cvtepu16_epi32(index), high);
        // SAFETY: the mask leaves out what lies beyond the places, which are as many.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), there, found) };
    }
}
