//! Pairs: are distances between rows kept? On random pairs i ≠ j of different rows,
//!
//! ```text
//! symmetric    |‖x̂ᵢ−x̂ⱼ‖ / ‖xᵢ−xⱼ‖ − 1|
//! asymmetric   |‖xᵢ−x̂ⱼ‖ / ‖xᵢ−xⱼ‖ − 1|
//! ```
//!
//! with mean, median and maximum over the pairs. A pair of identical rows has no such quotient and is
//! left out; `pairwise_identical` says how many there are. All are the same for data of any scale.
//!
//! The two rows of a pair are far apart in the base, and holding all rows of 10,000 pairs of
//! 1,536 dimensions would take 245 MB. So rows are gathered for [`PAIRS_AT_ONCE`] pairs at a
//! time through a callback that reads rows by position and decodes their codes:
//! O(`PAIRS_AT_ONCE`·d) memory however many pairs there are.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;
use vq_kernels::distance;

use super::draw::{Draw, Stream};
use super::percentile::nearest_rank;
use super::standard_error;

/// Pairs whose rows are in memory together: 25 MB of rows at 1,536 dimensions.
pub const PAIRS_AT_ONCE: usize = 1024;

/// Random pairs of distinct row indices, uniform over ordered pairs, with replacement.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSample {
    pairs: Vec<(u32, u32)>,
}

impl PairSample {
    /// Draws `pairs` pairs from `rows` rows; none when fewer than two rows exist.
    ///
    /// # Panics
    /// When `rows` is more than 2³² − 1, which a prepared dataset never is.
    pub fn new(rows: usize, pairs: usize, seed: u64) -> Self {
        let rows = u32::try_from(rows).expect("row indices are u32");
        if rows < 2 {
            return Self { pairs: Vec::new() };
        }
        let mut draw = Draw::new(seed, Stream::RowPairs);
        let pair = |_| {
            let i = draw.below(rows);
            // The other rows − 1 indices, with i skipped: uniform without rejection.
            let j = draw.below(rows - 1);
            (i, j + u32::from(j >= i))
        };
        Self { pairs: (0..pairs).map(pair).collect() }
    }

    /// The pairs in the order they were drawn.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }
}

/// How well distances between rows survive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairMetrics {
    /// Both rows reconstructed; `None` where all pairs are of identical rows.
    pub symmetric: Option<PairError>,
    /// One row raw, the other reconstructed; likewise.
    pub asymmetric: Option<PairError>,
    /// Pairs of identical rows in the sample, which the errors leave out.
    pub identical: usize,
}

/// The relative error of a pair's distance, over the pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairError {
    /// Mean.
    pub mean: f64,
    /// Standard error of the mean over pairs (sample standard deviation / √pairs); `None` for one pair.
    pub mean_error: Option<f64>,
    /// Nearest-rank median.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl PairMetrics {
    /// The values that exist, under their metric names, means with their standard errors.
    pub fn named(&self) -> Vec<(&'static str, f64, Option<f64>)> {
        let error = |of: Option<PairError>, [mean, median, max]: [&'static str; 3]| {
            let named = of.map(|of| {
                [(mean, of.mean, of.mean_error), (median, of.median, None), (max, of.max, None)]
            });
            named.into_iter().flatten()
        };
        let symmetric = ["pairwise_mean", "pairwise_median", "pairwise_max"];
        let asymmetric =
            ["pairwise_asymmetric_mean", "pairwise_asymmetric_median", "pairwise_asymmetric_max"];
        error(self.symmetric, symmetric)
            .chain(error(self.asymmetric, asymmetric))
            .chain([("pairwise_identical", self.identical as f64, None)])
            .collect()
    }
}

/// Measures the pairs of `sample` on rows of `dim` dimensions; `None` when there are no pairs.
///
/// `gather(ids, raw, decoded)` fills `raw` (ids, d) with the rows `ids` (ascending, distinct)
/// and `decoded` (ids, d) with their reconstructions. It is called once for every
/// [`PAIRS_AT_ONCE`] pairs. Distances are f64, computed in the current rayon pool and summed in
/// the order of the draw.
///
/// # Errors
/// The first error of `gather`, unchanged.
pub fn pairwise<E>(
    sample: &PairSample,
    dim: usize,
    mut gather: impl FnMut(&[u32], ArrayViewMut2<'_, f32>, ArrayViewMut2<'_, f32>) -> Result<(), E>,
) -> Result<Option<PairMetrics>, E> {
    let pairs = sample.pairs.len();
    let mut symmetric = Vec::with_capacity(pairs);
    let mut asymmetric = Vec::with_capacity(pairs);
    let mut identical = 0;
    // A chunk has at most two rows per pair.
    let rows = 2 * pairs.min(PAIRS_AT_ONCE);
    let (mut raw, mut decoded) = (Array2::zeros((rows, dim)), Array2::zeros((rows, dim)));
    let mut ids = Vec::with_capacity(rows);
    let mut errors = Vec::with_capacity(PAIRS_AT_ONCE);

    for chunk in sample.pairs.chunks(PAIRS_AT_ONCE) {
        ids.clear();
        ids.extend(chunk.iter().flat_map(|&(i, j)| [i, j]));
        ids.sort_unstable();
        ids.dedup();
        let used = s![..ids.len(), ..];
        gather(&ids, raw.slice_mut(used), decoded.slice_mut(used))?;

        let (raw, decoded) = (raw.view(), decoded.view());
        chunk
            .par_iter()
            .map(|&(i, j)| {
                // Every id of the chunk is in the sorted `ids`: this is where.
                let position = |id| ids.partition_point(|&gathered| gathered < id);
                pair_errors(raw, decoded, position(i), position(j))
            })
            .collect_into_vec(&mut errors);
        identical += errors.iter().filter(|error| error.is_none()).count();
        for error in errors.iter().flatten() {
            symmetric.push(error.symmetric);
            asymmetric.push(error.asymmetric);
        }
    }
    Ok((pairs > 0).then(|| PairMetrics {
        symmetric: summarise(symmetric),
        asymmetric: summarise(asymmetric),
        identical,
    }))
}

struct PairErrors {
    symmetric: f64,
    asymmetric: f64,
}

/// Both errors of the pair whose rows were gathered at the positions `i` and `j`; `None` where these
/// are identical.
fn pair_errors(
    raw: ArrayView2<'_, f32>,
    decoded: ArrayView2<'_, f32>,
    i: usize,
    j: usize,
) -> Option<PairErrors> {
    let row = |of: ArrayView2<'_, f32>, at: usize, other: ArrayView2<'_, f32>, other_at: usize| {
        let (a, b) = (of.row(at), other.row(other_at));
        let a = a.as_slice().expect("gathered rows are contiguous");
        let b = b.as_slice().expect("gathered rows are contiguous");
        distance::l2_sq(a, b).sqrt()
    };
    let truth = row(raw, i, raw, j);
    let error = |estimate: f64| (estimate / truth - 1.0).abs();
    (truth > 0.0).then(|| PairErrors {
        symmetric: error(row(decoded, i, decoded, j)),
        asymmetric: error(row(raw, i, decoded, j)),
    })
}

fn summarise(mut errors: Vec<f64>) -> Option<PairError> {
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let mean_error = standard_error(&errors, mean);
    errors.sort_unstable_by(f64::total_cmp);
    Some(PairError {
        mean,
        mean_error,
        median: nearest_rank(&errors, 50)?,
        max: nearest_rank(&errors, 100)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Axis, array};
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn measure(sample: &PairSample, x: &Array2<f32>, decoded: &Array2<f32>) -> Option<PairMetrics> {
        let gather =
            |ids: &[u32], mut raw: ArrayViewMut2<'_, f32>, mut out: ArrayViewMut2<'_, f32>| {
                assert!(ids.is_sorted_by(|a, b| a < b), "ascending and distinct");
                for (at, &id) in ids.iter().enumerate() {
                    raw.row_mut(at).assign(&x.index_axis(Axis(0), id as usize));
                    out.row_mut(at).assign(&decoded.index_axis(Axis(0), id as usize));
                }
                Ok::<_, Infallible>(())
            };
        pairwise(sample, x.ncols(), gather).unwrap()
    }

    #[test]
    fn a_pair_is_never_a_row_with_itself_and_every_row_is_drawn() {
        let sample = PairSample::new(7, 2000, 3);
        let mut seen = [[false; 7]; 7];
        for &(i, j) in sample.pairs() {
            assert_ne!(i, j);
            seen[i as usize][j as usize] = true;
        }
        let reached = seen.iter().flatten().filter(|&&s| s).count();
        assert_eq!(reached, 42, "every ordered pair is reached");
    }

    #[test]
    fn drawn_pairs_stay_what_they_were_when_results_were_stored() {
        let sample = PairSample::new(100, 4, 42);
        assert_eq!(sample.pairs(), [(71, 16), (48, 84), (6, 77), (12, 5)]);
    }

    #[test]
    fn equal_seeds_draw_equal_pairs_and_others_do_not() {
        let draw = |seed| PairSample::new(1000, 50, seed);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn fewer_than_two_rows_have_no_pairs() {
        for rows in [0, 1] {
            let sample = PairSample::new(rows, 10, 0);
            assert!(sample.pairs().is_empty());
            assert_eq!(measure(&sample, &array![[1.0]], &array![[1.0]]), None);
        }
    }

    #[test]
    fn three_rows_give_the_values_worked_by_hand() {
        // Distances: 3 between 0 and 1, 4 between 0 and 2, 5 between 1 and 2.
        let x = array![[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]];
        let decoded = array![[0.0, 0.0], [6.0, 0.0], [0.0, 4.0]];
        let sample = PairSample { pairs: vec![(0, 1), (2, 0), (1, 0)] };
        let got = measure(&sample, &x, &decoded).unwrap();
        // Symmetric: 6/3, 4/4, 6/3. Asymmetric: |x0−x̂1| = 6 of 3, |x2−x̂0| = 4 of 4, |x1−x̂0| = 3 of 3.
        let (symmetric, asymmetric) = (got.symmetric.unwrap(), got.asymmetric.unwrap());
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        close(symmetric.mean, 2.0 / 3.0);
        close(symmetric.median, 1.0);
        close(symmetric.max, 1.0);
        close(asymmetric.mean, 1.0 / 3.0);
        close(asymmetric.median, 0.0);
        close(asymmetric.max, 1.0);
        assert_eq!(got.identical, 0);
    }

    #[test]
    fn identical_rows_are_left_out_and_counted() {
        let x = array![[1.0, 1.0], [1.0, 1.0], [1.0, 3.0]];
        let sample = PairSample { pairs: vec![(0, 1), (1, 0), (0, 2)] };
        let got = measure(&sample, &x, &x).unwrap();
        assert_eq!((got.symmetric.unwrap().max, got.asymmetric.unwrap().mean), (0.0, 0.0));
        assert_eq!(got.identical, 2);
        let same = PairSample { pairs: vec![(0, 1); 5] };
        let got = measure(&same, &x, &x).unwrap();
        assert_eq!(got, PairMetrics { symmetric: None, asymmetric: None, identical: 5 });
        assert_eq!(got.named(), [("pairwise_identical", 5.0, None)]);
    }

    #[test]
    fn scale_changes_no_error() {
        let x = Array2::from_shape_fn((40, 3), |(i, j)| ((i * 37 + j * 11) % 101) as f32);
        let decoded = x.mapv(|v| (v / 4.0).round() * 4.0);
        let sample = PairSample::new(40, 300, 2);
        let of = |scale: f32| measure(&sample, &(&x * scale), &(&decoded * scale));
        let plain = of(1.0);
        for exponent in [-120, -40, 40, 110] {
            assert_eq!(of(2.0_f32.powi(exponent)), plain, "2^{exponent}");
        }
    }

    #[test]
    fn an_error_of_the_gatherer_ends_the_measurement() {
        let sample = PairSample::new(10, 5, 1);
        let got = pairwise(&sample, 2, |_, _, _| Err("disk"));
        assert_eq!(got, Err("disk"));
    }

    #[test]
    fn more_pairs_than_are_held_at_once_are_measured_in_passes() {
        let x = Array2::from_shape_fn((300, 3), |(i, j)| ((i * 37 + j * 11) % 101) as f32);
        let decoded = x.mapv(|v| (v / 4.0).round() * 4.0);
        let sample = PairSample::new(300, 3 * PAIRS_AT_ONCE + 7, 9);
        let got = measure(&sample, &x, &decoded).unwrap();

        let distance = |a: &Array2<f32>, i: u32, b: &Array2<f32>, j: u32| {
            let (a, b) = (a.row(i as usize), b.row(j as usize));
            let squares = a.iter().zip(b).map(|(&a, &b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let mut errors: Vec<f64> = (sample.pairs().iter())
            .filter(|(i, j)| x.row(*i as usize) != x.row(*j as usize))
            .map(|&(i, j)| (distance(&x, i, &decoded, j) / distance(&x, i, &x, j) - 1.0).abs())
            .collect();
        errors.sort_by(f64::total_cmp);
        let n = errors.len();
        let got = got.asymmetric.unwrap();
        assert_eq!(got.max, errors[n - 1]);
        assert_eq!(got.median, errors[n.div_ceil(2) - 1]);
        let mean = errors.iter().sum::<f64>() / n as f64;
        assert!((got.mean / mean - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn threads_change_no_bit(seed: u64, n in 2_usize..30, d in 1_usize..12) {
            let x = Array2::from_shape_fn((n, d), |(i, j)| ((i * 31 + j * 7) as f32).sin());
            let decoded = x.mapv(|v| (v * 8.0).round() / 8.0);
            let sample = PairSample::new(n, 1500, seed);
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| format!("{:?}", measure(&sample, &x, &decoded)))
            };
            prop_assert_eq!(on(1), on(2));
        }
    }
}
