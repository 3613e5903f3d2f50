//! The frame in which estimates are made: centred, and scaled to lengths near 1.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::{Distance, slice};
use crate::Path;
use crate::distance::norm_sq;

/// The queries, where estimates are made.
#[derive(Debug)]
pub(super) struct Frame {
    /// s; 0 before the first block.
    scale: f64,
    /// x' (n, d).
    pub(super) x: Array2<f32>,
    /// ‖x'‖.
    pub(super) norms: Vec<f64>,
    /// What each query was scaled by: s or t.
    pub(super) scales: Vec<f64>,
}

impl Frame {
    /// For queries of this shape (n, d), none of which is in it yet.
    pub(super) fn of((n, d): (usize, usize)) -> Self {
        Self { scale: 0.0, x: Array2::zeros((n, d)), norms: vec![0.0; n], scales: vec![1.0; n] }
    }

    /// Brings the queries into the frame of `scale`.
    pub(super) fn enter(
        &mut self,
        scale: f64,
        queries: ArrayView2<'_, f32>,
        by: Distance,
        centre: &[f32],
    ) {
        if self.scale == scale {
            return;
        }
        let Self { x, norms, scales, .. } = self;
        x.axis_iter_mut(Axis(0))
            .into_par_iter()
            .zip(queries.axis_iter(Axis(0)))
            .zip(norms)
            .zip(scales)
            .for_each(|(((mut moved, x), norm), own)| {
                *own = match by {
                    Distance::L2Sq => scale,
                    Distance::NegativeProduct => to_one(norm_sq(slice(&x)).sqrt()),
                };
                for ((to, x), c) in moved.iter_mut().zip(x).zip(centre) {
                    let c = if by == Distance::L2Sq { f64::from(*c) } else { 0.0 };
                    *to = (*own * (f64::from(*x) - c)) as f32;
                }
                *norm = norm_sq(moved.as_slice().expect("rows are contiguous")).sqrt();
            });
        self.scale = scale;
    }
}

/// Row by row s·(r − c), and the largest norm.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) rows: Array2<f32>,
    pub(super) largest: f64,
    pub(super) scale: f64,
}

impl Moved {
    /// Brings `rows` into the frame that suits them.
    pub(super) fn load(&mut self, centre: &[f32], rows: ArrayView2<'_, f32>) {
        let norms = rows.axis_iter(Axis(0)).into_par_iter().map(|row| {
            Path::fastest().run(
                #[inline(always)]
                || from_centre_sq(slice(&row), centre),
            )
        });
        let largest = norms.reduce(|| 0.0, f64::max).sqrt();
        let scale = to_one(largest);
        if self.rows.dim() != rows.dim() {
            self.rows = Array2::zeros(rows.dim());
        }
        let pairs = self.rows.axis_iter_mut(Axis(0)).into_par_iter().zip(rows.axis_iter(Axis(0)));
        pairs.for_each(|(mut to, row)| {
            let to = to.as_slice_mut().expect("rows are contiguous");
            Path::fastest().run(
                #[inline(always)]
                || centred(slice(&row), centre, scale, to),
            );
        });
        // With what rounding may have added.
        (self.largest, self.scale) = (1.000_001 * scale * largest, scale);
    }
}

/// s·(r − c) of each dimension. Slices of one length: what ndarray iterates is one value at a time.
#[inline(always)]
fn centred(row: &[f32], centre: &[f32], scale: f64, to: &mut [f32]) {
    let (row, centre) = (&row[..to.len()], &centre[..to.len()]);
    for i in 0..to.len() {
        to[i] = (scale * (f64::from(row[i]) - f64::from(centre[i]))) as f32;
    }
}

/// ‖r − c‖², in sums side by side.
#[inline(always)]
fn from_centre_sq(row: &[f32], centre: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 16];
    let (rows, rest) = row.as_chunks::<16>();
    let (centres, centre_rest) = centre.as_chunks::<16>();
    let square = |r: f32, c: f32| {
        let from = f64::from(r) - f64::from(c);
        from * from
    };
    for (row, centre) in rows.iter().zip(centres) {
        for i in 0..16 {
            sums[i] += square(row[i], centre[i]);
        }
    }
    let rest = rest.iter().zip(centre_rest).map(|(r, c)| square(*r, *c));
    sums.into_iter().chain(rest).sum()
}

/// The power of two that brings `norm` between 1 and 2; 1 for 0.
fn to_one(norm: f64) -> f64 {
    if norm > 0.0 && norm.is_finite() { 2f64.powi(-(norm.log2().floor() as i32)) } else { 1.0 }
}
