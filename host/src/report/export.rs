//! A store's records for other programs: Parquet, CSV, JSON Lines, Markdown.
//!
//! Every row has the key of its record, so that each number can be traced to one. CSV and Parquet
//! have the columns of [`results`](super::results), and its order of rows.

mod ann_benchmarks;
mod markdown;
mod parquet;

use std::io::{self, Write};
use std::str::FromStr;

use super::results::{self, ResultsError};
use crate::output;
use crate::record::Record;

/// How records are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One Parquet file with a typed column for each column of the CSV.
    Parquet,
    /// As `results --format csv`.
    Csv,
    /// The columns that the data export of ann-benchmarks has, a row for each ok record and k.
    AnnBenchmarks,
    /// One whole record per line.
    JsonLines,
    /// A table of GitHub's Markdown.
    Markdown,
}

impl ExportFormat {
    /// Every format, under the name that it is asked for by.
    pub const ALL: [(&'static str, Self); 5] = [
        ("parquet", Self::Parquet),
        ("csv", Self::Csv),
        ("csv-ann", Self::AnnBenchmarks),
        ("jsonl", Self::JsonLines),
        ("markdown", Self::Markdown),
    ];

    /// Whether what is written is no text.
    pub fn is_binary(self) -> bool {
        self == Self::Parquet
    }
}

/// A text that names no format of an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{name}`; one of parquet, csv, csv-ann, jsonl, markdown")]
pub struct UnknownExportFormat {
    /// The text.
    pub name: String,
}

impl FromStr for ExportFormat {
    type Err = UnknownExportFormat;

    fn from_str(name: &str) -> Result<Self, UnknownExportFormat> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| format).ok_or_else(|| UnknownExportFormat { name: name.to_owned() })
    }
}

/// Writes `records` as `format`. `metrics` names those that get a column; where it is empty, a
/// Markdown table has the usual few, Parquet and CSV have all. The other formats have columns of
/// their own.
///
/// # Errors
/// [`ResultsError`]: a metric that no record has, or what `out` returns.
pub fn export(
    records: &[Record],
    metrics: &[String],
    format: ExportFormat,
    out: &mut (dyn Write + Send),
) -> Result<(), ResultsError> {
    let present = results::metrics_of(records);
    results::known_metrics(records, metrics, &present)?;
    let mut rows: Vec<&Record> = records.iter().collect();
    results::sort(&mut rows, None, &present)?;
    let all = if metrics.is_empty() { &present } else { metrics };
    match format {
        ExportFormat::Parquet => parquet::write(&rows, all, out)?,
        ExportFormat::Csv => results::write_csv(&rows, all, out)?,
        ExportFormat::AnnBenchmarks => ann_benchmarks::write(&rows, out)?,
        ExportFormat::JsonLines => json_lines(&rows, out)?,
        ExportFormat::Markdown => {
            let usual = results::usual_metrics(&present);
            markdown::write(&rows, if metrics.is_empty() { &usual } else { metrics }, out)?;
        }
    }
    Ok(())
}

fn json_lines(rows: &[&Record], out: &mut dyn Write) -> io::Result<()> {
    rows.iter().try_for_each(|record| output::write_line(record, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{MetricValue, Outcome};

    pub(super) fn exported(records: &[Record], format: ExportFormat) -> Vec<u8> {
        let mut out = Vec::new();
        export(records, &[], format, &mut out).unwrap();
        out
    }

    pub(super) fn text(records: &[Record], format: ExportFormat) -> String {
        String::from_utf8(exported(records, format)).unwrap()
    }

    /// One that went well and one that did not, with what is hard to quote.
    pub(super) fn two() -> [Record; 2] {
        let metrics = [
            ("bits_per_dim", 2.0),
            ("code_bytes", 25.0),
            ("fit_s", 1.5),
            ("model_bytes", 1024.0),
            ("recall@1", 0.25),
            ("recall@10", 0.1 + 0.2),
            ("score_codes_per_s", 5e6),
        ];
        let mut ok = sample("a", "m=8 | \"x\", y", &metrics);
        ok.seed = u64::MAX;
        ok.metrics.push(MetricValue::with_error("bias", -0.5, Some(0.25)).unwrap());
        let mut failed = sample("b", "m=16", &[]);
        failed.outcome = Outcome::Failed;
        failed.error = Some("line one\nline <two>\u{1b}[31m".to_owned());
        [ok, failed]
    }

    #[test]
    fn json_lines_read_back_as_the_records() {
        let records = two();
        let text = text(&records, ExportFormat::JsonLines);
        assert!(!text.contains('\u{1b}'), "{text}");
        let read: Vec<Record> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, records);
    }

    #[test]
    fn csv_is_that_of_the_results() {
        let records = two();
        let mut out = Vec::new();
        let request = results::Request { format: results::Format::Csv, ..Default::default() };
        results::write_results(&records, &request, super::super::Style::PLAIN, &mut out).unwrap();
        assert_eq!(exported(&records, ExportFormat::Csv), out);
    }

    #[test]
    fn only_metrics_that_exist_get_a_column() {
        let records = two();
        let error = export(&records, &["mse".to_owned()], ExportFormat::Markdown, &mut Vec::new());
        assert!(matches!(error, Err(ResultsError::UnknownMetric { .. })), "{error:?}");
    }

    #[test]
    fn every_format_has_a_name_and_takes_no_records() {
        for (name, format) in ExportFormat::ALL {
            assert_eq!(name.parse(), Ok(format));
            export(&[], &[], format, &mut Vec::new()).unwrap();
        }
        assert!("tsv".parse::<ExportFormat>().is_err());
    }
}
