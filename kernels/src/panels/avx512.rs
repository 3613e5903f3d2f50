//! The recurrence of the parent module with AVX-512: a panel is two registers wide.
//!
//! For scores, twelve vectors at a time keep 24 accumulators in registers, so that each load of a row
//! feeds twelve fused multiply-adds. For the nearest row it is six, whose best scores and indices stay
//! in registers too. `cargo run --release -p vq-kernels --example speed` measures it.

use std::arch::x86_64::{
    __m512, _CMP_EQ_OQ, _CMP_GT_OQ, _mm512_add_epi32, _mm512_cmp_ps_mask, _mm512_fmadd_ps,
    _mm512_load_ps, _mm512_mask_mov_epi32, _mm512_mask_mov_ps, _mm512_mask_reduce_min_epu32,
    _mm512_reduce_max_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
    _mm512_setzero_si512, _mm512_storeu_ps,
};

use super::{FEW, HALF, Line, PANEL};

/// As [`Path::scores`](super::Path::scores).
#[target_feature(enable = "avx512f")]
pub(super) fn scores(x: &[&[f32]], panels: &[Line], scores: &mut [&mut [f32]]) {
    let (tiles, x_rest) = x.as_chunks::<12>();
    let (scores, scores_rest) = scores.split_at_mut(12 * tiles.len());
    for (x, scores) in tiles.iter().zip(scores.as_chunks_mut().0) {
        scores_tile(x, panels, scores);
    }
    let (tiles, x_rest) = x_rest.as_chunks::<4>();
    let (scores, scores_rest) = scores_rest.split_at_mut(4 * tiles.len());
    for (x, scores) in tiles.iter().zip(scores.as_chunks_mut().0) {
        scores_tile(x, panels, scores);
    }
    for (x, scores) in x_rest.as_chunks::<1>().0.iter().zip(scores_rest.as_chunks_mut().0) {
        scores_tile(x, panels, scores);
    }
}

/// As [`Path::nearest`](super::Path::nearest).
#[target_feature(enable = "avx512f")]
pub(super) fn nearest(x: &[&[f32]], panels: &[Line], found: &mut [(u32, f32)]) {
    // Biases of −∞ fill up a panel, and their rows never win: half of it may be enough.
    let d = x.first().map_or(0, |x| x.len());
    if panels.len() == d + 1 && panels[0].0[PANEL / 2..].iter().all(|b| *b == f32::NEG_INFINITY) {
        return nearest_of_few(x, panels, found);
    }
    let (tiles, x_rest) = x.as_chunks::<6>();
    let (found, found_rest) = found.split_at_mut(6 * tiles.len());
    for (x, found) in tiles.iter().zip(found.as_chunks_mut().0) {
        nearest_tile(x, panels, found);
    }
    let (tiles, x_rest) = x_rest.as_chunks::<4>();
    let (found, found_rest) = found_rest.split_at_mut(4 * tiles.len());
    for (x, found) in tiles.iter().zip(found.as_chunks_mut().0) {
        nearest_tile(x, panels, found);
    }
    for (x, found) in x_rest.as_chunks::<1>().0.iter().zip(found_rest.as_chunks_mut().0) {
        nearest_tile(x, panels, found);
    }
}

/// As [`Path::half_scores`](super::Path::half_scores).
#[target_feature(enable = "avx512f")]
pub(super) fn half_scores(x: &[&[f32]; FEW], panel: &[Line], first: usize) -> [[f32; HALF]; FEW] {
    let (biases, lines) = panel.split_first().expect("a panel has d + 1 lines");
    // Once, in place of a check per line.
    let x = x.map(|x| &x[..lines.len()]);
    let half = usize::from(first > 0);
    let mut sums = [load(biases)[half]; FEW];
    for (k, line) in lines.iter().enumerate() {
        let rows = load(line)[half];
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = _mm512_fmadd_ps(_mm512_set1_ps(x[k]), rows, *sum);
        }
    }
    sums.map(|sum| {
        let mut scores = [0.0; HALF];
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(scores.as_mut_ptr(), sum) };
        scores
    })
}

#[target_feature(enable = "avx512f")]
fn scores_tile<const R: usize>(x: &[&[f32]; R], panels: &[Line], scores: &mut [&mut [f32]; R]) {
    let d = x[0].len();
    // Once, in place of a check per panel.
    let x = &x.map(|x| &x[..d]);
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

#[target_feature(enable = "avx512f")]
fn nearest_tile<const R: usize>(x: &[&[f32]; R], panels: &[Line], found: &mut [(u32, f32); R]) {
    let d = x[0].len();
    // Once, in place of a check per panel.
    let x = &x.map(|x| &x[..d]);
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let half = _mm512_set1_epi32(16);
    let step = _mm512_set1_epi32(PANEL as i32);
    // One running best per lane: a later row must be strictly better, so the lowest index stays.
    let mut best_score = [_mm512_set1_ps(f32::NEG_INFINITY); R];
    let mut best_index = [_mm512_setzero_si512(); R];
    let mut low = lanes;
    for panel in panels.chunks_exact(d + 1) {
        let sums = panel_scores(x, panel);
        let high = _mm512_add_epi32(low, half);
        for i in 0..R {
            for (sum, index) in sums[i].into_iter().zip([low, high]) {
                let better = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum, best_score[i]);
                best_score[i] = _mm512_mask_mov_ps(best_score[i], better, sum);
                best_index[i] = _mm512_mask_mov_epi32(best_index[i], better, index);
            }
        }
        low = _mm512_add_epi32(low, step);
    }
    for i in 0..R {
        let best = _mm512_reduce_max_ps(best_score[i]);
        let ties = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(best_score[i], _mm512_set1_ps(best));
        found[i] = (_mm512_mask_reduce_min_epu32(ties, best_index[i]), best + 0.0);
    }
}

/// Against the first 16 rows of one panel.
#[target_feature(enable = "avx512f")]
fn nearest_of_few(x: &[&[f32]], panel: &[Line], found: &mut [(u32, f32)]) {
    let (tiles, x_rest) = x.as_chunks::<8>();
    let (found, found_rest) = found.split_at_mut(8 * tiles.len());
    for (x, found) in tiles.iter().zip(found.as_chunks_mut().0) {
        few_tile(x, panel, found);
    }
    for (x, found) in x_rest.as_chunks::<1>().0.iter().zip(found_rest.as_chunks_mut().0) {
        few_tile(x, panel, found);
    }
}

#[target_feature(enable = "avx512f")]
fn few_tile<const R: usize>(x: &[&[f32]; R], panel: &[Line], found: &mut [(u32, f32); R]) {
    let (biases, lines) = panel.split_first().expect("a panel has d + 1 lines");
    let x = x.map(|x| &x[..lines.len()]);
    let mut sums = [load(biases)[0]; R];
    for (k, line) in lines.iter().enumerate() {
        let row = load(line)[0];
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = _mm512_fmadd_ps(_mm512_set1_ps(x[k]), row, *sum);
        }
    }
    let least = _mm512_set1_ps(f32::NEG_INFINITY);
    for (sum, found) in sums.into_iter().zip(found) {
        // A NaN never wins.
        let sum = _mm512_mask_mov_ps(least, _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum, least), sum);
        let best = _mm512_reduce_max_ps(sum);
        let ties = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(sum, _mm512_set1_ps(best));
        *found = (ties.trailing_zeros(), best + 0.0);
    }
}

/// R vectors against the 32 rows of one panel, all of the same dimension.
#[inline]
#[target_feature(enable = "avx512f")]
fn panel_scores<const R: usize>(x: &[&[f32]; R], panel: &[Line]) -> [[__m512; 2]; R] {
    let (biases, lines) = panel.split_first().expect("a panel has d + 1 lines");
    let mut sums = [load(biases); R];
    for (k, line) in lines.iter().enumerate() {
        let [low, high] = load(line);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm512_set1_ps(x[k]);
            sums[0] = _mm512_fmadd_ps(x, low, sums[0]);
            sums[1] = _mm512_fmadd_ps(x, high, sums[1]);
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> [__m512; 2] {
    let (low, high) = line.0.split_at(16);
    // SAFETY: `low` is 16 floats at the start of a `Line`, which is aligned to 64 bytes.
    let low = unsafe { _mm512_load_ps(low.as_ptr()) };
    // SAFETY: `high` is the other 16 floats, 64 bytes after the start of an aligned `Line`.
    let high = unsafe { _mm512_load_ps(high.as_ptr()) };
    [low, high]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(sums: &[__m512; 2], scores: &mut [f32; PANEL]) {
    let (low, high) = scores.split_at_mut(16);
    // SAFETY: `low` is 16 floats; no alignment is asked for.
    unsafe { _mm512_storeu_ps(low.as_mut_ptr(), sums[0]) };
    // SAFETY: `high` is 16 floats; no alignment is asked for.
    unsafe { _mm512_storeu_ps(high.as_mut_ptr(), sums[1]) };
}
