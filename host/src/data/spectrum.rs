//! Eigenvalues of the base's covariance, C = Σ (x−μ)(x−μ)ᵀ / n: what the Gaussian
//! rate–distortion bound is computed from.
//!
//! The sum runs in f64 over blocks of rows; threads share out strips of C, never a
//! sum, so any number of them gives the same bits.

use nalgebra::DMatrix;
use ndarray::linalg::general_mat_mul;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, Axis, s};

use super::{DataError, OnProgress, Progress, Rows};

/// Rows enough for any dimension we meet.
const SAMPLE_ROWS: usize = 100_000;
/// Rows per dimension that keep the eigenvalues' relative error at a few percent.
const SAMPLE_PER_DIM: usize = 20;
/// Above it the d×d matrix and its O(d³) decomposition outgrow a preparation.
const SPECTRUM_DIM: usize = 4096;
/// Rows added to C at a time.
const BLOCK_ROWS: usize = 1024;
/// Rows of C a thread works on.
const STRIP: usize = 32;

/// Eigenvalues, descending and ≥ 0, of the covariance of `rows` (n, d) about their
/// `mean`; `None` above 4,096 dimensions.
///
/// More than max(100,000, 20·d) rows are represented by that many evenly strided
/// ones. O(min(n, sample)·d²) time, O(d² + block·d) memory.
pub(super) fn spectrum(
    rows: &Rows,
    mean: &[f64],
    progress: OnProgress<'_>,
) -> Result<Option<Vec<f64>>, DataError> {
    let dim = rows.dim();
    if dim > SPECTRUM_DIM {
        return Ok(None);
    }
    let sample = rows.rows().min(SAMPLE_ROWS.max(SAMPLE_PER_DIM * dim));
    // In 128 bits: rows·sample may pass 2^64 where rows come near 2^32.
    let nth = |i: usize| (i as u128 * rows.rows() as u128 / sample as u128) as usize;
    let mean = ArrayView1::from(mean);

    let mut sum = Array2::<f64>::zeros((dim, dim));
    let mut block = Array2::<f32>::zeros((BLOCK_ROWS.min(sample), dim));
    for first in (0..sample).step_by(BLOCK_ROWS) {
        let ids: Vec<usize> = (first..sample.min(first + BLOCK_ROWS)).map(nth).collect();
        let mut block = block.slice_mut(s![..ids.len(), ..]);
        rows.gather(&ids, block.view_mut())?;
        let centred = block.mapv(f64::from) - mean;
        sum.axis_chunks_iter_mut(Axis(0), STRIP)
            .into_par_iter()
            .enumerate()
            .for_each(|(strip, mut sum)| {
                // C is symmetric: only what is right of the diagonal block.
                let from = strip * STRIP;
                let left = centred.slice(s![.., from..from + sum.nrows()]);
                let right = centred.slice(s![.., from..]);
                general_mat_mul(
                    1.0,
                    &left.t(),
                    &right,
                    1.0,
                    &mut sum.slice_mut(s![.., from..]),
                );
            });
        progress(Progress {
            stage: "sum covariance",
            done: (first + ids.len()) as u64,
            total: sample as u64,
        });
    }

    let covariance = DMatrix::from_fn(dim, dim, |i, j| sum[(i.min(j), i.max(j))] / sample as f64);
    let mut values: Vec<f64> = covariance.symmetric_eigenvalues().iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    // The matrix is positive semidefinite; a negative eigenvalue is round-off.
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    Ok(Some(values))
}
