//! Eigenvalues of the base's covariance, C = Σ (x−μ)(x−μ)ᵀ / n: what the Gaussian
//! rate–distortion bound is computed from.
//!
//! The sum runs in f64 over blocks of rows. Each thread computes strips of C of its own and no sum
//! is split, so the result does not depend on the number of threads.

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
        sum.axis_chunks_iter_mut(Axis(0), STRIP).into_par_iter().enumerate().for_each(
            |(strip, mut sum)| {
                // C is symmetric: only what is right of the diagonal block.
                let from = strip * STRIP;
                let left = centred.slice(s![.., from..from + sum.nrows()]);
                let right = centred.slice(s![.., from..]);
                general_mat_mul(1.0, &left.t(), &right, 1.0, &mut sum.slice_mut(s![.., from..]));
            },
        );
        progress(Progress {
            stage: "sum covariance",
            done: (first + ids.len()) as u64,
            total: sample as u64,
        })?;
    }

    let covariance = DMatrix::from_fn(dim, dim, |i, j| sum[(i.min(j), i.max(j))] / sample as f64);
    let mut values: Vec<f64> = covariance.symmetric_eigenvalues().iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    // The matrix is positive semidefinite; a negative eigenvalue is round-off.
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    Ok(Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{prepared_rows, small_integers};

    fn of(values: &Array2<f32>) -> Vec<f64> {
        let folder = tempfile::tempdir().unwrap();
        let rows = prepared_rows(folder.path(), "a", values);
        let mean = values.mapv(f64::from).mean_axis(Axis(0)).unwrap();
        spectrum(&rows, mean.as_slice().unwrap(), &|_| Ok(())).unwrap().unwrap()
    }

    #[test]
    fn a_known_covariance_gives_its_eigenvalues() {
        // Rows μ ± aᵢ·hᵢ with the orthogonal rows hᵢ of a Hadamard matrix, ‖hᵢ‖² = 4:
        // the covariance has the eigenvalues aᵢ²·4·2/8.
        let hadamard =
            [[1., 1., 1., 1.], [1., -1., 1., -1.], [1., 1., -1., -1.], [1., -1., -1., 1.]];
        let scale = [1.0, 4.0, 2.0, 3.0];
        let values = Array2::from_shape_fn((8, 4), |(row, k)| {
            let sign = if row < 4 { 1.0 } else { -1.0 };
            1000.0 + sign * scale[row % 4] * hadamard[row % 4][k]
        });
        for (value, expected) in of(&values).iter().zip([16.0, 9.0, 4.0, 1.0]) {
            assert!((value - expected).abs() < 1e-9, "{value} {expected}");
        }
    }

    #[test]
    fn constant_rows_have_a_spectrum_of_zeros() {
        assert_eq!(of(&Array2::from_elem((9, 5), 3.5)), [0.0; 5]);
        assert_eq!(of(&Array2::from_elem((1, 3), -1.0)), [0.0; 3]);
    }

    #[test]
    fn eigenvalues_descend_are_not_negative_and_sum_to_the_variance() {
        // More dimensions than a strip, fewer rows than dimensions.
        let values = small_integers(40, 77, 3);
        let values = of(&values);
        assert!(values.is_sorted_by(|a, b| a >= b));
        assert!(values.iter().all(|x| *x >= 0.0));
        assert!(values[40..].iter().all(|x| *x < 1e-9));
        let total = small_integers(40, 77, 3).mapv(f64::from).var_axis(Axis(0), 0.0).sum();
        assert!((values.iter().sum::<f64>() - total).abs() < 1e-9 * total);
    }

    #[test]
    fn a_strided_sample_stands_for_many_rows() {
        let values = small_integers(250_000, 2, 5);
        let all = values.mapv(f64::from).var_axis(Axis(0), 0.0).sum();
        // 100,000 rows: the variance is known to half a percent.
        let sampled: f64 = of(&values).iter().sum();
        assert!((sampled / all - 1.0).abs() < 0.02, "{sampled} {all}");
        assert_ne!(sampled, all);
    }
}
