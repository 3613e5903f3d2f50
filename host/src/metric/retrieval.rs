//! Retrieval: what an exhaustive scan of the codes finds, no index in the way.
//!
//! ```text
//! recall@k          = |truthₖ ∩ foundₖ| / k           rank_distortion@k = 1 − recall@k
//! recall_1@k        = 1 if the nearest row is in foundₖ, else 0
//! recall@k/rerank=r = recall@k after the best r·k found are ranked again by true distance
//! kendall_tau@100, spearman_rho@100: the true order of the true top 100 against the order
//!                     that the estimates give these rows (τ-b; average ranks)
//! ```
//!
//! all of them means over queries, with their standard error. Recall is aware of ties: a found
//! row counts when its true distance is not above that of the k-th neighbour, so that of rows
//! at one distance it does not matter which were found. For that, the true distances of found
//! rows must come from the same function on the same values as those of the neighbours
//! (`vq_kernels::distance`), bit for bit.
//!
//! A k above the number of rows has no metrics: among 30 rows there are no 100 nearest.
//!
//! [`Scan`] collects what is found in a walk over blocks of rows; [`retrieval`] and
//! [`rank_agreement`] judge it. Distances are "smaller is nearer" (l2_sq, or −ip), scores
//! "larger is nearer".

use std::cmp::Ordering;

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;
use thiserror::Error;
use vq_kernels::top_k::TopK;

use super::draw::{Draw, Stream};
use super::standard_error;

/// How many of the true neighbours the rank correlations look at.
pub const RANK_DEPTH: usize = 100;

/// A metric's mean over queries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrievalMetric {
    /// Its name, such as `recall@10`.
    pub name: String,
    /// Mean over queries.
    pub value: f64,
    /// Standard error of that mean over queries (sample standard deviation / √queries);
    /// `None` for a single query.
    pub standard_error: Option<f64>,
    /// Of a plain `recall@k`, what each query found.
    pub hits: Option<Hits>,
}

/// How many of the k rows that a scan found first are among the k nearest of a query, ties counted;
/// at most k.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// The rows looked at.
    pub k: usize,
    /// One count for each query, in their order.
    pub by_query: Vec<u32>,
}

impl RetrievalMetric {
    /// Averages one value per query, summed in the order of the queries.
    pub(super) fn over_queries(name: String, values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { name, value: mean, standard_error: standard_error(values, mean), hits: None }
    }
}

/// Why retrieval was not measured.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RetrievalError {
    /// There is nothing to average over.
    #[error("there are no queries")]
    NoQueries,
    /// There is nothing to retrieve.
    #[error("the base has no rows")]
    NoRows,
    /// A k or a re-rank factor of 0 asks for nothing.
    #[error("k and re-rank factors start at 1, found 0")]
    Zero,
    /// Neighbours and found rows belong to different numbers of queries.
    #[error("exact neighbours are of {truth} queries, found rows of {found}")]
    Queries {
        /// Queries with exact neighbours.
        truth: usize,
        /// Queries with found rows.
        found: usize,
    },
    /// The exact neighbours do not reach to the largest k.
    #[error("exact neighbours reach to k = {got}, needed {needed}")]
    TruthTooShallow {
        /// Neighbours needed per query.
        needed: usize,
        /// Neighbours there are.
        got: usize,
    },
    /// A query has fewer found rows than the re-ranking looks at.
    #[error("query {query} has {got} found rows, needed {needed}")]
    FoundTooFew {
        /// Index of the query.
        query: usize,
        /// Found rows needed.
        needed: usize,
        /// Found rows there are.
        got: usize,
    },
}

/// The largest k that `rows` have; 1 if they have none of them.
pub fn largest_k(k: &[usize], rows: usize) -> usize {
    k.iter().copied().filter(|k| *k <= rows).max().unwrap_or(1)
}

/// How many found rows per query [`retrieval`] needs: max(k)·max(rerank), at most all `rows`.
pub fn found_needed(k: &[usize], rerank: &[usize], rows: usize) -> usize {
    let rerank = rerank.iter().copied().max().unwrap_or(1);
    largest_k(k, rows).saturating_mul(rerank).min(rows)
}

/// `most` of the numbers below `queries`, or all of them where they are no more: one drawn from each of
/// `most` runs of about equal length, ascending.
///
/// # Panics
/// When `queries` is more than 2³² − 1, which a prepared dataset never has.
pub fn query_sample(queries: usize, most: usize, seed: u64) -> Vec<usize> {
    if queries <= most {
        return (0..queries).collect();
    }
    let mut draw = Draw::new(seed, Stream::SearchedQueries);
    let first = |run: usize| run * queries / most;
    let of_run = |run| {
        let length = u32::try_from(first(run + 1) - first(run)).expect("query indices are u32");
        first(run) + draw.below(length) as usize
    };
    (0..most).map(of_run).collect()
}

/// Measures `recall@k`, `recall_1@k` and `rank_distortion@k` for each k, and the re-rank curve
/// for each k and factor. A repeated k or factor is measured once, a k above `rows` not at all.
///
/// `truth` (queries, ≥ the largest k up to `rows`) are the true distances of the exact neighbours,
/// nearest first. `found[query]` are the *true* distances of the rows a scan found, in the
/// order of the scan, best first; at least [`found_needed`] of them. That of a row which is farther
/// than all of `truth` may be infinite. `rows` is the size of the
/// base.
///
/// # Errors
/// [`RetrievalError`] when the inputs do not fit each other.
pub fn retrieval(
    truth: ArrayView2<'_, f64>,
    found: &[Vec<f64>],
    rows: usize,
    k: &[usize],
    rerank: &[usize],
) -> Result<Vec<RetrievalMetric>, RetrievalError> {
    if truth.nrows() != found.len() {
        return Err(RetrievalError::Queries { truth: truth.nrows(), found: found.len() });
    }
    if found.is_empty() {
        return Err(RetrievalError::NoQueries);
    }
    if rows == 0 {
        return Err(RetrievalError::NoRows);
    }
    if k.contains(&0) || rerank.contains(&0) {
        return Err(RetrievalError::Zero);
    }
    let k: Vec<usize> = distinct(k).into_iter().filter(|k| *k <= rows).collect();
    let needed = k.iter().copied().max().unwrap_or(0);
    if truth.ncols() < needed {
        return Err(RetrievalError::TruthTooShallow { needed, got: truth.ncols() });
    }
    let needed = found_needed(&k, rerank, rows);
    if let Some(query) = found.iter().position(|found| found.len() < needed) {
        return Err(RetrievalError::FoundTooFew { query, needed, got: found[query].len() });
    }

    let mean = |name: String, of: &dyn Fn(ArrayView1<'_, f64>, &[f64]) -> f64| {
        let queries = truth.rows().into_iter().zip(found);
        let values: Vec<f64> = queries.map(|(truth, found)| of(truth, found)).collect();
        RetrievalMetric::over_queries(name, &values)
    };
    let mut metrics = Vec::new();
    for k in k {
        let mut recall =
            mean(format!("recall@{k}"), &|truth, found| recall_of(truth, &found[..k], k));
        let distortion = RetrievalMetric {
            name: format!("rank_distortion@{k}"),
            value: 1.0 - recall.value,
            standard_error: recall.standard_error,
            hits: None,
        };
        let queries = truth.rows().into_iter().zip(found);
        // No k is above the rows, whose numbers are u32.
        let by_query = queries.map(|(truth, found)| hits(truth, &found[..k], k) as u32).collect();
        recall.hits = Some(Hits { k, by_query });
        metrics.push(recall);
        metrics
            .push(mean(format!("recall_1@{k}"), &|truth, found| recall_of(truth, &found[..k], 1)));
        metrics.push(distortion);
        for r in distinct(rerank) {
            let candidates = k.saturating_mul(r).min(rows);
            metrics.push(mean(format!("recall@{k}/rerank={r}"), &|truth, found| {
                recall_of(truth, &found[..candidates], k)
            }));
        }
    }
    Ok(metrics)
}

/// The values without repetitions, in their order.
fn distinct(values: &[usize]) -> Vec<usize> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(value) {
            kept.push(*value);
        }
    }
    kept
}

/// The share of the `k` nearest that re-ranking `found` by true distance would return.
///
/// Ranking again needs no sort: of the rows not farther than the k-th neighbour it returns as
/// many as fit into k.
fn recall_of(truth: ArrayView1<'_, f64>, found: &[f64], k: usize) -> f64 {
    hits(truth, found, k) as f64 / k as f64
}

fn hits(truth: ArrayView1<'_, f64>, found: &[f64], k: usize) -> usize {
    let farthest = truth[k - 1];
    found.iter().filter(|&&distance| distance <= farthest).count().min(k)
}

/// Measures `kendall_tau@{depth}` and `spearman_rho@{depth}`: do the estimates order the true
/// neighbours as they are? Empty when there are fewer than `depth` neighbours or than two, and when
/// every query has its neighbours all at one distance, which have no order: such a query is left out.
///
/// `truth` (queries, m) are the true distances of the exact neighbours and `scores`
/// (queries, m) the estimates for the same rows, larger is nearer. Of more than `depth` columns the
/// first are used. Constant estimates have correlation 0; a NaN score ranks last.
/// O(depth²) per query, parallel over queries.
///
/// # Panics
/// When the two differ in shape.
pub fn rank_agreement(
    truth: ArrayView2<'_, f64>,
    scores: ArrayView2<'_, f64>,
    depth: usize,
) -> Vec<RetrievalMetric> {
    assert_eq!(truth.dim(), scores.dim(), "a score for each neighbour");
    if truth.ncols() < depth || depth < 2 {
        return Vec::new();
    }
    let (tau, rho): (Vec<f64>, Vec<f64>) = (0..truth.nrows())
        .into_par_iter()
        .filter_map(|query| {
            let truth = truth.row(query).into_iter().take(depth);
            let scores = scores.row(query).into_iter().take(depth);
            let nearness: Vec<f64> = truth.map(|distance| -distance).collect();
            if nearness.iter().all(|distance| *distance == nearness[0]) {
                return None;
            }
            let estimate: Vec<f64> = scores
                .map(|&score| if score.is_nan() { f64::NEG_INFINITY } else { score })
                .collect();
            Some((kendall_tau_b(&nearness, &estimate), spearman_rho(&nearness, &estimate)))
        })
        .unzip();
    if tau.is_empty() {
        return Vec::new();
    }
    vec![
        RetrievalMetric::over_queries(format!("kendall_tau@{depth}"), &tau),
        RetrievalMetric::over_queries(format!("spearman_rho@{depth}"), &rho),
    ]
}

/// Kendall 1945: τ-b = (C − D) / √((P − Tₐ)(P − T_b)) over the P pairs, C of them in the same
/// order in both, D in opposite order, Tₐ and T_b tied in `a` and in `b`. 0 where all are tied.
fn kendall_tau_b(a: &[f64], b: &[f64]) -> f64 {
    let (mut agreement, mut untied_a, mut untied_b) = (0_i64, 0_i64, 0_i64);
    for i in 1..a.len() {
        for j in 0..i {
            let (of_a, of_b) = (sign(a[i], a[j]), sign(b[i], b[j]));
            agreement += of_a * of_b;
            untied_a += of_a.abs();
            untied_b += of_b.abs();
        }
    }
    if untied_a == 0 || untied_b == 0 {
        return 0.0;
    }
    // Whole numbers far below 2⁵³: the root of a square is exact, so a perfect order is 1.
    agreement as f64 / ((untied_a * untied_b) as f64).sqrt()
}

fn sign(a: f64, b: f64) -> i64 {
    match a.partial_cmp(&b) {
        Some(Ordering::Less) => -1,
        Some(Ordering::Greater) => 1,
        Some(Ordering::Equal) | None => 0,
    }
}

/// Spearman 1904: the correlation of the ranks, tied values sharing their average rank. 0 where
/// all are tied.
fn spearman_rho(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (centred_ranks(a), centred_ranks(b));
    let sum = |x: &[i64], y: &[i64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<i64>();
    let (of_a, of_b) = (sum(&a, &a), sum(&b, &b));
    if of_a == 0 || of_b == 0 {
        return 0.0;
    }
    sum(&a, &b) as f64 / (of_a as f64 * of_b as f64).sqrt()
}

/// Twice the average rank less its mean: (values below) − (values above), a whole number, so
/// that ranks are summed exactly.
fn centred_ranks(values: &[f64]) -> Vec<i64> {
    let rank = |v: &f64| values.iter().map(|other| sign(*v, *other)).sum();
    values.iter().map(rank).collect()
}

/// Collects the best rows of a query, and the scores of watched rows, over a walk through the base.
/// Memory is O(keep + watched).
pub struct Scan {
    best: TopK,
    /// (row, position in `scores`), ascending.
    watched: Vec<(u32, usize)>,
    scores: Vec<f32>,
}

/// What a [`Scan`] saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Scanned {
    /// The best rows as (score, row), best first, ties by ascending row.
    pub ranked: Vec<(f32, u32)>,
    /// The scores of the watched rows, in the order they were given; NaN for a row that no block
    /// contained.
    pub watched: Vec<f32>,
}

impl Scan {
    /// A scan that keeps the best `keep` rows (all of them, if there are fewer), see [`found_needed`],
    /// and remembers the scores of the rows `watched`: of the true neighbours, for [`rank_agreement`],
    /// and of sampled pairs.
    pub fn watching(watched: impl IntoIterator<Item = u32>, keep: usize) -> Self {
        let mut watched: Vec<(u32, usize)> = watched.into_iter().zip(0..).collect();
        watched.sort_unstable();
        Self { best: TopK::new(keep), scores: vec![f32::NAN; watched.len()], watched }
    }

    /// Adds `scores`, larger is nearer, of the rows from `first_row` on. Rows may come in any order.
    pub fn push(&mut self, first_row: u32, scores: &[f32]) {
        self.best.push_row(first_row, scores);
        let from = self.watched.partition_point(|(row, _)| *row < first_row);
        for (row, position) in &self.watched[from..] {
            let Some(score) = scores.get((row - first_row) as usize) else {
                break;
            };
            self.scores[*position] = *score;
        }
    }

    /// Everything seen, ranked.
    pub fn finish(self) -> Scanned {
        Scanned { ranked: self.best.into_sorted(), watched: self.scores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    fn value(metrics: &[RetrievalMetric], name: &str) -> f64 {
        let metric = metrics.iter().find(|metric| metric.name == name);
        metric.unwrap_or_else(|| panic!("{name} is missing")).value
    }

    #[test]
    fn recall_and_reranking_give_the_values_worked_by_hand() {
        // Base distances 1..6 of both queries; the scans find them in these orders.
        let truth = array![[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]];
        let found = [vec![2.0, 4.0, 1.0, 5.0, 3.0, 6.0], vec![4.0, 5.0, 6.0, 3.0, 2.0, 1.0]];
        let got = retrieval(truth.view(), &found, 6, &[1, 2], &[1, 2, 3]).unwrap();
        assert_eq!(value(&got, "recall@1"), 0.0);
        assert_eq!(value(&got, "recall@1/rerank=3"), 0.5);
        assert_eq!(value(&got, "recall@2"), 0.25);
        assert_eq!(value(&got, "recall_1@2"), 0.0);
        assert_eq!(value(&got, "rank_distortion@2"), 0.75);
        assert_eq!(value(&got, "recall@2/rerank=1"), 0.25);
        assert_eq!(value(&got, "recall@2/rerank=2"), 0.5);
        assert_eq!(value(&got, "recall@2/rerank=3"), 1.0);
        // Two queries with recall 0.5 and 0: sample deviation √(1/8), over √2.
        let recall = got.iter().find(|metric| metric.name == "recall@2").unwrap();
        assert_eq!(recall.standard_error, Some(0.25));
        assert_eq!(recall.hits, Some(Hits { k: 2, by_query: vec![1, 0] }));
        assert_eq!(got.iter().filter(|metric| metric.hits.is_some()).count(), 2);
        assert_eq!(got.len(), 2 * (3 + 3));
    }

    #[test]
    fn of_rows_at_one_distance_it_does_not_matter_which_were_found() {
        let truth = array![[0.0, 1.0, 1.0]];
        let found = [vec![1.0, 1.0, 1.0, 0.0]];
        let got = retrieval(truth.view(), &found, 4, &[1, 2, 3], &[1, 2]).unwrap();
        assert_eq!(value(&got, "recall@2"), 1.0);
        assert_eq!(value(&got, "recall@3"), 1.0);
        assert_eq!(value(&got, "recall@1"), 0.0);
        assert_eq!(value(&got, "recall_1@3"), 0.0);
        // Many ties never count above 1.
        assert_eq!(value(&got, "recall@2/rerank=2"), 1.0);
    }

    #[test]
    fn a_duplicate_of_the_nearest_row_is_the_nearest_row() {
        let got = retrieval(array![[0.0]].view(), &[vec![0.0]], 2, &[1], &[]).unwrap();
        assert_eq!(value(&got, "recall_1@1"), 1.0);
        assert_eq!(got[0].standard_error, None);
    }

    #[test]
    fn a_k_above_the_rows_has_no_metrics() {
        let truth = array![[1.0, 2.0]];
        let found = [vec![2.0, 1.0]];
        assert_eq!(found_needed(&[1, 100], &[1, 10], 2), 2);
        let got = retrieval(truth.view(), &found, 2, &[1, 100, 2], &[10]).unwrap();
        assert_eq!(value(&got, "recall@1"), 0.0);
        assert_eq!(value(&got, "recall@2"), 1.0);
        assert_eq!(value(&got, "recall@1/rerank=10"), 1.0);
        assert!(got.iter().all(|metric| !metric.name.contains("@100")), "{got:?}");
        assert_eq!(retrieval(truth.view(), &found, 2, &[3], &[1]), Ok(vec![]));
    }

    #[test]
    fn a_repeated_k_is_measured_once() {
        let got = retrieval(array![[1.0]].view(), &[vec![1.0]], 1, &[1, 1], &[1, 1]).unwrap();
        assert_eq!(got.len(), 4);
    }

    #[test]
    fn a_sample_of_queries_has_one_of_each_run() {
        assert_eq!(query_sample(5, 5, 1), [0, 1, 2, 3, 4]);
        assert_eq!(query_sample(0, 5, 1), [0_usize; 0]);
        let sample = query_sample(1003, 100, 7);
        assert_eq!(sample.len(), 100);
        for (run, query) in sample.iter().enumerate() {
            assert!((run * 1003 / 100..(run + 1) * 1003 / 100).contains(query), "{run}: {query}");
        }
        // Not always the first of a run, and not the same for another seed.
        assert!((0..100).any(|run| sample[run] != run * 1003 / 100));
        assert_ne!(sample, query_sample(1003, 100, 8));
    }

    #[test]
    fn inputs_that_do_not_fit_are_errors_with_their_numbers() {
        let truth = array![[1.0, 2.0], [1.0, 2.0]];
        let measure = |found: &[Vec<f64>], k: &[usize], rerank: &[usize]| {
            retrieval(truth.view(), found, 9, k, rerank).unwrap_err()
        };
        let full = vec![1.0; 9];
        assert_eq!(
            measure(std::slice::from_ref(&full), &[1], &[1]),
            RetrievalError::Queries { truth: 2, found: 1 }
        );
        let found = [full, vec![1.0; 3]];
        assert_eq!(
            measure(&found, &[3], &[1]),
            RetrievalError::TruthTooShallow { needed: 3, got: 2 }
        );
        assert_eq!(
            measure(&found, &[1, 2], &[2]),
            RetrievalError::FoundTooFew { query: 1, needed: 4, got: 3 }
        );
        assert_eq!(measure(&found, &[0], &[1]), RetrievalError::Zero);
        assert_eq!(measure(&found, &[1], &[0]), RetrievalError::Zero);
        let none = retrieval(Array2::zeros((0, 2)).view(), &[], 9, &[1], &[1]);
        assert_eq!(none, Err(RetrievalError::NoQueries));
        let empty = retrieval(truth.view(), &found, 0, &[1], &[1]);
        assert_eq!(empty, Err(RetrievalError::NoRows));
    }

    #[test]
    fn perfect_and_reversed_orders_correlate_exactly() {
        let truth = Array2::from_shape_fn((2, 7), |(_, j)| j as f64);
        let scores = Array2::from_shape_fn((2, 7), |(_, j)| -(j as f64) * 3.5);
        let got = rank_agreement(truth.view(), scores.view(), 7);
        assert_eq!(value(&got, "kendall_tau@7"), 1.0);
        assert_eq!(value(&got, "spearman_rho@7"), 1.0);
        let got = rank_agreement(truth.view(), scores.mapv(|v| -v).view(), 7);
        assert_eq!(value(&got, "kendall_tau@7"), -1.0);
        assert_eq!(value(&got, "spearman_rho@7"), -1.0);
    }

    #[test]
    fn ties_correlate_as_worked_by_hand() {
        // Nearness 3 2 1 0, estimates with the middle two tied: C = 5, D = 0, one tie of six.
        let truth = array![[0.0, 1.0, 2.0, 3.0]];
        let scores = array![[3.0, 1.5, 1.5, 0.0]];
        let got = rank_agreement(truth.view(), scores.view(), 4);
        let close = |name, want: f64| assert!((value(&got, name) - want).abs() < 1e-15);
        close("kendall_tau@4", 5.0 / 30.0_f64.sqrt());
        // Ranks 4 3 2 1 and 4 2.5 2.5 1: cov 4.5, variances 5 and 4.5.
        close("spearman_rho@4", 4.5 / 22.5_f64.sqrt());
    }

    #[test]
    fn constant_estimates_correlate_with_nothing() {
        let truth = array![[0.0, 1.0, 2.0]];
        for scores in [array![[7.0, 7.0, 7.0]], array![[f64::NAN, f64::NAN, f64::NAN]]] {
            let got = rank_agreement(truth.view(), scores.view(), 3);
            assert_eq!(value(&got, "kendall_tau@3"), 0.0);
            assert_eq!(value(&got, "spearman_rho@3"), 0.0);
        }
    }

    #[test]
    fn only_the_true_top_100_are_correlated() {
        let truth = Array2::from_shape_fn((1, 150), |(_, j)| j as f64);
        let scores =
            Array2::from_shape_fn((1, 150), |(_, j)| if j < 100 { -(j as f64) } else { 9.0 });
        let got = rank_agreement(truth.view(), scores.view(), 100);
        assert_eq!(value(&got, "kendall_tau@100"), 1.0);
    }

    #[test]
    fn what_has_no_order_or_too_few_neighbours_is_not_correlated() {
        let one = array![[1.0]];
        assert!(rank_agreement(one.view(), one.view(), 1).is_empty());
        let three = array![[0.0, 1.0, 2.0]];
        assert!(rank_agreement(three.view(), three.view(), 4).is_empty());
        let equal = array![[5.0, 5.0, 5.0]];
        assert!(rank_agreement(equal.view(), three.view(), 3).is_empty());
        // The query whose neighbours tie does not count.
        let two = array![[5.0, 5.0, 5.0], [0.0, 1.0, 2.0]];
        let got = rank_agreement(two.view(), two.mapv(|v| -v).view(), 3);
        assert_eq!(value(&got, "kendall_tau@3"), 1.0);
    }

    #[test]
    fn a_scan_of_nothing_finds_nothing() {
        let scanned = Scan::watching([], 3).finish();
        assert_eq!(scanned, Scanned { ranked: vec![], watched: vec![] });
    }

    #[test]
    fn a_watched_row_that_never_came_is_nan() {
        let mut scan = Scan::watching([9, 1], 1);
        scan.push(0, &[0.5, 1.5]);
        let scanned = scan.finish();
        assert!(scanned.watched[0].is_nan());
        assert_eq!(scanned.watched[1], 1.5);
    }

    /// Scores with many ties (multiples of 1/4), and what to watch.
    fn scores() -> impl Strategy<Value = (Vec<f32>, Vec<u32>)> {
        (1_usize..60).prop_flat_map(|rows| {
            let scores = prop::collection::vec((-8_i8..8).prop_map(|v| f32::from(v) / 4.0), rows);
            (scores, prop::collection::vec(0..rows as u32, 4))
        })
    }

    proptest! {
        #[test]
        fn a_scan_is_a_full_sort_for_any_blocks(
            (scores, watched) in scores(),
            keep in 1_usize..70,
            block in 1_usize..61,
        ) {
            let mut scan = Scan::watching(watched.iter().copied(), keep);
            for (i, scores) in scores.chunks(block).enumerate() {
                scan.push((i * block) as u32, scores);
            }
            let scanned = scan.finish();
            let mut all: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            all.truncate(keep);
            prop_assert_eq!(scanned.ranked, all);
            for (score, id) in scanned.watched.into_iter().zip(watched) {
                prop_assert_eq!(score, scores[id as usize]);
            }
        }

        #[test]
        fn recall_is_what_sorting_the_candidates_again_returns(
            distances in prop::collection::vec(0_u8..12, 12..30),
            k in 1_usize..6,
            r in 1_usize..4,
        ) {
            let rows = distances.len();
            let found: Vec<f64> = distances.iter().map(|&v| f64::from(v)).collect();
            let mut truth = found.clone();
            truth.sort_by(f64::total_cmp);
            let mut again = found[..(r * k).min(rows)].to_vec();
            again.sort_by(f64::total_cmp);
            again.truncate(k);
            // Distances of the k nearest are a multiset; count what of it came back.
            let hits = again.iter().filter(|&&v| v <= truth[k - 1]).count();
            let truth = Array2::from_shape_vec((1, rows), truth).unwrap();
            let got = retrieval(truth.view(), &[found], rows, &[k], &[r]).unwrap();
            let name = format!("recall@{k}/rerank={r}");
            prop_assert_eq!(value(&got, &name), hits as f64 / k as f64);
        }

        #[test]
        fn correlations_do_not_see_monotone_changes(
            distances in prop::collection::vec(0_u8..20, 2..40),
            scores in prop::collection::vec(-20_i8..20, 40),
        ) {
            let m = distances.len();
            let shape = (1, m);
            let truth = Array2::from_shape_fn(shape, |(_, j)| f64::from(distances[j]));
            let scores = Array2::from_shape_fn(shape, |(_, j)| f64::from(scores[j]));
            let before = rank_agreement(truth.view(), scores.view(), m);
            let after = rank_agreement(
                truth.mapv(|v| v * v + 1.0).view(),
                scores.mapv(|v| v * 0.5 - 3.0).view(),
                m,
            );
            prop_assert_eq!(&before, &after);
            prop_assert!(before.iter().all(|metric| metric.value.abs() <= 1.0));
        }
    }
}
