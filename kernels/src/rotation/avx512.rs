//! Butterflies of registers: within one a shuffle and a sum each, where a plain loop becomes many moves.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps,
    _mm512_permute_ps, _mm512_set1_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::LANES;

/// As [`butterflies`](super::butterflies).
#[target_feature(enable = "avx512f")]
pub(super) fn butterflies(lines: &mut [[f32; LANES]]) {
    for line in &mut *lines {
        let x = load(line);
        let x = butterfly(x, _mm512_permute_ps::<0b10_11_00_01>(x), 0xAAAA);
        let x = butterfly(x, _mm512_permute_ps::<0b01_00_11_10>(x), 0xCCCC);
        let x = butterfly(x, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x), 0xF0F0);
        let x = butterfly(x, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x), 0xFF00);
        store(x, line);
    }
    let mut distance = 1;
    while distance < lines.len() {
        for pair in lines.chunks_exact_mut(2 * distance) {
            let (low, high) = pair.split_at_mut(distance);
            for (low, high) in low.iter_mut().zip(high) {
                let (a, b) = (load(low), load(high));
                store(_mm512_add_ps(a, b), low);
                store(_mm512_sub_ps(a, b), high);
            }
        }
        distance *= 2;
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats; no alignment is asked for.
    unsafe { _mm512_loadu_ps(line.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512, line: &mut [f32; LANES]) {
    // SAFETY: 16 floats; no alignment is asked for.
    unsafe { _mm512_storeu_ps(line.as_mut_ptr(), x) };
}

/// `partners + x`, or minus x where `high` has ones: the product with ±1 rounds nothing.
#[inline]
#[target_feature(enable = "avx512f")]
fn butterfly(x: __m512, partners: __m512, high: u16) -> __m512 {
    let signs = _mm512_mask_blend_ps(high, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
    _mm512_fmadd_ps(x, signs, partners)
}
