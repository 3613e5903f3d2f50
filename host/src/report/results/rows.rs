//! Records as a table for people, and what stands under it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::record::{DatasetInfo, Record};
use crate::report::configuration::Configuration;
use crate::report::failures::{self, Failure};
use crate::report::marks::Marks;
use crate::report::spread::{STANDARD_ERRORS, interval};
use crate::report::table::{self, Column};
use crate::report::{Style, headline_recall, notices, number, plain, too_many_threads, wrapped};

pub(super) fn write_table(
    rows: &[&Record],
    metrics: &[String],
    verbose: bool,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no results");
    }
    let text = |head: &str, cell: fn(&Record) -> String| {
        Column::text(head, rows.iter().map(|record| cell(record)))
    };
    let marks = |record: &Record| Configuration { records: vec![record] }.marks();
    let mut columns = vec![
        text("dataset", |record| record.dataset.name.clone()),
        Column::text("method", rows.iter().map(|record| marks(record).on(&record.method.id))),
        text("label", |record| record.label.clone()),
    ];
    // These tell rows apart only when they differ.
    if rows.iter().any(|record| record.metric != rows[0].metric) {
        columns.push(text("metric", |record| record.metric.clone()));
    }
    if rows.iter().any(|record| record.seed != rows[0].seed) {
        columns.push(text("seed", |record| record.seed.to_string()));
    }
    if rows.iter().any(|record| !record.outcome.is_ok()) {
        columns.push(text("outcome", |record| record.outcome.to_string()));
    }
    let names = columns.len();
    for name in metrics {
        let cells = rows.iter().map(|record| {
            record.value(name).map_or_else(|| "–".to_owned(), |value| number::metric(name, value))
        });
        columns.push(Column::number(name, cells));
        let errors = || rows.iter().map(|record| record.standard_error(name));
        if errors().any(|error| error.is_some()) {
            let twice = |error: f64| number::metric(name, STANDARD_ERRORS * error);
            let cells = errors().map(|error| error.map_or_else(|| "–".to_owned(), twice));
            columns.push(Column::number("±", cells).spare());
        }
    }
    let under = |row: usize| details(rows[row], style);
    let left_out = table::write_with(&columns, names, style, verbose.then_some(&under as _), out)?;
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        notes.push("a wider terminal also shows ±, twice the standard error".to_owned());
    } else if columns.iter().any(Column::is_error) {
        notes.push("± is twice the standard error over queries".to_owned());
    }
    let configurations = Configuration::of(rows.iter().copied());
    let over_budget = configurations.iter().filter(|of| of.over_budget()).count();
    notes.extend(too_many_threads(over_budget));
    let marks: Vec<Marks> = rows.iter().map(|record| marks(record)).collect();
    notes.extend(Marks::legend(&marks));
    notes.extend(other_truths(rows));
    notes.extend(peculiarities(rows));
    notes.extend(over_seeds(&configurations));
    for note in notes {
        writeln!(out, "{}", wrapped(&plain(&note), 2, style.columns()))?;
    }
    if verbose {
        return Ok(());
    }
    let failures = Failure::of(rows.iter().copied());
    if !failures.is_empty() {
        writeln!(out)?;
    }
    failures::write(&failures, style, out)
}

/// Whose neighbours recall is against, where they are not the data set's own.
fn other_truths(rows: &[&Record]) -> Vec<String> {
    let said: BTreeSet<(&str, &str)> = rows
        .iter()
        .filter_map(|record| Some((record.dataset.name.as_str(), record.truth_of()?)))
        .collect();
    said.into_iter()
        .map(|(name, other)| format!("{name}: {}", notices::other_truth(other)))
        .collect()
}

/// What is peculiar about each data set, which is named where there are several.
fn peculiarities(rows: &[&Record]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let datasets: Vec<&DatasetInfo> = rows
        .iter()
        .map(|record| &record.dataset)
        .filter(|data| data.facts.is_some())
        .filter(|data| seen.insert((&data.name, &data.digest)))
        .collect();
    let of = |data: &&DatasetInfo| {
        let name = if datasets.len() > 1 { format!("{}: ", data.name) } else { String::new() };
        let said = notices::of(data).join("; ");
        (!said.is_empty()).then(|| name + &said)
    };
    datasets.iter().filter_map(of).collect()
}

/// The mean recall of each configuration of several seeds, with its 95 % interval.
fn over_seeds(configurations: &[Configuration<'_>]) -> Vec<String> {
    /// Lines of a list; the records are all there.
    const LINES: usize = 20;
    let mut lines = Vec::new();
    for of in configurations {
        let first = of.first();
        let names = first.metrics.iter().map(|metric| metric.name());
        let Some(recall) = headline_recall(names).map(|k| format!("recall@{k}")) else { continue };
        let values = of.values(&recall);
        let (Some(half), Some(mean)) = (interval(&values), of.mean(&recall)) else { continue };
        let (method, seeds) = (&first.method.id, values.len());
        let name = format!("{} {method} {}", first.dataset.name, first.label);
        lines.push(format!("{name}: {recall} {mean:.4} ± {half:.4} over {seeds} seeds (95 %)"));
    }
    if let Some(more @ 1..) = lines.len().checked_sub(LINES) {
        lines.truncate(LINES);
        lines.push(format!("… and {more} more configurations of several seeds"));
    }
    lines
}

/// What one wants to know of a record to find a fault, a line each.
fn details(record: &Record, style: Style) -> Vec<String> {
    /// Columns of what precedes a text.
    const INDENT: usize = 12;
    let timing = &record.timing;
    let used = timing.threads_used.map(|used| format!(" (used {used:.2})")).unwrap_or_default();
    let mut how = format!(
        "{}, {:.1} s, {}, threads {}{used}, jobs {}",
        record.started_at, record.wall_s, record.outcome, timing.threads, timing.jobs
    );
    if let Some(load) = timing.load_average {
        how += &format!(", load {load:.2}");
    }
    let method = &record.method;
    let plugin = format!("{} {}, {}", method.id, method.version, method.plugin_path);
    let sandbox = record.sandbox.as_ref().map(ToString::to_string).unwrap_or_default();
    let proof = record.proof.as_ref().map(ToString::to_string);
    let proof = proof.unwrap_or_else(|| "not known".to_owned());
    let training = record.dataset.train_rows.map(|rows| {
        let apart = match record.dataset.train_apart {
            Some(true) => ", none of them in the base",
            Some(false) => ", some of them in the base",
            None => "",
        };
        format!("{rows} rows{apart}")
    });
    let notices = record.notices.join("\n");
    let lines = [
        ("ran", how.as_str()),
        ("plugin", plugin.as_str()),
        ("digest", method.plugin_digest.as_str()),
        ("sandbox", sandbox.as_str()),
        ("proof", proof.as_str()),
        ("train", training.as_deref().unwrap_or_default()),
        ("notice", notices.as_str()),
        ("key", record.key.as_str()),
        ("cause", record.error.as_deref().unwrap_or_default()),
        ("log", record.log.as_deref().unwrap_or_default()),
    ];
    let mut all = Vec::new();
    for (name, text) in lines {
        for (i, line) in text.lines().enumerate() {
            let name = if i == 0 { name } else { "" };
            let line = format!("    {name:8}{}", plain(line));
            all.extend(wrapped(&line, INDENT, style.columns()).lines().map(str::to_owned));
        }
    }
    all
}
