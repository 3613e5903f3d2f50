//! Products by AVX2: as with AVX-512 lanes hold neighbouring rows, half as many of them.

use std::arch::x86_64::{
    __m256i, _CMP_GE_OQ, _mm256_add_epi32, _mm256_add_ps, _mm256_cmp_ps, _mm256_cvtepi32_ps,
    _mm256_load_si256, _mm256_madd_epi16, _mm256_movemask_ps, _mm256_set1_epi32, _mm256_setzero_ps,
    _mm256_setzero_si256,
};
use std::ops::Range;

use super::{Line, PAIRS};

/// Vectors at a time: their sums and the rows of a line leave five registers.
const VECTORS: usize = 4;

/// As [`portable`](super::portable).
#[target_feature(enable = "avx2")]
pub(super) fn signs(
    lines: &[Line],
    pairs: &[i32],
    width: usize,
    (bytes, codes): (usize, &mut [u8]),
) {
    for (i, lines) in lines.chunks_exact(width).enumerate() {
        let place = 2 * i..bytes.min(2 * i + 2);
        let vectors = pairs.chunks(VECTORS * width).zip(codes.chunks_mut(VECTORS * bytes));
        for (x, codes) in vectors {
            let found = some(lines, x, width);
            for (found, code) in found.iter().zip(codes.chunks_exact_mut(bytes)) {
                code[place.clone()].copy_from_slice(&found.to_le_bytes()[..place.len()]);
            }
        }
    }
}

/// The signs of the rows of `lines` for each of `x`.
#[inline]
#[target_feature(enable = "avx2")]
fn some(lines: &[Line], x: &[i32], width: usize) -> [u16; VECTORS] {
    let mut totals = [[_mm256_setzero_ps(); 2]; VECTORS];
    for from in (0..width).step_by(PAIRS) {
        let sums = products(lines, x, width, from..width.min(from + PAIRS));
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = _mm256_add_ps(*total, _mm256_cvtepi32_ps(sum));
            }
        }
    }
    let mut found = [0; VECTORS];
    for (found, totals) in found.iter_mut().zip(&totals) {
        for (half, total) in totals.iter().enumerate() {
            let above = _mm256_cmp_ps::<_CMP_GE_OQ>(*total, _mm256_setzero_ps());
            *found |= (_mm256_movemask_ps(above) as u16) << (8 * half);
        }
    }
    found
}

/// Sums of the products of the pairs `summed`, of the first and the last rows of the lines.
#[inline]
#[target_feature(enable = "avx2")]
fn products(
    lines: &[Line],
    x: &[i32],
    width: usize,
    summed: Range<usize>,
) -> [[__m256i; 2]; VECTORS] {
    // The last vector is repeated where there are fewer.
    let last = x.len() / width - 1;
    let mut vectors: [&[i32]; VECTORS] = [&[]; VECTORS];
    for (v, vector) in vectors.iter_mut().enumerate() {
        *vector = &x[v.min(last) * width..][summed.clone()];
    }
    let mut sums = [[_mm256_setzero_si256(); 2]; VECTORS];
    for (k, line) in lines[summed].iter().enumerate() {
        let halves = line.0.as_chunks::<8>().0;
        let mut rows = [_mm256_setzero_si256(); 2];
        for (row, half) in rows.iter_mut().zip(halves) {
            // SAFETY: half a line is 32 bytes that are aligned to as many.
            *row = unsafe { _mm256_load_si256(half.as_ptr().cast()) };
        }
        for (sums, x) in sums.iter_mut().zip(&vectors) {
            let x = _mm256_set1_epi32(x[k]);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, row));
            }
        }
    }
    sums
}
