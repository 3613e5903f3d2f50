//! What a cell costs, from the records of others.
//!
//! A cell's seconds are what every cell takes, the fit, which grows with the rows it learns from,
//! and the rest, which grows with the rows of the base and mostly with the queries. Both grow with the
//! dimensions.

use std::collections::BTreeMap;

use crate::record::{MethodInfo, Record};
use crate::sweep::SECOND;

/// How much a cell has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Rows of the base.
    pub rows: usize,
    /// Queries.
    pub queries: usize,
    /// Rows that methods learn from.
    pub train: usize,
    /// Dimensions of a row; none where they are those of all records.
    pub dim: Option<usize>,
    /// What a code takes, where that is known.
    pub bits_per_dim: Option<f64>,
}

/// What tells what a cell will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Records of its method.
    Records,
    /// A probe of its method.
    Probe,
}

impl Source {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Probe => "probe",
        }
    }
}

/// What a cell will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Seconds.
    pub seconds: f64,
    /// Bytes of memory of one of its processes, at least.
    pub memory: Option<f64>,
    /// What tells so.
    pub by: Source,
}

/// What cells cost, from those that ran.
#[derive(Debug)]
pub struct Costs {
    /// Seconds of timing that every cell takes, however few its rows.
    constant: f64,
    of_coder: BTreeMap<String, Vec<Cost>>,
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
    dim: f64,
    bits_per_dim: Option<f64>,
    /// Most memory of a process of it, bytes; 0 where that is not known.
    peak: f64,
}

/// What codes: the id of a method, and that of the method of a second code.
pub fn coder<'a>(methods: impl Iterator<Item = &'a MethodInfo>) -> String {
    methods.map(|method| method.id.as_str()).collect::<Vec<_>>().join(" + ")
}

/// The same of a record.
pub fn coder_of(record: &Record) -> String {
    let second = record.params.get(SECOND).and_then(|second| second.get("use")?.as_str());
    let ids: Vec<&str> = [Some(record.method.id.as_str()), second].into_iter().flatten().collect();
    ids.join(" + ")
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
            dim: record.dataset.dim as f64,
            bits_per_dim: record.value("bits_per_dim"),
            peak: record.value("peak_rss_bytes").unwrap_or(0.0),
        }
    }

    /// How far what this is of is from `work`, of which every row costs as much: in dimensions and in bits,
    /// as ratios.
    fn distance(&self, work: &Work) -> f64 {
        let of = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) if a > 0.0 && b > 0.0 => (a / b).ln().abs(),
            _ => 0.0,
        };
        let dim = work.dim.map(|dim| dim as f64);
        of(dim, Some(self.dim)) + of(work.bits_per_dim, self.bits_per_dim)
    }

    fn size(&self) -> (f64, f64, f64) {
        (self.rows, self.train, self.rest + self.fit)
    }

    /// Most memory that a process will have at least: what this had, and the rows that it learns from
    /// more, which it is given whole.
    fn memory(&self, work: &Work) -> Option<f64> {
        let taught = |rows: f64, dim: f64| 4.0 * rows * dim;
        let dim = work.dim.map_or(self.dim, |dim| dim as f64);
        let more = taught(work.train as f64, dim) - taught(self.train, self.dim);
        (self.peak > 0.0).then(|| (self.peak + more).max(0.0))
    }

    fn seconds(&self, work: &Work, constant: f64) -> f64 {
        let (rows, queries) = (work.rows as f64, work.queries as f64);
        let wider = work.dim.map_or(1.0, |dim| dim as f64 / self.dim.max(1.0));
        let variable = (self.rest - constant).max(0.0) * wider;
        let grown = variable * rows / self.rows * (0.3 + 0.7 * queries / self.queries);
        let fit = self.fit * wider * work.train as f64 / self.train.max(1.0);
        self.overhead + constant + grown + fit
    }
}

impl Costs {
    /// From any records.
    pub fn of(records: &[Record]) -> Self {
        let mut of_coder: BTreeMap<String, Vec<Cost>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.outcome.is_ok()) {
            of_coder.entry(coder_of(record)).or_default().push(Cost::of(record));
        }
        // The quickest of all does next to nothing but what every cell does.
        let constant = of_coder.values().flatten().map(|cost| cost.rest).reduce(f64::min);
        Costs { constant: 0.8 * constant.unwrap_or(0.0), of_coder }
    }

    /// Whether no cell ran.
    pub fn is_empty(&self) -> bool {
        self.of_coder.is_empty()
    }

    /// Whether a cell of `coder` ran.
    pub fn knows(&self, coder: &str) -> bool {
        self.of_coder.contains_key(coder)
    }

    /// Of the cells that ran, those most like `work`, the one that learned from the most rows.
    fn nearest<'a>(costs: &'a [Cost], work: &Work) -> Option<&'a Cost> {
        costs.iter().min_by(|a, b| {
            let (near, far) = (a.distance(work), b.distance(work));
            let larger = b.size().partial_cmp(&a.size());
            near.total_cmp(&far).then(larger.unwrap_or(std::cmp::Ordering::Equal))
        })
    }

    /// Bytes of memory that a process of a cell of `coder` will take at least, where that is known.
    pub fn memory(&self, coder: &str, work: &Work) -> Option<f64> {
        Self::nearest(self.of_coder.get(coder)?, work)?.memory(work)
    }

    /// Seconds that a cell of `coder` is expected to take; of one that never ran, the median
    /// of the others.
    pub fn expected(&self, coder: &str, work: &Work) -> f64 {
        let of = |costs: &Vec<Cost>| {
            Self::nearest(costs, work).map_or(0.0, |cost| cost.seconds(work, self.constant))
        };
        match self.of_coder.get(coder) {
            Some(costs) => of(costs),
            None => {
                let mut others: Vec<f64> = self.of_coder.values().map(of).collect();
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

    fn work(rows: usize, queries: usize, train: usize) -> Work {
        Work { rows, queries, train, dim: None, bits_per_dim: None }
    }

    fn record(method: &str, wall_s: f64, fit: f64) -> Record {
        let mut record = sample(method, "x", &[("overhead_s", 0.5), ("fit_s", fit)]);
        (record.wall_s, record.dataset.train_rows) = (wall_s, Some(1000));
        record
    }

    #[test]
    fn a_fit_grows_with_training_rows_and_the_rest_with_base_and_queries() {
        // 10,000 rows and 500 queries; `a` has 1 s of 2 that no cell is without.
        let costs = Costs::of(&[record("a", 1.75, 0.0), record("b", 5.5, 2.0)]);
        let expected = |rows, queries, train| costs.expected("b", &work(rows, queries, train));
        assert!((expected(10_000, 500, 1000) - 5.5).abs() < 1e-9);
        assert!((expected(10_000, 500, 3000) - 9.5).abs() < 1e-9);
        assert!((expected(20_000, 500, 1000) - 7.5).abs() < 1e-9);
        let fewer = expected(10_000, 250, 1000);
        assert!(fewer < 5.5 && fewer > 4.5, "{fewer}");
        assert!(costs.knows("b") && !costs.knows("c"));
        let other = costs.expected("c", &work(10_000, 500, 1000));
        assert!((other - 5.5).abs() < 1e-9, "the median of the others");
    }
}
