//! The columns that ann-benchmarks' `data_export.py` writes, for its plots and for whoever reads
//! its files; the key of the record comes last.
//!
//! A row for each ok record and each k that recall was measured for. What this host does not
//! measure is empty: recalls within a factor of the distance, latencies of single queries.

use std::io::Write;

use crate::record::Record;

const COLUMNS: [&str; 19] = [
    "algorithm",
    "parameters",
    "count",
    "k-nn",
    "epsilon",
    "largeepsilon",
    "rel",
    "qps",
    "p50",
    "p95",
    "p99",
    "p999",
    "distcomps",
    "build",
    "candidates",
    "indexsize",
    "queriessize",
    "dataset",
    "key",
];

pub(super) fn write(rows: &[&Record], out: &mut dyn Write) -> Result<(), csv::Error> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS)?;
    for record in rows.iter().filter(|record| record.outcome.is_ok()) {
        for metric in &record.metrics {
            let k = metric.name().strip_prefix("recall@").and_then(|k| k.parse::<u64>().ok());
            if let Some(k) = k {
                csv.write_record(row(record, k, metric.value()))?;
            }
        }
    }
    csv.flush()?;
    Ok(())
}

fn row(record: &Record, k: u64, recall: f64) -> [String; COLUMNS.len()] {
    let or_empty = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let n = record.dataset.n as f64;
    // Every code is scored for every query, by the method's own search where it has one.
    let speed = record.value("search_codes_per_s").or_else(|| record.value("score_codes_per_s"));
    let qps = speed.map(|codes| codes / n);
    // What a process that answers queries keeps, in kB of 1024 bytes: all codes and the model.
    let model = ["model_bytes", "model_saved_bytes"].map(|name| record.value(name));
    let model = model.into_iter().flatten().reduce(f64::max);
    let size = record.value("code_bytes").map(|code| (code * n + model.unwrap_or(0.0)) / 1024.0);
    let name = format!("{} {}", record.method.id, record.label);
    [
        record.method.id.clone(),
        name.trim_end().to_owned(),
        k.to_string(),
        recall.to_string(),
        String::new(),
        String::new(),
        String::new(),
        or_empty(qps),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        n.to_string(),
        or_empty(record.value("fit_s")),
        k.to_string(),
        or_empty(size),
        or_empty(size.zip(qps).map(|(size, qps)| size / qps)),
        record.dataset.name.clone(),
        record.key.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::ExportFormat;
    use super::super::tests::{text, two};

    #[test]
    fn a_row_for_each_k_has_the_numbers_in_their_units() {
        let records = two();
        let text = text(&records, ExportFormat::AnnBenchmarks);
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let head = csv.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        let counts: Vec<&str> = rows.iter().map(|row| &row[2]).collect();
        assert_eq!(counts, ["1", "10"]);
        let of = |name: &str| &rows[1][head.iter().position(|column| column == name).unwrap()];
        assert_eq!((of("algorithm"), of("parameters")), ("a", "a m=8 | \"x\", y"));
        assert_eq!(of("k-nn").parse::<f64>(), Ok(0.1 + 0.2));
        // 5,000,000 codes a second over 10,000 rows; 25 bytes a row and a model of 1 kB.
        let size = (25.0 * 10_000.0 + 1024.0) / 1024.0;
        assert_eq!((of("qps"), of("build"), of("distcomps")), ("500", "1.5", "10000"));
        assert_eq!(of("indexsize").parse::<f64>(), Ok(size));
        assert_eq!(of("queriessize").parse::<f64>(), Ok(size / 500.0));
        assert_eq!((of("p99"), of("key")), ("", records[0].key.as_str()));
    }
}
