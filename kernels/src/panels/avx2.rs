//! The recurrence of the parent module with AVX2 and FMA: a panel is four registers wide.
//!
//! Three vectors at a time: 12 accumulators, 3 broadcasts and one load fill the 16 registers.

use std::arch::x86_64::{
    __m256, _CMP_GT_OQ, _mm256_add_epi32, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cmp_ps,
    _mm256_fmadd_ps, _mm256_load_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{Line, PANEL};

/// As [`Path::scores`](super::Path::scores).
#[target_feature(enable = "avx2,fma")]
pub(super) fn scores(x: &[&[f32]], panels: &[Line], scores: &mut [&mut [f32]]) {
    let (tiles, x_rest) = x.as_chunks::<3>();
    let (scores, scores_rest) = scores.split_at_mut(3 * tiles.len());
    for (x, scores) in tiles.iter().zip(scores.as_chunks_mut().0) {
        scores_tile(x, panels, scores);
    }
    for (x, scores) in x_rest
        .as_chunks::<1>()
        .0
        .iter()
        .zip(scores_rest.as_chunks_mut().0)
    {
        scores_tile(x, panels, scores);
    }
}

/// As [`Path::nearest`](super::Path::nearest).
#[target_feature(enable = "avx2,fma")]
pub(super) fn nearest(x: &[&[f32]], panels: &[Line], found: &mut [(u32, f32)]) {
    let (tiles, x_rest) = x.as_chunks::<3>();
    let (found, found_rest) = found.split_at_mut(3 * tiles.len());
    for (x, found) in tiles.iter().zip(found.as_chunks_mut().0) {
        nearest_tile(x, panels, found);
    }
    for (x, found) in x_rest
        .as_chunks::<1>()
        .0
        .iter()
        .zip(found_rest.as_chunks_mut().0)
    {
        nearest_tile(x, panels, found);
    }
}

#[target_feature(enable = "avx2,fma")]
fn scores_tile<const R: usize>(x: &[&[f32]; R], panels: &[Line], scores: &mut [&mut [f32]; R]) {
    let d = x[0].len();
    for (p, panel) in panels.chunks_exact(d + 1).enumerate() {
        let sums = panel_scores(x, panel);
        for (sums, scores) in sums.iter().zip(scores.iter_mut()) {
            let scores = &mut scores[p * PANEL..];
            if let Some(scores) = scores.first_chunk_mut() {
                store(sums, scores);
            } else {
                let mut padded = [0.0; PANEL];
                store(sums, &mut padded);
                scores.copy_from_slice(&padded[..scores.len()]);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn nearest_tile<const R: usize>(x: &[&[f32]; R], panels: &[Line], found: &mut [(u32, f32); R]) {
    let d = x[0].len();
    // One running best per lane: a later row must be strictly better, so the lowest index stays.
    let mut best_score = [_mm256_set1_ps(f32::NEG_INFINITY); R];
    // Indices travel as the bits of floats, because the blend of floats is the one there is.
    let mut best_index = [_mm256_setzero_ps(); R];
    let mut first = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for panel in panels.chunks_exact(d + 1) {
        let sums = panel_scores(x, panel);
        let mut indices = [_mm256_setzero_ps(); 4];
        for index in &mut indices {
            *index = _mm256_castsi256_ps(first);
            first = _mm256_add_epi32(first, _mm256_set1_epi32(8));
        }
        for i in 0..R {
            for (sum, index) in sums[i].into_iter().zip(indices) {
                let better = _mm256_cmp_ps::<_CMP_GT_OQ>(sum, best_score[i]);
                best_score[i] = _mm256_blendv_ps(best_score[i], sum, better);
                best_index[i] = _mm256_blendv_ps(best_index[i], index, better);
            }
        }
    }
    for i in 0..R {
        found[i] = best_of_lanes(best_score[i], best_index[i]);
    }
}

/// R vectors against the 32 rows of one panel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn panel_scores<const R: usize>(x: &[&[f32]; R], panel: &[Line]) -> [[__m256; 4]; R] {
    let (biases, lines) = panel.split_first().expect("a panel has d + 1 lines");
    for x in x {
        // Once per panel, in place of a check per element.
        assert_eq!(x.len(), lines.len());
    }
    let mut sums = [load(biases); R];
    for (k, line) in lines.iter().enumerate() {
        let rows = load(line);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm256_set1_ps(x[k]);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = _mm256_fmadd_ps(x, row, *sum);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(line: &Line) -> [__m256; 4] {
    let mut registers = [_mm256_setzero_ps(); 4];
    for (register, floats) in registers.iter_mut().zip(line.0.as_chunks::<8>().0) {
        // SAFETY: `floats` is 8 floats at a multiple of 32 bytes in a `Line`, which is aligned to 64.
        *register = unsafe { _mm256_load_ps(floats.as_ptr()) };
    }
    registers
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store(sums: &[__m256; 4], scores: &mut [f32; PANEL]) {
    for (sum, floats) in sums.iter().zip(scores.as_chunks_mut::<8>().0) {
        // SAFETY: `floats` is 8 floats; no alignment is asked for.
        unsafe { _mm256_storeu_ps(floats.as_mut_ptr(), *sum) };
    }
}

/// The largest score, and the lowest index among its ties.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn best_of_lanes(scores: __m256, indices: __m256) -> (u32, f32) {
    let (mut score, mut index) = ([0.0_f32; 8], [0.0_f32; 8]);
    // SAFETY: `score` is 8 floats; no alignment is asked for.
    unsafe { _mm256_storeu_ps(score.as_mut_ptr(), scores) };
    // SAFETY: `index` is 8 floats; no alignment is asked for.
    unsafe { _mm256_storeu_ps(index.as_mut_ptr(), indices) };
    let mut best = (index[0].to_bits(), score[0]);
    for (score, index) in score.into_iter().zip(index.map(f32::to_bits)).skip(1) {
        if score > best.1 || (score == best.1 && index < best.0) {
            best = (index, score);
        }
    }
    (best.0, best.1 + 0.0)
}
