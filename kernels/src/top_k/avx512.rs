//! Sixteen comparisons at a time.

use std::arch::x86_64::{_CMP_NLT_UQ, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_set1_ps};

use super::BLOCK;

/// As [`next_reaching`](super::next_reaching), of whole blocks.
#[target_feature(enable = "avx512f")]
pub(super) fn next_reaching(blocks: &[[f32; BLOCK]], threshold: f32) -> Option<(usize, u64)> {
    let threshold = _mm512_set1_ps(threshold);
    for (i, block) in blocks.iter().enumerate() {
        let mut marks = 0_u64;
        for (v, sixteen) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: 16 floats; no alignment is asked for.
            let scores = unsafe { _mm512_loadu_ps(sixteen.as_ptr()) };
            let reaching = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(scores, threshold);
            marks |= u64::from(reaching) << (16 * v);
        }
        if marks != 0 {
            return Some((i, marks));
        }
    }
    None
}
