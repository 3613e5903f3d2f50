//! The table that ends a run: for each dataset the best trade-offs of size and quality.
//!
//! A configuration is among the best when no other has as small a code with as good a recall and
//! is better in one of the two; or the same with the relative error for the recall. So each row is
//! the answer to one question at least: how good can a code of this size be?

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

use super::configuration::{Configuration, pareto_front};
pub use super::failures::Failure;
use super::table::{Column, columns, fit, painted, plain};
use super::{Style, failures, headline_recall, number, table, too_many_threads, wrapped};
use crate::record::{DatasetInfo, Outcome, Record};

/// The recall that a code is asked for in the sentence under each table.
const ASKED_RECALL: f64 = 0.9;

/// What a run found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tradeoffs {
    /// One per dataset with at least one ok cell, by name.
    pub datasets: Vec<DatasetTradeoffs>,
    /// The cells that did not go well.
    pub failures: Vec<Failure>,
}

/// The best trade-offs on one dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetTradeoffs {
    /// The dataset.
    pub dataset: DatasetInfo,
    /// `l2`, `ip` or `cosine`.
    pub metric: String,
    /// The k of [`Tradeoff::recall`], if recall was measured: 10, or the largest there is.
    pub k: Option<usize>,
    /// Configurations with an ok cell and a known size, from which the best were chosen.
    pub configurations: usize,
    /// False when other cells ran beside some of them, so that times compare badly.
    pub exclusive: bool,
    /// Configurations of them that used more threads than they were given.
    pub over_budget: usize,
    /// The best of them, by bits per dimension.
    pub best: Vec<Tradeoff>,
}

/// One configuration; metrics are means over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tradeoff {
    /// Id of the method.
    pub method: String,
    /// Its configuration.
    pub label: String,
    /// Seeds it was measured with.
    pub seeds: usize,
    /// Stored bits per dimension.
    pub bits_per_dim: f64,
    /// Σ‖x−x̂‖² / Σ‖x−mean‖².
    pub relative_error: Option<f64>,
    /// `recall@k`.
    pub recall: Option<f64>,
    /// `recall@k` after exact re-ranking of the best 4k.
    pub recall_rerank_4: Option<f64>,
    /// Vectors encoded per second.
    pub compress_vectors_per_s: Option<f64>,
    /// Seconds to fit.
    pub fit_s: Option<f64>,
}

/// Finds the best trade-offs among `records`. O(c log c) for c configurations per dataset.
pub fn tradeoffs(records: &[Record]) -> Tradeoffs {
    let ok = || records.iter().filter(|record| record.outcome.is_ok());
    let spaces: BTreeSet<_> = ok().map(space).collect();
    let datasets = spaces
        .into_iter()
        .filter_map(|wanted| dataset_tradeoffs(ok().filter(|record| space(record) == wanted)))
        .collect();
    Tradeoffs { datasets, failures: Failure::of(records) }
}

/// What records must share to be compared.
fn space(record: &Record) -> (&str, &str, &str) {
    (&record.dataset.name, &record.dataset.digest, &record.metric)
}

/// The best trade-offs among ok records of one dataset; none if there are no records.
fn dataset_tradeoffs<'a>(records: impl Iterator<Item = &'a Record>) -> Option<DatasetTradeoffs> {
    let records: Vec<&Record> = records.collect();
    let first = records.first()?;
    let names = records.iter().flat_map(|record| &record.metrics).map(|metric| metric.name());
    let k = headline_recall(names);
    let configurations = Configuration::of(records.iter().copied());
    let over_budget = configurations.iter().filter(|of| of.over_budget()).count();
    let all: Vec<Tradeoff> =
        configurations.iter().filter_map(|configuration| tradeoff(configuration, k)).collect();
    let front = |quality: &dyn Fn(&Tradeoff) -> Option<f64>| {
        let points: Vec<_> = all.iter().map(|one| (one.bits_per_dim, quality(one))).collect();
        pareto_front(&points)
    };
    let by_recall = front(&|one| one.recall);
    let by_error = front(&|one| one.relative_error.map(|error| -error));
    let mut best: Vec<Tradeoff> =
        (0..all.len()).filter(|&i| by_recall[i] || by_error[i]).map(|i| all[i].clone()).collect();
    best.sort_by(|a, b| {
        (a.bits_per_dim.total_cmp(&b.bits_per_dim))
            .then_with(|| b.recall.unwrap_or(-1.0).total_cmp(&a.recall.unwrap_or(-1.0)))
            .then_with(|| (&a.method, &a.label).cmp(&(&b.method, &b.label)))
    });
    Some(DatasetTradeoffs {
        dataset: first.dataset.clone(),
        metric: first.metric.clone(),
        k,
        configurations: all.len(),
        exclusive: records.iter().all(|record| record.timing.exclusive),
        over_budget,
        best,
    })
}

fn tradeoff(configuration: &Configuration<'_>, k: Option<usize>) -> Option<Tradeoff> {
    let first = configuration.first();
    let mean = |metric: &str| configuration.mean(metric);
    Some(Tradeoff {
        method: first.method.id.clone(),
        label: first.label.clone(),
        seeds: configuration.records.len(),
        bits_per_dim: mean("bits_per_dim")?,
        relative_error: mean("relative_error"),
        recall: k.and_then(|k| mean(&format!("recall@{k}"))),
        recall_rerank_4: k.and_then(|k| mean(&format!("recall@{k}/rerank=4"))),
        compress_vectors_per_s: mean("compress_vectors_per_s"),
        fit_s: mean("fit_s"),
    })
}

/// Writes one table per dataset, a sentence under each, and the cells that did not go well.
///
/// # Errors
/// What `out` returns.
pub fn write_tradeoffs(tradeoffs: &Tradeoffs, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for dataset in &tradeoffs.datasets {
        write_dataset(dataset, style, out)?;
        writeln!(out)?;
    }
    // Whoever ended a run before its first result does not ask for a comparison.
    let cancelled = |failure: &Failure| failure.outcome == Outcome::Cancelled;
    let ended = !tradeoffs.failures.is_empty() && tradeoffs.failures.iter().all(cancelled);
    if tradeoffs.datasets.is_empty() && !ended {
        writeln!(out, "no cell went well, so there is nothing to compare")?;
    }
    failures::write(&tradeoffs.failures, style, out)
}

fn write_dataset(of: &DatasetTradeoffs, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let DatasetInfo { name, n, dim, queries, .. } = &of.dataset;
    let asked = if *queries == 1 { "query" } else { "queries" };
    let about = format!("  {n} × {dim}, {queries} {asked}, {}", of.metric);
    let name = fit(&plain(name), style.columns().saturating_sub(columns(&about)));
    writeln!(out, "{}{about}", painted(&name, style, "1"))?;

    let cells = |cell: fn(&Tradeoff) -> String| of.best.iter().map(cell);
    let numbers = |value: fn(&Tradeoff) -> Option<f64>, write: fn(f64) -> String| {
        of.best.iter().map(move |one| value(one).map_or_else(|| "–".to_owned(), write))
    };
    let mut table = vec![
        Column::text("method", cells(|one| one.method.clone())),
        Column::text("configuration", cells(|one| one.label.clone())),
        Column::number("bits/dim", cells(|one| format!("{:.2}", one.bits_per_dim))),
        Column::number(
            "rel. error",
            numbers(|one| one.relative_error, |x| number::metric("relative_error", x)),
        ),
    ];
    let recall = |x: f64| format!("{x:.4}");
    if let Some(k) = of.k {
        table.push(Column::number(&format!("recall@{k}"), numbers(|one| one.recall, recall)));
    }
    if of.best.iter().any(|one| one.recall_rerank_4.is_some()) {
        table.push(Column::number("re-rank 4", numbers(|one| one.recall_rerank_4, recall)).spare());
    }
    let speed = numbers(|one| one.compress_vectors_per_s, number::amount);
    table.push(Column::number("encode vec/s", speed).spare());
    table.push(Column::number("fit s", numbers(|one| one.fit_s, number::seconds)).spare());
    let left_out = table::write(&table, 3, style, out)?;

    if let Some(sentence) = recall_sentence(of, style.columns()) {
        writeln!(out, "{sentence}")?;
    }
    let (best, all) = (of.best.len(), of.configurations);
    let configurations = if all == 1 { "configuration" } else { "configurations" };
    let mut notes = vec![format!("best {best} of {all} {configurations}")];
    if let Some(seeds @ 2..) = of.best.iter().map(|one| one.seeds).max() {
        notes.push(format!("means over up to {seeds} seeds"));
    }
    if !of.exclusive {
        notes.push("other cells ran beside: times do not compare".to_owned());
    }
    notes.extend(too_many_threads(of.over_budget));
    if !left_out.is_empty() {
        notes.push(format!("a wider terminal also shows {}", left_out.join(", ")));
    }
    writeln!(out, "{}", wrapped(&notes.join("; "), 0, style.columns()))
}

/// `smallest code with recall@10 ≥ 0.9: METHOD LABEL at 4.00 bits/dim (0.9350)`, on two lines
/// where it is too long for one.
fn recall_sentence(of: &DatasetTradeoffs, width: usize) -> Option<String> {
    let k = of.k?;
    let measured = || of.best.iter().filter_map(|one| Some((one, one.recall?)));
    // `best` is sorted by size, and by recall within a size.
    let enough = measured().find(|&(_, recall)| recall >= ASKED_RECALL);
    let (what, (one, recall)) = match enough {
        Some(found) => (format!("smallest code with recall@{k} ≥ {ASKED_RECALL}:"), found),
        None => {
            let nearest = measured().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
            (format!("no code with recall@{k} ≥ {ASKED_RECALL}; the nearest:"), nearest)
        }
    };
    let place = format!("at {:.2} bits/dim ({recall:.4})", one.bits_per_dim);
    let name = plain(&format!("{} {}", one.method, one.label));
    let name = name.trim_end();
    let line = format!("{what} {name} {place}");
    if columns(&line) <= width {
        return Some(line);
    }
    let room = width.saturating_sub(columns(&place) + 3);
    Some(format!("{what}\n  {} {place}", fit(name, room)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    fn point(method: &str, label: &str, bits: f64, recall: f64, error: f64) -> Record {
        sample(
            method,
            label,
            &[
                ("bits_per_dim", bits),
                ("recall@1", 0.1),
                ("recall@10", recall),
                ("recall@10/rerank=4", (recall + 0.05).min(1.0)),
                ("recall@100", 0.99),
                ("relative_error", error),
                ("compress_vectors_per_s", 1_234_567.0),
                ("fit_s", 1.428),
            ],
        )
    }

    fn drawn(records: &[Record], width: usize) -> String {
        let mut out = Vec::new();
        let style = Style { width, color: false };
        write_tradeoffs(&tradeoffs(records), style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn speeds_of_more_threads_than_were_given_are_marked() {
        let honest = point("a", "x", 1.0, 0.5, 0.5);
        let mut greedy = point("b", "y", 2.0, 0.9, 0.1);
        assert!(!drawn(&[honest.clone(), greedy.clone()], 100).contains("more threads"));
        // What threads take to come and go is no cheating.
        greedy.timing.threads_used = Some(1.05 * f64::from(greedy.timing.threads));
        assert!(!greedy.timing.over_budget());
        greedy.timing.threads_used = Some(1.5 * f64::from(greedy.timing.threads));
        let text = drawn(&[honest, greedy], 200);
        let note = "1 configuration used more threads than it was given: its speeds do not compare";
        assert!(text.contains(note), "{text}");
    }

    #[test]
    fn the_table_shows_the_best_and_only_them() {
        let mut crashed = point("c", "m=4", 1.0, 0.5, 0.5);
        crashed.outcome = Outcome::Crashed;
        crashed.error = Some("signal 11 in compress".to_owned());
        let records = [
            point("a", "m=32", 4.0, 0.935, 0.01),
            point("a", "m=8", 1.0, 0.45, 0.2),
            point("b", "worse in both", 4.0, 0.9, 0.02),
            point("b", "m=16", 2.0, 0.44, 0.1),
            crashed,
        ];
        let expected = "\
glove  10000 × 100, 500 queries, l2
method  configuration  bits/dim  rel. error  recall@10  re-rank 4  encode  fit s
                                                                    vec/s
────────────────────────────────────────────────────────────────────────────────
a       m=8                1.00      0.2000     0.4500     0.5000   1.2 M   1.43
b       m=16               2.00      0.1000     0.4400     0.4900   1.2 M   1.43
a       m=32               4.00     0.01000     0.9350     0.9850   1.2 M   1.43
smallest code with recall@10 ≥ 0.9: a m=32 at 4.00 bits/dim (0.9350)
best 3 of 4 configurations

1 cell did not go well:
  glove · c m=4 · crashed · signal 11 in compress
";
        assert_eq!(drawn(&records, 100), expected);
    }

    #[test]
    fn without_recall_at_10_the_largest_k_stands_in() {
        let records =
            [sample("a", "x", &[("bits_per_dim", 1.0), ("recall@5", 0.3), ("recall@50", 0.4)])];
        let found = tradeoffs(&records);
        assert_eq!((found.datasets[0].k, found.datasets[0].best[0].recall), (Some(50), Some(0.4)));
        let text = drawn(&records, 100);
        assert!(text.contains("recall@50"), "{text}");
        assert!(
            text.contains(
                "no code with recall@50 ≥ 0.9; the nearest: a x at 1.00 bits/dim (0.4000)"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_method_that_is_only_scored_has_a_place_by_its_recall() {
        let scored = sample("s", "x", &[("bits_per_dim", 1.0), ("recall@10", 0.7)]);
        let found = tradeoffs(&[point("a", "x", 1.0, 0.6, 0.1), scored]);
        assert_eq!(found.datasets[0].best.len(), 2);
        assert_eq!(found.datasets[0].best[0].method, "s");
        assert_eq!(found.datasets[0].best[0].relative_error, None);
    }

    #[test]
    fn datasets_and_seeds_are_kept_apart_and_together() {
        let a = point("a", "x", 1.0, 0.6, 0.1);
        let mut seed = point("a", "x", 1.0, 0.8, 0.1);
        seed.seed = 7;
        let mut elsewhere = point("a", "x", 1.0, 0.1, 0.1);
        elsewhere.dataset.name = "another".to_owned();
        elsewhere.timing.exclusive = false;
        let found = tradeoffs(&[a, seed, elsewhere]);
        assert_eq!(found.datasets.len(), 2);
        assert_eq!(found.datasets[0].dataset.name, "another");
        assert!(!found.datasets[0].exclusive);
        let best = &found.datasets[1].best;
        assert_eq!((best.len(), best[0].seeds), (1, 2));
        assert!((best[0].recall.unwrap() - 0.7).abs() < 1e-12);
    }

    #[test]
    fn long_names_never_widen_the_output() {
        let long = "levels=[0,2,4,6,8] ".repeat(9);
        let mut records = vec![
            point("a-method-with-quite-a-long-name-indeed", &long, 123.456, 0.95, 1e-9),
            point("b", &"x".repeat(200), 200.0, 0.99, 1e-12),
        ];
        records[0].dataset.name = "dataset".repeat(20);
        for i in 0..30 {
            let mut failed = point("漢字", &format!("{i} {long}"), 1.0, 0.5, 0.5);
            failed.outcome = Outcome::OutOfMemory;
            failed.error = Some("an error\u{1b}[2J that does not end ".repeat(20));
            records.push(failed);
        }
        for width in [1, 60, 80, 100, 1000] {
            let text = drawn(&records, width);
            for line in text.lines() {
                assert!(columns_of(line) <= width.clamp(60, 200), "{width}: {line}");
            }
            assert!(text.contains("… and 10 more"));
            assert!(!text.contains('\u{1b}'));
        }
        let mut out = Vec::new();
        let style = Style { width: 100, color: true };
        write_tradeoffs(&tradeoffs(&records), style, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("\u{1b}["));
    }

    /// Columns of our own lines: characters, and two for each of those the test writes as wide.
    fn columns_of(line: &str) -> usize {
        line.chars().map(|c| if matches!(c, '漢' | '字') { 2 } else { 1 }).sum()
    }

    #[test]
    fn one_is_counted_as_one() {
        let mut one = point("a", "x", 1.0, 0.6, 0.1);
        one.dataset.queries = 1;
        let text = drawn(&[one], 100);
        assert!(
            text.contains("1 query, l2") && text.contains("best 1 of 1 configuration\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_to_compare_is_said() {
        assert!(drawn(&[], 100).contains("nothing to compare"));
        let mut ended = point("a", "x", 1.0, 0.6, 0.1);
        ended.outcome = Outcome::Cancelled;
        let text = drawn(&[ended.clone()], 100);
        assert!(text.contains("cancelled") && !text.contains("compare"), "{text}");
        let failed = Record { outcome: Outcome::Failed, ..ended.clone() };
        assert!(drawn(&[ended, failed], 100).contains("nothing to compare"));
        let without_metrics = [sample("a", "x", &[])];
        assert!(drawn(&without_metrics, 100).contains("best 0 of 0 configurations"));
    }
}
