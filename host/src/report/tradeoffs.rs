//! The table that ends a run: for each dataset the best trade-offs of size and quality.
//!
//! A configuration is among the best when no other has as small a code with as good a recall and
//! is better in one of the two; or the same with the relative error for the recall. So each row is
//! the answer to one question at least: how good can a code of this size be?
//!
//! The size counts the model where that matters. What is not proven, or keeps a model of unknown
//! size, is never among the best: it stands under them, where it would be.

mod ties;

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

use super::configuration::{Configuration, pareto_front};
pub use super::failures::Failure;
use super::marks::Marks;
use super::spread::{STANDARD_ERRORS, interval, mean_and_error};
use super::table::Column;
use super::text::{columns, fit, painted, plain};
use super::{Style, failures, headline_recall, notices, number, table, too_many_threads, wrapped};
use crate::record::{DatasetInfo, Outcome, Record};
use ties::{MOST_TIED, Ties};

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
    /// The data set whose neighbours recall is against, where they are not its own.
    pub truth_of: Option<String>,
    /// The k of [`Tradeoff::recall`], if recall was measured: 10, or the largest there is.
    pub k: Option<usize>,
    /// Configurations with an ok cell and a known size, from which the best were chosen.
    pub configurations: usize,
    /// False when other cells ran beside some of them, so that times compare badly.
    pub exclusive: bool,
    /// Configurations of them that used more threads than they were given.
    pub over_budget: usize,
    /// Records with notices of their own.
    pub noticed: usize,
    /// The best of them by size; then those that would be, were they proven and weighed.
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
    /// What limits its numbers.
    pub marks: Marks,
    /// Stored bits per dimension.
    pub bits_per_dim: f64,
    /// The same with the model's, where its size is known.
    pub amortised_bits: Option<f64>,
    /// By which it is ordered: one of the two.
    pub size: f64,
    /// Σ‖x−x̂‖² / Σ‖x−mean‖².
    pub relative_error: Option<f64>,
    /// `recall@k`.
    pub recall: Option<f64>,
    /// Standard error of `recall` over queries.
    pub recall_error: Option<f64>,
    /// Half the 95 % interval of `recall` over seeds.
    pub recall_interval: Option<f64>,
    /// The configurations of no larger size than which its recall is not better, those of the best recall;
    /// not all of many.
    pub tied_with: Vec<String>,
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

/// The records of the configurations that [`tradeoffs`] finds best, in its order.
pub(super) fn best_records(records: &[Record]) -> Vec<&Record> {
    let ok = || records.iter().filter(|record| record.outcome.is_ok());
    let spaces: BTreeSet<_> = ok().map(space).collect();
    let of_space = |wanted| {
        let configurations = Configuration::of(ok().filter(|record| space(record) == wanted));
        let k = recall_asked(&configurations);
        let best = best_of(&configurations, k).1.into_iter();
        best.flat_map(|(i, _)| configurations[i].records.clone()).collect::<Vec<_>>()
    };
    spaces.into_iter().flat_map(of_space).collect()
}

/// The k of the recall by which configurations are compared.
fn recall_asked(configurations: &[Configuration<'_>]) -> Option<usize> {
    let records = configurations.iter().flat_map(|of| &of.records);
    headline_recall(records.flat_map(|record| &record.metrics).map(|metric| metric.name()))
}

/// What records must share to be compared.
fn space(record: &Record) -> (&str, &str, &str, Option<&str>) {
    (&record.dataset.name, &record.dataset.digest, &record.metric, record.truth_of())
}

/// The best trade-offs among ok records of one dataset; none if there are no records.
fn dataset_tradeoffs<'a>(records: impl Iterator<Item = &'a Record>) -> Option<DatasetTradeoffs> {
    let records: Vec<&Record> = records.collect();
    let first = records.first()?;
    let configurations = Configuration::of(records.iter().copied());
    let k = recall_asked(&configurations);
    let over_budget = configurations.iter().filter(|of| of.over_budget()).count();
    let (all, best) = best_of(&configurations, k);
    Some(DatasetTradeoffs {
        dataset: first.dataset.clone(),
        metric: first.metric.clone(),
        truth_of: first.truth_of().map(str::to_owned),
        k,
        configurations: all,
        exclusive: records.iter().all(|record| record.timing.exclusive),
        over_budget,
        noticed: records.iter().filter(|record| !record.notices.is_empty()).count(),
        best: best.into_iter().map(|(_, one)| one).collect(),
    })
}

/// How many of `configurations` have a size, and the best of these with their positions: by size, then
/// those that would be, were they proven and weighed.
fn best_of(
    configurations: &[Configuration<'_>],
    k: Option<usize>,
) -> (usize, Vec<(usize, Tradeoff)>) {
    let with_size = configurations.iter().enumerate();
    let with_size = with_size.filter_map(|(at, of)| Some((at, tradeoff(of, k)?)));
    let (places, all): (Vec<usize>, Vec<Tradeoff>) = with_size.unzip();
    let sized: Vec<&Configuration<'_>> = places.iter().map(|at| &configurations[*at]).collect();
    // Whether it is on a front among those that `stand`.
    let front = |stands: &dyn Fn(&Tradeoff) -> bool| -> Vec<bool> {
        let on = |quality: fn(&Tradeoff) -> Option<f64>| {
            let points: Vec<_> =
                all.iter().map(|one| (one.size, quality(one).filter(|_| stands(one)))).collect();
            pareto_front(&points)
        };
        let (by_recall, by_error) =
            (on(|one| one.recall), on(|one| one.relative_error.map(|error| -error)));
        by_recall.into_iter().zip(by_error).map(|(recall, error)| recall || error).collect()
    };
    let leading = front(&|one| one.marks.may_lead());
    let among_all = front(&|_| true);
    let ties = Ties::among(&sized, &all, k);
    let mut best: Vec<(usize, Tradeoff)> = (0..all.len())
        .filter(|&i| leading[i] || (among_all[i] && !all[i].marks.may_lead()))
        .map(|i| {
            let mut one = all[i].clone();
            if leading[i] {
                one.tied_with = ties.of(i);
                one.marks.tied = !one.tied_with.is_empty();
            }
            (places[i], one)
        })
        .collect();
    best.sort_by(|(_, a), (_, b)| {
        (b.marks.may_lead().cmp(&a.marks.may_lead()))
            .then_with(|| a.size.total_cmp(&b.size))
            .then_with(|| b.recall.unwrap_or(-1.0).total_cmp(&a.recall.unwrap_or(-1.0)))
            .then_with(|| (&a.method, &a.label).cmp(&(&b.method, &b.label)))
    });
    (all.len(), best)
}

impl Tradeoff {
    fn name(&self) -> String {
        plain(&format!("{} {}", self.method, self.label)).trim_end().to_owned()
    }
}

fn tradeoff(configuration: &Configuration<'_>, k: Option<usize>) -> Option<Tradeoff> {
    let first = configuration.first();
    let mean = |metric: &str| configuration.mean(metric);
    let recall = k.map(|k| format!("recall@{k}"));
    let queries = k.and_then(|k| configuration.recall_by_query(u32::try_from(k).ok()?));
    Some(Tradeoff {
        method: first.method.id.clone(),
        label: first.label.clone(),
        seeds: configuration.records.len(),
        marks: configuration.marks(),
        bits_per_dim: mean("bits_per_dim")?,
        amortised_bits: configuration.amortised_bits(),
        size: configuration.size()?,
        relative_error: mean("relative_error"),
        recall: recall.as_deref().and_then(mean),
        recall_error: queries.and_then(|of| mean_and_error(&of)).map(|(_, error)| error),
        recall_interval: recall.and_then(|recall| interval(&configuration.values(&recall))),
        tied_with: Vec::new(),
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
        Column::text("method", cells(|one| one.marks.on(&one.method))),
        Column::text("configuration", cells(|one| one.label.clone())),
        Column::number("bits/dim", cells(|one| format!("{:.2}", one.bits_per_dim))),
    ];
    if of.best.iter().any(|one| one.size > one.bits_per_dim) {
        let bits = numbers(|one| one.amortised_bits, |bits| format!("{bits:.2}"));
        table.push(Column::number("with model", bits));
    }
    table.push(Column::number(
        "rel. error",
        numbers(|one| one.relative_error, |x| number::metric("relative_error", x)),
    ));
    let recall = |x: f64| format!("{x:.4}");
    if let Some(k) = of.k {
        table.push(Column::number(&format!("recall@{k}"), numbers(|one| one.recall, recall)));
        if of.best.iter().any(|one| one.recall_error.is_some()) {
            let twice = |error: f64| format!("{:.4}", STANDARD_ERRORS * error);
            table.push(Column::number("±", numbers(|one| one.recall_error, twice)).spare());
        }
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
    let (best, all) =
        (of.best.iter().filter(|one| one.marks.may_lead()).count(), of.configurations);
    let configurations = if all == 1 { "configuration" } else { "configurations" };
    // No other is as small and as good in one of the two.
    let by = of.k.map(|k| format!("recall@{k} or ")).unwrap_or_default();
    let mut notes =
        vec![format!("best {best} of {all} {configurations} by {by}rel. error for their size")];
    if let Some(seeds @ 2..) = of.best.iter().map(|one| one.seeds).max() {
        let widest = of.best.iter().filter_map(|one| one.recall_interval).reduce(f64::max);
        let widest = widest
            .map(|half| format!(", their recall ± {half:.4} at most (95 %)"))
            .unwrap_or_default();
        notes.push(format!("means over up to {seeds} seeds{widest}"));
    }
    if !of.exclusive {
        notes.push("other cells ran beside: times do not compare".to_owned());
    }
    notes.extend(too_many_threads(of.over_budget));
    match of.noticed {
        0 => {}
        1 => notes.push("1 cell has a notice (vq-host results --verbose)".to_owned()),
        n => notes.push(format!("{n} cells have notices (vq-host results --verbose)")),
    }
    if !left_out.is_empty() {
        notes.push(format!("a wider terminal also shows {}", left_out.join(", ")));
    }
    writeln!(out, "{}", wrapped(&notes.join("; "), 0, style.columns()))?;
    let marks: Vec<Marks> = of.best.iter().map(|one| one.marks).collect();
    let truth = of.truth_of.as_deref().map(notices::other_truth);
    let lines = Marks::legend(&marks).into_iter().chain(truth).chain(notices::of(&of.dataset));
    for line in lines {
        writeln!(out, "{}", wrapped(&line, 2, style.columns()))?;
    }
    Ok(())
}

/// `smallest code with recall@10 ≥ 0.9: METHOD LABEL at 4.00 bits/dim (0.9350)`, on two lines
/// where it is too long for one.
fn recall_sentence(of: &DatasetTradeoffs, width: usize) -> Option<String> {
    let k = of.k?;
    let leading = || of.best.iter().filter(|one| one.marks.may_lead());
    if leading().next().is_none() && !of.best.is_empty() {
        return Some("nothing here is both proven and weighed: no code is recommended".to_owned());
    }
    let measured = || leading().filter_map(|one| Some((one, one.recall?)));
    // `best` is sorted by size, and by recall within a size.
    let enough = measured().find(|&(_, recall)| recall >= ASKED_RECALL);
    let (what, (one, recall)) = match enough {
        Some(found) => (format!("smallest code with recall@{k} ≥ {ASKED_RECALL}:"), found),
        None => {
            let nearest = measured().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
            (format!("no code with recall@{k} ≥ {ASKED_RECALL}; the nearest:"), nearest)
        }
    };
    let model = if one.size > one.bits_per_dim { " with its model" } else { "" };
    let place = format!("at {:.2} bits/dim{model} ({recall:.4})", one.size);
    let name = one.name();
    let mut sentence = format!("{what} {name} {place}");
    if columns(&sentence) > width {
        let room = width.saturating_sub(columns(&place) + 3);
        sentence = format!("{what}\n  {} {place}", fit(&name, room));
    }
    if let [first, others @ ..] = one.tied_with.as_slice() {
        let more = match others.len() {
            0 => String::new(),
            n if n + 1 < MOST_TIED => format!(" and {n} more"),
            n => format!(" and at least {n} more"),
        };
        let room = width.saturating_sub(columns(&more) + columns("  tied with "));
        sentence += &format!("\n  tied with {}{more}", fit(first, room));
    }
    Some(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{Facts, MetricValue, Proof, QueryRecalls};

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
best 3 of 4 configurations by recall@10 or rel. error for their size

1 cell did not go well:
  glove · c m=4 · crashed · signal 11 in compress
";
        assert_eq!(drawn(&records, 100), expected);
    }

    /// One that finds `hits` of the 10 nearest, for each of 100 queries.
    fn with_queries(mut record: Record, hits: impl Fn(u32) -> u32) -> Record {
        let hits: Vec<u32> = (0..100).map(hits).collect();
        let recall = hits.iter().sum::<u32>() as f64 / 1000.0;
        record.metrics.retain(|metric| metric.name() != "recall@10");
        record.metrics.push(MetricValue::new("recall@10", recall).unwrap());
        record.recalls = vec![QueryRecalls::new(10, hits).unwrap()];
        record
    }

    #[test]
    fn what_the_queries_cannot_tell_apart_is_tied() {
        let small = with_queries(point("a", "x", 1.0, 0.0, 0.3), |query| 9 + query % 2);
        // Better for a few queries and worse for almost as many.
        let same = with_queries(point("b", "y", 2.0, 0.0, 0.2), |query| match query {
            0..=4 => 10,
            5..=7 => 9 - u32::from(query == 5),
            _ => 9 + query % 2,
        });
        let better = with_queries(point("c", "z", 3.0, 0.0, 0.1), |_| 10);
        let found = tradeoffs(&[small.clone(), same.clone(), better.clone()]);
        let best = &found.datasets[0].best;
        let tied: Vec<_> = best.iter().map(|one| (one.label.as_str(), one.marks.tied)).collect();
        assert_eq!(tied, [("x", false), ("y", true), ("z", false)]);
        assert_eq!(best[1].tied_with, ["a x"]);
        let text = drawn(&[small.clone(), same.clone(), better.clone()], 120);
        assert!(text.contains("b =") && text.contains("= tied in recall with"), "{text}");
        assert!(text.contains(" ± "), "{text}");
        // Of records without their queries nothing is said.
        let mut old = [small, same, better];
        old.iter_mut().for_each(|record| record.recalls.clear());
        assert!(!drawn(&old, 120).contains("tied"));
    }

    #[test]
    fn a_tie_is_part_of_the_advice() {
        let small = with_queries(point("a", "x", 3.9, 0.0, 0.3), |query| 8 + query % 2);
        let one = with_queries(point("b", "y", 4.0, 0.0, 0.2), |_| 9);
        let other =
            with_queries(point("c", "z", 4.0, 0.0, 0.2), |query| if query < 1 { 8 } else { 9 });
        let text = drawn(&[small, one, other], 100);
        let expected =
            "smallest code with recall@10 ≥ 0.9: b y at 4.00 bits/dim (0.9000)\n  tied with c z\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn of_many_ties_the_best_are_named() {
        let one = with_queries(point("b", "y", 2.0, 0.0, 0.2), |query| 9 + query % 2);
        let same = with_queries(point("c", "z", 2.0, 0.0, 0.2), |query| 9 + query % 2);
        let worse = with_queries(point("d", "w", 1.0, 0.0, 0.3), |query| 8 + query % 2);
        // By one hit of a query.
        let hardly_worse = |i: u32| {
            let hits = |query| 9 + query % 2 - u32::from(query == i);
            with_queries(point("a", &format!("i={i}"), 1.0, 0.0, 0.3), hits)
        };
        let records: Vec<Record> =
            [worse, one, same].into_iter().chain((0..12).map(hardly_worse)).collect();
        let found = tradeoffs(&records);
        let of = |label: &str| found.datasets[0].best.iter().find(|one| one.label == label);
        let tied = &of("y").unwrap().tied_with;
        assert_eq!(
            (tied.len(), &tied[..2]),
            (MOST_TIED, &["c z".to_owned(), "a i=0".to_owned()][..])
        );
        let text = drawn(&records, 100);
        assert!(
            text.contains(
                "
  tied with a i=1 and at least 9 more
"
            ),
            "{text}"
        );
        // All are named of as many as the text counts.
        let text = drawn(&records[..12], 100);
        assert!(
            text.contains(
                "
  tied with a i=1 and 7 more
"
            ),
            "{text}"
        );
    }

    fn unproven(record: Record) -> Record {
        let proof = Some(Proof::Unproven { reason: "there is no sandbox".to_owned() });
        Record { proof, ..record }
    }

    #[test]
    fn what_is_unproven_heads_no_table_and_no_advice() {
        let proven = point("a", "x", 4.0, 0.95, 0.1);
        let table = unproven(point("side-table", "y", 0.5, 1.0, 0.0));
        let dominated = unproven(point("b", "z", 8.0, 0.5, 0.5));
        let text = drawn(&[table.clone(), dominated, proven.clone()], 100);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in {text}"));
        assert!(at("\na  ") < at("\nside-table ?"), "{text}");
        assert!(at("≥ 0.9: a x at 4.00") < at("? unproven"), "{text}");
        assert!(text.contains("best 1 of 3") && !text.contains("b ?"), "{text}");
        let alone = drawn(&[table], 100);
        assert!(alone.contains("no code is recommended"), "{alone}");
        let proven = Record { proof: Some(Proof::Proven), ..proven };
        assert!(!drawn(&[proven], 100).contains("unproven"));
    }

    #[test]
    fn a_method_that_memorises_its_rows_pays_for_its_model() {
        let mut memory = point("memory", "x", 0.32, 1.0, 0.0);
        memory.method.needs_training = Some(true);
        memory.dataset.train_apart = Some(false);
        let honest = point("a", "y", 4.0, 0.95, 0.1);
        // Without a size of its model it leads nowhere.
        let text = drawn(&[memory.clone(), honest.clone()], 100);
        assert!(text.contains("≥ 0.9: a y at 4.00"), "{text}");
        assert!(
            text.contains("memory ~*") && text.contains("~ learned a model of unknown"),
            "{text}"
        );
        memory.metrics.push(MetricValue::new("model_bytes", 4_000_000.0).unwrap());
        let found = tradeoffs(&[memory.clone(), honest.clone()]);
        assert_eq!(found.datasets[0].best[0].method, "a");
        let text = drawn(&[memory, honest], 100);
        assert!(text.contains("≥ 0.9: a y at 4.00"), "{text}");
        assert!(text.contains("memory *") && text.contains("32.32"), "{text}");
        assert!(text.contains("* learned from rows that it is measured on"), "{text}");
    }

    #[test]
    fn what_is_peculiar_about_the_data_stands_under_its_table() {
        let mut record = point("a", "x", 1.0, 0.6, 0.1);
        record.dataset.facts = Some(Facts { synthetic: true, zero_queries: 2, ..Facts::default() });
        record.notices.push("the machine was busy".to_owned());
        let text = drawn(&[record], 80);
        assert!(
            text.contains("\nresults on synthetic data seldom transfer to real data\n"),
            "{text}"
        );
        assert!(text.contains("\n2 of 500 queries are zero\n"), "{text}");
        // Its line is folded.
        assert!(text.replace('\n', " ").contains("1 cell has a notice"), "{text}");
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
            text.contains("1 query, l2")
                && text.contains("best 1 of 1 configuration by recall@10 "),
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
