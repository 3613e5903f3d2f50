//! Whether what is said of more rows holds, on recalls that were measured.
//!
//! `host/tests/recalls.tsv` has a line for each data set, configuration, k and factor of ranking again (0: none): its
//! queries, then rows, recall and standard error at each size, the latter two in 10⁻⁵.
//! docs/methodology.md says how they were measured.

use super::growth::{Growth, Point, Prediction};
use std::collections::BTreeMap;

/// What is fitted to: parts of the rows that it is extended to.
const FITTED: [[f64; 3]; 3] = [[4.0, 8.0, 16.0], [4.0, 16.0, 64.0], [16.0, 32.0, 64.0]];

/// An extension and the recall that was measured there.
struct Case {
    set: &'static str,
    k: u32,
    fitted: usize,
    predicted: Prediction,
    recall: f64,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in include_str!("../../../tests/recalls.tsv").lines() {
        let columns: Vec<&'static str> = line.split('\t').collect();
        let [set, _, k, _, queries, ref sizes @ ..] = *columns else { panic!("{line}") };
        let (k, queries): (u32, u32) = (k.parse().unwrap(), queries.parse().unwrap());
        let point = |size: &&str| {
            let numbers: Vec<u32> = size.split(' ').map(|of| of.parse().unwrap()).collect();
            let share = |at: usize| f64::from(numbers[at]) / 1e5;
            let rows = u64::from(numbers[0]);
            Point { rows, recall: share(1), standard_error: share(2), keys: Vec::new() }
        };
        let points: Vec<Point> = sizes.iter().map(point).collect();
        for last in points.iter().filter(|of| (0.3..=0.9995).contains(&of.recall)) {
            for (fitted, parts) in FITTED.iter().enumerate() {
                // 25,000 is a quarter of 100,000, and 1,562 a sixty-fourth.
                let is = |of: &&Point, part: f64| {
                    (of.rows as f64 * part - last.rows as f64).abs() < 2.0 * part
                };
                let of = |part: &f64| points.iter().find(|of| is(of, *part)).cloned();
                let Some(smaller) = parts.iter().map(of).collect::<Option<Vec<_>>>() else {
                    continue;
                };
                let trials = f64::from(k * queries);
                let growth = Growth::of(smaller, trials, last.rows as f64);
                let predicted = growth.predicted.unwrap();
                cases.push(Case { set, k, fitted, predicted, recall: last.recall });
            }
        }
    }
    cases
}

fn share(of: &[&Case], which: impl Fn(&Case) -> bool) -> f64 {
    of.iter().filter(|case| which(case)).count() as f64 / of.len() as f64
}

#[test]
fn what_is_said_of_more_rows_holds_on_every_data_set() {
    let cases = cases();
    let below = |case: &Case| case.recall < case.predicted.at_least;
    let above = |case: &Case| case.recall > case.predicted.at_most;
    let mut of_set: BTreeMap<(&str, usize), Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        of_set.entry((case.set, case.fitted)).or_default().push(case);
    }
    // Five data sets; the smallest of them has no sixty-fourth.
    assert_eq!(of_set.len(), 13);
    for ((set, fitted), cases) in &of_set {
        let share = share(cases, below);
        assert!(share <= 0.05, "{set} {:?}: {share} of {}", FITTED[*fitted], cases.len());
    }
    // At four times the rows measured both ends hold.
    for (fitted, parts) in FITTED.iter().enumerate().take(2) {
        let of: Vec<&Case> = cases.iter().filter(|case| case.fitted == fitted).collect();
        let outside = share(&of, |case| below(case) || above(case));
        assert!(outside <= 0.1, "{parts:?}: {outside}");
    }
    // And says something: at four times the rows recall@10 is within a few hundredths.
    let near = cases.iter().filter(|case| case.k == 10 && case.fitted == 1);
    let widths: Vec<f64> =
        near.map(|case| case.predicted.recall - case.predicted.at_least).collect();
    assert!(widths.iter().sum::<f64>() / (widths.len() as f64) < 0.035);
}
