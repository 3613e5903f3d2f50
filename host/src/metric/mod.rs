//! Metrics: what is measured about a method, one file per family, and the list of all names.
//!
//! The families are leaves: they see arrays, not plugins, files or records. The referee walks the
//! base in row blocks, in order, and feeds them; each result has the same bits for any block
//! size and any number of threads (per-row values in parallel, sums in row order in f64). A
//! value that would be infinite or undefined is `None` and has no name in a record.
//!
//! [`METRICS`] holds every name that a record may contain, with unit, direction and meaning;
//! reports and documentation read it. Names with a `{k}` or `{r}` stand for a family such as
//! `recall@10`. Those of retrieval and estimator may end in [`DECODED`] or [`SYMMETRIC`], recalls
//! in [`SEARCH`], see there.

mod draw;
pub mod estimator;
mod family;
pub mod found;
mod latency;
pub mod pairs;
mod percentile;
pub mod rate_distortion;
pub mod reconstruction;
pub mod retrieval;
pub mod size;

pub use estimator::{EstimatorMetrics, QueryPair, QueryPairs, estimator};
pub use family::Family;
pub use latency::latency;
pub use pairs::{PairMetrics, PairSample, pairwise};
pub use reconstruction::{Reconstruction, ReconstructionMetrics};
pub use retrieval::{
    Hits, RetrievalError, RetrievalMetric, Scan, Scanned, rank_agreement, retrieval,
};
pub use size::{OF_SOURCE, SizeMetrics, ratio_source, size};

/// Revision of the definitions of all metrics, part of every cell's key: raised when a metric
/// changes its meaning, so that records of both meanings never stand side by side as equals.
pub const DEFINITIONS: u32 = 2;

/// Ends the name of a retrieval or estimator metric that compares raw queries with decompressed
/// rows. `recall@10` is the method at its best, by its own scorer where it has one;
/// `recall@10/decoded` is what every method can be compared by.
pub const DECODED: &str = "/decoded";

/// Ends the name of a retrieval metric that compares decompressed queries with decompressed
/// rows.
pub const SYMMETRIC: &str = "/symmetric";

/// Ends the name of a recall of what the method's own search (`vq.search/1`) finds.
pub const SEARCH: &str = "/search";

/// Standard error of the `mean` of `values`: sample standard deviation over √n; `None` for one value.
fn standard_error(values: &[f64], mean: f64) -> Option<f64> {
    let n = values.len() as f64;
    (values.len() > 1).then(|| {
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        (squares / (n - 1.0) / n).sqrt()
    })
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Better {
    /// Larger ones.
    Higher,
    /// Smaller ones.
    Lower,
    /// Those nearer to this ideal.
    Near(f64),
    /// Neither: it describes the data or the run.
    Neither,
}

/// What a metric's name means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricInfo {
    /// The name; `{k}` and `{r}` stand for a whole number.
    pub name: &'static str,
    /// Unit of its values; empty for a pure number.
    pub unit: &'static str,
    /// Which values are better.
    pub better: Better,
    /// One line for a table's legend.
    pub meaning: &'static str,
}

impl MetricInfo {
    /// Whether larger values are better; `None` where the best value is neither the largest
    /// nor the smallest.
    pub fn higher_is_better(&self) -> Option<bool> {
        match self.better {
            Better::Higher => Some(true),
            Better::Lower => Some(false),
            Better::Near(_) | Better::Neither => None,
        }
    }

    /// Whether `name` is this metric's name, with numbers in the place of `{k}` and `{r}`.
    fn matches(&self, name: &str) -> bool {
        let mut pattern = self.name;
        let mut rest = name;
        while let Some((literal, after)) = pattern.split_once('{') {
            let Some(tail) = rest.strip_prefix(literal) else {
                return false;
            };
            rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == tail.len() {
                return false;
            }
            pattern = after.split_once('}').map_or("", |(_, after)| after);
        }
        rest == pattern
    }
}

/// What is known about the metric `name`, such as `recall@10` or `recall@10/decoded`.
pub fn info(name: &str) -> Option<&'static MetricInfo> {
    let find = |name: &str| METRICS.iter().find(|metric| metric.matches(name));
    find(name).or_else(|| {
        if let Some(searched) = name.strip_suffix(SEARCH) {
            return find(searched).filter(|metric| SEARCHED_TOO.contains(&metric.name));
        }
        let scanned = name.strip_suffix(SYMMETRIC).or_else(|| name.strip_suffix(DECODED))?;
        find(scanned).filter(|metric| DECODED_TOO.contains(&metric.name))
    })
}

/// The metrics whose names may end in [`SEARCH`].
const SEARCHED_TOO: &[&str] = &["recall@{k}", "recall@{k}/rerank={r}"];

/// The metrics whose names may end in [`DECODED`] or [`SYMMETRIC`].
const DECODED_TOO: &[&str] = &[
    "recall@{k}",
    "recall_1@{k}",
    "rank_distortion@{k}",
    "recall@{k}/rerank={r}",
    "kendall_tau@{k}",
    "spearman_rho@{k}",
    "bias",
    "slope",
    "intercept",
    "rmse",
    "error_p95",
    "error_p99",
    "estimator_scale",
];

const fn metric(
    name: &'static str,
    unit: &'static str,
    better: Better,
    meaning: &'static str,
) -> MetricInfo {
    MetricInfo { name, unit, better, meaning }
}

/// Every metric a record may hold, by family.
#[rustfmt::skip] // A table: one metric, one line.
pub const METRICS: &[MetricInfo] = {
    use Better::{Higher, Lower, Near, Neither};
    &[
        // Reconstruction
        metric("mse", "squared data units", Lower, "mean squared error per dimension"),
        metric("sse_per_vector", "squared data units", Lower, "mean squared error per row: d·mse"),
        metric("relative_error", "", Lower, "share of the data's variance that is lost"),
        metric("relative_error/train", "", Lower, "the same on rows that the method learned from"),
        metric("sqnr_db", "dB", Higher, "signal to quantization noise: −10·log10(relative_error)"),
        metric("cosine", "", Higher, "mean cosine between row and reconstruction"),
        metric("row_error_p50", "", Lower, "median over rows of ‖x−x̂‖²/‖x‖²"),
        metric("row_error_p95", "", Lower, "95th percentile over rows of ‖x−x̂‖²/‖x‖²"),
        metric("row_error_p99", "", Lower, "99th percentile over rows of ‖x−x̂‖²/‖x‖²"),
        metric("row_error_max", "", Lower, "largest over rows of ‖x−x̂‖²/‖x‖²"),
        metric("reconstruction_bias", "", Lower, "share of the squared error that is the mean error: what all rows have in common"),
        metric("reconstruction_slope", "", Near(1.0), "least-squares slope of reconstructions on rows; below 1 where they shrink"),
        metric("row_errors_undefined", "rows", Lower, "zero rows whose reconstruction is not zero, left out of the percentiles"),
        // Pairs
        metric("pairwise_mean", "", Lower, "mean relative error of distances between reconstructed rows"),
        metric("pairwise_median", "", Lower, "median relative error of distances between reconstructed rows"),
        metric("pairwise_max", "", Lower, "largest relative error of distances between reconstructed rows"),
        metric("pairwise_asymmetric_mean", "", Lower, "mean relative error of distances from raw to reconstructed rows"),
        metric("pairwise_asymmetric_median", "", Lower, "median relative error of distances from raw to reconstructed rows"),
        metric("pairwise_asymmetric_max", "", Lower, "largest relative error of distances from raw to reconstructed rows"),
        metric("pairwise_identical", "pairs", Neither, "sampled pairs of identical rows, which the relative errors leave out"),
        // Estimator
        metric("bias", "std of true values", Near(0.0), "mean error of estimates"),
        metric("slope", "", Near(1.0), "least-squares slope of estimates on true values"),
        metric("intercept", "true values", Near(0.0), "least-squares intercept of estimates on true values"),
        metric("rmse", "true values", Lower, "root mean squared error of estimates"),
        metric("error_p95", "true values", Lower, "95th percentile of the absolute error of estimates"),
        metric("error_p99", "true values", Lower, "99th percentile of the absolute error of estimates"),
        metric("estimator_scale", "true values", Neither, "standard deviation of the true values, the unit of bias"),
        metric("bound_coverage", "", Higher, "share of estimates within the error bound the method claims"),
        metric("bound_width", "std of true values", Lower, "mean half-width of the error bound the method claims"),
        // Retrieval
        metric("recall@{k}", "", Higher, "share of the true k nearest among the k found, ties counted"),
        metric("recall_1@{k}", "", Higher, "share of queries whose nearest row is among the k found"),
        metric("rank_distortion@{k}", "", Lower, "1 − recall@k"),
        metric("recall@{k}/rerank={r}", "", Higher, "recall@k after exact re-ranking of the best r·k found"),
        metric("recall@{k}/second={r}", "", Higher, "recall@k after a second code ranks the best r·k that the first finds"),
        metric("kendall_tau@{k}", "", Higher, "Kendall τ-b of estimates with the true order of the true top k"),
        metric("spearman_rho@{k}", "", Higher, "Spearman ρ of estimates with the true order of the true top k"),
        metric("ndcg@{k}", "", Higher, "recall@k whose hits gain less in later places: 1/log2(place + 1)"),
        metric("recall_p1@{k}", "", Higher, "1st percentile over queries of recall@k"),
        metric("recall_p5@{k}", "", Higher, "5th percentile over queries of recall@k"),
        metric("recall_p50@{k}", "", Higher, "median over queries of recall@k"),
        metric("recall_share_90@{k}", "", Higher, "share of queries with a recall@k of 0.9 or more"),
        metric("distance_ratio@{k}", "", Lower, "summed distances of the k found over those of the true k nearest"),
        metric("sos@{k}", "", Higher, "summed scores of the k found over those of the true k best"),
        metric("attention_kl@{k}", "nats", Lower, "divergence of softmax(estimate/τ) from softmax(score/τ)"),
        metric("attention_tv@{k}", "", Lower, "total variation between softmax(estimate/τ) and softmax(score/τ)"),
        metric("search_compared", "queries", Neither, "queries whose search was compared with what the estimates rank first"),
        // Size
        metric("code_bytes", "bytes", Lower, "bytes stored per vector"),
        metric("model_bytes", "bytes", Lower, "bytes of state needed to decode, shared by all vectors"),
        metric("model_saved_bytes", "bytes", Lower, "bytes of the model as the method saves it"),
        metric("bits_per_dim", "bits", Lower, "stored bits per dimension"),
        metric("ratio", "", Higher, "original bytes per stored byte"),
        metric("ratio_amortised", "", Higher, "the same with the model's bytes spread over the vectors"),
        metric("source_bits_per_dim", "bits", Neither, "bits that a value has in the source"),
        metric("ratio_source", "", Higher, "bytes of the source per stored byte"),
        metric("ratio_claimed", "", Neither, "the ratio the method claims"),
        // Rate–distortion
        metric("bits_wasted", "bits", Lower, "bits per dimension above the Gaussian bound at the same mse; negative where the data is easier than Gaussian"),
        // Cost
        metric("fit_s", "s", Lower, "time to fit"),
        metric("compress_vectors_per_s", "vectors/s", Higher, "vectors compressed per second"),
        metric("decompress_vectors_per_s", "vectors/s", Higher, "vectors decompressed per second"),
        metric("compress_vectors_per_s_streaming", "vectors/s", Higher, "the same where rows and codes come from memory, of fast methods"),
        metric("decompress_vectors_per_s_streaming", "vectors/s", Higher, "likewise for decompressing"),
        metric("score_codes_per_s", "codes/s", Higher, "codes scored per second"),
        metric("search_codes_per_s", "codes/s", Higher, "query–code pairs searched per second by the method's own search"),
        metric("latency_p50_s", "s", Lower, "median time of one query over all codes, one thread"),
        metric("latency_p99_s", "s", Lower, "99th percentile of the same"),
        metric("latency_bytes_per_s", "bytes/s", Higher, "bytes of codes that such a query gets through per second"),
        metric("overhead_s", "s", Lower, "wall time of the cell around its measuring"),
        metric("empty_call_s", "s", Neither, "time of a call that does nothing: what is not the method's in each timed call"),
        metric("peak_rss_bytes", "bytes", Lower, "largest resident memory of the processes with the method"),
        metric("encoder_peak_rss_bytes", "bytes", Lower, "largest resident memory of the process that fits and encodes"),
        metric("decoder_peak_rss_bytes", "bytes", Lower, "largest resident memory of the process that decodes and scores"),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use std::convert::Infallible;

    #[test]
    fn every_name_a_family_gives_is_listed() {
        let x = array![[1.0_f32, 2.0], [3.0, -1.0]];
        let decoded = array![[1.0_f32, 1.5], [3.0, -1.0]];
        let mut names: Vec<String> = Vec::new();
        let mut add = |named: Vec<(&'static str, f64)>| {
            names.extend(named.into_iter().map(|(name, _)| name.to_owned()));
        };

        let mut walk = Reconstruction::new(&[2.0, 0.5]);
        walk.push(x.view(), decoded.view());
        add(walk.finish().unwrap().named());
        let pairs = pairwise(&PairSample::new(2, 3, 0), 2, |_, mut raw, _| {
            raw[(0, 0)] = 1.0;
            Ok::<_, Infallible>(())
        });
        add(size(10, 2, 1, Some(4)).named());
        let pairs = pairs.unwrap().unwrap().named();
        let estimates = estimator(&[0.0, 1.0], &[0.0, 1.1], Some(&[1.0; 2])).unwrap().named();
        names.extend(pairs.into_iter().chain(estimates).map(|(name, ..)| name.to_owned()));
        assert_eq!(names.len(), 12 + 7 + 9 + 3);

        let truth = array![[0.0, 1.0]];
        let found = [vec![0.0, 1.0]];
        let mut metrics = retrieval(truth.view(), &found, 2, &[1, 2], &[1, 4]).unwrap();
        metrics.extend(rank_agreement(truth.view(), Array2::zeros((1, 2)).view(), 2));
        let spread = metrics[0].hits.as_ref().map(found::spread).unwrap();
        let sums = ["distance_ratio", "sos"]
            .map(|name| found::ratio_of_sums(name, truth.view(), &found, 2, &[2], |v| v));
        let one: [&[u32]; 1] = [&[0]];
        let scores = found::Scores { rows: &one, scores: &[vec![1.0]], estimates: &[vec![0.5]] };
        metrics.extend(found::discounted_gain(truth.view(), &found, 2, &[2]));
        metrics.extend(spread);
        metrics.extend(sums.into_iter().flatten());
        metrics.extend(found::attention(scores, scores, 1, 1.0));
        assert_eq!(metrics.len(), 12 + 1 + 4 + 2 + 2);
        names.extend(metrics.into_iter().map(|metric| metric.name));
        for name in names {
            assert!(info(&name).is_some(), "{name} is not listed");
        }
    }

    #[test]
    fn patterns_take_numbers_and_nothing_else() {
        let name = |of: &str| info(of).map(|metric| metric.name);
        assert_eq!(name("recall@10"), Some("recall@{k}"));
        assert_eq!(name("recall@100/rerank=4"), Some("recall@{k}/rerank={r}"));
        assert_eq!(name("recall@10/rerank=4/symmetric"), Some("recall@{k}/rerank={r}"));
        assert_eq!(name("bias/symmetric"), Some("bias"));
        assert_eq!(name("recall@10/rerank=4/search"), Some("recall@{k}/rerank={r}"));
        for unknown in [
            "recall@",
            "recall@x",
            "recall@10 ",
            "recall@10/rerank=",
            "recall@{k}",
            "recall",
            "mse/symmetric",
            "/symmetric",
            "",
            "recall@10/symmetric/symmetric",
            "bias/search",
        ] {
            assert_eq!(name(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn listed_names_are_distinct_and_described() {
        for (at, metric) in METRICS.iter().enumerate() {
            assert!(!metric.meaning.is_empty());
            assert!(METRICS[..at].iter().all(|other| other.name != metric.name));
        }
        for name in DECODED_TOO.iter().chain(SEARCHED_TOO) {
            assert!(METRICS.iter().any(|metric| metric.name == *name), "{name}");
        }
    }

    #[test]
    fn directions_say_what_is_better() {
        let direction = |name| info(name).unwrap().higher_is_better();
        assert_eq!(direction("recall@10"), Some(true));
        assert_eq!(direction("mse"), Some(false));
        assert_eq!(direction("slope"), None);
    }
}
