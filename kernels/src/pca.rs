//! Principal directions: the few leading ones quickly, or all of them.

use nalgebra::DMatrix;
use ndarray::{Array2, ArrayView2, Axis, Slice};
use rayon::prelude::*;

use crate::distance::dot;
use crate::{Draw, Panels};

/// Rows that the leading directions are estimated from.
const ROWS: usize = 8192;

/// Rounds of orthogonal iteration: leading directions need not be exact.
const ROUNDS: usize = 12;

/// Columns of one task.
const STRIP: usize = 16;

/// About the `count` leading principal directions of centred rows (n, d), as rows (count, d),
/// orthonormal; zero where the data has no more. Orthogonal iteration on the covariance of at most 8,192
/// rows. O(n·d² + count·d²), on all threads of the current rayon pool.
#[must_use]
pub fn leading(x: ArrayView2<'_, f32>, count: usize, seed: u64) -> Array2<f32> {
    let (n, dim) = x.dim();
    let every = n.div_ceil(ROWS) as isize;
    let columns =
        x.slice_axis(Axis(0), Slice::from(..).step_by(every)).t().as_standard_layout().into_owned();
    let panels = Panels::for_ip(columns.view());
    let mut covariance = Array2::zeros((dim, dim));
    columns
        .axis_chunks_iter(Axis(0), STRIP)
        .into_par_iter()
        .zip(covariance.axis_chunks_iter_mut(Axis(0), STRIP))
        .for_each(|(columns, covariance)| panels.scores(columns, covariance));
    let panels = Panels::for_ip(covariance.view());

    let mut draw = Draw::new(seed);
    let mut found = Array2::from_shape_simple_fn((count, dim), || draw.word() as i64 as f32);
    orthonormalise(&mut found);
    for _ in 0..ROUNDS {
        let mut turned = Array2::zeros((count, dim));
        panels.scores(found.view(), turned.view_mut());
        found = turned;
        orthonormalise(&mut found);
    }
    found
}

/// Gram–Schmidt on the rows, in their order. A row that depends on those before it becomes zero.
fn orthonormalise(rows: &mut Array2<f32>) {
    for i in 0..rows.nrows() {
        let (before, mut rest) = rows.view_mut().split_at(Axis(0), i);
        let mut row = rest.row_mut(0);
        let row = row.as_slice_mut().expect("the layout is standard");
        let length = dot(row, row);
        // Twice: what rounding leaves the first time goes the second.
        for _ in 0..2 {
            for earlier in before.outer_iter() {
                let along = dot(row, earlier.to_slice().expect("the layout is standard")) as f32;
                row.iter_mut().zip(earlier).for_each(|(value, e)| *value -= along * e);
            }
        }
        let left = dot(row, row);
        let scale = if left > 1e-10 * length { (1.0 / left.sqrt()) as f32 } else { 0.0 };
        row.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Eigenvalues, descending, and eigenvectors, as rows (d, d), of a symmetric matrix (d, d) such as a
/// covariance; of a covariance the eigenvalues are its variances along principal directions. O(d³).
///
/// # Panics
/// When the matrix is not square or has a number that is not finite.
#[must_use]
pub fn eigen(symmetric: ArrayView2<'_, f64>) -> (Vec<f64>, Array2<f64>) {
    let (dim, columns) = symmetric.dim();
    assert_eq!(dim, columns, "a square matrix");
    assert!(symmetric.iter().all(|value| value.is_finite()), "finite numbers");
    let found = DMatrix::from_fn(dim, dim, |i, j| symmetric[[i, j]]).symmetric_eigen();
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|&i, &j| found.eigenvalues[j].total_cmp(&found.eigenvalues[i]));
    let vectors = Array2::from_shape_fn((dim, dim), |(i, t)| found.eigenvectors[(t, order[i])]);
    (order.iter().map(|&i| found.eigenvalues[i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::products;
    use crate::nearest::tests::noise;
    use ndarray::array;

    #[test]
    fn a_known_matrix_has_its_eigenvectors() {
        let (values, vectors) =
            eigen(array![[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 7.0]].view());
        assert!(values.iter().zip([7.0, 3.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!((vectors[[0, 2]].abs() - 1.0).abs() < 1e-12);
        assert!((vectors[[1, 0]] - vectors[[1, 1]]).abs() < 1e-12);
    }

    #[test]
    fn leading_directions_carry_the_variance_of_the_leading_eigenvectors() {
        let mut x = noise(3000, 20, 5, 1);
        for (t, mut column) in x.columns_mut().into_iter().enumerate() {
            column.mapv_inplace(|x| x * 0.7_f32.powi(t as i32));
            let mean = column.mean().unwrap();
            column.mapv_inplace(|x| x - mean);
        }
        let covariance = products(x.view(), x.view());
        let (values, _) = eigen(covariance.view());
        let found = leading(x.view(), 3, 1).mapv(f64::from);
        let carried = found.dot(&covariance).dot(&found.t());
        let (carried, most) = (carried.diag().sum(), values[..3].iter().sum::<f64>());
        assert!(carried > 0.99 * most && carried < 1.0001 * most, "{carried} of {most}");
    }

    #[test]
    fn directions_that_the_data_lacks_are_zero() {
        let mut x = Array2::zeros((50, 4));
        x.column_mut(1).assign(&noise(50, 1, 2, 1).column(0));
        let found = leading(x.view(), 2, 3);
        assert!((found[[0, 1]].abs() - 1.0).abs() < 1e-5);
        assert_eq!(found.row(1).sum(), 0.0);
    }
}
