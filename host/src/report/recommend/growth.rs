//! What becomes of a recall as rows are added.
//!
//! The law is probit(recall) = a + b·ln(ln(rows)), of those that were tried on several data sets the
//! one that is wrong least and to no side (docs/methodology.md). Its a and b are fitted to nothing
//! but the data set itself. Its error is told, and that real data do not keep to it is in it.

use statrs::distribution::{Continuous, ContinuousCDF, Normal};
use std::collections::BTreeSet;

/// The 95th percentile of the normal distribution.
const Z_95: f64 = 1.645;
/// How far data leave the law beyond the rows measured, in probits for each 1 of ln(ln(rows)): of
/// the data sets of docs/methodology.md the one that leaves it farthest is below the lower limit
/// once in 20 times or less often.
const OFF_THE_LAW: f64 = 0.4;

/// A recall among some rows of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Rows of the base.
    pub rows: u64,
    /// The recall among them.
    pub recall: f64,
    /// Its standard error over queries and seeds.
    pub standard_error: f64,
    /// The records that it is the mean of.
    pub keys: Vec<String>,
}

/// A recall that is expected of a number of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The rows.
    pub rows: f64,
    /// What is expected among them.
    pub recall: f64,
    /// It is above this, with 95 % confidence.
    pub at_least: f64,
    /// And below this.
    pub at_most: f64,
}

/// The same configuration at several sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// By rows.
    pub points: Vec<Point>,
    /// b of the law: below 0 where recall falls.
    pub slope: Option<f64>,
    /// For the rows that will be stored.
    pub predicted: Option<Prediction>,
}

impl Growth {
    /// Fits the law to `points`, whose recalls are means of `trials` neighbours each, and extends
    /// it to `rows`.
    pub(super) fn of(mut points: Vec<Point>, trials: f64, rows: f64) -> Self {
        points.sort_by_key(|point| point.rows);
        let law = Law::fit(&points, trials);
        Self {
            slope: law.as_ref().map(|law| law.slope),
            predicted: law.map(|law| law.at(rows)),
            points,
        }
    }
}

/// A line through probits, by weighted least squares.
struct Law {
    /// Weighted mean of ln(ln(rows)) and of the probits.
    centre: (f64, f64),
    /// ln(ln(rows)) of the most rows.
    last: f64,
    slope: f64,
    /// Variance of the mean and of the slope.
    variances: (f64, f64),
}

impl Law {
    /// None where all points have the same rows.
    fn fit(points: &[Point], trials: f64) -> Option<Self> {
        let normal = Normal::standard();
        // Half a neighbour more is found and half a one missed, so that 1 has a probit.
        let probits: Vec<(f64, f64, f64)> = points
            .iter()
            .map(|of| {
                let p = (of.recall.clamp(0.0, 1.0) * trials + 0.5) / (trials + 1.0);
                let least = (p * (1.0 - p) / trials).sqrt();
                let probit = normal.inverse_cdf(p);
                let error = of.standard_error.max(least) / normal.pdf(probit);
                (place(of.rows as f64), probit, 1.0 / (error * error))
            })
            .collect();
        let all: f64 = probits.iter().map(|(.., w)| w).sum();
        let mean = |of: fn(&(f64, f64, f64)) -> f64| {
            probits.iter().map(|one| one.2 * of(one)).sum::<f64>() / all
        };
        let centre = (mean(|of| of.0), mean(|of| of.1));
        let spread: f64 = probits.iter().map(|(x, _, w)| w * (x - centre.0).powi(2)).sum();
        let sizes: BTreeSet<u64> = points.iter().map(|point| point.rows).collect();
        if sizes.len() < 2 || spread <= 0.0 || !spread.is_finite() {
            return None;
        }
        let product = |(x, y, w): &(f64, f64, f64)| w * (x - centre.0) * (y - centre.1);
        let slope = probits.iter().map(product).sum::<f64>() / spread;
        let off = |(x, y, w): &(f64, f64, f64)| w * (y - centre.1 - slope * (x - centre.0)).powi(2);
        // Where the points lie off the line by more than their errors, so do others.
        let freedom = points.len() as f64 - 2.0;
        let misfit = probits.iter().map(off).sum::<f64>();
        let inflated = if freedom > 0.0 { (misfit / freedom).max(1.0) } else { 1.0 };
        // All sizes have the same queries: their errors go together, which makes the mean no surer
        // and the slope no less sure than if they did not.
        let together = probits.iter().map(|(.., w)| w.sqrt()).sum::<f64>() / all;
        let last = probits.iter().map(|of| of.0).fold(f64::NEG_INFINITY, f64::max);
        let variances = (inflated * together.powi(2), inflated / spread);
        Some(Self { centre, last, slope, variances })
    }

    fn at(&self, rows: f64) -> Prediction {
        let normal = Normal::standard();
        let x = place(rows) - self.centre.0;
        // No recall rises because there are more rows to be mistaken about: that is chance.
        let probit = self.centre.1 + self.slope.min(0.0) * x;
        let off = OFF_THE_LAW * (place(rows) - self.last).max(0.0);
        let error = (self.variances.0 + self.variances.1 * x * x + off * off).sqrt();
        Prediction {
            rows,
            recall: normal.cdf(probit),
            at_least: normal.cdf(probit - Z_95 * error),
            at_most: normal.cdf(probit + Z_95 * error),
        }
    }
}

/// Where so many rows stand on the line; below e there is no place.
fn place(rows: f64) -> f64 {
    rows.max(3.0).ln().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rows: u64, recall: f64) -> Point {
        Point { rows, recall, standard_error: 0.005, keys: Vec::new() }
    }

    /// Φ(8 − 3·ln(ln(rows))).
    fn law(rows: f64) -> f64 {
        Normal::standard().cdf(8.0 - 3.0 * rows.ln().ln())
    }

    #[test]
    fn a_law_is_found_again_and_extended() {
        let points = [40_000, 2500, 10_000].map(|rows| point(rows, law(rows as f64)));
        let growth = Growth::of(points.to_vec(), 1e6, 640_000.0);
        assert_eq!(growth.points[0].rows, 2500);
        assert!((growth.slope.unwrap() + 3.0).abs() < 1e-3, "{growth:?}");
        let predicted = growth.predicted.unwrap();
        assert!((predicted.recall - law(640_000.0)).abs() < 1e-4, "{predicted:?}");
        assert!(predicted.at_least < predicted.recall && predicted.recall < predicted.at_most);
    }

    #[test]
    fn a_recall_is_not_expected_to_rise() {
        let points = vec![point(1000, 0.90), point(4000, 0.91), point(16_000, 0.92)];
        let growth = Growth::of(points, 5000.0, 1e6);
        let predicted = growth.predicted.unwrap();
        assert!(growth.slope.unwrap() > 0.0 && predicted.recall < 0.92, "{growth:?}");
    }

    #[test]
    fn the_farther_the_less_sure() {
        let points = vec![point(1000, 0.9), point(4000, 0.85), point(16_000, 0.8)];
        let width = |rows| {
            let of = Growth::of(points.clone(), 5000.0, rows).predicted.unwrap();
            of.at_most - of.at_least
        };
        assert!(width(4000.0) < width(64_000.0) && width(64_000.0) < width(1e6));
    }

    #[test]
    fn points_off_the_line_widen_its_error() {
        let straight = vec![point(1000, 0.9), point(4000, 0.85), point(16_000, 0.79)];
        let bent = vec![point(1000, 0.9), point(4000, 0.70), point(16_000, 0.79)];
        let width = |points: Vec<Point>| {
            let of = Growth::of(points, 5000.0, 64_000.0).predicted.unwrap();
            of.at_most - of.at_least
        };
        assert!(width(bent) > 3.0 * width(straight));
    }

    #[test]
    fn a_recall_of_one_has_a_place_on_the_line_and_one_size_has_none() {
        let growth = Growth::of(vec![point(1000, 1.0), point(4000, 1.0)], 5000.0, 1e6);
        let predicted = growth.predicted.unwrap();
        assert!(predicted.recall > 0.999 && predicted.at_least < predicted.recall);
        assert_eq!(Growth::of(vec![point(1000, 0.5); 2], 5000.0, 1e6).predicted, None);
    }
}
