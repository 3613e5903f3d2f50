//! What a cell costs, from the records of others.
//!
//! A cell's seconds are what every cell takes, the fit, which grows with the rows it learns from,
//! and the rest, which grows with the rows of the base and mostly with the queries.

use std::collections::BTreeMap;

use crate::record::Record;

/// How much a cell has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Rows of the base.
    pub rows: usize,
    /// Queries.
    pub queries: usize,
    /// Rows that methods learn from.
    pub train: usize,
}

/// What cells cost, from those that ran.
#[derive(Debug)]
pub struct Costs {
    /// Seconds of timing that every cell takes, however few its rows.
    constant: f64,
    of_method: BTreeMap<String, Cost>,
}

/// Where the seconds of a cell went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) overhead: f64,
    /// To fit; 0 where that does not grow with the rows.
    pub(crate) fit: f64,
    pub(crate) rest: f64,
    rows: f64,
    queries: f64,
    train: f64,
}

impl Cost {
    pub(crate) fn of(record: &Record) -> Self {
        let overhead = record.value("overhead_s").unwrap_or(0.0);
        let learns = record.method.needs_training != Some(false);
        let fit = record.value("fit_s").unwrap_or(0.0);
        Cost {
            overhead,
            fit: if learns { fit } else { 0.0 },
            rest: (record.wall_s - overhead - fit).max(0.0),
            rows: record.dataset.n as f64,
            queries: record.dataset.queries as f64,
            train: record.dataset.train_rows.unwrap_or(record.dataset.n) as f64,
        }
    }
}

impl Costs {
    /// From any records of a method, the one that learned from the most rows.
    pub fn of(records: &[Record]) -> Self {
        let mut of_method: BTreeMap<String, Cost> = BTreeMap::new();
        for record in records.iter().filter(|record| record.outcome.is_ok()) {
            let cost = Cost::of(record);
            let known = of_method.entry(record.method.id.clone()).or_insert(cost);
            let larger = |a: &Cost, b: &Cost| {
                let of = |cost: &Cost| (cost.rows, cost.train, cost.rest + cost.fit);
                of(a).partial_cmp(&of(b)).is_some_and(std::cmp::Ordering::is_gt)
            };
            if larger(&cost, known) {
                *known = cost;
            }
        }
        // The quickest of all does next to nothing but what every cell does.
        let constant = of_method.values().map(|cost| cost.rest).reduce(f64::min);
        Costs { constant: 0.8 * constant.unwrap_or(0.0), of_method }
    }

    /// Whether a cell of `method` ran.
    pub fn knows(&self, method: &str) -> bool {
        self.of_method.contains_key(method)
    }

    /// Seconds that a cell of `method` is expected to take; of one that never ran, the median
    /// of the others.
    pub fn expected(&self, method: &str, work: &Work) -> f64 {
        let of = |cost: &Cost| {
            let (rows, queries) = (work.rows as f64, work.queries as f64);
            let variable = (cost.rest - self.constant).max(0.0);
            let grown = variable * rows / cost.rows * (0.3 + 0.7 * queries / cost.queries);
            let fit = cost.fit * work.train as f64 / cost.train.max(1.0);
            cost.overhead + self.constant + grown + fit
        };
        match self.of_method.get(method) {
            Some(cost) => of(cost),
            None => {
                let mut others: Vec<f64> = self.of_method.values().map(of).collect();
                others.sort_by(f64::total_cmp);
                others.get(others.len() / 2).copied().unwrap_or(1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    fn record(method: &str, wall_s: f64, fit: f64) -> Record {
        let mut record = sample(method, "x", &[("overhead_s", 0.5), ("fit_s", fit)]);
        (record.wall_s, record.dataset.train_rows) = (wall_s, Some(1000));
        record
    }

    #[test]
    fn a_fit_grows_with_training_rows_and_the_rest_with_base_and_queries() {
        // 10,000 rows and 500 queries; `a` has 1 s of 2 that no cell is without.
        let costs = Costs::of(&[record("a", 1.75, 0.0), record("b", 5.5, 2.0)]);
        let expected = |rows, queries, train| costs.expected("b", &Work { rows, queries, train });
        assert!((expected(10_000, 500, 1000) - 5.5).abs() < 1e-9);
        assert!((expected(10_000, 500, 3000) - 9.5).abs() < 1e-9);
        assert!((expected(20_000, 500, 1000) - 7.5).abs() < 1e-9);
        let fewer = expected(10_000, 250, 1000);
        assert!(fewer < 5.5 && fewer > 4.5, "{fewer}");
        assert!(costs.knows("b") && !costs.knows("c"));
        let other = costs.expected("c", &Work { rows: 10_000, queries: 500, train: 1000 });
        assert!((other - 5.5).abs() < 1e-9, "the median of the others");
    }
}
