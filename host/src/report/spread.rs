//! How sure a mean is, and whether one is larger than another. docs/metrics.md has the definitions.

/// A difference counts when it is above so many of its standard errors.
pub(super) const STANDARD_ERRORS: f64 = 2.0;

/// Half the width of the 95 % interval of the mean of `values`, one for each seed, by Student's t;
/// none for fewer than two.
pub(super) fn interval(values: &[f64]) -> Option<f64> {
    let (_, error) = mean_and_error(values)?;
    Some(t_95(values.len() - 1) * error)
}

/// The mean of at least two values and its standard error.
pub(super) fn mean_and_error(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (squares / (n - 1.0) / n).sqrt()))
}

/// The difference of two means over the same queries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Difference {
    mean: f64,
    standard_error: f64,
}

impl Difference {
    /// That of `a` and `b`, paired query by query; none where they are not of the same queries, or
    /// of fewer than two.
    pub(super) fn of(a: &[f64], b: &[f64]) -> Option<Self> {
        if a.len() != b.len() {
            return None;
        }
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let (mean, standard_error) = mean_and_error(&differences)?;
        Some(Self { mean, standard_error })
    }

    /// True when the first is better than the second by more than chance would make it.
    pub(super) fn is_better(self) -> bool {
        self.mean > STANDARD_ERRORS * self.standard_error
    }
}

/// The 97.5th percentile of Student's t with `freedom` degrees of freedom.
fn t_95(freedom: usize) -> f64 {
    #[rustfmt::skip]
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
        2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
        2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    // Beyond the table the first term of the expansion in 1 / freedom is right to 0.001.
    let beyond = || 1.960 + 2.372 / freedom as f64;
    TABLE.get(freedom.wrapping_sub(1)).copied().unwrap_or_else(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_over_seeds_is_students() {
        assert_eq!(interval(&[1.0]), None);
        // Sample deviation 1, over the root of 3, times 4.303.
        let half = interval(&[1.0, 2.0, 3.0]).unwrap();
        assert!((half - 4.303 / 3.0_f64.sqrt()).abs() < 1e-12, "{half}");
        assert_eq!(interval(&[0.5, 0.5]), Some(0.0));
        assert!((t_95(31) - 2.040).abs() < 0.004 && (t_95(1000) - 1.962).abs() < 0.001);
    }

    #[test]
    fn a_difference_counts_above_two_standard_errors() {
        // Differences 0.1 and 0.3: mean 0.2, standard error 0.1.
        let better = |a: &[f64], b: &[f64]| Difference::of(a, b).map(Difference::is_better);
        assert_eq!(better(&[0.6, 0.8, 0.7], &[0.5, 0.5, 0.5]), Some(true));
        assert_eq!(better(&[0.6, 0.4], &[0.5, 0.5]), Some(false));
        assert_eq!(better(&[0.5, 0.5], &[0.5, 0.5]), Some(false), "equal ones are tied");
        assert_eq!(better(&[0.5, 0.6], &[0.4, 0.5]), Some(true), "all by the same");
        assert_eq!(better(&[0.5], &[0.4]), None);
        assert_eq!(better(&[0.5, 0.6], &[0.4]), None);
    }

    #[test]
    fn pairing_sees_what_two_separate_errors_hide() {
        let easy_and_hard: Vec<f64> = (0..100).map(|query| f64::from(query) / 100.0).collect();
        let worse: Vec<f64> = easy_and_hard.iter().map(|recall| recall - 0.01).collect();
        let (_, alone) = mean_and_error(&easy_and_hard).unwrap();
        assert!(0.01 < 2.0 * alone);
        assert!(Difference::of(&easy_and_hard, &worse).unwrap().is_better());
    }
}
