//! The recurrence of the parent module with AVX2 and FMA: half a panel is two registers wide.
//!
//! Six vectors at a time: 12 accumulators, two loads and a broadcast fit the 16 registers.

use std::arch::x86_64::{
    __m256, _CMP_EQ_OQ, _CMP_GT_OQ, _mm256_add_epi32, _mm256_blendv_epi8, _mm256_blendv_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtsi256_si32,
    _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_load_ps, _mm256_max_ps, _mm256_min_epu32,
    _mm256_permute_ps, _mm256_permute2f128_ps, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_epi32, _mm256_storeu_ps,
};

use super::{HALF, Line, PANEL};

/// As [`Path::scores`](super::Path::scores).
#[target_feature(enable = "avx2,fma")]
pub(super) fn scores(x: &[&[f32]], panels: &[Line], scores: &mut [&mut [f32]]) {
    let (tiles, x_rest) = x.as_chunks::<6>();
    let (scores, scores_rest) = scores.split_at_mut(6 * tiles.len());
    for (x, scores) in tiles.iter().zip(scores.as_chunks_mut().0) {
        scores_tile(x, panels, scores);
    }
    for (x, scores) in x_rest.as_chunks::<1>().0.iter().zip(scores_rest.as_chunks_mut().0) {
        scores_tile(x, panels, scores);
    }
}

/// As [`Path::nearest`](super::Path::nearest).
#[target_feature(enable = "avx2,fma")]
pub(super) fn nearest(x: &[&[f32]], panels: &[Line], found: &mut [(u32, f32)]) {
    let (tiles, x_rest) = x.as_chunks::<6>();
    let (found, found_rest) = found.split_at_mut(6 * tiles.len());
    for (x, found) in tiles.iter().zip(found.as_chunks_mut().0) {
        nearest_tile(x, panels, found);
    }
    for (x, found) in x_rest.as_chunks::<1>().0.iter().zip(found_rest.as_chunks_mut().0) {
        nearest_tile(x, panels, found);
    }
}

#[target_feature(enable = "avx2,fma")]
fn scores_tile<const R: usize>(x: &[&[f32]; R], panels: &[Line], scores: &mut [&mut [f32]; R]) {
    let d = x[0].len();
    for (p, panel) in panels.chunks_exact(d + 1).enumerate() {
        for half in 0..2 {
            let sums = half_scores(x, panel, half);
            for (sums, scores) in sums.iter().zip(scores.iter_mut()) {
                let first = (p * PANEL + half * HALF).min(scores.len());
                let scores = &mut scores[first..];
                if let Some(scores) = scores.first_chunk_mut() {
                    store(sums, scores);
                } else {
                    let mut padded = [0.0; HALF];
                    store(sums, &mut padded);
                    scores.copy_from_slice(&padded[..scores.len()]);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn nearest_tile<const R: usize>(x: &[&[f32]; R], panels: &[Line], found: &mut [(u32, f32); R]) {
    let d = x[0].len();
    let mut best =
        [Best { score: _mm256_set1_ps(f32::NEG_INFINITY), index: _mm256_setzero_ps() }; R];
    let mut first = 0;
    for panel in panels.chunks_exact(d + 1) {
        for half in 0..2 {
            let sums = half_scores(x, panel, half);
            keep_better(&sums, first, &mut best);
            first += HALF as i32;
        }
    }
    for (found, best) in found.iter_mut().zip(best) {
        *found = best_of_lanes(best.score, best.index);
    }
}

/// The best so far in each lane.
#[derive(Clone, Copy)]
struct Best {
    score: __m256,
    /// Indices as the bits of floats, because the blend of floats is the one there is.
    index: __m256,
}

/// A later row must be strictly better, so the lowest index of a lane stays.
///
/// Not inlined: the accumulators need all registers, and the best must not compete for them.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn keep_better<const R: usize>(sums: &[[__m256; 2]; R], first: i32, best: &mut [Best; R]) {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let indices = [first, first + 8]
        .map(|first| _mm256_castsi256_ps(_mm256_add_epi32(lanes, _mm256_set1_epi32(first))));
    for (sums, best) in sums.iter().zip(best) {
        for (&sum, index) in sums.iter().zip(indices) {
            let better = _mm256_cmp_ps::<_CMP_GT_OQ>(sum, best.score);
            // Of a NaN and a number this instruction returns its second operand.
            best.score = _mm256_max_ps(sum, best.score);
            best.index = _mm256_blendv_ps(best.index, index, better);
        }
    }
}

/// R vectors against the first (`half` = 0) or last 16 rows of one panel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn half_scores<const R: usize>(x: &[&[f32]; R], panel: &[Line], half: usize) -> [[__m256; 2]; R] {
    let (biases, lines) = panel.split_first().expect("a panel has d + 1 lines");
    for x in x {
        // Once per panel, in place of a check per element.
        assert_eq!(x.len(), lines.len());
    }
    let mut sums = [load(biases, half); R];
    for (k, line) in lines.iter().enumerate() {
        let [low, high] = load(line, half);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm256_set1_ps(x[k]);
            sums[0] = _mm256_fmadd_ps(x, low, sums[0]);
            sums[1] = _mm256_fmadd_ps(x, high, sums[1]);
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(line: &Line, half: usize) -> [__m256; 2] {
    let (low, high) = line.0.as_chunks::<HALF>().0[half].split_at(8);
    // SAFETY: `low` is 8 floats at byte 0 or 64 of a `Line`, which is aligned to 64 bytes.
    let low = unsafe { _mm256_load_ps(low.as_ptr()) };
    // SAFETY: `high` is 8 floats, 32 bytes after `low`.
    let high = unsafe { _mm256_load_ps(high.as_ptr()) };
    [low, high]
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store(sums: &[__m256; 2], scores: &mut [f32; HALF]) {
    let (low, high) = scores.split_at_mut(8);
    // SAFETY: `low` is 8 floats; no alignment is asked for.
    unsafe { _mm256_storeu_ps(low.as_mut_ptr(), sums[0]) };
    // SAFETY: `high` is 8 floats; no alignment is asked for.
    unsafe { _mm256_storeu_ps(high.as_mut_ptr(), sums[1]) };
}

/// The largest score, and the lowest index among its ties.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn best_of_lanes(scores: __m256, indices: __m256) -> (u32, f32) {
    // Every lane meets its partner at distance 4, 2 and 1.
    let best = _mm256_max_ps(scores, _mm256_permute2f128_ps::<1>(scores, scores));
    let best = _mm256_max_ps(best, _mm256_permute_ps::<0b01_00_11_10>(best));
    let best = _mm256_max_ps(best, _mm256_permute_ps::<0b10_11_00_01>(best));
    let ties = _mm256_cmp_ps::<_CMP_EQ_OQ>(scores, best);
    let none = _mm256_set1_epi32(-1);
    let index = _mm256_blendv_epi8(none, _mm256_castps_si256(indices), _mm256_castps_si256(ties));
    let index = _mm256_min_epu32(index, _mm256_permute2x128_si256::<1>(index, index));
    let index = _mm256_min_epu32(index, _mm256_shuffle_epi32::<0b01_00_11_10>(index));
    let index = _mm256_min_epu32(index, _mm256_shuffle_epi32::<0b10_11_00_01>(index));
    (_mm256_cvtsi256_si32(index) as u32, _mm256_cvtss_f32(best) + 0.0)
}
