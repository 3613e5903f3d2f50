//! What a cell costs, from the records of others.
//!
//! A cell's seconds are what every cell takes, the fit, which grows with the rows it learns from,
//! and the rest, which grows with the rows of the base and mostly with the queries.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::record::{MethodInfo, Record};
use crate::sweep::SECOND;
use crate::worker::supervise::PROGRAM_PAGES;

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

/// The same of a cell among others that have other rows and rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// How many rows.
    pub work: Work,
    /// Dimensions of a row.
    pub dim: usize,
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
    /// Bytes of memory that a limit counts of one of its processes, at least.
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
    /// Most memory of a process of it that a limit counts, bytes, where that is known.
    peak: Option<f64>,
}

/// What codes: the id of a method, and that of the method of a second code.
pub fn coder<'a>(methods: impl Iterator<Item = &'a MethodInfo>) -> String {
    Vec::from_iter(methods.map(|method| method.id.as_str())).join(" + ")
}

/// The same of a record.
pub fn coder_of(record: &Record) -> String {
    let second = record.params.get(SECOND).and_then(|second| second.get("use")?.as_str());
    Vec::from_iter([record.method.id.as_str()].into_iter().chain(second)).join(" + ")
}

/// What is timed is a block of about so many values (see `data::block_rows`), several times, which takes
/// about as long as the walk over as many: of the default sweep's cells and of 60,000 × 128, among 0.5, 1,
/// 1.5 and 2 millions this was the nearest.
const TIMED_VALUES: f64 = (1 << 20) as f64;
/// How the time to fit grows with the rows that are learned from: some methods need all of them at every
/// step, others take a part or are as long at work on their dimensions.
const FIT_BY_ROWS: f64 = 0.7;
/// How it grows with the dimensions: k-means is linear in them, rotations are quadratic.
const FIT_BY_DIM: f64 = 1.5;
/// How everything grows with the bits of a code, of which some steps know nothing.
const BY_BITS: f64 = 0.5;

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
            peak: record.value("peak_rss_bytes").map(|peak| (peak - PROGRAM_PAGES as f64).max(0.0)),
        }
    }

    /// How far apart dimensions and rates of this and of `job` are.
    fn distance(&self, job: &Job) -> f64 {
        let dim = ratio(Some(job.dim as f64), Some(self.dim));
        dim.ln().abs() + ratio(job.bits_per_dim, self.bits_per_dim).ln().abs()
    }

    fn by_size(&self, other: &Self) -> Ordering {
        let of = |cost: &Cost| (cost.rows, cost.train, cost.rest + cost.fit);
        of(self).partial_cmp(&of(other)).unwrap_or(Ordering::Equal)
    }

    /// Bytes of the rows that the one process learns from are known to be more or fewer.
    fn memory(&self, job: &Job) -> Option<f64> {
        let taught = |rows: f64, dim: f64| 4.0 * rows * dim;
        let needed = taught(job.work.train as f64, job.dim as f64);
        Some((self.peak? + needed - taught(self.train, self.dim)).max(needed))
    }

    /// Seconds that grow with every row: what a budget is kept by.
    fn at_most(&self, work: &Work, constant: f64) -> f64 {
        let (rows, queries) = (work.rows as f64, work.queries as f64);
        let variable = (self.rest - constant).max(0.0);
        let grown = variable * rows / self.rows * (0.3 + 0.7 * queries / self.queries);
        let fit = self.fit * work.train as f64 / self.train.max(1.0);
        self.overhead + constant + grown + fit
    }

    /// Seconds as far as they were seen to grow, with rows, dimensions and bits.
    fn likely(&self, Job { work, dim, bits_per_dim }: &Job) -> f64 {
        let queries = work.queries as f64 / self.queries.max(1.0);
        let longer = ratio(*bits_per_dim, self.bits_per_dim).powf(BY_BITS);
        let timed = self.rest / (1.0 + self.rows * self.dim / TIMED_VALUES);
        let walked = timed * (work.rows * dim) as f64 / TIMED_VALUES;
        let taught = (work.train as f64 / self.train.max(1.0)).powf(FIT_BY_ROWS);
        let wider = ratio(Some(*dim as f64), Some(self.dim)).powf(FIT_BY_DIM);
        let fit = self.fit * taught * wider * longer;
        self.overhead + timed + walked * (0.3 + 0.7 * queries) * longer + fit
    }
}

/// 1 where one of them is not known.
fn ratio(a: Option<f64>, b: Option<f64>) -> f64 {
    match (a, b) {
        (Some(a), Some(b)) if a > 0.0 && b > 0.0 => a / b,
        _ => 1.0,
    }
}

/// The middle one, the upper of two.
fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}

impl Costs {
    /// From any records.
    pub fn of(records: &[Record]) -> Self {
        let mut of_coder: BTreeMap<String, Vec<Cost>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.outcome.is_ok()) {
            of_coder.entry(coder_of(record)).or_default().push(Cost::of(record));
        }
        // The quickest of all does next to nothing but what every cell does.
        let constant = of_coder.values().filter_map(|costs| largest(costs)).map(|cost| cost.rest);
        let constant = 0.8 * constant.reduce(f64::min).unwrap_or(0.0);
        Costs { constant, of_coder }
    }

    /// Whether a cell of `coder` ran.
    pub fn knows(&self, coder: &str) -> bool {
        self.of_coder.contains_key(coder)
    }

    /// Seconds that a cell of `method` is expected to take, from the record that learned from the most rows;
    /// of one that never ran, the median of the others. All are of the same dimensions.
    pub fn expected(&self, method: &str, work: &Work) -> f64 {
        let of = |costs: &Vec<Cost>| Some(largest(costs)?.at_most(work, self.constant));
        let known = self.of_coder.get(method).and_then(of);
        let others = || median(self.of_coder.values().filter_map(of).collect());
        known.or_else(others).unwrap_or(1.0)
    }

    /// Seconds that a cell of `coder` is likely to take, from the record of the most like dimensions and
    /// rate; none where there is no record.
    pub fn likely(&self, coder: &str, job: &Job) -> Option<f64> {
        Some(nearest(self.of_coder.get(coder)?, job)?.likely(job))
    }

    /// The median of that over all coders.
    pub fn likely_of_any(&self, job: &Job) -> Option<f64> {
        let of = |costs: &Vec<Cost>| Some(nearest(costs, job)?.likely(job));
        median(self.of_coder.values().filter_map(of).collect())
    }

    /// Bytes of memory, as a limit counts it, that a process of a cell of `coder` will take at least, where
    /// that is known.
    pub fn memory(&self, coder: &str, job: &Job) -> Option<f64> {
        nearest(self.of_coder.get(coder)?, job)?.memory(job)
    }
}

fn largest(costs: &[Cost]) -> Option<&Cost> {
    // Of equal ones the first.
    costs.iter().rev().max_by(|a, b| a.by_size(b))
}

fn nearest<'a>(costs: &'a [Cost], job: &Job) -> Option<&'a Cost> {
    costs
        .iter()
        .min_by(|a, b| a.distance(job).total_cmp(&b.distance(job)).then_with(|| b.by_size(a)))
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

    #[test]
    fn what_is_most_like_a_cell_tells_of_it_and_the_rest_is_scaled() {
        let of = |dim: u64, bits: f64, wall_s: f64, fit: f64| {
            let metrics = [
                ("overhead_s", 0.5),
                ("fit_s", fit),
                ("bits_per_dim", bits),
                ("peak_rss_bytes", 50e6),
            ];
            let mut record = sample("b", &format!("{dim} {bits}"), &metrics);
            (record.wall_s, record.dataset.train_rows) = (wall_s, Some(1000));
            record.dataset.dim = dim;
            record
        };
        let costs =
            Costs::of(&[of(100, 2.0, 1.5, 0.0), of(100, 8.0, 2.5, 0.0), of(400, 8.0, 8.5, 4.0)]);
        let job = |rows, dim, bits, train| Job {
            work: Work { rows, queries: 500, train },
            dim,
            bits_per_dim: Some(bits),
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, not {b}");
        let likely = |job| costs.likely("b", &job).unwrap();
        // What was measured is told as it was, by the nearest record.
        near(likely(job(10_000, 100, 2.0, 1000)), 1.5);
        near(likely(job(10_000, 100, 8.0, 1000)), 2.5);
        near(likely(job(10_000, 400, 8.0, 1000)), 8.5);
        // More rows, dimensions and bits take longer, a fit of other rows does not take all the longer.
        let (timed, blocks) = (4.0 / (1.0 + 4e6 / TIMED_VALUES), 4e6 / TIMED_VALUES);
        near(likely(job(20_000, 400, 8.0, 1000)), 0.5 + timed * (1.0 + 2.0 * blocks) + 4.0);
        let shorter = 0.5_f64.sqrt();
        let half = likely(job(10_000, 400, 4.0, 1000));
        near(half, 0.5 + timed * (1.0 + shorter * blocks) + shorter * 4.0);
        near(likely(job(10_000, 1600, 8.0, 1000)), 0.5 + timed * (1.0 + 4.0 * blocks) + 8.0 * 4.0);
        let taught = likely(job(10_000, 400, 8.0, 10_000)) - 8.5;
        assert!(taught > 4.0 && taught < 36.0, "{taught}");
        // Of memory only the rows that it learns from are known to be more.
        let memory = |train| costs.memory("b", &job(10_000, 100, 2.0, train)).unwrap();
        let counted = 50e6 - PROGRAM_PAGES as f64;
        near(memory(1000), counted);
        near(memory(101_000), counted + 40e6);
        let job = job(10_000, 100, 2.0, 1000);
        assert_eq!((costs.likely("c", &job), costs.memory("c", &job)), (None, None));
        near(costs.likely_of_any(&job).unwrap(), 1.5);
    }

    #[test]
    fn a_second_code_is_another_coder() {
        let mut record = record("a", 1.0, 0.0);
        record.params = serde_json::json!({ "second": { "use": "b" } });
        let costs = Costs::of(&[record]);
        assert!(costs.knows("a + b") && !costs.knows("a"));
    }
}
