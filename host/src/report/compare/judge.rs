//! One number in two measurements: how much it differs, and whether by chance.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

use super::super::known;
use super::super::spread::mean_and_error;
use crate::record::{MetricValue, Record};

/// A difference counts when chance makes one like it less often than this, all tests together.
const SIGNIFICANCE: f64 = 0.05;

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It counts, and the second is worse.
    Worse,
    /// It is worse by more than the tolerance, and nothing tells whether by chance.
    Unclear,
    /// It counts, and the second is better.
    Better,
    /// It is within the tolerance, or chance explains it.
    Same,
}

/// One number in both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    /// The mean over seeds.
    pub(super) before: f64,
    pub(super) after: f64,
    higher_is_better: bool,
    /// Of no difference, two-sided; none without a test.
    pub(super) p: Option<f64>,
    /// Whether it counts where there is no test.
    certain: Option<bool>,
}

impl Judged {
    /// The difference as a share of the first value; none where that is 0.
    pub(super) fn relative(&self) -> Option<f64> {
        (self.before != 0.0).then(|| (self.after - self.before) / self.before.abs())
    }

    /// What it is, with the corrected `p`.
    pub(super) fn verdict(&self, p: Option<f64>, tolerance: f64) -> Verdict {
        let difference = self.after - self.before;
        let size = match self.relative() {
            Some(relative) => relative.abs(),
            None if difference == 0.0 => 0.0,
            None => f64::INFINITY,
        };
        let counts = p.map(|p| p < SIGNIFICANCE).or(self.certain);
        let worse = (difference < 0.0) == self.higher_is_better;
        match (size > tolerance, counts, worse) {
            (false, ..) | (_, Some(false), _) => Verdict::Same,
            (true, Some(true), true) => Verdict::Worse,
            (true, None, true) => Verdict::Unclear,
            (true, Some(true), false) => Verdict::Better,
            (true, None, false) => Verdict::Same,
        }
    }
}

/// Judges the metric `name` of two measurements, record by record of one seed; none where neither
/// direction is better.
///
/// What queries found is paired query by query, over the mean of the seeds. What a deterministic
/// method does with the same seed and rows is no sample. Else the standard errors decide, or the
/// seeds if there are several. Times differ where their ranges over all repeats are apart.
pub(super) fn judge(before: &[&Record], after: &[&Record], name: &str) -> Option<Judged> {
    let higher_is_better = known(name).higher_is_better?;
    let values = |records: &[&Record]| -> Option<Vec<f64>> {
        records.iter().map(|record| record.value(name)).collect()
    };
    let (a, b) = (values(before)?, values(after)?);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut judged =
        Judged { before: mean(&a), after: mean(&b), higher_is_better, p: None, certain: None };
    let deterministic = |records: &[&Record]| {
        records.iter().all(|record| record.method.deterministic == Some(true))
    };
    if known(name).unit == "s" || known(name).unit.ends_with("/s") {
        judged.certain = Some(ranges_are_apart(before, after, name));
    } else if let Some(differences) = by_query(before, after, name) {
        judged.p = Some(p_of_mean(&differences)?);
    } else if deterministic(before) && deterministic(after) {
        judged.certain = Some(true);
    } else if let Some((a, b)) = error(before, name).zip(error(after, name)) {
        judged.p = p_of_normal(judged.after - judged.before, a.hypot(b));
    } else if a.len() > 1 {
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        judged.p = p_of_mean(&differences);
    }
    Some(judged)
}

/// The difference of `recall@k` for each query, over the mean of the seeds.
fn by_query(before: &[&Record], after: &[&Record], name: &str) -> Option<Vec<f64>> {
    let k: u32 = name.strip_prefix("recall@")?.parse().ok()?;
    let mut differences = vec![0.0; before.first()?.recalls(k)?.hits().len()];
    for (a, b) in before.iter().zip(after) {
        let (a, b) = (a.recalls(k)?.hits(), b.recalls(k)?.hits());
        if a.len() != differences.len() || b.len() != differences.len() {
            return None;
        }
        for (sum, (a, b)) in differences.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*b) - f64::from(*a);
        }
    }
    let all = f64::from(k) * before.len() as f64;
    differences.iter_mut().for_each(|sum| *sum /= all);
    (differences.len() > 1).then_some(differences)
}

/// The standard error of the mean over seeds, where each has one.
fn error(records: &[&Record], name: &str) -> Option<f64> {
    let mut squares = 0.0;
    for record in records {
        squares += record.standard_error(name)?.powi(2);
    }
    Some(squares.sqrt() / records.len() as f64)
}

/// That a mean of zero would be found as far from it as that of `differences`: Student's t.
fn p_of_mean(differences: &[f64]) -> Option<f64> {
    let (mean, error) = mean_and_error(differences)?;
    if error == 0.0 {
        return Some(if mean == 0.0 { 1.0 } else { 0.0 });
    }
    let t = StudentsT::new(0.0, 1.0, differences.len() as f64 - 1.0).ok()?;
    Some(2.0 * t.cdf(-(mean / error).abs()))
}

/// The same for a difference with a known standard error.
fn p_of_normal(difference: f64, error: f64) -> Option<f64> {
    if error == 0.0 {
        return Some(if difference == 0.0 { 1.0 } else { 0.0 });
    }
    let normal = Normal::new(0.0, 1.0).ok()?;
    Some(2.0 * normal.cdf(-(difference / error).abs()))
}

/// Whether all repeats of one are on one side of all repeats of the other.
fn ranges_are_apart(before: &[&Record], after: &[&Record], name: &str) -> bool {
    let range = |records: &[&Record]| {
        let all = records.iter().flat_map(|record| &record.metrics);
        all.filter(|metric| metric.name() == name).fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), metric: &MetricValue| {
                let value = metric.value();
                let (min, max) = (metric.min().unwrap_or(value), metric.max().unwrap_or(value));
                (least.min(min), most.max(max))
            },
        )
    };
    let (a, b) = (range(before), range(after));
    a.1 < b.0 || b.1 < a.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_the_tables() {
        // t = 2.776 is the 97.5th percentile with 4 degrees of freedom.
        let error = 2.776_445;
        let mut differences = vec![-1.0, -0.5, 0.0, 0.5, 1.0];
        let (_, standard_error) = mean_and_error(&differences).unwrap();
        differences.iter_mut().for_each(|x| *x += error * standard_error);
        assert!((p_of_mean(&differences).unwrap() - 0.05).abs() < 1e-6);
        assert!((p_of_normal(1.959_964, 1.0).unwrap() - 0.05).abs() < 1e-6);
        assert_eq!((p_of_mean(&[0.0; 3]), p_of_mean(&[0.5; 4])), (Some(1.0), Some(0.0)));
        assert_eq!(p_of_mean(&[0.5]), None);
    }
}
