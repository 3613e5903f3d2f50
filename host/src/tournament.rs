//! The tournament: every method found at a few rates, on one's own vectors, within a budget of time.
//!
//! ```text
//! probe    each method once, on the first rows: what a cell of it costs
//! field    the whole base: method by method and rate by rate, what may still be the answer first
//! finals   the best few: with three seeds, and among fewer rows
//! ```
//!
//! The budget is kept by sampling what is less than the truth costs nothing of: training rows, then
//! queries, then configurations. The base is thinned last, because among fewer rows every recall is
//! better than it will be. All choices follow from the records of the steps before and from nothing
//! else, so a tournament that was interrupted goes on as it would have gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cost::{Cost, Costs, Work};
use crate::data::{is_source, may_have_queries};
use crate::plan::Cell;
use crate::plugin::config_json;
use crate::record::{Record, canonical_json};
use crate::sweep::{data_name, method_table, toml_string};

/// Of every configuration the first; of the finalists all.
pub const SEEDS: [u64; 3] = [42, 43, 44];
/// The k that is asked about.
pub const K: u32 = 10;
/// Candidates that are ranked again, as a multiple of k.
pub const RERANK: u32 = 4;

/// The true rates at which methods are tried where nobody says others.
pub const BITS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// Rows of the source that the probe takes.
const PROBED: usize = 5000;
/// Queries, and the fewest where the budget does not do.
const QUERIES: [usize; 2] = [500, 250];
/// Methods learn from as many rows at least.
const LEAST_TRAINED: usize = 2000;
/// The base is not thinned below this.
const LEAST_BASE: usize = 5000;
/// The share of the budget that cells may take: preparing data and starting take the rest.
const FOR_CELLS: f64 = 0.85;
/// The share of that which the field may take; the finals take the rest.
const FOR_FIELD: f64 = 0.6;
/// Rates of a method that are measured until it is decided, more or less.
const RATES_EACH: f64 = 2.5;
/// The share of the methods, the cheapest first, for which there is to be time.
const MOST: f64 = 0.75;
/// The base is thinned where there is no time for one rate of this share of the methods.
const FEW: f64 = 0.5;
/// A method of which one cell takes more than this share of the field is left to the end, and given up
/// where it takes more than this share of all.
const DEAR: f64 = 0.15;
/// A recall that misses what is asked by more than this will not reach it with another seed.
const CLEAR: f64 = 0.02;
/// At most so many finalists.
const FINALISTS: usize = 6;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The file of vectors.
    pub data: PathBuf,
    /// A file of queries; some rows are held out if `None`.
    pub queries: Option<PathBuf>,
    /// `l2`, `ip` or `cosine`, as it was typed.
    pub metric: Option<String>,
    /// Only the first rows of the file.
    pub limit: Option<usize>,
    /// True rates, ascending.
    pub bits: Vec<f64>,
    /// Time for everything.
    pub budget: Duration,
    /// The recall@10 that is asked for.
    pub recall: f64,
}

/// How much of the data the field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of the source, and of its base.
    pub rows: usize,
    /// Rows of the base, before it is thinned.
    pub base: usize,
    /// Rows of it that are measured, where it is thinned.
    pub thinned: Option<usize>,
    /// Rows that methods learn from, of those that are kept apart.
    pub train: usize,
    /// Queries that are held out.
    pub queries: usize,
}

impl Size {
    /// Rows that are measured.
    pub fn measured(&self) -> usize {
        self.thinned.unwrap_or(self.base)
    }

    /// A cell's share of it.
    fn work(&self) -> Work {
        // A file too small to keep rows apart teaches by its base.
        let train = if self.train == 0 { self.base } else { self.train };
        Work { rows: self.measured(), queries: self.queries, train }
    }

    /// All of a source of `rows` with `queries` held out, as [`crate::data::Headers`] divides it.
    pub fn all(rows: usize, held_out: usize) -> Self {
        let (base, reserved) = crate::data::divided(rows, held_out);
        Size { rows, base, thinned: None, train: reserved, queries: held_out }
    }
}

/// A method at a rate.
pub type Entrant = (String, String);

/// What stands for a cell among records and plans: its method and parameters.
fn entrant(method: &str, params: &serde_json::Value) -> Entrant {
    (method.to_owned(), canonical_json(params))
}

impl Asked {
    /// What data sets are called: the file's stem.
    pub fn name(&self) -> String {
        data_name(&self.data)
    }

    /// The name of the data that the probe takes.
    fn probe_name(&self) -> String {
        format!("{} probe", self.name())
    }

    /// Seconds that cells may take.
    fn for_cells(&self) -> f64 {
        FOR_CELLS * self.budget.as_secs_f64()
    }

    /// The rate at which methods are tried first: the second largest, from which it is not far to
    /// any other.
    fn first_rate(&self) -> f64 {
        self.bits[self.bits.len().saturating_sub(2)]
    }

    fn head(&self, rates: &[f64], seeds: &[u64], timeout: f64) -> String {
        let mut text = String::from("[sweep]\nname = \"command-line\"\n");
        let _ = writeln!(text, "seeds = {seeds:?}");
        if let Some(metric) = &self.metric {
            let _ = writeln!(text, "metric = {}", toml_string(metric));
        }
        if !rates.is_empty() {
            let _ = writeln!(text, "bits_per_dim = {rates:?}");
        }
        if timeout > 0.0 {
            let _ = writeln!(text, "\n[run]\ntimeout = \"{}s\"", timeout.ceil());
        }
        // Less than usual, and the same in every step: records of one serve the next.
        let _ = writeln!(
            text,
            "\n[evaluate]\nk = [1, {K}]\npairs = 1000\nrerank = [1, {RERANK}]\nrepeats = 1"
        );
        text
    }

    fn dataset(&self, name: &str, queries: usize, rest: &str) -> String {
        let mut text = format!("\n[[dataset]]\nname = {}\n", toml_string(name));
        let _ = writeln!(text, "base = {}", toml_string(&self.data.to_string_lossy()));
        let _ = match &self.queries {
            Some(path) => writeln!(text, "queries = {}", toml_string(&path.to_string_lossy())),
            // Its own, where it has some.
            None if may_have_queries(&self.data) => Ok(()),
            None => writeln!(text, "queries = {{ hold_out = {queries} }}"),
        };
        text + rest
    }

    fn limit(&self) -> String {
        self.limit.map(|rows| format!("limit = {rows}\n")).unwrap_or_default()
    }

    /// The sweep of the probe. Of a small file it takes all, and is a part of the field.
    pub fn probe(&self, rows: usize) -> String {
        let head = self.head(&[self.first_rate()], &SEEDS[..1], 0.05 * self.for_cells());
        let dataset = match rows > PROBED {
            true => self.dataset(&self.probe_name(), QUERIES[0], &format!("limit = {PROBED}\n")),
            false => self.dataset(&self.name(), QUERIES[0], &self.limit()),
        };
        format!("{head}{dataset}\n[[method]]\nuse = \"*\"\n")
    }

    /// The sweep of the field, of which only some cells will run.
    pub fn field(&self, size: &Size) -> String {
        let head = self.head(&self.bits, &SEEDS[..1], DEAR * self.for_cells());
        let sizes = size.thinned.map(|rows| format!("sizes = [{rows}]\n")).unwrap_or_default();
        let dataset = self.dataset(&self.name(), size.queries, &self.rest(size, &sizes));
        format!("{head}{dataset}\n[[method]]\nuse = \"*\"\n")
    }

    fn rest(&self, size: &Size, sizes: &str) -> String {
        let mut rest = self.limit();
        // All that are kept apart need no number, and a file without any allows none.
        let held_out = if self.queries.is_some() { 0 } else { size.queries };
        if size.train < Size::all(size.rows, held_out).train {
            let _ = writeln!(rest, "train = {{ sample = {} }}", size.train);
        }
        rest + sizes
    }

    /// The finalists at the `sizes` and at the one of the field, with `seeds`; the sweep to go on
    /// with, where `timeout` is 0.
    pub fn finals(
        &self,
        size: &Size,
        finalists: &[&Record],
        sizes: &[usize],
        seeds: &[u64],
        timeout: f64,
    ) -> String {
        let mut all: Vec<String> = sizes.iter().map(usize::to_string).collect();
        match size.thinned {
            Some(rows) => all.push(rows.to_string()),
            None => all.push("\"all\"".to_owned()),
        }
        let sizes = format!("sizes = [{}]\n", all.join(", "));
        let head = self.head(&[], seeds, timeout);
        let dataset = self.dataset(&self.name(), size.queries, &self.rest(size, &sizes));
        let mut text = head + &dataset;
        for of in finalists {
            let _ = write!(text, "\n{}", method_table(&of.method.id, &of.params, ""));
        }
        text
    }

    /// The smaller sizes that finalists are measured at: a quarter and a sixteenth.
    pub fn sizes(size: &Size) -> Vec<usize> {
        let measured = size.measured();
        [measured / 16, measured / 4].into_iter().filter(|rows| *rows >= 500).collect()
    }
}

impl Asked {
    /// How much of the data the field takes: all, or as much as the budget lets it, with `costs`
    /// from a probe of `methods`.
    ///
    /// `given` is how many queries a file of them has.
    pub fn size(
        &self,
        rows: usize,
        given: Option<usize>,
        methods: &BTreeSet<&str>,
        costs: &Costs,
    ) -> Size {
        let budget = FOR_FIELD * self.for_cells();
        let rates = RATES_EACH.min(self.bits.len() as f64);
        // The dearest are left to the end, and decide nothing for the others.
        let takes = |size: &Size, share: f64| {
            let mut each: Vec<f64> =
                methods.iter().map(|id| costs.expected(id, &size.work())).collect();
            each.sort_by(f64::total_cmp);
            each.truncate((share * each.len() as f64).ceil() as usize);
            each.iter().sum::<f64>()
        };
        let fits = |size: &Size| rates * takes(size, MOST) <= budget;
        let all = |queries: usize| match given {
            Some(queries) => Size { queries, ..Size::all(rows, 0) },
            None => Size::all(rows, queries.min((rows / 10).max(1))),
        };
        let mut size = all(QUERIES[0]);
        while !fits(&size) && size.train > LEAST_TRAINED {
            size.train = (size.train / 2).max(LEAST_TRAINED);
        }
        if !fits(&size) && given.is_none() {
            let train = size.train;
            size = all(QUERIES[1]);
            size.train = size.train.min(train);
        }
        while takes(&size, FEW) > budget && size.measured() > LEAST_BASE {
            size.thinned = Some((size.measured() / 2).max(LEAST_BASE));
        }
        size
    }

    /// The cells of the field that are measured next: those that may still be the answer, the
    /// cheapest first, while they fit into what is left of the budget. Empty when all is decided or
    /// nothing more fits.
    pub fn next<'a>(
        &self,
        cells: &'a [Cell],
        size: &Size,
        probed: &[Record],
        records: &[Record],
        costs: &Costs,
    ) -> Vec<&'a Cell> {
        let total = FOR_FIELD * self.for_cells();
        let mut left = total - spent(probed, records);
        let measured: BTreeSet<Entrant> =
            records.iter().map(|of| entrant(&of.method.id, &of.params)).collect();
        let gave_up: BTreeSet<&str> = probed
            .iter()
            .chain(records)
            .filter(|record| !record.outcome.is_ok())
            .map(|record| record.method.id.as_str())
            .collect();
        let mut open: Vec<(usize, usize, f64, &Cell)> = cells
            .iter()
            .filter(|cell| {
                let id = cell.method.id.as_str();
                !measured.contains(&entrant(id, &config_json(&cell.config)))
                    && !gave_up.contains(id)
            })
            .map(|cell| {
                let cost = costs.expected(&cell.method.id, &size.work());
                let undecided = self.undecided(cell, records);
                (usize::from(cost <= DEAR * total), undecided, cost, cell)
            })
            .collect();
        open.sort_by(|a, b| {
            let key = |of: &(usize, usize, f64, &Cell)| (of.0.min(of.1), of.1);
            key(b)
                .cmp(&key(a))
                .then_with(|| self.distance(a.3, records).total_cmp(&self.distance(b.3, records)))
                .then_with(|| a.2.total_cmp(&b.2))
        });
        // A sixth at a time: what was measured corrects what is expected, and decides more.
        let mut wave = Vec::new();
        let mut room = left.min(total / 6.0);
        for (.., cost, cell) in open {
            if cost > left {
                continue;
            }
            if cost > room && !wave.is_empty() {
                break;
            }
            left -= cost;
            room -= cost;
            wave.push(cell);
        }
        wave
    }

    /// How far a cell's rate is from the nearest that its method was measured at, or from where methods
    /// are tried first: so that a cheap method goes on to its next rate before a dear one takes its first.
    fn distance(&self, cell: &Cell, records: &[Record]) -> f64 {
        let rate = cell.bits_per_dim.unwrap_or(self.first_rate());
        let known = records.iter().filter(|of| of.method.id == cell.method.id);
        let known = known.filter(|of| of.outcome.is_ok()).filter_map(|of| of.value("bits_per_dim"));
        let from = known.chain([self.first_rate()]);
        from.map(|from| (rate / from).ln().abs()).fold(f64::INFINITY, f64::min)
    }

    /// Of the two questions, with and without ranking again, how many this cell may answer better
    /// than what is known of its method at other rates.
    fn undecided(&self, cell: &Cell, records: &[Record]) -> usize {
        let rate = cell.bits_per_dim.unwrap_or(self.first_rate());
        let same = || {
            let of_method = records.iter().filter(|of| of.method.id == cell.method.id);
            of_method.filter(|of| of.outcome.is_ok())
        };
        [None, Some(RERANK)]
            .into_iter()
            .filter(|rerank| {
                let metric = metric(*rerank);
                let known =
                    same().filter_map(|of| Some((of.value("bits_per_dim")?, of.value(&metric)?)));
                !known.into_iter().any(|(bits, recall)| {
                    let hopeless = bits >= rate && recall < self.recall - CLEAR;
                    let needless = bits <= rate && recall >= self.recall + CLEAR;
                    hopeless || needless
                })
            })
            .count()
    }

    /// The finalists among `records` of the field, in the order in which they are measured.
    pub fn finalists<'a>(
        &self,
        size: &Size,
        probed: &[Record],
        records: &'a [Record],
    ) -> Vec<&'a Record> {
        let mut left = self.for_cells() - spent(probed, records);
        let smaller = Self::sizes(size);
        let mut wanted: Vec<&Record> = Vec::new();
        for rerank in [None, Some(RERANK)] {
            let metric = metric(rerank);
            let mut known: Vec<(f64, f64, &Record)> = records
                .iter()
                .filter(|of| of.outcome.is_ok() && of.proof.as_ref().is_none_or(|p| p.is_proven()))
                .filter_map(|of| Some((of.value("bits_per_dim")?, of.value(&metric)?, of)))
                .collect();
            known.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
            let reach = |of: &&(f64, f64, &Record)| of.1 >= self.recall;
            let mut order: Vec<&Record> = known.iter().filter(reach).map(|of| of.2).collect();
            // The first, then one of another method, then a larger one in reserve.
            if let Some(first) = order.first().copied() {
                let other = order.iter().position(|of| of.method.id != first.method.id);
                let other = other.map(|at| order.remove(at));
                order.truncate(2);
                order.splice(1..1, other);
            } else {
                known.sort_by(|a, b| b.1.total_cmp(&a.1));
                order = known.iter().take(2).map(|of| of.2).collect();
            }
            wanted.extend(order);
        }
        let mut finalists: Vec<&Record> = Vec::new();
        for record in wanted {
            if finalists.iter().any(|of| of.key == record.key) || finalists.len() == FINALISTS {
                continue;
            }
            let cost = Cost::of(record);
            let share: f64 = smaller.iter().map(|rows| *rows as f64 / size.measured() as f64).sum();
            let at_sizes = smaller.len() as f64 * (cost.overhead + cost.fit) + share * cost.rest;
            let seconds = (SEEDS.len() - 1) as f64 * record.wall_s + at_sizes;
            // Without any there is no answer.
            if seconds <= left || finalists.is_empty() {
                left -= seconds;
                finalists.push(record);
            }
        }
        finalists
    }
}

/// Seconds of all cells; what the probe measured may be a part of the field.
fn spent(probed: &[Record], records: &[Record]) -> f64 {
    let seconds: BTreeMap<&str, f64> =
        probed.iter().chain(records).map(|record| (record.key.as_str(), record.wall_s)).collect();
    seconds.values().sum()
}

/// The metric that answers a question.
fn metric(rerank: Option<u32>) -> String {
    match rerank {
        None => format!("recall@{K}"),
        Some(times) => format!("recall@{K}/rerank={times}"),
    }
}

/// The sweep with paths that are right from the folder of the file it is written to.
///
/// # Errors
/// What the system says of a path that cannot be found.
pub fn for_file(text: &str, data: &[&Path], file: &Path) -> std::io::Result<String> {
    let mut text = text.to_owned();
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.canonicalize()?,
        _ => std::env::current_dir()?,
    };
    for path in data {
        // The names that a pattern stands for are in its folder.
        let absolute =
            path.canonicalize().or_else(|error| match (path.parent(), path.file_name()) {
                (Some(folder), Some(pattern)) if is_source(path) => {
                    let folder =
                        if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                    Ok(folder.canonicalize()?.join(pattern))
                }
                _ => Err(error),
            })?;
        let place = absolute.strip_prefix(&folder).unwrap_or(&absolute);
        let (old, new) = (toml_string(&path.to_string_lossy()), place.to_string_lossy());
        text = text.replace(&format!(" = {old}\n"), &format!(" = {}\n", toml_string(&new)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use crate::record::tests::sample;
    use crate::sweep::{COMMAND_LINE, Sweep};
    use vq_plugin_api::Value;

    fn asked(seconds: u64) -> Asked {
        Asked {
            data: "vectors.fbin".into(),
            queries: None,
            metric: None,
            limit: None,
            bits: BITS.to_vec(),
            budget: Duration::from_secs(seconds),
            recall: 0.95,
        }
    }

    /// A record of 2,250 rows that took two seconds: `fit` of them to fit, and half of one outside.
    fn record(method: &str, bits: f64, recall: f64, fit: f64) -> Record {
        let metrics = [
            ("bits_per_dim", bits),
            ("recall@10", recall),
            ("recall@10/rerank=4", (recall + 0.1).min(1.0)),
            ("overhead_s", 0.5),
            ("fit_s", fit),
        ];
        let mut record = sample(method, &format!("bits={bits}"), &metrics);
        record.params = serde_json::json!({ "bits": bits as i64 });
        record.key = format!("{method} {bits}");
        record.dataset.n = 2250;
        record.dataset.train_rows = Some(2250);
        record.wall_s = 2.0;
        record
    }

    fn cells(methods: &[&str]) -> Vec<Cell> {
        let cell = |method: &str, bits: f64| {
            let record = record(method, bits, 0.0, 0.0);
            Cell {
                key: record.key,
                dataset: 0,
                dataset_name: "vectors".to_owned(),
                method: record.method,
                python: None,
                config: [("bits".to_owned(), Value::Int(bits as i64))].into(),
                label: record.label,
                seed: 42,
                code_bytes: None,
                bits_per_dim: Some(bits),
                transform: crate::transform::Chain::default(),
                second: None,
            }
        };
        methods.iter().flat_map(|method| BITS.map(|bits| cell(method, bits))).collect()
    }

    #[test]
    fn the_budget_is_kept_by_training_rows_then_queries_and_by_the_base_last() {
        let methods = BTreeSet::from(["a", "b"]);
        // One second of two for fitting, half of one that grows with the rows.
        let costs = Costs::of(&[record("a", 4.0, 0.9, 1.0), record("b", 4.0, 0.9, 1.0)]);
        let size = |seconds| asked(seconds).size(50_000, None, &methods, &costs);
        let all = size(10_000);
        assert_eq!((all.base, all.train, all.queries, all.thinned), (24_750, 24_750, 500, None));
        let (some, little, less, least) = (size(100), size(30), size(20), size(4));
        assert!(some.train < all.train && some.train >= 2000);
        assert_eq!((some.thinned, some.queries), (None, 500));
        assert_eq!((little.train, little.thinned), (2000, None));
        assert_eq!((less.queries, less.thinned), (250, None), "fewer configurations, all rows");
        assert!(least.queries == 250 && least.thinned.is_some_and(|rows| rows < 24_875));
        // Queries of a file are what they are.
        let given = asked(20).size(50_000, Some(800), &methods, &costs);
        assert_eq!((given.queries, given.base), (800, 25_000));
    }

    #[test]
    fn what_may_still_be_the_answer_is_measured_first() {
        let (asked, cells) = (asked(600), cells(&["a", "b"]));
        let probe = [record("a", 4.0, 0.9, 0.1), record("b", 4.0, 0.9, 0.2)];
        let costs = Costs::of(&probe);
        let size = Size::all(6000, 500);
        let keys = |records: &[Record]| -> Vec<String> {
            let next = asked.next(&cells, &size, &[], records, &costs);
            next.into_iter().map(|cell| cell.key.clone()).collect()
        };
        assert_eq!(keys(&[])[..2], ["a 4", "b 4"], "near the probe's rate, the cheapest first");
        // `a` reaches it with and without ranking again: a larger one need not be measured soon.
        // `b` reaches neither: a smaller one cannot.
        let known = [record("a", 4.0, 0.99, 0.1), record("b", 4.0, 0.5, 0.2)];
        let next = keys(&known);
        let at = |key: &str| next.iter().position(|of| of == key);
        assert_eq!(next.len(), 6, "there is time for all");
        assert!(at("a 2") < at("a 8") && at("b 8") < at("b 2") && at("a 1") < at("b 1"));
        // `a` goes on to its smallest rate before `b`, which is dearer, goes to its second.
        let known =
            [record("a", 4.0, 0.9, 0.1), record("a", 2.0, 0.9, 0.1), record("b", 4.0, 0.9, 0.2)];
        let next = keys(&known);
        let at = |key: &str| next.iter().position(|of| of == key);
        assert!(at("a 1").is_some() && at("a 1") < at("b 2"), "{next:?}");
        // What failed is given up.
        let mut failed = record("b", 4.0, 0.5, 0.2);
        failed.outcome = Outcome::Timeout;
        let next = keys(&[failed]);
        assert!(next.iter().all(|key| key.starts_with('a')), "{next:?}");
    }

    #[test]
    fn nothing_is_begun_that_the_budget_does_not_hold() {
        let (asked, cells) = (asked(9), cells(&["a"]));
        let known = [record("a", 4.0, 0.9, 0.1)];
        let next = asked.next(&cells, &Size::all(6000, 500), &[], &known, &Costs::of(&known));
        assert_eq!(next.len(), 1, "0.6 · 0.85 · 9 s less 2 s leaves room for one of 2 s");
        let next = asked.next(&cells, &Size::all(6000, 500), &known, &known, &Costs::of(&known));
        assert_eq!(next.len(), 1, "a probe that is a part of the field counts once");
    }

    #[test]
    fn finalists_are_the_smallest_another_method_and_one_in_reserve() {
        let mut unproven = record("z", 1.0, 0.99, 0.1);
        unproven.proof = Some(crate::record::Proof::Unproven { reason: "why".to_owned() });
        let records = [
            unproven,
            record("a", 2.0, 0.80, 0.1),
            record("a", 4.0, 0.96, 0.1),
            record("b", 4.0, 0.94, 0.1),
            record("a", 8.0, 0.99, 0.1),
            record("b", 8.0, 0.99, 0.1),
            record("c", 8.0, 0.99, 0.1),
        ];
        let size = Size::all(20_000, 500);
        let names = |seconds| -> Vec<String> {
            let finalists = asked(seconds).finalists(&size, &[], &records);
            finalists.into_iter().map(|of| of.key.clone()).collect()
        };
        assert_eq!(names(600), ["a 4", "b 8", "a 8", "b 4"]);
        assert_eq!(names(1), ["a 4"], "without any there is no answer");
    }

    #[test]
    fn every_step_is_a_sweep_that_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("vectors.fbin");
        std::fs::write(&data, [0; 8]).unwrap();
        let asked = Asked { data: data.clone(), metric: Some("cosine".to_owned()), ..asked(120) };
        let read = |text: &str| Sweep::parse(COMMAND_LINE, text, Path::new("")).unwrap();
        assert_eq!(read(&asked.probe(50_000)).datasets[0].spec.limit, Some(5000));
        assert_eq!(read(&asked.probe(5000)).datasets[0].spec.name, "vectors");
        let mut size = Size::all(50_000, 500);
        assert_eq!(read(&asked.field(&size)).bits_per_dim.len(), 4);
        (size.train, size.thinned) = (4000, Some(6000));
        let finalist = record("a", 4.0, 0.96, 0.1);
        let text = asked.finals(&size, &[&finalist], &Asked::sizes(&size), &SEEDS, 0.0);
        let names = |sweep: Sweep| -> Vec<String> {
            sweep.datasets.into_iter().map(|of| of.spec.name).collect()
        };
        assert_eq!(names(read(&text)), ["vectors@1500", "vectors@6000"]);
        // From the file that it is written to, wherever it is read.
        let file = folder.path().join("next.toml");
        let text = for_file(&text, &[&data], &file).unwrap();
        assert!(text.contains("base = \"vectors.fbin\"\n"), "{text}");
        assert_eq!(names(Sweep::parse("next.toml", &text, folder.path()).unwrap()).len(), 2);
    }
}
