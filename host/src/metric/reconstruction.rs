//! Reconstruction: how far the decoded rows x̂ are from the rows x.
//!
//! ```text
//! mse            = Σ‖x−x̂‖² / (n·d)            sse_per_vector = d·mse
//! relative_error = Σ‖x−x̂‖² / Σ‖x−mean‖²       sqnr_db        = −10·log10(relative_error)
//! cosine         = mean of x·x̂ / (‖x‖·‖x̂‖)    row error      = ‖x−x̂‖² / ‖x‖²
//! bias           = ‖Σ(x̂−x)/n‖² / (Σ‖x−x̂‖²/n)   slope          = Σ(x−mean)·(x̂−mean) / Σ‖x−mean‖²
//! ```
//!
//! A walk over the base pushes its blocks in row order. What belongs to one row is computed in
//! parallel; sums then run in row order in f64, so the results have the same bits for any
//! block size and any number of threads. Memory is O(block) plus 4 bytes per row: the row
//! errors are kept as f32 until their percentiles are taken (a relative rounding of 6·10⁻⁸).

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;
use vq_kernels::distance;

use super::percentile::nearest_rank;

/// How far reconstructions are from the data.
///
/// A value is `None` where it would be infinite or undefined, so that it can be stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReconstructionMetrics {
    /// Mean squared error per dimension, in squared units of the data.
    pub mse: f64,
    /// Mean squared error per row, d·`mse`.
    pub sse_per_vector: f64,
    /// Share of the variance that is lost. Where all rows are equal there is no variance:
    /// 0 if the reconstruction is perfect, `None` if not.
    pub relative_error: Option<f64>,
    /// Signal to quantization noise in decibels; `None` for a perfect reconstruction, whose
    /// ratio is infinite, and where `relative_error` is.
    pub sqnr_db: Option<f64>,
    /// Mean cosine between row and reconstruction: 1 where both are zero, 0 where only one is.
    pub cosine: f64,
    /// Share of the squared error that is the square of the mean error; 0 for a perfect reconstruction.
    pub bias: f64,
    /// Slope of the least-squares line of reconstructions on rows, all dimensions together, about the
    /// mean row; `None` where all rows are equal.
    pub slope: Option<f64>,
    /// Nearest-rank percentiles of the row errors; `None` when no row has one.
    pub row_error: Option<RowErrors>,
    /// Zero rows whose reconstruction is not zero: their row error would be infinite and is
    /// left out of the percentiles. (A zero row that decodes to zero has row error 0.)
    pub row_errors_undefined: usize,
}

/// Percentiles of ‖x−x̂‖² / ‖x‖² over rows, rounded to f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowErrors {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl ReconstructionMetrics {
    /// The values that exist, under their metric names.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let mut named = vec![("mse", self.mse), ("sse_per_vector", self.sse_per_vector)];
        named.extend(self.relative_error.map(|v| ("relative_error", v)));
        named.extend(self.sqnr_db.map(|v| ("sqnr_db", v)));
        named.push(("cosine", self.cosine));
        named.push(("reconstruction_bias", self.bias));
        named.extend(self.slope.map(|v| ("reconstruction_slope", v)));
        if let Some(rows) = self.row_error {
            named.push(("row_error_p50", rows.p50));
            named.push(("row_error_p95", rows.p95));
            named.push(("row_error_p99", rows.p99));
            named.push(("row_error_max", rows.max));
        }
        named.push(("row_errors_undefined", self.row_errors_undefined as f64));
        named
    }
}

/// Accumulates [`ReconstructionMetrics`] over blocks of rows.
pub struct Reconstruction {
    mean: Vec<f64>,
    /// The first row, as long as every row so far equals it: that, and not a small sum, is
    /// what says there is no variance, because the mean itself is rounded.
    only_row: Option<Vec<f32>>,
    rows: usize,
    sse: f64,
    variance_sum: f64,
    cosine_sum: f64,
    /// Σ(x−mean)·(x̂−x).
    covariance_sum: f64,
    /// Σ(x̂−x), of each dimension.
    error_sums: Vec<f64>,
    row_errors: Vec<f32>,
    row_errors_undefined: usize,
    /// Values of the rows of one block, kept to allocate once.
    block: Vec<RowValues>,
}

#[derive(Clone, Copy)]
struct RowValues {
    sse: f64,
    norm_sq: f64,
    deviation_sq: f64,
    /// (x−mean)·(x̂−x)
    covariance: f64,
    cosine: f64,
}

impl Reconstruction {
    /// Starts with the mean row (d) of the whole base, not of the rows pushed so far.
    pub fn new(mean: &[f64]) -> Self {
        Self {
            mean: mean.to_vec(),
            only_row: None,
            rows: 0,
            sse: 0.0,
            variance_sum: 0.0,
            cosine_sum: 0.0,
            covariance_sum: 0.0,
            error_sums: vec![0.0; mean.len()],
            row_errors: Vec::new(),
            row_errors_undefined: 0,
            block: Vec::new(),
        }
    }

    /// Adds the next rows `x` (rows, d) of the base and their reconstruction `decoded`
    /// (rows, d), both finite; in the current rayon pool.
    ///
    /// # Panics
    /// When the two differ in shape, or from the mean in dimension.
    pub fn push(&mut self, x: ArrayView2<'_, f32>, decoded: ArrayView2<'_, f32>) {
        assert_eq!(x.dim(), decoded.dim(), "rows and reconstructions differ");
        assert_eq!(x.ncols(), self.mean.len(), "rows and mean differ");
        let (x, decoded) = (x.as_standard_layout(), decoded.as_standard_layout());
        let (x, decoded) = (x.view(), decoded.view());
        self.follow_constant(x);

        let mean = &self.mean;
        (0..x.nrows())
            .into_par_iter()
            .map(|row| {
                let (x, decoded) = (x.row(row), decoded.row(row));
                row_values(
                    x.to_slice().expect("standard layout"),
                    decoded.to_slice().expect("standard layout"),
                    mean,
                )
            })
            .collect_into_vec(&mut self.block);

        for row in &self.block {
            self.sse += row.sse;
            self.variance_sum += row.deviation_sq;
            self.cosine_sum += row.cosine;
            self.covariance_sum += row.covariance;
            if row.norm_sq > 0.0 {
                // A ratio past f32 is as bad as the largest f32; clamp keeps a NaN a NaN.
                let ratio = (row.sse / row.norm_sq).clamp(0.0, f64::from(f32::MAX));
                self.row_errors.push(ratio as f32);
            } else if row.sse == 0.0 {
                self.row_errors.push(0.0);
            } else {
                self.row_errors_undefined += 1;
            }
        }
        self.rows += x.nrows();
        add_errors(&mut self.error_sums, x, decoded);
    }

    /// Keeps `only_row` true to its description.
    fn follow_constant(&mut self, x: ArrayView2<'_, f32>) {
        let Some(first) = x.axis_iter(Axis(0)).next() else {
            return;
        };
        if self.rows == 0 {
            self.only_row = Some(first.to_vec());
        }
        if let Some(only) = &self.only_row
            && x.rows().into_iter().any(|row| row.iter().ne(only))
        {
            self.only_row = None;
        }
    }

    /// The metrics of all rows pushed; `None` when there were none.
    pub fn finish(mut self) -> Option<ReconstructionMetrics> {
        if self.rows == 0 {
            return None;
        }
        let n = self.rows as f64;
        let sse_per_vector = self.sse / n;
        let relative_error = if self.only_row.is_none() {
            Some(self.sse / self.variance_sum)
        } else {
            (self.sse == 0.0).then_some(0.0)
        };
        let mean_error_sq: f64 = self.error_sums.iter().map(|sum| (sum / n).powi(2)).sum();
        // The slope of x̂ − x is that of x̂ less 1, and keeps the digits of a small error.
        let slope = (self.only_row.is_none() && self.variance_sum > 0.0)
            .then(|| 1.0 + self.covariance_sum / self.variance_sum);
        // Equal values are the same bits up to the sign of zero, so an unstable parallel sort
        // is still one result.
        self.row_errors.par_sort_unstable_by(f32::total_cmp);
        let at = |percent| nearest_rank(&self.row_errors, percent).map(f64::from);
        let row_error = at(50).zip(at(95)).zip(at(99)).zip(at(100));
        Some(ReconstructionMetrics {
            mse: sse_per_vector / self.mean.len() as f64,
            sse_per_vector,
            relative_error,
            sqnr_db: relative_error.filter(|&e| e > 0.0).map(|e| -10.0 * e.log10()),
            cosine: self.cosine_sum / n,
            bias: if self.sse > 0.0 { mean_error_sq / sse_per_vector } else { 0.0 },
            slope,
            row_error: row_error.map(|(((p50, p95), p99), max)| RowErrors { p50, p95, p99, max }),
            row_errors_undefined: self.row_errors_undefined,
        })
    }
}

fn row_values(x: &[f32], decoded: &[f32], mean: &[f64]) -> RowValues {
    let norm_sq = distance::norm_sq(x);
    let (deviation_sq, covariance) = about_mean(x, decoded, mean);
    let decoded_norm_sq = distance::norm_sq(decoded);
    let cosine = match (norm_sq == 0.0, decoded_norm_sq == 0.0) {
        (true, true) => 1.0,
        (true, false) | (false, true) => 0.0,
        // One root of the product: for x̂ = x it is exactly ‖x‖², so the cosine exactly 1.
        (false, false) => {
            let cosine = distance::dot(x, decoded) / (norm_sq * decoded_norm_sq).sqrt();
            cosine.clamp(-1.0, 1.0)
        }
    };
    RowValues { sse: distance::l2_sq(x, decoded), norm_sq, deviation_sq, covariance, cosine }
}

/// Adds the errors of each dimension, row after row; dimensions in parallel, so that every sum has one
/// order.
fn add_errors(sums: &mut [f64], x: ArrayView2<'_, f32>, decoded: ArrayView2<'_, f32>) {
    /// Dimensions that are added together: four cache lines of a row.
    const TOGETHER: usize = 64;
    sums.par_chunks_mut(TOGETHER).enumerate().for_each(|(chunk, sums)| {
        let here = chunk * TOGETHER..chunk * TOGETHER + sums.len();
        for (x, decoded) in x.rows().into_iter().zip(decoded.rows()) {
            let x = x.to_slice().expect("standard layout");
            let decoded = decoded.to_slice().expect("standard layout");
            for ((sum, x), decoded) in
                sums.iter_mut().zip(&x[here.clone()]).zip(&decoded[here.clone()])
            {
                *sum += f64::from(*decoded) - f64::from(*x);
            }
        }
    });
}

/// Σ (x−mean)² and Σ (x−mean)·(x̂−x) in f64, each in eight interleaved sums that are combined in a
/// fixed order: the compiler can vectorise it and every machine adds the same numbers in the same
/// order.
fn about_mean(x: &[f32], decoded: &[f32], mean: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut squares, mut products) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    let mut add = |lane: usize, x: f32, decoded: f32, mean: f64| {
        let (x, decoded) = (f64::from(x), f64::from(decoded));
        let difference = x - mean;
        squares[lane] += difference * difference;
        products[lane] += difference * (decoded - x);
    };
    let (x_blocks, x_tail) = x.as_chunks::<LANES>();
    let (decoded_blocks, decoded_tail) = decoded.as_chunks::<LANES>();
    let (mean_blocks, mean_tail) = mean.as_chunks::<LANES>();
    for ((x, decoded), mean) in x_blocks.iter().zip(decoded_blocks).zip(mean_blocks) {
        for lane in 0..LANES {
            add(lane, x[lane], decoded[lane], mean[lane]);
        }
    }
    for (lane, ((x, decoded), mean)) in x_tail.iter().zip(decoded_tail).zip(mean_tail).enumerate() {
        add(lane, *x, *decoded, *mean);
    }
    let sum = |[a, b, c, d, e, f, g, h]: [f64; LANES]| ((a + b) + (c + d)) + ((e + f) + (g + h));
    (sum(squares), sum(products))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array, s};
    use proptest::prelude::*;

    fn mean_of(x: &Array2<f32>) -> Vec<f64> {
        let n = x.nrows() as f64;
        (x.columns().into_iter())
            .map(|column| column.iter().map(|&v| f64::from(v)).sum::<f64>() / n)
            .collect()
    }

    fn measure(x: &Array2<f32>, decoded: &Array2<f32>) -> ReconstructionMetrics {
        let mut walk = Reconstruction::new(&mean_of(x));
        walk.push(x.view(), decoded.view());
        walk.finish().unwrap()
    }

    #[test]
    fn two_rows_give_the_values_worked_by_hand() {
        let x = array![[4.0, 0.0], [0.0, 4.0]];
        let decoded = array![[3.0, 0.0], [0.0, 4.0]];
        let got = measure(&x, &decoded);
        // Mean (2, 2), Σ‖x−mean‖² = 16, Σ‖x−x̂‖² = 1.
        assert_eq!(got.mse, 0.25);
        assert_eq!(got.sse_per_vector, 0.5);
        assert_eq!(got.relative_error, Some(1.0 / 16.0));
        assert_eq!(got.sqnr_db, Some(10.0 * 16.0_f64.log10()));
        assert_eq!(got.cosine, 1.0);
        let rows = got.row_error.unwrap();
        assert_eq!((rows.p50, rows.max), (0.0, 1.0 / 16.0));
    }

    #[test]
    fn what_all_rows_have_in_common_is_bias_and_what_shrinks_is_in_the_slope() {
        let x = array![[4.0, 0.0], [0.0, 4.0]];
        // Every row is moved by (1, 0): all of the error.
        let got = measure(&x, &array![[5.0, 0.0], [1.0, 4.0]]);
        assert_eq!((got.bias, got.slope), (1.0, Some(1.0)));
        // Halved about the mean (2, 2): errors (−1, 1) and (1, −1) have nothing in common.
        let got = measure(&x, &array![[3.0, 1.0], [1.0, 3.0]]);
        assert_eq!((got.bias, got.slope), (0.0, Some(0.5)));
        // Errors (−1, 0) and (0, 0): their mean is (−½, 0), ¼ of ½.
        let got = measure(&x, &array![[3.0, 0.0], [0.0, 4.0]]);
        assert_eq!(got.bias, 0.5);
        let got = measure(&x, &x);
        assert_eq!((got.bias, got.slope), (0.0, Some(1.0)));
        assert_eq!(measure(&array![[1.0]], &array![[2.0]]).slope, None);
    }

    #[test]
    fn cosine_is_the_mean_over_rows() {
        let x = array![[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]];
        let decoded = array![[0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]];
        assert_eq!(measure(&x, &decoded).cosine, 0.0);
    }

    #[test]
    fn a_perfect_reconstruction_has_no_sqnr_to_store() {
        let x = array![[0.1, 0.2, 0.3], [-5.0, 1e-20, 7.0]];
        let got = measure(&x, &x);
        assert_eq!((got.mse, got.relative_error), (0.0, Some(0.0)));
        assert_eq!(got.sqnr_db, None);
        assert_eq!(got.cosine, 1.0);
        assert!(got.named().iter().all(|(name, v)| v.is_finite() && *name != "sqnr_db"));
    }

    #[test]
    fn zero_rows_have_defined_cosines_and_never_an_infinite_error() {
        let x = array![[0.0, 0.0], [0.0, 0.0], [2.0, 0.0]];
        let decoded = array![[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]];
        let got = measure(&x, &decoded);
        assert_eq!(got.cosine, 1.0 / 3.0);
        assert_eq!(got.row_errors_undefined, 1);
        let rows = got.row_error.unwrap();
        assert_eq!((rows.p50, rows.max), (0.0, 1.0));
        assert_eq!(got.sse_per_vector, 5.0 / 3.0);
    }

    #[test]
    fn rows_without_any_defined_error_have_no_percentiles() {
        let got = measure(&array![[0.0, 0.0]], &array![[1.0, 0.0]]);
        assert_eq!((got.row_error, got.row_errors_undefined), (None, 1));
        assert!(got.named().iter().all(|(_, v)| v.is_finite()));
    }

    #[test]
    fn constant_data_has_no_relative_error_unless_perfect() {
        // 0.1 three times: the f64 mean is not exactly the value, the variance still is zero.
        let x = Array2::from_elem((3, 2), 0.1_f32);
        let mut near = x.clone();
        near[[2, 1]] = 0.2;
        assert_eq!(measure(&x, &near).relative_error, None);
        assert_eq!(measure(&x, &near).sqnr_db, None);
        assert_eq!(measure(&x, &x).relative_error, Some(0.0));
    }

    #[test]
    fn one_row_is_constant_data() {
        let got = measure(&array![[1.0, 2.0, 2.0]], &array![[1.0, 2.0, 1.0]]);
        assert_eq!(got.relative_error, None);
        assert_eq!(got.row_error.unwrap().p50, f64::from(1.0_f32 / 9.0));
    }

    #[test]
    fn no_rows_have_no_metrics() {
        let mut walk = Reconstruction::new(&[0.0; 4]);
        walk.push(Array2::zeros((0, 4)).view(), Array2::zeros((0, 4)).view());
        assert_eq!(walk.finish(), None);
    }

    #[test]
    fn huge_values_stay_finite() {
        let x = array![[3e38, -3e38], [1e-30, 0.0]];
        let decoded = array![[-3e38, 3e38], [3e38, 0.0]];
        let got = measure(&x, &decoded);
        assert!(got.named().iter().all(|(_, v)| v.is_finite()), "{got:?}");
        assert_eq!(got.row_error.unwrap().max, f64::from(f32::MAX));
    }

    #[test]
    fn strided_blocks_are_read_correctly() {
        let wide = Array2::from_shape_fn((5, 12), |(i, j)| (i * 12 + j) as f32);
        let x = wide.slice(s![.., ..;2]);
        let (x_copy, decoded) = (x.to_owned(), Array2::zeros((5, 6)));
        let mut walk = Reconstruction::new(&mean_of(&x_copy));
        walk.push(x, decoded.view());
        assert_eq!(walk.finish().unwrap(), measure(&x_copy, &decoded));
    }

    /// Rows and reconstructions of one random shape.
    fn rows() -> impl Strategy<Value = (Array2<f32>, Array2<f32>)> {
        (1_usize..40, 1_usize..20).prop_flat_map(|(n, d)| {
            let block = || prop::collection::vec(-10.0_f32..10.0, n * d);
            (block(), block()).prop_map(move |(x, decoded)| {
                let shaped = |values| Array2::from_shape_vec((n, d), values).unwrap();
                (shaped(x), shaped(decoded))
            })
        })
    }

    proptest! {
        #[test]
        fn blocks_and_threads_change_no_bit((x, decoded) in rows(), block in 1_usize..41) {
            let mean = mean_of(&x);
            let walk = |threads, block: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut walk = Reconstruction::new(&mean);
                    for first in (0..x.nrows()).step_by(block) {
                        let rows = first..(first + block).min(x.nrows());
                        walk.push(x.slice(s![rows.clone(), ..]), decoded.slice(s![rows, ..]));
                    }
                    walk.finish().unwrap()
                })
            };
            let whole = walk(1, x.nrows());
            let blocked = walk(2, block);
            prop_assert_eq!(format!("{whole:?}"), format!("{blocked:?}"));
        }

        #[test]
        fn sums_agree_with_plain_loops((x, decoded) in rows()) {
            let got = measure(&x, &decoded);
            let mean = mean_of(&x);
            let (mut sse, mut variance) = (0.0, 0.0);
            for ((_, j), &v) in x.indexed_iter() {
                variance += (f64::from(v) - mean[j]).powi(2);
            }
            for (&v, &w) in x.iter().zip(&decoded) {
                sse += (f64::from(v) - f64::from(w)).powi(2);
            }
            prop_assert!((got.mse / (sse / x.len() as f64) - 1.0).abs() < 1e-12);
            if let Some(relative) = got.relative_error {
                prop_assert!((relative / (sse / variance) - 1.0).abs() < 1e-9);
            }
        }
    }
}
