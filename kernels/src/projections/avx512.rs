//! Products by AVX-512 VNNI: lanes hold neighbouring rows, so that the signs of a vector's products are bits of a mask.

use std::arch::x86_64::{
    __m512i, _CMP_GE_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_load_si512,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
};
use std::ops::Range;

use super::{LANES, Line, PAIRS};
use crate::int16::add_products;

/// Vectors at a time: their sums, [`PANELS`] rows and a vector take all registers but three.
const VECTORS: usize = 6;

/// Sixteen rows each, at a time.
const PANELS: usize = 4;

/// As [`portable`](super::portable).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn signs(
    lines: &[Line],
    pairs: &[i32],
    width: usize,
    (bytes, codes): (usize, &mut [u8]),
) {
    // These rows stay in the second-level cache while all vectors pass by.
    for (i, lines) in lines.chunks(PANELS * width).enumerate() {
        let first = i * PANELS * LANES / 8;
        let end = bytes.min(first + PANELS * LANES / 8);
        let vectors = pairs.chunks(VECTORS * width).zip(codes.chunks_mut(VECTORS * bytes));
        for (x, codes) in vectors {
            let found = match lines.len() / width {
                1 => some::<1>(lines, x, width),
                2 => some::<2>(lines, x, width),
                3 => some::<3>(lines, x, width),
                _ => some::<PANELS>(lines, x, width),
            };
            for (found, code) in found.iter().zip(codes.chunks_exact_mut(bytes)) {
                code[first..end].copy_from_slice(&found.to_le_bytes()[..end - first]);
            }
        }
    }
}

/// The signs of all rows of `P` panels for each of `x`.
///
/// Loops throughout, for closures would be compiled without these instructions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn some<const P: usize>(lines: &[Line], x: &[i32], width: usize) -> [u64; VECTORS] {
    let mut totals = [[_mm512_setzero_ps(); P]; VECTORS];
    for from in (0..width).step_by(PAIRS) {
        let sums = products::<P>(lines, x, width, from..width.min(from + PAIRS));
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = _mm512_add_ps(*total, _mm512_cvtepi32_ps(sum));
            }
        }
    }
    let mut found = [0; VECTORS];
    for (found, totals) in found.iter_mut().zip(&totals) {
        for (p, total) in totals.iter().enumerate() {
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(*total, _mm512_setzero_ps());
            *found |= u64::from(mask) << (LANES * p);
        }
    }
    found
}

/// Sums of the products of the pairs `summed`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn products<const P: usize>(
    lines: &[Line],
    x: &[i32],
    width: usize,
    summed: Range<usize>,
) -> [[__m512i; P]; VECTORS] {
    let mut panels: [&[Line]; P] = [&[]; P];
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = &lines[p * width..][summed.clone()];
    }
    // The last vector is repeated where there are fewer.
    let last = x.len() / width - 1;
    let mut vectors: [&[i32]; VECTORS] = [&[]; VECTORS];
    for (v, vector) in vectors.iter_mut().enumerate() {
        *vector = &x[v.min(last) * width..][summed.clone()];
    }
    // Said again, so that nothing is left to check in the loop.
    let count = summed.len();
    assert!(panels.iter().all(|lines| lines.len() == count));
    assert!(vectors.iter().all(|x| x.len() == count));
    let mut sums = [[_mm512_setzero_si512(); P]; VECTORS];
    for k in 0..count {
        let mut rows = [_mm512_setzero_si512(); P];
        for (row, panel) in rows.iter_mut().zip(&panels) {
            // SAFETY: a line is 64 bytes that are aligned to as many.
            *row = unsafe { _mm512_load_si512((&raw const panel[k]).cast()) };
        }
        for (sums, x) in sums.iter_mut().zip(&vectors) {
            let x = _mm512_set1_epi32(x[k]);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = add_products(*sum, x, row);
            }
        }
    }
    sums
}
