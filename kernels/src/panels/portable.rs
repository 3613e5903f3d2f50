//! The reference: the recurrence of the parent module in plain Rust, for any machine.
//!
//! `f32::mul_add` is one instruction where the target has it (AArch64, for example) and a call to the
//! system's `fmaf` where it is not known at compile time.

use super::{FEW, HALF, Line, PANEL};

/// As [`Path::scores`](super::Path::scores).
pub(super) fn scores(x: &[&[f32]], panels: &[Line], scores: &mut [&mut [f32]]) {
    for (x, scores) in x.iter().zip(scores) {
        for (panel, scores) in panels.chunks_exact(x.len() + 1).zip(scores.chunks_mut(PANEL)) {
            scores.copy_from_slice(&panel_scores(x, panel)[..scores.len()]);
        }
    }
}

/// As [`Path::nearest`](super::Path::nearest).
pub(super) fn nearest(x: &[&[f32]], panels: &[Line], found: &mut [(u32, f32)]) {
    for (x, found) in x.iter().zip(found) {
        let mut best = (0, f32::NEG_INFINITY);
        for (p, panel) in panels.chunks_exact(x.len() + 1).enumerate() {
            for (lane, score) in panel_scores(x, panel).into_iter().enumerate() {
                if score > best.1 {
                    best = ((p * PANEL + lane) as u32, score);
                }
            }
        }
        *found = (best.0, best.1 + 0.0);
    }
}

/// As [`Path::half_scores`](super::Path::half_scores).
pub(super) fn half_scores(x: &[&[f32]; FEW], panel: &[Line], first: usize) -> [[f32; HALF]; FEW] {
    x.map(|x| {
        let scores = panel_scores(x, panel);
        std::array::from_fn(|lane| scores[first + lane])
    })
}

fn panel_scores(x: &[f32], panel: &[Line]) -> [f32; PANEL] {
    let (biases, lines) = panel.split_first().expect("a panel has d + 1 lines");
    let mut scores = biases.0;
    for (&x, line) in x.iter().zip(lines) {
        for (score, &row) in scores.iter_mut().zip(&line.0) {
            *score = x.mul_add(row, *score);
        }
    }
    scores
}
