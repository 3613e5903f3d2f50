//! The reference: the recurrence of the parent module in plain Rust, for any machine.
//!
//! `f32::mul_add` is one instruction where the target has it (AArch64, for example) and a call to the
//! system's `fmaf` where it is not known at compile time.

use super::{Line, PANEL};

/// The scores of R vectors against all rows of `panels`; `scores[i]` has one place per row.
pub(super) fn scores_tile<const R: usize>(
    x: &[&[f32]; R],
    panels: &[Line],
    scores: &mut [&mut [f32]; R],
) {
    for (x, scores) in x.iter().zip(scores) {
        for (panel, scores) in panels
            .chunks_exact(x.len() + 1)
            .zip(scores.chunks_mut(PANEL))
        {
            scores.copy_from_slice(&panel_scores(x, panel)[..scores.len()]);
        }
    }
}

/// The best row of `panels` and its score for R vectors.
pub(super) fn nearest_tile<const R: usize>(
    x: &[&[f32]; R],
    panels: &[Line],
) -> ([u32; R], [f32; R]) {
    let mut best_index = [0; R];
    let mut best_score = [f32::NEG_INFINITY; R];
    for i in 0..R {
        for (p, panel) in panels.chunks_exact(x[i].len() + 1).enumerate() {
            for (lane, score) in panel_scores(x[i], panel).into_iter().enumerate() {
                if score > best_score[i] {
                    best_score[i] = score + 0.0;
                    best_index[i] = (p * PANEL + lane) as u32;
                }
            }
        }
    }
    (best_index, best_score)
}

fn panel_scores(x: &[f32], panel: &[Line]) -> [f32; PANEL] {
    let mut scores = panel[0].0;
    for (&x, line) in x.iter().zip(&panel[1..]) {
        for (score, &row) in scores.iter_mut().zip(&line.0) {
            *score = x.mul_add(row, *score);
        }
    }
    scores
}
