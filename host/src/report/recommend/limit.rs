//! How sure a recall is, over queries and seeds.

use crate::report::spread::mean_and_error;

/// The mean of a recall over queries and its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct QueryMean {
    mean: f64,
    /// Sample variance over queries.
    variance: f64,
    queries: f64,
}

impl QueryMean {
    /// That of the recall of each query; none for fewer than two.
    pub(super) fn of(recalls: &[f64]) -> Option<Self> {
        let (mean, error) = mean_and_error(recalls)?;
        Self::with_error(mean, error, recalls.len())
    }

    /// Where only the standard error was kept; none for fewer than two queries.
    pub(super) fn with_error(mean: f64, error: f64, queries: usize) -> Option<Self> {
        let count = queries as f64;
        (queries >= 2).then_some(Self { mean, variance: error * error * count, queries: count })
    }

    /// The mean, its squared standard error and its degrees of freedom, with one more query that
    /// finds nothing: queries that all found everything say no more than that.
    fn with_a_failure(self) -> (f64, f64, f64) {
        let Self { mean, variance, queries } = self;
        let all = queries + 1.0;
        let squares = (queries - 1.0) * variance + mean * mean * queries / all;
        (mean * queries / all, squares / queries / all, queries)
    }
}

/// A recall and its lower limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    /// Mean over seeds and queries.
    pub(super) mean: f64,
    /// Standard error over queries and seeds.
    pub(super) standard_error: f64,
    /// One-sided, 95 %.
    pub(super) at_least: f64,
}

impl Limit {
    /// Of the mean over `queries`, itself the mean over the seeds `by_seed`. One seed says nothing
    /// of others.
    pub(super) fn of(queries: QueryMean, by_seed: &[f64]) -> Self {
        let of_queries = queries.variance / queries.queries;
        let (of_seeds, seeds) = match mean_and_error(by_seed) {
            Some((_, error)) => (error * error, by_seed.len() as f64 - 1.0),
            None => (0.0, 1.0),
        };
        let (mean, squared, freedom) = queries.with_a_failure();
        let both = squared + of_seeds;
        // Satterthwaite 1946, eq. 17: the degrees of freedom of a sum of two estimates.
        let freedom = both * both / (squared * squared / freedom + of_seeds * of_seeds / seeds);
        Self {
            mean: queries.mean,
            standard_error: (of_queries + of_seeds).sqrt(),
            at_least: if both > 0.0 { mean - t_95_one_sided(freedom) * both.sqrt() } else { mean },
        }
    }
}

/// The 95th percentile of Student's t; between whole degrees of freedom that of the lower.
fn t_95_one_sided(freedom: f64) -> f64 {
    #[rustfmt::skip]
    const TABLE: [f64; 30] = [
        6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
        1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
        1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697,
    ];
    let whole = freedom.floor().max(1.0);
    // Beyond the table the first term of the expansion in 1 / freedom is right to 0.001.
    TABLE.get(whole as usize - 1).copied().unwrap_or(1.645 + 1.524 / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_that_all_found_everything_are_no_proof() {
        let limit = |queries| {
            let of = QueryMean::of(&vec![1.0; queries]).unwrap();
            Limit::of(of, &[1.0]).at_least
        };
        // Clopper and Pearson's limits are 0.05^(1/Q): 0.9418 and 0.9940.
        assert!((limit(50) - 0.9475).abs() < 1e-3, "{}", limit(50));
        assert!((limit(500) - 0.9947).abs() < 1e-4, "{}", limit(500));
        assert_eq!(QueryMean::of(&[1.0]), None);
    }

    #[test]
    fn kept_queries_and_a_kept_error_say_the_same() {
        let recalls = [0.7, 0.9, 1.0, 0.8, 0.9];
        let (mean, error) = mean_and_error(&recalls).unwrap();
        let kept = QueryMean::of(&recalls).unwrap();
        let told = QueryMean::with_error(mean, error, 5).unwrap();
        assert!((kept.variance - told.variance).abs() < 1e-15);
        assert!((kept.variance - 0.013).abs() < 1e-12);
    }

    #[test]
    fn seeds_that_differ_lower_the_limit() {
        let recalls: Vec<f64> = (0..1000).map(|i| 0.9 + f64::from(i % 11) / 100.0).collect();
        let of = QueryMean::of(&recalls).unwrap();
        let equal = Limit::of(of, &[0.95, 0.95, 0.95]);
        let differ = Limit::of(of, &[0.94, 0.95, 0.96]);
        assert_eq!(equal.mean, differ.mean);
        // Over seeds alone the error is 0.01 / √3, with 2 degrees of freedom.
        let seeds_alone = 2.920 * 0.01 / 3.0_f64.sqrt();
        let lost = equal.at_least - differ.at_least;
        assert!(lost > 0.8 * seeds_alone && lost < 1.1 * seeds_alone, "{lost}");
        assert!(differ.standard_error > equal.standard_error);
    }

    #[test]
    fn percentiles_fall_with_the_degrees_of_freedom() {
        assert_eq!((t_95_one_sided(0.4), t_95_one_sided(2.9)), (6.314, 2.920));
        assert!((t_95_one_sided(40.0) - 1.684).abs() < 0.002);
        assert!((t_95_one_sided(1e6) - 1.645).abs() < 0.001);
    }
}
