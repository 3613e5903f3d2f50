//! All centroids at once: the least squares of given codes,
//!
//! `min Σᵢ ‖xᵢ − Σ_l c_l(i_l)‖² + RIDGE·Σ_l Σⱼ ‖c_l(j) − c⁰_l(j)‖²`
//!
//! where c⁰ are the centroids so far: what few rows use stays near where more rows put it. The matrix is the
//! same for all dimensions, and never made: conjugate gradients on the normal equations, of which a step
//! decodes the rows and adds them up by centroid, side by side for strips of dimensions. Diagonal
//! preconditioning: a centroid's number of rows. All sums in f64 in the order of the rows.
//!
//! Conjugate gradients for least squares: Hestenes & Stiefel 1952, section 10.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Slice};
use rayon::prelude::*;
use vq_kernels::Path;

/// Dimensions of a strip.
const STRIP: usize = 16;

/// Rows that stand for what a centroid was before.
const RIDGE: f64 = 1.0;

/// Most steps, where they are to lead as far as they can.
pub(super) const STEPS: usize = 30;

/// Steps end when the gradient is this part of the first one.
const SMALL: f64 = 1e-3;

/// Sums of a centroid in a strip.
type Sums = [f64; STRIP];

/// Moves the centroids (k, d) of each layer by at most so many steps, for normalised rows `x` (n, d) and their
/// `codes` (n, layers). O(steps · n · layers · d), on all threads of the current rayon pool.
pub(super) fn move_to(
    moved: &mut [Array2<f32>],
    x: ArrayView2<'_, f32>,
    codes: &[u16],
    steps: usize,
) {
    let Some(k) = moved.first().map(Array2::nrows) else { return };
    let layers = moved.len();
    let mut counts = vec![0_u32; layers * k];
    for code in codes.chunks_exact(layers) {
        code.iter().enumerate().for_each(|(l, i)| counts[l * k + usize::from(*i)] += 1);
    }
    let strips = x.ncols().div_ceil(STRIP);
    let steps: Vec<Vec<Sums>> = (0..strips)
        .into_par_iter()
        .with_max_len(1)
        .map(|strip| {
            let columns = Slice::from(strip * STRIP..x.ncols().min((strip + 1) * STRIP));
            let centroids: Vec<[f32; STRIP]> = moved
                .iter()
                .flat_map(|centroids| centroids.outer_iter())
                .map(|centroid| filled(centroid.slice_axis(Axis(0), columns)))
                .collect();
            let rows = x.outer_iter().zip(codes.chunks_exact(layers));
            let mut residuals: Vec<[f32; STRIP]> = rows
                .map(|(x, code)| {
                    let mut residual = filled(x.slice_axis(Axis(0), columns));
                    let mut decoded = [0.0_f32; STRIP];
                    for (l, i) in code.iter().enumerate() {
                        let centroid = &centroids[l * k + usize::from(*i)];
                        decoded.iter_mut().zip(centroid).for_each(|(sum, c)| *sum += c);
                    }
                    residual.iter_mut().zip(&decoded).for_each(|(x, decoded)| *x -= decoded);
                    residual
                })
                .collect();
            Path::fastest().run(
                #[inline(always)]
                || solve(&mut residuals, codes, layers, &counts, steps),
            )
        })
        .collect();
    for (strip, steps) in steps.iter().enumerate() {
        for (l, centroids) in moved.iter_mut().enumerate() {
            for (j, mut row) in centroids.axis_iter_mut(Axis(0)).enumerate() {
                let values = row.iter_mut().skip(strip * STRIP);
                values.zip(&steps[l * k + j]).for_each(|(c, step)| *c += *step as f32);
            }
        }
    }
}

/// At most so many values, zeros after them.
fn filled(values: ArrayView1<'_, f32>) -> [f32; STRIP] {
    let mut strip = [0.0; STRIP];
    strip.iter_mut().zip(values).for_each(|(to, value)| *to = *value);
    strip
}

/// How far each centroid (layers · k) moves, given what its rows are short of.
#[inline(always)]
fn solve(
    residuals: &mut [[f32; STRIP]],
    codes: &[u16],
    layers: usize,
    counts: &[u32],
    steps: usize,
) -> Vec<Sums> {
    let k = counts.len() / layers;
    let mut moved = vec![[0.0; STRIP]; counts.len()];
    let mut direction = vec![[0.0; STRIP]; counts.len()];
    let mut rounded = vec![[0.0_f32; STRIP]; counts.len()];
    let mut gradient = vec![[0.0; STRIP]; counts.len()];
    let mut along = vec![[0.0_f32; STRIP]; residuals.len()];
    let (mut before, mut first) = ([0.0; STRIP], [0.0; STRIP]);
    for step in 0..steps {
        // s = Bᵀ·r − RIDGE·(c − c⁰); z = s / (rows + RIDGE).
        for (gradient, moved) in gradient.iter_mut().zip(&moved) {
            *gradient = std::array::from_fn(|t| -RIDGE * moved[t]);
        }
        for (residual, code) in residuals.iter().zip(codes.chunks_exact(layers)) {
            for (l, i) in code.iter().enumerate() {
                let sums = &mut gradient[l * k + usize::from(*i)];
                sums.iter_mut().zip(residual).for_each(|(sum, r)| *sum += f64::from(*r));
            }
        }
        let mut slope = [0.0; STRIP];
        for (gradient, count) in gradient.iter().zip(counts) {
            let weight = 1.0 / (f64::from(*count) + RIDGE);
            slope.iter_mut().zip(gradient).for_each(|(sum, s)| *sum += s * s * weight);
        }
        if step == 0 {
            first = slope;
        }
        let done = slope.iter().zip(&first).all(|(now, first)| *now <= SMALL * SMALL * first);
        if done {
            break;
        }
        let keep: Sums =
            std::array::from_fn(|t| if before[t] > 0.0 { slope[t] / before[t] } else { 0.0 });
        before = slope;
        let mut ridge = [0.0; STRIP];
        for (((direction, gradient), count), rounded) in
            direction.iter_mut().zip(&gradient).zip(counts).zip(&mut rounded)
        {
            let weight = 1.0 / (f64::from(*count) + RIDGE);
            for t in 0..STRIP {
                // The rows move by what f32 keeps of it, and so do the centroids.
                rounded[t] = (gradient[t] * weight + keep[t] * direction[t]) as f32;
                direction[t] = f64::from(rounded[t]);
                ridge[t] += RIDGE * direction[t] * direction[t];
            }
        }
        let mut curvature = ridge;
        for (along, code) in along.iter_mut().zip(codes.chunks_exact(layers)) {
            let mut sum = [0.0_f32; STRIP];
            for (l, i) in code.iter().enumerate() {
                let step = &rounded[l * k + usize::from(*i)];
                sum.iter_mut().zip(step).for_each(|(sum, value)| *sum += value);
            }
            *along = sum;
            curvature
                .iter_mut()
                .zip(&sum)
                .for_each(|(all, value)| *all += f64::from(*value) * f64::from(*value));
        }
        let length: Sums = std::array::from_fn(|t| {
            let length = slope[t] / curvature[t];
            if length.is_finite() { length } else { 0.0 }
        });
        for (moved, direction) in moved.iter_mut().zip(&direction) {
            moved.iter_mut().zip(direction).zip(&length).for_each(|((m, d), l)| *m += l * d);
        }
        for (residual, along) in residuals.iter_mut().zip(&along) {
            for ((r, a), length) in residual.iter_mut().zip(along).zip(&length) {
                *r -= *length as f32 * a;
            }
        }
    }
    moved
}
