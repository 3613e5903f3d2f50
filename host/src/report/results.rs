//! The general table of a store's records: chosen metrics, any order, the best per rate.
//!
//! The columns that identify a row have the names of the store's view `results`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::str::FromStr;

use super::configuration::Configuration;
use super::failures::{self, Failure};
use super::marks::Marks;
use super::notices;
use super::spread::{STANDARD_ERRORS, interval};
use super::table::{self, Column, plain};
use super::{Style, headline_recall, known, number, too_many_threads, wrapped};
use crate::output;
use crate::record::{DatasetInfo, Record, canonical_json, natural_key};

/// What to show of the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Names of the metrics that get a column. Empty: the usual few in a table, all in CSV. JSON
    /// always has all.
    pub metrics: Vec<String>,
    /// The order of rows; none is by dataset, size, method, label and seed.
    pub sort: Option<Sort>,
    /// Only the best recall for each dataset and rate: bits per dimension rounded to halves. The
    /// mean over its seeds makes a configuration the best, not its luckiest seed.
    pub best: bool,
    /// A table also tells under each row what one wants to know to find a fault.
    pub verbose: bool,
    /// How it is written.
    pub format: Format,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// An array of whole records.
    Json,
    /// One line per record, one column per metric, full precision.
    Csv,
}

/// A text that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{name}`; one of table, json, csv")]
pub struct UnknownFormat {
    /// The text.
    pub name: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(UnknownFormat { name: name.to_owned() }),
        }
    }
}

/// An order of rows. Written `COLUMN`, `COLUMN:asc` or `COLUMN:desc`; rows without the value come
/// last either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// A metric or a column that identifies rows; it need not be shown.
    pub column: String,
    /// The direction; none puts the better metrics first and sorts everything else upwards.
    pub order: Option<Order>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A text that is no order of rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sort by `{text}`; write COLUMN, COLUMN:asc or COLUMN:desc")]
pub struct BadSort {
    /// The text.
    pub text: String,
}

impl FromStr for Sort {
    type Err = BadSort;

    fn from_str(text: &str) -> Result<Self, BadSort> {
        let (column, order) = match text.split_once(':') {
            None => (text, None),
            Some((column, "asc")) => (column, Some(Order::Ascending)),
            Some((column, "desc")) => (column, Some(Order::Descending)),
            Some(_) => {
                return Err(BadSort { text: text.to_owned() });
            }
        };
        if column.is_empty() {
            return Err(BadSort { text: text.to_owned() });
        }
        Ok(Self { column: column.to_owned(), order })
    }
}

/// Why results cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// No record has this metric.
    #[error("no record has the metric `{name}`")]
    UnknownMetric {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// Neither a metric nor a column that identifies rows.
    #[error("there is no column `{name}` to sort by")]
    UnknownColumn {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// The output refuses.
    #[error("cannot write the results")]
    Write(#[from] io::Error),
}

impl From<csv::Error> for ResultsError {
    fn from(error: csv::Error) -> Self {
        Self::Write(error.into())
    }
}

/// A value of a column that identifies rows.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Missing,
    Text(String),
    Whole(u64),
    Real(f64),
}

impl Field {
    fn whole(whole: Option<u64>) -> Self {
        whole.map_or(Self::Missing, Self::Whole)
    }

    fn flag(flag: Option<bool>) -> Self {
        Self::whole(flag.map(u64::from))
    }

    fn write(self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Text(text) => text,
            Self::Whole(whole) => whole.to_string(),
            Self::Real(real) => real.to_string(),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => natural_key(a).cmp(&natural_key(b)),
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            // One column has one type, so only what is missing comes here.
            _ => Ordering::Equal,
        }
    }
}

/// Takes one column's value from a record.
type Read = fn(&Record) -> Field;

/// The columns that identify rows, in the order of the store's view.
const IDENTITY: [(&str, Read); 34] = [
    ("dataset", |record| Field::Text(record.dataset.name.clone())),
    ("method", |record| Field::Text(record.method.id.clone())),
    ("label", |record| Field::Text(record.label.clone())),
    ("seed", |record| Field::Whole(record.seed)),
    ("outcome", |record| Field::Text(record.outcome.to_string())),
    ("metric", |record| Field::Text(record.metric.clone())),
    ("n", |record| Field::Whole(record.dataset.n)),
    ("dim", |record| Field::Whole(record.dataset.dim)),
    ("queries", |record| Field::Whole(record.dataset.queries)),
    ("error", |record| record.error.clone().map_or(Field::Missing, Field::Text)),
    ("sandbox", |record| {
        let text = record.sandbox.as_ref().map(ToString::to_string);
        text.map_or(Field::Missing, Field::Text)
    }),
    ("proof", |record| {
        let text = record.proof.as_ref().map(ToString::to_string);
        text.map_or(Field::Missing, Field::Text)
    }),
    ("notices", |record| match record.notices.as_slice() {
        [] => Field::Missing,
        notices => Field::Text(canonical_json(&serde_json::json!(notices))),
    }),
    ("threads", |record| Field::Whole(record.timing.threads.into())),
    ("jobs", |record| Field::Whole(record.timing.jobs.into())),
    ("exclusive", |record| Field::Whole(record.timing.exclusive.into())),
    ("threads_used", |record| record.timing.threads_used.map_or(Field::Missing, Field::Real)),
    ("started_at", |record| Field::Text(record.started_at.clone())),
    ("wall_s", |record| Field::Real(record.wall_s)),
    ("method_version", |record| Field::Text(record.method.version.clone())),
    ("needs_training", |record| Field::flag(record.method.needs_training)),
    ("deterministic", |record| Field::flag(record.method.deterministic)),
    ("train_rows", |record| Field::whole(record.dataset.train_rows)),
    ("train_apart", |record| Field::flag(record.dataset.train_apart)),
    ("synthetic", |record| Field::flag(record.dataset.facts.map(|facts| facts.synthetic))),
    ("zero_queries", |record| Field::whole(record.dataset.facts.map(|facts| facts.zero_queries))),
    ("queries_in_base", |record| {
        Field::whole(record.dataset.facts.map(|facts| facts.queries_in_base))
    }),
    ("duplicate_rows", |record| {
        Field::whole(record.dataset.facts.map(|facts| facts.duplicate_rows))
    }),
    ("tied_queries", |record| Field::whole(record.dataset.facts.map(|facts| facts.tied_queries))),
    ("plugin_digest", |record| Field::Text(record.method.plugin_digest.clone())),
    ("needs_digest", |record| {
        record.method.needs_digest.clone().map_or(Field::Missing, Field::Text)
    }),
    ("params", |record| Field::Text(canonical_json(&record.params))),
    ("run_id", |record| Field::Text(record.run_id.clone())),
    ("key", |record| Field::Text(record.key.clone())),
];

/// Writes `records` as `request` says.
///
/// # Errors
/// [`ResultsError`]: a metric or column that no record has, or what `out` returns.
pub fn write_results(
    records: &[Record],
    request: &Request,
    style: Style,
    out: &mut dyn Write,
) -> Result<(), ResultsError> {
    let present = metrics_of(records);
    if let Some(name) = request.metrics.iter().find(|name| !present.contains(name))
        && !records.is_empty()
    {
        return Err(ResultsError::UnknownMetric { name: name.clone(), known: present });
    }
    let mut rows: Vec<&Record> = match request.best {
        true => best_per_rate(records),
        false => records.iter().collect(),
    };
    sort(&mut rows, request.sort.as_ref(), &present)?;
    match request.format {
        Format::Json => {
            output::write(&rows, out)?;
        }
        Format::Csv => {
            let metrics = if request.metrics.is_empty() { &present } else { &request.metrics };
            write_csv(&rows, metrics, out)?;
        }
        Format::Table => {
            let usual = usual_metrics(&present);
            let metrics = if request.metrics.is_empty() { &usual } else { &request.metrics };
            write_table(&rows, metrics, request.verbose, style, out)?;
        }
    }
    Ok(())
}

/// Every metric that some record has, in natural order.
fn metrics_of(records: &[Record]) -> Vec<String> {
    let names: BTreeSet<&str> =
        records.iter().flat_map(|record| &record.metrics).map(|metric| metric.name()).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_by_cached_key(|name| natural_key(name));
    names
}

/// What a table shows unasked.
fn usual_metrics(present: &[String]) -> Vec<String> {
    let recall = headline_recall(present.iter().map(String::as_str)).map(|k| format!("recall@{k}"));
    ["bits_per_dim", "relative_error"]
        .map(str::to_owned)
        .into_iter()
        .chain(recall)
        .chain(["compress_vectors_per_s", "fit_s"].map(str::to_owned))
        .filter(|name| present.contains(name))
        .collect()
}

/// The records of the best configuration for each dataset and rate.
fn best_per_rate(records: &[Record]) -> Vec<&Record> {
    let space = |record: &Record| {
        (record.dataset.name.clone(), record.dataset.digest.clone(), record.metric.clone())
    };
    // As elsewhere, a dataset's recall is the one most often asked for on it.
    let mut names: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for record in records {
        let metrics = record.metrics.iter().map(|metric| metric.name());
        names.entry(space(record)).or_default().extend(metrics);
    }
    let headline: BTreeMap<_, _> = names
        .into_iter()
        .filter_map(|(space, names)| Some((space, headline_recall(names.into_iter())?)))
        .collect();

    let mut best: BTreeMap<_, ((bool, f64, f64), Configuration<'_>)> = BTreeMap::new();
    for configuration in Configuration::of(records) {
        let space = space(configuration.first());
        let recall = headline.get(&space).and_then(|k| configuration.mean(&format!("recall@{k}")));
        let (Some(recall), Some(size)) = (recall, configuration.size()) else {
            continue;
        };
        let rate = (2.0 * size).round() as u64;
        // What is not proven is the best only of nothing that is. Of equal recalls the smaller
        // code is the better one.
        let rank = (configuration.marks().may_lead(), recall, -size);
        let better = best.get(&(space.clone(), rate)).is_none_or(|(other, _)| {
            let (a, b) = (rank, *other);
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)).is_gt()
        });
        if better {
            best.insert((space, rate), (rank, configuration));
        }
    }
    best.into_values().flat_map(|(.., configuration)| configuration.records).collect()
}

fn sort(rows: &mut [&Record], by: Option<&Sort>, present: &[String]) -> Result<(), ResultsError> {
    // The usual order, which a stable sort keeps among equal rows.
    rows.sort_by_cached_key(|record| {
        let of = Configuration { records: vec![record] };
        let size = of.size().unwrap_or(f64::INFINITY);
        // For numbers that are not negative the order of bits is the order of values.
        let bits = size.max(0.0).to_bits();
        (
            natural_key(&record.dataset.name),
            !of.marks().may_lead(),
            bits,
            natural_key(&record.method.id),
            natural_key(&record.label),
            record.seed,
        )
    });
    let Some(Sort { column, order }) = by else {
        return Ok(());
    };
    let identity = IDENTITY.iter().find(|(name, _)| name == column);
    let mut keyed: Vec<(Field, &Record)> = match identity {
        Some((_, field)) => rows.iter().map(|record| (field(record), *record)).collect(),
        None if present.contains(column) => rows
            .iter()
            .map(|record| (record.value(column).map_or(Field::Missing, Field::Real), *record))
            .collect(),
        None if rows.is_empty() => return Ok(()),
        None => {
            let columns = IDENTITY.iter().map(|(name, _)| (*name).to_owned());
            return Err(ResultsError::UnknownColumn {
                name: column.clone(),
                known: columns.chain(present.iter().cloned()).collect(),
            });
        }
    };
    let better_is_larger = identity.is_none() && known(column).higher_is_better == Some(true);
    let descending = order.map_or(better_is_larger, |order| order == Order::Descending);
    keyed.sort_by(|(a, _), (b, _)| {
        let missing = |field: &Field| *field == Field::Missing;
        let order = a.compare(b);
        missing(a).cmp(&missing(b)).then(if descending { order.reverse() } else { order })
    });
    for (row, (_, record)) in rows.iter_mut().zip(keyed) {
        *row = record;
    }
    Ok(())
}

fn write_csv(rows: &[&Record], metrics: &[String], out: &mut dyn Write) -> Result<(), csv::Error> {
    let mut csv = csv::Writer::from_writer(out);
    let identity = IDENTITY.iter().map(|(name, _)| *name);
    csv.write_record(identity.chain(metrics.iter().map(String::as_str)))?;
    for record in rows {
        let identity = IDENTITY.iter().map(|(_, field)| field(record).write());
        let values = metrics
            .iter()
            .map(|name| record.value(name).map_or_else(String::new, |value| value.to_string()));
        csv.write_record(identity.chain(values))?;
    }
    csv.flush()?;
    Ok(())
}

fn write_table(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{Facts, MetricValue, Outcome, Proof};

    fn point(method: &str, label: &str, seed: u64, bits: f64, recall: f64) -> Record {
        let metrics = [("bits_per_dim", bits), ("recall@10", recall), ("mse", 1.0 - recall)];
        Record { seed, ..sample(method, label, &metrics) }
    }

    fn written(records: &[Record], request: &Request) -> String {
        let mut out = Vec::new();
        write_results(records, request, Style::PLAIN, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The labels of the rows, in their order, by way of CSV.
    fn labels(records: &[Record], request: Request) -> Vec<String> {
        let text = written(records, &Request { format: Format::Csv, ..request });
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        csv.records().map(|row| row.unwrap()[2].to_owned()).collect()
    }

    fn sorted(records: &[Record], sort: &str) -> Vec<String> {
        labels(records, Request { sort: Some(sort.parse().unwrap()), ..Request::default() })
    }

    #[test]
    fn a_table_shows_the_usual_metrics_or_those_asked_for() {
        let records = [point("a", "m=16", 1, 2.0, 0.75), point("a", "m=8", 1, 1.0, 0.5)];
        let expected = "\
dataset  method  label  bits_per_  recall@10
                              dim
────────────────────────────────────────────
glove    a       m=8         1.00     0.5000
glove    a       m=16        2.00     0.7500
";
        assert_eq!(written(&records, &Request::default()), expected);
        let request = Request { metrics: vec!["mse".to_owned()], ..Request::default() };
        let text = written(&records, &request);
        assert!(text.contains("mse") && !text.contains("recall"), "{text}");
    }

    #[test]
    fn a_metric_nobody_measured_is_an_error_that_knows_the_others() {
        let records = [point("a", "x", 1, 2.0, 0.75)];
        let request = Request { metrics: vec!["recall@11".to_owned()], ..Request::default() };
        let error = write_results(&records, &request, Style::PLAIN, &mut Vec::new()).unwrap_err();
        let expected = ["bits_per_dim", "mse", "recall@10"];
        assert!(
            matches!(&error, ResultsError::UnknownMetric { known, .. } if *known == expected),
            "{error:?}"
        );
        let request = Request { sort: Some("colour".parse().unwrap()), ..Request::default() };
        let error = write_results(&records, &request, Style::PLAIN, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, ResultsError::UnknownColumn { .. }), "{error:?}");
        assert_eq!(written(&[], &request), "no results\n");
    }

    #[test]
    fn rows_sort_by_any_column_and_missing_values_come_last() {
        let records = [
            point("a", "m=10", 1, 2.0, 0.75),
            point("b", "m=9", 2, 1.0, 0.5),
            point("c", "m=8", 3, 4.0, 0.9),
            sample("d", "none", &[]),
        ];
        assert_eq!(sorted(&records, "recall@10"), ["m=8", "m=10", "m=9", "none"]);
        assert_eq!(sorted(&records, "recall@10:asc"), ["m=9", "m=10", "m=8", "none"]);
        assert_eq!(sorted(&records, "mse"), ["m=8", "m=10", "m=9", "none"]);
        assert_eq!(sorted(&records, "bits_per_dim:desc"), ["m=8", "m=10", "m=9", "none"]);
        assert_eq!(sorted(&records, "label"), ["m=8", "m=9", "m=10", "none"]);
        assert_eq!(sorted(&records, "seed:desc"), ["none", "m=8", "m=9", "m=10"]);
        assert_eq!(labels(&records, Request::default()), ["m=9", "m=10", "m=8", "none"]);
        for bad in ["", ":asc", "mse:up"] {
            assert!(bad.parse::<Sort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_best_per_rate_is_chosen_by_the_mean_over_seeds() {
        let mut elsewhere = point("a", "elsewhere", 1, 2.0, 0.1);
        elsewhere.dataset.name = "other".to_owned();
        let records = [
            point("a", "steady", 1, 2.0, 0.7),
            point("a", "steady", 2, 2.0, 0.7),
            point("a", "lucky", 1, 2.1, 0.9),
            point("a", "lucky", 2, 2.1, 0.2),
            point("a", "larger", 1, 4.0, 0.3),
            point("a", "same", 1, 4.1, 0.3),
            elsewhere,
            sample("a", "unmeasured", &[("bits_per_dim", 9.0)]),
        ];
        let request = Request { best: true, ..Request::default() };
        assert_eq!(labels(&records, request), ["steady", "steady", "larger", "elsewhere"]);
    }

    #[test]
    fn verbose_tells_under_each_row_what_a_fault_is_found_by() {
        let mut failed = point("b", "m=8", 1, 1.0, 0.5);
        failed.outcome = Outcome::Failed;
        failed.error = Some("no\u{1b}[31m luck".to_owned());
        failed.log = Some("info: first\nwarning: \u{1b}[2Jsecond".to_owned());
        let ok = point("a", "m=16", 1, 2.0, 0.75);
        let request = Request { verbose: true, ..Request::default() };
        let text = written(&[ok, failed], &request);
        assert!(!text.contains('\u{1b}'), "{text}");
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in {text}"));
        let places =
            [at("m=8 "), at("cause   no"), at("log     info: first"), at("\\u{1b}[2Jsecond")];
        assert!(places.is_sorted() && at("second") < at("m=16"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!written(&[point("a", "x", 1, 2.0, 0.7)], &Request::default()).contains("ran "));
    }

    #[test]
    fn speeds_of_more_threads_than_were_given_are_marked() {
        let mut greedy = point("a", "x", 1, 2.0, 0.7);
        let note = "1 configuration used more threads than it was given";
        assert!(!written(&[greedy.clone()], &Request::default()).contains(note));
        greedy.timing.threads_used = Some(1.15 * f64::from(greedy.timing.threads));
        assert!(written(&[greedy.clone()], &Request::default()).contains(note));
        greedy.timing.threads = 1;
        greedy.timing.threads_used = Some(1.15);
        let verbose = Request { verbose: true, ..Request::default() };
        let text = written(&[greedy.clone()], &verbose);
        assert!(text.contains(note) && text.contains("threads 1 (used 1.15), jobs"), "{text}");
        greedy.outcome = Outcome::Failed;
        assert!(!written(&[greedy], &Request::default()).contains(note));
    }

    #[test]
    fn a_table_tells_what_limits_its_numbers_and_how_sure_they_are() {
        let mut unproven = point("a", "side-table", 1, 0.5, 1.0);
        unproven.proof = Some(Proof::Unproven { reason: "there is no sandbox".to_owned() });
        let mut first = point("b", "x", 1, 2.0, 0.7);
        let error = MetricValue::with_error("recall@10", 0.7, Some(0.0125)).unwrap();
        first.metrics.retain(|metric| metric.name() != "recall@10");
        first.metrics.push(error);
        let mut second = point("b", "x", 2, 2.0, 0.9);
        second.metric = "ip".to_owned();
        second.dataset.facts = Some(Facts { synthetic: true, ..Facts::default() });
        let third = point("b", "x", 3, 2.0, 0.8);
        let text = written(&[unproven, first, second, third], &Request::default());
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in {text}"));
        assert!(at("b       x") < at("a ?"), "{text}");
        assert!(at("metric") < at("ip") && at(" 0.0250") < at("± is twice"), "{text}");
        assert!(text.contains("? unproven") && text.contains("seldom transfer"), "{text}");
        // Mean 0.75, half the difference 0.05, times 12.706.
        let spread = "glove b x: recall@10 0.7500 ± 0.6353 over 2 seeds (95 %)";
        assert!(text.contains(spread), "{text}");
    }

    #[test]
    fn json_holds_whole_records() {
        let records = vec![point("a", "x", 1, 2.0, 0.1 + 0.2)];
        let text = written(&records, &Request { format: Format::Json, ..Request::default() });
        assert_eq!(serde_json::from_str::<Vec<Record>>(&text).unwrap(), records);
    }

    #[test]
    fn csv_has_every_metric_at_full_precision() {
        let mut failed = sample("b", "a, \"quoted\" label", &[]);
        failed.outcome = Outcome::Failed;
        let records = [point("a", "x", 1, 2.0, 0.1 + 0.2), failed];
        let text = written(&records, &Request { format: Format::Csv, ..Request::default() });
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let head = csv.headers().unwrap().clone();
        let at = |name: &str| head.iter().position(|column| column == name).unwrap();
        let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        assert_eq!(rows[0][at("recall@10")].parse::<f64>(), Ok(0.1 + 0.2));
        assert_eq!(&rows[1][at("recall@10")], "");
        assert_eq!(&rows[1][at("outcome")], "failed");
        assert_eq!(&rows[1][at("label")], "a, \"quoted\" label");
    }

    #[test]
    fn the_columns_are_those_of_the_stores_view() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = crate::store::Store::open(folder.path().join("s.db")).unwrap();
        let names: Vec<&str> = IDENTITY.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, store.identity_columns());
    }

    #[test]
    fn any_number_of_metrics_fits_any_width() {
        let names: Vec<String> = (0..40).map(|i| format!("recall@{i}/rerank=4")).collect();
        let metrics: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
        let mut record = sample("m".repeat(40).as_str(), &"l ".repeat(80), &metrics);
        record.dataset.name = "d".repeat(70);
        record.seed = u64::MAX;
        let mut failed = record.clone();
        failed.seed = 1;
        failed.outcome = Outcome::OutOfMemory;
        failed.error = Some("x".repeat(300));
        let request = Request { metrics: names, ..Request::default() };
        for width in [0, 60, 75, 100, 300] {
            let mut out = Vec::new();
            let style = Style { width, color: false };
            write_results(&[record.clone(), failed.clone()], &request, style, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width.clamp(60, 200), "{widest} in {width}:\n{text}");
            assert_eq!(text.matches("0.5000").count(), 80);
        }
    }
}
