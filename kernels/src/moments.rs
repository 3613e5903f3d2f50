//! Means, standard deviations and products of columns. Sums are f64 in the order of the rows, whatever
//! the number of threads.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::Panels;

/// Rows between two reports of progress.
const ROWS: usize = 4096;

/// Rows whose products are summed in f32 before they join the f64 sums.
pub const CHUNK: usize = 256;

/// Columns of one task.
const STRIP: usize = 16;

/// The mean of each column of `rows` (n, d), n ≥ 1.
#[must_use]
pub fn mean(rows: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut mean = vec![0.0_f64; rows.ncols()];
    for row in rows.outer_iter() {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += f64::from(*value);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= rows.nrows() as f64);
    mean
}

/// Mean and standard deviation of each column of `rows` (n, d), n ≥ 1; the mean of a constant column is
/// exact. Coordinates that are not finite count as 0.
///
/// # Errors
/// What `progress` returns; it is told the fraction done every 4,096 rows.
pub fn mean_and_deviation<E>(
    rows: ArrayView2<'_, f32>,
    progress: &mut dyn FnMut(f32) -> Result<(), E>,
) -> Result<(Vec<f64>, Vec<f64>), E> {
    let (n, d) = rows.dim();
    let finite = |x: &f32| if x.is_finite() { f64::from(*x) } else { 0.0 };
    let first: Vec<f64> = rows.row(0).iter().map(finite).collect();
    let (mut sum, mut square) = (vec![0.0; d], vec![0.0; d]);
    for (i, row) in rows.outer_iter().enumerate() {
        if i % ROWS == 0 {
            progress(i as f32 / n as f32)?;
        }
        for (((x, first), sum), square) in row.iter().zip(&first).zip(&mut sum).zip(&mut square) {
            let x = finite(x) - first;
            *sum += x;
            *square += x * x;
        }
    }
    let n = n as f64;
    let variance = |(sum, square): (&f64, &f64)| (square / n - (sum / n).powi(2)).max(0.0).sqrt();
    let deviation = sum.iter().zip(&square).map(variance).collect();
    Ok((first.iter().zip(&sum).map(|(first, sum)| first + sum / n).collect(), deviation))
}

/// `aᵀ·b` (d, e) of `a` (n, d) and `b` (n, e): the covariance of centred rows times n where both are the
/// same. In f32 within 256 rows, in f64 over them. O(n·d·e), on all threads of the current rayon pool.
///
/// # Panics
/// When the numbers of rows differ.
#[must_use]
pub fn products(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f64> {
    let mut sums = Array2::zeros((a.ncols(), b.ncols()));
    add_products(a, b, &mut sums);
    sums
}

/// Adds [`products`] of more rows to `sums` (d, e): as of all rows at once where those before are a multiple
/// of [`CHUNK`].
///
/// # Panics
/// When the shapes disagree.
pub fn add_products(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, sums: &mut Array2<f64>) {
    assert_eq!(a.nrows(), b.nrows(), "numbers of rows");
    assert_eq!(sums.dim(), (a.ncols(), b.ncols()), "shape of the sums");
    for (a, b) in a.axis_chunks_iter(Axis(0), CHUNK).zip(b.axis_chunks_iter(Axis(0), CHUNK)) {
        let columns = a.t().as_standard_layout().into_owned();
        let panels = Panels::for_ip(b.t());
        let strips = sums.axis_chunks_iter_mut(Axis(0), STRIP).into_par_iter();
        strips.zip(columns.axis_chunks_iter(Axis(0), STRIP)).for_each(|(mut sums, columns)| {
            let mut partial = Array2::zeros(sums.dim());
            panels.scores(columns, partial.view_mut());
            sums.zip_mut_with(&partial, |sum, partial| *sum += f64::from(*partial));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::tests::noise;
    use ndarray::array;

    #[test]
    fn constant_columns_have_their_value_as_mean_and_no_deviation() {
        let x = array![[0.1_f32, 1.0], [0.1, 3.0], [0.1, f32::NAN]];
        let mut progress = |_: f32| Ok::<(), ()>(());
        let (mean, deviation) = mean_and_deviation(x.view(), &mut progress).unwrap();
        assert_eq!((mean[0], deviation[0]), (f64::from(0.1_f32), 0.0));
        assert!((mean[1] - 4.0 / 3.0).abs() < 1e-15);
        assert!((deviation[1] - (14.0_f64 / 9.0).sqrt()).abs() < 1e-15);
        assert!(mean_and_deviation(x.view(), &mut |_| Err("stopped")).is_err());
    }

    #[test]
    fn products_are_those_of_the_definition_on_any_number_of_threads() {
        let (a, b) = (noise(700, 19, 1, 1), noise(700, 37, 2, 1));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| products(a.view(), b.view()))
        };
        let found = on(1);
        assert_eq!(found, on(3));
        let mut by_blocks = Array2::zeros(found.dim());
        for (a, b) in a.axis_chunks_iter(Axis(0), 512).zip(b.axis_chunks_iter(Axis(0), 512)) {
            add_products(a, b, &mut by_blocks);
        }
        assert_eq!(found, by_blocks);
        let exact = a.mapv(f64::from).t().dot(&b.mapv(f64::from));
        let size = |x: &Array2<f32>| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((&found - &exact).iter().all(|e| e.abs() < 1e-6 * size(&a) * size(&b)));
        assert_eq!(
            products(a.slice(ndarray::s![..0, ..]), b.slice(ndarray::s![..0, ..])).sum(),
            0.0
        );
    }
}
