//! The difference between two measurements of the same cells: what got worse, and by how much.
//!
//! Cells are matched by data, metric, method, parameters and evaluation settings, whatever their
//! seed and whichever build of the plugin. Only seeds that both have are compared, and where
//! recalls were kept, query by query. `docs/methodology.md` says when a difference counts.

mod judge;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::judge::Verdict;
use self::judge::{Judged, judge};
pub use self::write::write_comparison;
use super::known;
use crate::record::{Outcome, Record, RunInfo, canonical_json, natural_key};

/// What is compared, and when a difference counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Share of the first value by which the second has to be worse, or better.
    pub tolerance: f64,
    /// Metrics to compare; none: every recall of the method at its best, the relative error and
    /// the bits per dimension.
    pub metrics: Vec<String>,
    /// Also compare speeds, and the time to fit.
    pub timings: bool,
}

/// What two measurements of the same cells have to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// One for each method with matched cells, by name.
    pub methods: Vec<MethodDifference>,
    /// Every difference that counts, and every one that is too large and cannot be tested; the
    /// worst first.
    pub changes: Vec<Change>,
    /// Matched cells that ended well in one and not in the other.
    pub outcomes: Vec<OutcomeChange>,
    /// Differences that were tested, for which p-values are corrected.
    pub tests: usize,
    /// Configurations without a partner in the second.
    pub only_in_first: usize,
    /// Configurations without a partner in the first.
    pub only_in_second: usize,
    /// Seeds of matched configurations that only one of the two has.
    pub unshared_seeds: usize,
    /// Matched cells whose times cannot be compared: other threads, or something ran beside.
    pub unequal_conditions: usize,
}

/// What became of a method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MethodDifference {
    /// Its id.
    pub method: String,
    /// Matched configurations.
    pub configurations: usize,
    /// Numbers that were compared.
    pub compared: usize,
    /// Those that got worse.
    pub worse: usize,
    /// Those that got better.
    pub better: usize,
    /// Those that differ by more than the tolerance and cannot be tested.
    pub unclear: usize,
    /// Cells that ended well and no longer do.
    pub failed: usize,
    /// Cells that did not end well and now do.
    pub recovered: usize,
}

/// A number that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Name of the data set.
    pub dataset: String,
    /// `l2`, `ip` or `cosine`.
    pub metric: String,
    /// Id of the method.
    pub method: String,
    /// Its configuration.
    pub label: String,
    /// The number's name.
    pub name: String,
    /// The mean over the shared seeds in the first.
    pub before: f64,
    /// The same in the second.
    pub after: f64,
    /// The difference as a share of the first; none where that is 0.
    pub relative: Option<f64>,
    /// Whether it is worse.
    pub verdict: Verdict,
    /// How likely a difference like this is by chance, corrected for all tests by Holm's method;
    /// none where nothing is left to chance or nothing is known of it.
    pub p: Option<f64>,
    /// Keys of the records in the first, one for each shared seed.
    pub keys_before: Vec<String>,
    /// Keys of the records in the second.
    pub keys_after: Vec<String>,
}

/// A cell that ended otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeChange {
    /// Name of the data set.
    pub dataset: String,
    /// Id of the method.
    pub method: String,
    /// Its configuration.
    pub label: String,
    /// The seed.
    pub seed: u64,
    /// How it ended in the first.
    pub before: Outcome,
    /// How it ended in the second.
    pub after: Outcome,
    /// Why, where it did not end well.
    pub cause: Option<String>,
    /// The record's key in the first.
    pub key_before: String,
    /// And in the second.
    pub key_after: String,
}

impl OutcomeChange {
    /// Whether it ended well and no longer does.
    pub fn is_worse(&self) -> bool {
        self.before.is_ok()
    }
}

impl Comparison {
    /// Whether no number and no outcome of one is beside one of the other.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.methods.iter().all(|method| method.compared == 0)
    }

    /// Whether anything got worse.
    pub fn is_worse(&self) -> bool {
        self.methods.iter().any(|method| method.worse > 0 || method.failed > 0)
    }
}

/// Why timings cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The cells ran on machines that differ.
    #[error("the records are of different machines: {first}; {second}")]
    Different {
        /// One machine.
        first: String,
        /// Another.
        second: String,
    },
    /// A run's description is missing.
    #[error("it is not known on which machine run {run_id} was")]
    Unknown {
        /// The run.
        run_id: String,
    },
}

/// Refuses records whose times say nothing about each other: `runs` describes the machine of each.
///
/// # Errors
/// [`MachineError`].
pub fn one_machine<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    runs: &[RunInfo],
) -> Result<(), MachineError> {
    let mut first: Option<String> = None;
    let ids: BTreeSet<&str> = records.into_iter().map(|record| record.run_id.as_str()).collect();
    for id in ids {
        let run = runs.iter().find(|run| run.run_id == id);
        let machine = run
            .map(RunInfo::machine)
            .ok_or_else(|| MachineError::Unknown { run_id: id.to_owned() })?;
        match &first {
            Some(first) if *first != machine => {
                return Err(MachineError::Different { first: first.clone(), second: machine });
            }
            _ => first = Some(machine),
        }
    }
    Ok(())
}

/// What two records have to share to be measurements of one thing.
type Identity<'a> = (&'a str, &'a str, &'a str, String, String);

/// Records of one configuration by their seed; of several builds of a plugin, the newest.
type Seeds<'a> = BTreeMap<u64, &'a Record>;

fn configurations(records: &[Record]) -> BTreeMap<Identity<'_>, Seeds<'_>> {
    let mut all: BTreeMap<Identity<'_>, Seeds<'_>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.outcome != Outcome::Cancelled) {
        let identity = (
            record.dataset.digest.as_str(),
            record.metric.as_str(),
            record.method.id.as_str(),
            canonical_json(&record.params),
            canonical_json(&record.evaluation),
        );
        let seeds = all.entry(identity).or_default();
        let newest = seeds.entry(record.seed).or_insert(record);
        if record.started_at >= newest.started_at {
            *newest = record;
        }
    }
    all
}

/// One configuration, ok in both with these seeds.
struct Pair<'a> {
    before: Vec<&'a Record>,
    after: Vec<&'a Record>,
}

/// Compares `second` with `first`. O(r log r + q) for r records with q kept recalls.
pub fn compare(first: &[Record], second: &[Record], settings: &Settings) -> Comparison {
    let (before, after) = (configurations(first), configurations(second));
    let mut comparison = Comparison {
        methods: Vec::new(),
        changes: Vec::new(),
        outcomes: Vec::new(),
        tests: 0,
        only_in_first: before.keys().filter(|key| !after.contains_key(*key)).count(),
        only_in_second: after.keys().filter(|key| !before.contains_key(*key)).count(),
        unshared_seeds: 0,
        unequal_conditions: 0,
    };
    let mut methods: BTreeMap<&str, MethodDifference> = BTreeMap::new();
    let mut judged: Vec<(Change, Judged)> = Vec::new();
    for (identity, seeds_before) in &before {
        let Some(seeds_after) = after.get(identity) else { continue };
        let method = methods.entry(identity.2).or_default();
        method.configurations += 1;
        let shared = seeds_before.keys().filter(|seed| seeds_after.contains_key(*seed)).count();
        comparison.unshared_seeds += seeds_before.len() + seeds_after.len() - 2 * shared;
        let mut pair = Pair { before: Vec::new(), after: Vec::new() };
        for (seed, a) in seeds_before {
            let Some(b) = seeds_after.get(seed) else { continue };
            match (a.outcome.is_ok(), b.outcome.is_ok()) {
                (true, true) => {
                    pair.before.push(a);
                    pair.after.push(b);
                }
                (false, false) => {}
                (worse, _) => {
                    *(if worse { &mut method.failed } else { &mut method.recovered }) += 1;
                    comparison.outcomes.push(outcome_change(a, b));
                }
            }
        }
        if pair.before.is_empty() {
            continue;
        }
        let equal_conditions = pair.before.iter().zip(&pair.after).all(|(a, b)| {
            let (a, b) = (&a.timing, &b.timing);
            a.exclusive && b.exclusive && a.threads == b.threads
        });
        if settings.timings && !equal_conditions {
            comparison.unequal_conditions += pair.before.len();
        }
        for name in compared_metrics(&pair, settings, equal_conditions) {
            if let Some(one) = judge(&pair.before, &pair.after, &name) {
                judged.push((change(&pair, &name, &one), one));
            }
        }
    }
    let tested: Vec<f64> = judged.iter().filter_map(|(_, one)| one.p).collect();
    comparison.tests = tested.len();
    let mut corrected = holm(&tested).into_iter();
    for (mut change, one) in judged {
        change.p = one.p.and_then(|_| corrected.next());
        change.verdict = one.verdict(change.p, settings.tolerance);
        let method = methods.entry(known_id(&before, &change.method)).or_default();
        method.compared += 1;
        match change.verdict {
            Verdict::Worse => method.worse += 1,
            Verdict::Better => method.better += 1,
            Verdict::Unclear => method.unclear += 1,
            Verdict::Same => continue,
        }
        comparison.changes.push(change);
    }
    comparison.changes.sort_by(|a, b| {
        let size = |change: &Change| change.relative.map_or(f64::INFINITY, f64::abs);
        (a.verdict.cmp(&b.verdict))
            .then_with(|| size(b).total_cmp(&size(a)))
            .then_with(|| (&a.method, &a.label, &a.name).cmp(&(&b.method, &b.label, &b.name)))
    });
    comparison.outcomes.sort_by_key(|change| !change.is_worse());
    comparison.methods = methods
        .into_iter()
        .map(|(id, method)| MethodDifference { method: id.to_owned(), ..method })
        .collect();
    comparison
}

/// The id as the records of `all` have it, which live long enough.
fn known_id<'a>(all: &BTreeMap<Identity<'a>, Seeds<'a>>, id: &str) -> &'a str {
    all.keys().map(|identity| identity.2).find(|known| *known == id).unwrap_or_default()
}

/// The metrics that are compared and that all records of the pair have.
fn compared_metrics(pair: &Pair<'_>, settings: &Settings, equal_conditions: bool) -> Vec<String> {
    let wanted = |name: &str| {
        if !settings.metrics.is_empty() {
            return settings.metrics.iter().any(|wanted| wanted == name);
        }
        let is_recall =
            name.strip_prefix("recall@").is_some_and(|k| k.bytes().all(|c| c.is_ascii_digit()));
        is_recall || ["relative_error", "bits_per_dim"].contains(&name)
    };
    let timed = |name: &str| {
        settings.timings
            && equal_conditions
            && (name == "fit_s" || known(name).unit.ends_with("/s"))
            && !name.ends_with("_streaming")
    };
    let everywhere = |name: &str| {
        pair.before.iter().chain(&pair.after).all(|record| record.value(name).is_some())
    };
    let names = pair.before[0].metrics.iter().map(|metric| metric.name());
    let mut names: Vec<String> = names
        .filter(|name| wanted(name) || timed(name))
        .filter(|name| everywhere(name))
        .map(str::to_owned)
        .collect();
    names.sort_by_cached_key(|name| natural_key(name));
    names
}

fn change(pair: &Pair<'_>, name: &str, judged: &Judged) -> Change {
    let of = pair.after[0];
    let keys = |records: &[&Record]| records.iter().map(|record| record.key.clone()).collect();
    Change {
        dataset: of.dataset.name.clone(),
        metric: of.metric.clone(),
        method: of.method.id.clone(),
        label: of.label.clone(),
        name: name.to_owned(),
        before: judged.before,
        after: judged.after,
        relative: judged.relative(),
        verdict: Verdict::Same,
        p: judged.p,
        keys_before: keys(&pair.before),
        keys_after: keys(&pair.after),
    }
}

fn outcome_change(a: &Record, b: &Record) -> OutcomeChange {
    let failed = if a.outcome.is_ok() { b } else { a };
    OutcomeChange {
        dataset: b.dataset.name.clone(),
        method: b.method.id.clone(),
        label: b.label.clone(),
        seed: b.seed,
        before: a.outcome,
        after: b.outcome,
        cause: failed.error.clone(),
        key_before: a.key.clone(),
        key_after: b.key.clone(),
    }
}

/// The p-values corrected for their number (Holm 1979): the smallest times all of them, the next
/// times one fewer, none below the one before it, none above 1.
fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[at]).min(1.0));
        corrected[at] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{MetricValue, QueryRecalls};

    fn settings() -> Settings {
        Settings { tolerance: 0.01, metrics: Vec::new(), timings: false }
    }

    /// A record of 100 queries that find `hits(query)` of their 10 nearest.
    fn measured(method: &str, label: &str, seed: u64, hits: impl Fn(u32) -> u32) -> Record {
        let hits: Vec<u32> = (0..100).map(hits).collect();
        let recall = f64::from(hits.iter().sum::<u32>()) / 1000.0;
        let metrics = [("bits_per_dim", 2.0), ("relative_error", 0.5), ("recall@10", recall)];
        let mut record = Record { seed, ..sample(method, label, &metrics) };
        record.method.deterministic = Some(true);
        record.recalls = vec![QueryRecalls::new(10, hits).unwrap()];
        record
    }

    /// Seven of ten, one less or more at some queries.
    fn usual(query: u32) -> u32 {
        7 + query % 3 - 1
    }

    /// The same with another build of the plugin.
    fn rebuilt(records: &[Record]) -> Vec<Record> {
        let rebuilt = |record: &Record| {
            let mut record = record.clone();
            record.method.plugin_digest = "another".to_owned();
            record.key = crate::record::cell_key(&record.key_parts());
            record
        };
        records.iter().map(rebuilt).collect()
    }

    #[test]
    fn equal_measurements_with_partly_shared_seeds_show_nothing() {
        let first: Vec<Record> = (1..=3).map(|seed| measured("a", "x", seed, usual)).collect();
        let second: Vec<Record> =
            rebuilt(&(2..=5).map(|seed| measured("a", "x", seed, usual)).collect::<Vec<_>>());
        let found = compare(&first, &second, &settings());
        assert!(!found.is_worse() && found.changes.is_empty(), "{found:?}");
        assert_eq!((found.unshared_seeds, found.only_in_first, found.tests), (3, 0, 1));
        let MethodDifference { configurations, compared, .. } = found.methods[0];
        assert_eq!((configurations, compared), (1, 3));
        let elsewhere = compare(&first, &rebuilt(&[measured("a", "x", 9, usual)]), &settings());
        assert_eq!((elsewhere.methods[0].compared, elsewhere.unshared_seeds), (0, 4));
        assert!(elsewhere.is_empty() && !found.is_empty());
    }

    #[test]
    fn a_worse_recall_is_named_with_its_keys() {
        let first = [measured("a", "x", 1, usual), measured("b", "y", 1, usual)];
        let worse = [measured("a", "x", 1, |query| usual(query) - 1), first[1].clone()];
        let found = compare(&first, &rebuilt(&worse), &settings());
        assert!(found.is_worse());
        let [change] = &found.changes[..] else { panic!("{:?}", found.changes) };
        assert_eq!((change.method.as_str(), change.name.as_str()), ("a", "recall@10"));
        assert_eq!(change.verdict, Verdict::Worse);
        assert_eq!(change.keys_before, [first[0].key.clone()]);
        assert!(change.p.unwrap() < 1e-6 && change.relative.unwrap() < -0.1, "{change:?}");
        // The other way round it is better.
        let found = compare(&worse, &first, &settings());
        assert!(!found.is_worse());
        assert_eq!(found.changes[0].verdict, Verdict::Better);
    }

    #[test]
    fn what_chance_explains_or_is_within_the_tolerance_does_not_count() {
        let first = [measured("a", "x", 1, usual)];
        // Three queries lose all, two gain: −1.2 % on average.
        let noisy = measured("a", "x", 1, |query| match query {
            0..3 => 0,
            3..5 => 10,
            _ => usual(query),
        });
        assert!(noisy.value("recall@10").unwrap() < 0.99 * first[0].value("recall@10").unwrap());
        assert!(!compare(&first, &[noisy], &settings()).is_worse());
        // Certain and small: each tenth query loses one.
        let small = measured("a", "x", 1, |query| usual(query) - u32::from(query % 10 == 0));
        let tolerant = Settings { tolerance: 0.05, ..settings() };
        assert!(!compare(&first, std::slice::from_ref(&small), &tolerant).is_worse());
        assert!(compare(&first, &[small], &settings()).is_worse());
    }

    #[test]
    fn a_number_that_is_no_sample_counts_as_it_is() {
        let first = [measured("a", "x", 1, usual)];
        let with_error = |error: f64, deterministic: bool| {
            let mut record = first[0].clone();
            record.metrics.retain(|metric| metric.name() != "relative_error");
            record.metrics.push(MetricValue::new("relative_error", error).unwrap());
            record.method.deterministic = Some(deterministic);
            record
        };
        let found = compare(&first, &[with_error(0.51, true)], &settings());
        assert_eq!((found.changes[0].verdict, found.changes[0].p), (Verdict::Worse, None));
        assert!(!compare(&first, &[with_error(0.504, true)], &settings()).is_worse());
        let found = compare(&first, &[with_error(0.51, false)], &settings());
        assert_eq!(found.changes[0].verdict, Verdict::Unclear);
        assert!(!found.is_worse());
    }

    #[test]
    fn a_cell_that_no_longer_ends_well_is_worse() {
        let first = [measured("a", "x", 1, usual)];
        let mut failed = first[0].clone();
        (failed.outcome, failed.error) = (Outcome::Timeout, Some("too slow".to_owned()));
        failed.metrics.clear();
        let found = compare(&first, &[failed.clone()], &settings());
        assert!(found.is_worse());
        assert_eq!(found.outcomes[0].cause.as_deref(), Some("too slow"));
        assert!(!compare(&[failed.clone()], &first, &settings()).is_worse());
        failed.outcome = Outcome::Cancelled;
        assert_eq!(compare(&first, &[failed], &settings()).only_in_first, 1);
    }

    #[test]
    fn speeds_count_where_asked_for_and_their_ranges_are_apart() {
        let timed = |value: f64, min: f64, max: f64| {
            let mut record = measured("a", "x", 1, usual);
            let name = "compress_vectors_per_s";
            record.metrics.push(MetricValue::with_range(name, value, min, max).unwrap());
            record
        };
        let timings = Settings { timings: true, ..settings() };
        let first = [timed(100.0, 90.0, 110.0)];
        let judged = |second: Record, settings: &Settings| compare(&first, &[second], settings);
        assert!(judged(timed(50.0, 45.0, 55.0), &timings).is_worse());
        assert!(!judged(timed(50.0, 45.0, 55.0), &settings()).is_worse());
        assert!(!judged(timed(85.0, 80.0, 95.0), &timings).is_worse());
        let mut beside = timed(50.0, 45.0, 55.0);
        beside.timing.exclusive = false;
        let found = judged(beside, &timings);
        assert!(!found.is_worse() && found.unequal_conditions == 1);
    }

    #[test]
    fn timings_want_one_machine() {
        let record = sample("a", "x", &[]);
        let run = RunInfo { run_id: "run-1".to_owned(), ..RunInfo::begin("s", "") };
        let mut other = RunInfo { run_id: "run-2".to_owned(), ..run.clone() };
        assert_eq!(one_machine([&record], std::slice::from_ref(&run)), Ok(()));
        let there = Record { run_id: "run-2".to_owned(), ..record.clone() };
        assert_eq!(one_machine([&record, &there], &[run.clone(), other.clone()]), Ok(()));
        other.cores += 1;
        let error = one_machine([&record, &there], &[run.clone(), other]);
        assert!(matches!(error, Err(MachineError::Different { .. })), "{error:?}");
        let error = one_machine([&there], &[run]);
        assert!(matches!(error, Err(MachineError::Unknown { .. })), "{error:?}");
    }

    #[test]
    fn p_values_are_corrected_for_their_number() {
        assert_eq!(holm(&[0.04, 0.01, 0.03]), [0.06, 0.03, 0.06]);
        assert_eq!(holm(&[0.5, 0.9]), [1.0, 1.0]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }
}
