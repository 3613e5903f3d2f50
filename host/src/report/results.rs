//! The general table of a store's records: chosen metrics, any order, the best per rate.
//!
//! The columns that identify a row have the names of the store's view `results`.

mod format;
pub(super) mod identity;
mod order;
mod rows;

use std::collections::BTreeSet;
use std::io::{self, Write};

pub use self::format::{Format, UnknownFormat};
use self::identity::IDENTITY;
pub(super) use self::order::sort;
pub use self::order::{BadSort, Order, Sort};
use self::rows::write_table;
use super::tradeoffs::{best_records, tradeoffs, write_tradeoffs};
use super::{Style, headline_recall};
use crate::output;
use crate::record::{Record, natural_key};

/// What to show of the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Names of the metrics that get a column. Empty: the usual few in a table, all in CSV. JSON
    /// always has all.
    pub metrics: Vec<String>,
    /// The order of rows; none is by dataset, size, method, label and seed.
    pub sort: Option<Sort>,
    /// Only the best trade-offs of size and quality, see [`super::tradeoffs`]. A table of them is that
    /// which ends a run, unless metrics, order or details are asked for.
    pub best: bool,
    /// A table also tells under each row what one wants to know to find a fault.
    pub verbose: bool,
    /// How it is written.
    pub format: Format,
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
    known_metrics(records, &request.metrics, &present)?;
    let plain = request.metrics.is_empty() && request.sort.is_none() && !request.verbose;
    if request.best && plain && request.format == Format::Table && !records.is_empty() {
        return Ok(write_tradeoffs(&tradeoffs(records), style, out)?);
    }
    let mut rows: Vec<&Record> = match request.best {
        true => best_records(records),
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

/// Refuses a metric that is not `present` in the records, where there are any.
pub(super) fn known_metrics(
    records: &[Record],
    wanted: &[String],
    present: &[String],
) -> Result<(), ResultsError> {
    match wanted.iter().find(|name| !present.contains(name)) {
        Some(name) if !records.is_empty() => {
            Err(ResultsError::UnknownMetric { name: name.clone(), known: present.to_vec() })
        }
        _ => Ok(()),
    }
}

/// Every metric that some record has, in natural order.
pub(super) fn metrics_of(records: &[Record]) -> Vec<String> {
    let names: BTreeSet<&str> =
        records.iter().flat_map(|record| &record.metrics).map(|metric| metric.name()).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_by_cached_key(|name| natural_key(name));
    names
}

/// What a table shows unasked.
pub(super) fn usual_metrics(present: &[String]) -> Vec<String> {
    let recall = headline_recall(present.iter().map(String::as_str)).map(|k| format!("recall@{k}"));
    ["bits_per_dim", "relative_error"]
        .map(str::to_owned)
        .into_iter()
        .chain(recall)
        .chain(["compress_vectors_per_s", "fit_s"].map(str::to_owned))
        .filter(|name| present.contains(name))
        .collect()
}

pub(super) fn write_csv(
    rows: &[&Record],
    metrics: &[String],
    out: &mut dyn Write,
) -> Result<(), csv::Error> {
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
    fn the_best_are_those_of_the_table_that_ends_a_run() {
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
        // By the mean over seeds, and not by the luckiest.
        let request = Request { best: true, ..Request::default() };
        assert_eq!(labels(&records, request.clone()), ["steady", "steady", "elsewhere"]);
        let mut table = Vec::new();
        write_tradeoffs(&tradeoffs(&records), Style::PLAIN, &mut table).unwrap();
        assert_eq!(written(&records, &request), String::from_utf8(table).unwrap());
        let columns = Request { metrics: vec!["mse".to_owned()], ..request };
        assert!(written(&records, &columns).starts_with("dataset "));
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
