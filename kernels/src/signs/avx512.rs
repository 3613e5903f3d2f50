//! Sixteen signs are one comparison.

use std::arch::x86_64::{
    _CMP_GE_OQ, _mm512_add_pd, _mm512_castps512_ps256, _mm512_cmp_ps_mask, _mm512_cvtps_pd,
    _mm512_extractf32x8_ps, _mm512_loadu_ps, _mm512_mask_blend_pd, _mm512_mul_pd, _mm512_set1_pd,
    _mm512_setzero_pd, _mm512_setzero_ps, _mm512_storeu_pd,
};

use crate::distance::LANES;

/// As [`portable`](super::portable).
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn encode(
    lines: &[[f32; LANES]],
    level: f32,
    code: &mut [[u8; 2]],
) -> [[f64; LANES]; 2] {
    let (above, below) = (_mm512_set1_pd(level.into()), _mm512_set1_pd((-level).into()));
    let [mut sums, mut squares] = [[_mm512_setzero_pd(); 2]; 2];
    for (line, code) in lines.iter().zip(code) {
        // SAFETY: 16 floats; no alignment is asked for.
        let x = unsafe { _mm512_loadu_ps(line.as_ptr()) };
        let signs = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_setzero_ps());
        *code = signs.to_le_bytes();
        let halves = [_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)];
        for (i, half) in halves.into_iter().enumerate() {
            let x = _mm512_cvtps_pd(half);
            let y = _mm512_mask_blend_pd(code[i], below, above);
            sums[i] = _mm512_add_pd(sums[i], _mm512_mul_pd(x, y));
            squares[i] = _mm512_add_pd(squares[i], _mm512_mul_pd(x, x));
        }
    }
    [sums, squares].map(|sums| {
        let mut lanes = [0.0; LANES];
        for (lanes, sum) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            // SAFETY: 8 numbers; no alignment is asked for.
            unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), sum) };
        }
        lanes
    })
}
