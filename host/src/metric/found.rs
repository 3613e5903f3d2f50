//! More of what a scan found than recall tells: in which order, how far, for how many queries.
//!
//! ```text
//! ndcg@k           Σᵢ hitᵢ/log₂(i+1) / Σᵢ 1/log₂(i+1) over the places i = 1..k
//! recall_pP@k      P-th percentile over queries of recall@k
//! distance_ratio@k Σ ‖q−foundᵢ‖ / Σ ‖q−trueᵢ‖ over all queries and places up to k
//! sos@k            the same of scores ⟨q, x⟩
//! attention_kl@m   Σ p·ln(p/p̂) over a pool, p = softmax(score/τ), p̂ the same of estimates
//! attention_tv@m   ½·Σ |p − p̂|
//! ```
//!
//! A hit is what recall counts: a row that is not farther than the k-th neighbour.

use std::collections::HashSet;

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use super::percentile::nearest_rank;
use super::retrieval::{Hits, RetrievalMetric};

/// `ndcg@{k}` for each of `k` up to `rows`: discounted cumulated gain (Järvelin & Kekäläinen 2002) with the
/// discount 1/log2(place + 1) of Burges et al. 2005 and gain 1 for a hit, over that of k hits. `truth` and `found` as in
/// [`retrieval`](super::retrieval()); each of `found` has the largest such k.
pub fn discounted_gain(
    truth: ArrayView2<'_, f64>,
    found: &[Vec<f64>],
    rows: usize,
    k: &[usize],
) -> Vec<RetrievalMetric> {
    let each = k.iter().filter(|k| **k <= rows && **k <= truth.ncols());
    let of = |&k: &usize| {
        let discounts: Vec<f64> = (0..k).map(|place| 1.0 / ((place + 2) as f64).log2()).collect();
        let all: f64 = discounts.iter().sum();
        let gain = |(truth, found): (ArrayView1<'_, f64>, &Vec<f64>)| {
            let hits = found.iter().zip(&discounts).filter(|(found, _)| **found <= truth[k - 1]);
            hits.map(|(_, discount)| discount).sum::<f64>() / all
        };
        let values: Vec<f64> = truth.rows().into_iter().zip(found).map(gain).collect();
        RetrievalMetric::over_queries(format!("ndcg@{k}"), &values)
    };
    each.map(of).collect()
}

/// How recall is spread over queries: `recall_p1@{k}`, `recall_p5@{k}`, `recall_p50@{k}`, nearest-rank
/// percentiles, and `recall_share_90@{k}`, the share of queries with at least nine tenths.
pub fn spread(hits: &Hits) -> Vec<RetrievalMetric> {
    let Hits { k, by_query } = hits;
    let mut sorted = by_query.clone();
    sorted.sort_unstable();
    let mut metrics = Vec::new();
    for percent in [1, 5, 50] {
        if let Some(hits) = nearest_rank(&sorted, percent) {
            metrics.push(RetrievalMetric {
                name: format!("recall_p{percent}@{k}"),
                value: f64::from(hits) / *k as f64,
                standard_error: None,
                hits: None,
            });
        }
    }
    // In whole numbers: 0.9·10 is not 9 everywhere.
    let enough = |hits: &u32| f64::from(u8::from(10 * u64::from(*hits) >= 9 * *k as u64));
    let shares: Vec<f64> = by_query.iter().map(enough).collect();
    if !shares.is_empty() {
        metrics.push(RetrievalMetric::over_queries(format!("recall_share_90@{k}"), &shares));
    }
    metrics
}

/// What the rows found sum up to over what the true ones do, of all queries together: a query that lies
/// on a row counts by its distance, and not by the reciprocal of that. `values` turns a distance into
/// what is summed.
///
/// 1 where both sums are 0; none where only the true one is, or is negative, and for a k that is above
/// `rows`. Each of `found` has the largest k, all finite. The standard error is that of a ratio of
/// means, to first order: of a − R·b over queries, over the mean of b.
pub fn ratio_of_sums(
    name: &str,
    truth: ArrayView2<'_, f64>,
    found: &[Vec<f64>],
    rows: usize,
    k: &[usize],
    values: impl Fn(f64) -> f64,
) -> Vec<RetrievalMetric> {
    let each = k.iter().filter(|k| **k <= rows && **k <= truth.ncols());
    let of = |&k: &usize| {
        let sum = |of: &mut dyn Iterator<Item = f64>| of.take(k).map(&values).sum::<f64>();
        let a: Vec<f64> = found.iter().map(|found| sum(&mut found.iter().copied())).collect();
        let rows = truth.rows().into_iter();
        let b: Vec<f64> = rows.map(|truth| sum(&mut truth.into_iter().copied())).collect();
        let (found, truth): (f64, f64) = (a.iter().sum(), b.iter().sum());
        let value = match (found, truth) {
            (_, truth) if truth > 0.0 => found / truth,
            (0.0, 0.0) => 1.0,
            _ => return None,
        };
        let n = a.len() as f64;
        let standard_error = (a.len() > 1 && truth > 0.0).then(|| {
            let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - value * b).powi(2)).sum();
            (squares / (n - 1.0) / n).sqrt() / (truth / n)
        });
        Some(RetrievalMetric { name: format!("{name}@{k}"), value, standard_error, hits: None })
    };
    each.filter_map(of).collect()
}

/// Rows with their scores and the estimates of these, larger is nearer, for [`attention`].
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// The rows of each query.
    pub rows: &'a [&'a [u32]],
    /// Their scores.
    pub scores: &'a [Vec<f64>],
    /// The estimates of these.
    pub estimates: &'a [Vec<f64>],
}

/// `attention_kl@{m}` and `attention_tv@{m}`: how far the attention that estimates give is from that of
/// scores, with temperature `tau`. The pool of a query are its `m` nearest rows (`truth`) and the `m` that
/// the method ranks first (`found`), each once. Empty where a query has fewer than `m` of one of them or
/// `tau` is not above 0.
pub fn attention(truth: Scores<'_>, found: Scores<'_>, m: usize, tau: f64) -> Vec<RetrievalMetric> {
    let short = |of: &Scores<'_>| of.rows.iter().any(|rows| rows.len() < m);
    if tau.is_nan()
        || tau <= 0.0
        || m == 0
        || truth.rows.is_empty()
        || short(&truth)
        || short(&found)
    {
        return Vec::new();
    }
    let of_query = |query: usize| {
        let known: HashSet<u32> = truth.rows[query][..m].iter().copied().collect();
        let (mut scores, mut estimates) = (Vec::new(), Vec::new());
        for (i, row) in found.rows[query][..m].iter().enumerate() {
            if !known.contains(row) {
                scores.push(found.scores[query][i] / tau);
                estimates.push(found.estimates[query][i] / tau);
            }
        }
        scores.extend(truth.scores[query][..m].iter().map(|score| score / tau));
        estimates.extend(truth.estimates[query][..m].iter().map(|score| score / tau));
        let (p, q) = (log_softmax(&scores), log_softmax(&estimates));
        let pairs = || p.iter().zip(&q);
        let kl: f64 = pairs().map(|(p, q)| p.exp() * (p - q)).sum();
        let tv: f64 = pairs().map(|(p, q)| (p.exp() - q.exp()).abs()).sum();
        // Rounding may take it below 0, which no divergence is.
        (kl.max(0.0), tv / 2.0)
    };
    let (kl, tv): (Vec<f64>, Vec<f64>) =
        (0..truth.rows.len()).into_par_iter().map(of_query).unzip();
    vec![
        RetrievalMetric::over_queries(format!("attention_kl@{m}"), &kl),
        RetrievalMetric::over_queries(format!("attention_tv@{m}"), &tv),
    ]
}

/// ln of softmax: x − max − ln Σ exp(x − max), which never overflows.
fn log_softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - largest).exp()).sum();
    let log = sum.ln();
    x.iter().map(|x| x - largest - log).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn only(of: &[RetrievalMetric]) -> (String, f64) {
        let [one] = of else { panic!("{of:?}") };
        (one.name.clone(), one.value)
    }

    #[test]
    fn a_hit_in_the_first_place_gains_most() {
        let truth = array![[1.0, 2.0, 3.0]];
        let of = |found: [f64; 3], k| discounted_gain(truth.view(), &[found.to_vec()], 9, &[k]);
        // 1/log2(2) = 1, 1/log2(3), 1/log2(4) = 1/2.
        let second = 1.0 / 3_f64.log2();
        assert_eq!(only(&of([2.0, 9.0, 1.0], 3)), ("ndcg@3".into(), 1.5 / (1.5 + second)));
        assert_eq!(only(&of([9.0, 9.0, 1.0], 2)).1, 0.0);
        assert_eq!(only(&of([3.0, 1.0, 2.0], 3)).1, 1.0);
        assert_eq!(discounted_gain(truth.view(), &[vec![1.0]], 1, &[2]), []);
    }

    #[test]
    fn recall_is_spread_over_queries_as_counted_by_hand() {
        // Of 100 queries one finds 0, four find 5, the rest 9 or 10 of 10.
        let mut by_query = vec![10; 100];
        by_query[7] = 0;
        by_query[20..24].fill(5);
        by_query[50] = 9;
        let got = spread(&Hits { k: 10, by_query });
        let names: Vec<&str> = got.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["recall_p1@10", "recall_p5@10", "recall_p50@10", "recall_share_90@10"]);
        let values: Vec<f64> = got.iter().map(|metric| metric.value).collect();
        assert_eq!(values, [0.0, 0.5, 1.0, 0.95]);
        // A share: √(p(1 − p)/(n − 1)).
        let error = got[3].standard_error.unwrap();
        assert!((error - (0.95 * 0.05 / 99.0_f64).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn sums_are_compared_over_all_queries() {
        let truth = array![[0.0, 1.0], [4.0, 9.0]];
        let found = [vec![1.0, 1.0], vec![9.0, 16.0]];
        let of = |k| ratio_of_sums("r", truth.view(), &found, 2, &[k], f64::sqrt);
        assert_eq!(only(&of(1)), ("r@1".into(), 4.0 / 2.0));
        assert_eq!(only(&of(2)).1, 9.0 / 6.0);
        // a = (2, 7), b = (1, 5), R = 1.5: residuals 0.5 and −0.5, deviation √½, mean of b 3.
        let error = of(2)[0].standard_error.unwrap();
        assert!((error - 0.5_f64.sqrt() / 2_f64.sqrt() / 3.0).abs() < 1e-15, "{error}");
        let zero = array![[0.0], [0.0]];
        let of =
            |found: f64| ratio_of_sums("r", zero.view(), &[vec![0.0], vec![found]], 2, &[1], |v| v);
        assert_eq!(only(&of(0.0)).1, 1.0);
        assert_eq!(of(2.0), []);
    }

    #[test]
    fn attention_over_a_pool_of_both_is_worked_by_hand() {
        // The true nearest are rows 1 and 2; the method ranks 1 and 3 first.
        let (near, ranked): ([&[u32]; 1], [&[u32]; 1]) = ([&[1, 2]], [&[1, 3]]);
        let ln = |x: f64| x.ln() * 2.0;
        let truth = Scores {
            rows: &near,
            scores: &[vec![ln(4.0), ln(3.0)]],
            estimates: &[vec![ln(4.0), ln(1.0)]],
        };
        let found = Scores {
            rows: &ranked,
            scores: &[vec![ln(4.0), ln(1.0)]],
            estimates: &[vec![ln(4.0), ln(3.0)]],
        };
        // p = (4, 3, 1)/8, p̂ = (4, 1, 3)/8.
        let got = attention(truth, found, 2, 2.0);
        let expected = 3.0 / 8.0 * 3_f64.ln() - 1.0 / 8.0 * 3_f64.ln();
        assert!((got[0].value - expected).abs() < 1e-15, "{got:?}");
        assert!((got[1].value - 0.25).abs() < 1e-15, "{got:?}");
        assert_eq!([&got[0].name, &got[1].name], ["attention_kl@2", "attention_tv@2"]);
        assert_eq!(attention(truth, found, 3, 2.0), []);
        assert_eq!(attention(truth, found, 2, 0.0), []);
        let same = attention(truth, truth, 2, 1e-3);
        assert!(same.iter().all(|metric| metric.value.is_finite()));
    }

    #[test]
    fn attention_of_exact_estimates_is_exact() {
        let rows: [&[u32]; 1] = [&[5, 1, 9]];
        let scores = [vec![1e6, -1e6, 0.5]];
        let exact = Scores { rows: &rows, scores: &scores, estimates: &scores };
        let got = attention(exact, exact, 3, 0.1);
        assert_eq!([got[0].value, got[1].value], [0.0, 0.0]);
    }
}
