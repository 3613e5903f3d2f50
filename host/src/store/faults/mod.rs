//! What happens to stores: bits flip, disks fill up, processes are killed, files are old.

mod damage;
mod injected;
mod system;
mod versions;

use crate::record::tests::sample;
use crate::record::{Facts, MetricValue, Outcome, Proof, QueryRecalls, Record, cell_key};

use versions::before_version_3;

/// A record as the default sweep has them: its texts and metrics are as many and as long.
fn usual(i: usize) -> Record {
    let label = format!("m={} bits=8", 1 + i % 26);
    let mut record = sample("a", &label, &[]);
    record.dataset.name = if i < 26 { "clustered" } else { "glove" }.to_owned();
    record.dataset.digest = blake3::hash(record.dataset.name.as_bytes()).to_hex().to_string();
    record.method.plugin_path = "/home/someone/vq-host/target/release/libvq_pq.so".to_owned();
    record.method.plugin_digest = blake3::hash(b"libvq_pq.so").to_hex().to_string();
    record.params = serde_json::json!({ "m": 1 + i % 26, "bits": 8, "iterations": 25 });
    record.evaluation = serde_json::json!({
        "definitions": 1, "k": [1, 10, 100], "pairs": 10_000, "repeats": 3, "rerank": [1, 2, 4, 10],
    });
    record.started_at = format!("2025-11-22T20:31:{:02}.{:03}Z", i / 10 % 60, i);
    for m in 0..69u32 {
        let value = 1.0 / f64::from(1 + m) + i as f64;
        record.metrics.push(
            match m % 24 {
                0 => MetricValue::with_range(
                    format!("step_{m}_per_s"),
                    value,
                    value - 0.1,
                    value + 0.1,
                ),
                1 => MetricValue::new(format!("size_{m}_bytes"), f64::from(m)),
                // Of the 69, 29 are means over queries.
                2..=12 => MetricValue::with_error(
                    format!("recall@{m}/rerank={}", m % 4),
                    value,
                    Some(value / 3.0),
                ),
                _ => MetricValue::new(format!("recall@{m}/rerank={}", m % 4), value),
            }
            .unwrap(),
        );
    }
    record.recalls = [1, 10, 100].map(|k| recalls(k, i)).to_vec();
    record.proof = Some(Proof::Proven);
    record.method.needs_training = Some(i.is_multiple_of(2));
    record.method.deterministic = Some(true);
    record.dataset.train_rows = Some(20_000);
    record.dataset.train_apart = Some(true);
    record.dataset.facts = Some(Facts { duplicate_rows: 17, ..Facts::default() });
    record.metrics.sort_by(|a, b| a.name().cmp(b.name()));
    record.key = cell_key(&record.key_parts());
    record
}

/// Of 500 queries, as many as the default sweep has.
fn recalls(k: u32, i: usize) -> QueryRecalls {
    let hits = (0..500).map(|query: u32| (query * query + 7 * i as u32) % (k + 1));
    QueryRecalls::new(k, hits.collect()).unwrap()
}

/// Records of every kind: with errors, logs, no sandbox.
fn several() -> Vec<Record> {
    let mut records: Vec<Record> = (0..6).map(usual).collect();
    records[1].outcome = Outcome::Failed;
    records[1].error = Some("no room for 7 sub-spaces".to_owned());
    records[1].metrics.clear();
    records[2].log = Some("line\n".repeat(1500));
    records[2].sandbox = None;
    records[3].timing.block_rows = None;
    records[3].timing.load_average = None;
    records[4] = before_version_3(&records[4]);
    records[5].proof = Some(Proof::Unproven { reason: "there is no sandbox".to_owned() });
    records[5].notices = vec!["one".to_owned(), "\"two\"".to_owned()];
    records
}
