//! Estimator: how far estimates e are from true values t, on query × base pairs.
//!
//! t is the inner product or the squared distance between a query and a row, e what the method
//! says from the row's code (its scorer when it has one, else the reconstruction). With
//! `scale` = the standard deviation of t (over the pairs, divisor n):
//!
//! ```text
//! bias    = mean(e − t) / scale            rmse = √mean((e − t)²)
//! e ≈ slope·t + intercept, least squares   error = |e − t|, percentiles by nearest rank
//! ```
//!
//! Only `bias` is divided by the scale; `rmse`, `intercept` and the error percentiles are in
//! units of t, and `estimator_scale` is stored beside them. An unbiased estimator has bias 0
//! and slope 1; a reconstruction that shrinks has slope < 1.

use super::draw::{Draw, Stream};
use super::percentile::nearest_rank;
use super::standard_error;

/// One pair to estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryPair {
    /// Row of the base. First, so that pairs sort in the order a walk meets them.
    pub row: u32,
    /// Index of the query.
    pub query: u32,
}

/// Random (query, row) pairs, uniform with replacement, sorted by row.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPairs {
    pairs: Vec<QueryPair>,
}

impl QueryPairs {
    /// Draws `pairs` pairs of `queries` queries and `rows` rows; none when either is 0.
    ///
    /// # Panics
    /// When `queries` or `rows` is more than 2³² − 1, which a prepared dataset never has.
    pub fn new(queries: usize, rows: usize, pairs: usize, seed: u64) -> Self {
        let queries = u32::try_from(queries).expect("query indices are u32");
        let rows = u32::try_from(rows).expect("row indices are u32");
        if queries == 0 || rows == 0 {
            return Self { pairs: Vec::new() };
        }
        let mut draw = Draw::new(seed, Stream::QueryPairs);
        let mut pairs: Vec<QueryPair> = (0..pairs)
            .map(|_| {
                let query = draw.below(queries);
                let row = draw.below(rows);
                QueryPair { row, query }
            })
            .collect();
        pairs.sort_unstable();
        Self { pairs }
    }

    /// All pairs, sorted by row and then query.
    pub fn pairs(&self) -> &[QueryPair] {
        &self.pairs
    }

    /// The pairs whose row is one of the `len` rows from `first`; over consecutive blocks these
    /// slices follow each other and make up [`pairs`](Self::pairs).
    pub fn in_rows(&self, first: usize, len: usize) -> &[QueryPair] {
        let before = |row: usize| self.pairs.partition_point(|pair| (pair.row as usize) < row);
        &self.pairs[before(first)..before(first + len)]
    }
}

/// How good estimates are. A value is `None` where it is undefined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EstimatorMetrics {
    /// mean(e − t) / scale, in standard deviations of t. Where t is constant: 0 if the mean
    /// error is 0, else `None`.
    pub bias: Option<f64>,
    /// Slope of e on t; `None` where t is constant.
    pub slope: Option<f64>,
    /// Intercept of e on t, in units of t; `None` where t is constant.
    pub intercept: Option<f64>,
    /// Root mean squared error, in units of t.
    pub rmse: f64,
    /// 95th percentile of |e − t|, in units of t.
    pub error_p95: f64,
    /// 99th percentile of |e − t|, in units of t.
    pub error_p99: f64,
    /// Standard deviation of t.
    pub scale: f64,
    /// Share of pairs with |e − t| within the bound that the method claims for them; `None`
    /// for a method that claims none.
    pub bound_coverage: Option<f64>,
    /// Mean of those bounds / scale; `None` where t is constant, too.
    pub bound_width: Option<f64>,
    /// Standard errors of `bias`, `bound_coverage` and `bound_width` over pairs, where there are several.
    pub standard_errors: [Option<f64>; 3],
}

impl EstimatorMetrics {
    /// The values that exist, under their metric names, means with their standard errors.
    pub fn named(&self) -> Vec<(&'static str, f64, Option<f64>)> {
        let [of_bias, of_coverage, of_width] = self.standard_errors;
        [
            ("bias", self.bias, of_bias),
            ("slope", self.slope, None),
            ("intercept", self.intercept, None),
            ("rmse", Some(self.rmse), None),
            ("error_p95", Some(self.error_p95), None),
            ("error_p99", Some(self.error_p99), None),
            ("estimator_scale", Some(self.scale), None),
            ("bound_coverage", self.bound_coverage, of_coverage),
            ("bound_width", self.bound_width, of_width),
        ]
        .into_iter()
        .filter_map(|(name, value, error)| value.map(|value| (name, value, error)))
        .collect()
    }
}

/// Compares `estimate` with `truth`, pair by pair, both finite; `bound` is the error that the
/// method claims not to exceed, pair by pair. `None` when there are no pairs.
///
/// Two passes in f64, single-threaded, in the order given; O(pairs) memory.
///
/// # Panics
/// When the slices differ in length.
pub fn estimator(
    truth: &[f64],
    estimate: &[f64],
    bound: Option<&[f64]>,
) -> Option<EstimatorMetrics> {
    assert_eq!(truth.len(), estimate.len(), "an estimate for each truth");
    if let Some(bound) = bound {
        assert_eq!(truth.len(), bound.len(), "a bound for each truth");
    }
    let first = *truth.first()?;
    let n = truth.len() as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
    let pairs = || truth.iter().copied().zip(estimate.iter().copied());

    let mean_t = mean(&mut truth.iter().copied());
    let mean_error = mean(&mut pairs().map(|(t, e)| e - t));
    // Asked of the values and not of the variance: the mean is rounded, so the variance of a
    // constant need not come out as zero.
    let constant = truth.iter().all(|&t| t == first);
    let variance =
        if constant { 0.0 } else { mean(&mut truth.iter().map(|t| (t - mean_t).powi(2))) };
    // The slope of e − t on t is the slope of e on t less 1, and keeps the digits that a small
    // error would lose against a large t.
    let covariance = mean(&mut pairs().map(|(t, e)| (t - mean_t) * (e - t - mean_error)));
    let slope_less_one = (variance > 0.0).then(|| covariance / variance);

    let mut errors: Vec<f64> = pairs().map(|(t, e)| (e - t).abs()).collect();
    let bound_coverage = bound.map(|bound| {
        let covered = errors.iter().zip(bound).filter(|(error, bound)| error <= bound);
        covered.count() as f64 / n
    });
    let bound_width = bound
        .filter(|_| variance > 0.0)
        .map(|bound| mean(&mut bound.iter().copied()) / variance.sqrt());
    let signed: Vec<f64> = pairs().map(|(t, e)| e - t).collect();
    let of_bias = standard_error(&signed, mean_error).filter(|_| variance > 0.0);
    let of_coverage = bound.zip(bound_coverage).and_then(|(bound, coverage)| {
        let covered =
            errors.iter().zip(bound).map(|(error, bound)| f64::from(u8::from(error <= bound)));
        standard_error(&covered.collect::<Vec<_>>(), coverage)
    });
    let of_width = bound.zip(bound_width).and_then(|(bound, width)| {
        standard_error(bound, width * variance.sqrt()).map(|error| error / variance.sqrt())
    });
    let rmse = mean(&mut errors.iter().map(|e| e * e)).sqrt();
    errors.sort_unstable_by(f64::total_cmp);

    Some(EstimatorMetrics {
        bias: if variance > 0.0 {
            Some(mean_error / variance.sqrt())
        } else {
            (mean_error == 0.0).then_some(0.0)
        },
        slope: slope_less_one.map(|s| 1.0 + s),
        intercept: slope_less_one.map(|s| mean_error - s * mean_t),
        rmse,
        error_p95: nearest_rank(&errors, 95)?,
        error_p99: nearest_rank(&errors, 99)?,
        scale: variance.sqrt(),
        bound_coverage,
        bound_width,
        standard_errors: [of_bias.map(|error| error / variance.sqrt()), of_coverage, of_width],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn four_pairs_give_the_values_worked_by_hand() {
        // t: mean 2.5, variance 1.25. e − t: 1, −1, 1, 1: mean 0.5, mean square 1.
        let got = estimator(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 4.0, 5.0], None).unwrap();
        assert_eq!(got.bias, Some(0.5 / 1.25_f64.sqrt()));
        assert_eq!(got.rmse, 1.0);
        assert_eq!((got.error_p95, got.error_p99), (1.0, 1.0));
        // Covariance of t and e − t: (−1.5·0.5 + 0.5·1.5 + 0.5·0.5 + 1.5·0.5) / 4 = 0.25.
        assert_eq!(got.slope, Some(1.2));
        assert!((got.intercept.unwrap() - 0.0).abs() < 1e-15);
        assert_eq!((got.scale, got.bound_coverage), (1.25_f64.sqrt(), None));
        assert_eq!(got.bound_width, None);
        let bounds = [0.5, 1.0, 1.5, 2.0];
        let bounded =
            estimator(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 4.0, 5.0], Some(&bounds)).unwrap();
        assert_eq!(bounded.bound_width, Some(1.25 / 1.25_f64.sqrt()));
        assert_eq!(bounded.bound_coverage, Some(0.75));
        // e − t deviates from ½ by ½, ½, ½ and −1½: variance 1 with divisor 3, over √4, over √1.25.
        let [of_bias, of_coverage, of_width] = bounded.standard_errors.map(Option::unwrap);
        assert!((of_bias - 0.5 / 1.25_f64.sqrt()).abs() < 1e-15);
        assert!((of_coverage - 0.25).abs() < 1e-15);
        assert!((of_width - (1.25_f64 / 3.0).sqrt() / 2.0 / 1.25_f64.sqrt()).abs() < 1e-15);
        assert_eq!(got.standard_errors[1..], [None, None]);
    }

    #[test]
    fn a_line_is_found_again() {
        let truth: Vec<f64> = (0..100).map(|i| (i * i % 37) as f64).collect();
        let estimate: Vec<f64> = truth.iter().map(|t| 0.75 * t - 3.0).collect();
        let got = estimator(&truth, &estimate, None).unwrap();
        assert!((got.slope.unwrap() - 0.75).abs() < 1e-12);
        assert!((got.intercept.unwrap() + 3.0).abs() < 1e-12);
    }

    #[test]
    fn exact_estimates_are_unbiased_with_slope_one() {
        let truth = [0.1, 0.7, 1e9, -3.0];
        let got = estimator(&truth, &truth, Some(&[0.0; 4])).unwrap();
        assert_eq!((got.bias, got.slope, got.intercept), (Some(0.0), Some(1.0), Some(0.0)));
        assert_eq!((got.rmse, got.bound_coverage), (0.0, Some(1.0)));
    }

    #[test]
    fn coverage_counts_the_bounds_that_held() {
        let got = estimator(&[0.0; 4], &[1.0, -1.0, 2.0, 0.5], Some(&[1.0; 4])).unwrap();
        assert_eq!(got.bound_coverage, Some(0.75));
    }

    #[test]
    fn constant_truth_has_no_slope_and_a_bias_only_of_zero() {
        let off = estimator(&[0.1; 3], &[0.2; 3], None).unwrap();
        assert_eq!((off.bias, off.slope, off.intercept, off.scale), (None, None, None, 0.0));
        assert_eq!(off.named().len(), 4);
        let exact = estimator(&[0.1; 3], &[0.1; 3], None).unwrap();
        assert_eq!(exact.bias, Some(0.0));
    }

    #[test]
    fn no_pairs_have_no_metrics() {
        assert_eq!(estimator(&[], &[], None), None);
    }

    #[test]
    fn pairs_of_nothing_are_none() {
        assert!(QueryPairs::new(0, 10, 5, 1).pairs().is_empty());
        assert!(QueryPairs::new(10, 0, 5, 1).pairs().is_empty());
        assert!(QueryPairs::new(10, 10, 0, 1).pairs().is_empty());
    }

    #[test]
    fn drawn_pairs_stay_what_they_were_when_results_were_stored() {
        let sample = QueryPairs::new(10, 100, 4, 42);
        let got: Vec<_> = sample.pairs().iter().map(|p| (p.query, p.row)).collect();
        assert_eq!(got, [(5, 12), (1, 29), (5, 29), (2, 47)]);
    }

    #[test]
    fn pairs_reach_every_query_and_row() {
        let sample = QueryPairs::new(3, 4, 1000, 5);
        let mut distinct = sample.pairs().to_vec();
        distinct.dedup();
        assert_eq!(distinct.len(), 12);
    }

    proptest! {
        #[test]
        fn a_walk_in_any_blocks_meets_every_pair_once_in_order(
            seed: u64,
            rows in 1_usize..50,
            pairs in 0_usize..200,
            block in 1_usize..60,
        ) {
            let sample = QueryPairs::new(7, rows, pairs, seed);
            let mut met = Vec::new();
            for first in (0..rows).step_by(block) {
                let here = sample.in_rows(first, block.min(rows - first));
                for pair in here {
                    prop_assert!((first..first + block).contains(&(pair.row as usize)));
                }
                met.extend_from_slice(here);
            }
            prop_assert_eq!(met.as_slice(), sample.pairs());
            prop_assert_eq!(met.len(), pairs);
        }
    }
}
