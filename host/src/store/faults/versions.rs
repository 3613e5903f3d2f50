//! Stores of earlier schema versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{several, usual};
use crate::record::{MetricValue, Record, RunInfo, Sandbox, canonical_json};
use crate::store::Store;
use crate::store::schema::{self, APPLICATION_ID, MIGRATIONS};
use crate::store::tests::{all, fresh, run};
use crate::store::{scan, seal};

/// What `record` was before schema version 3: it knew less.
pub(super) fn before_version_3(record: &Record) -> Record {
    let mut record = record.clone();
    record.dataset.train_rows = None;
    record.dataset.train_apart = None;
    record.dataset.facts = None;
    record.method.needs_training = None;
    record.method.deterministic = None;
    record.proof = None;
    record.notices.clear();
    record.recalls.clear();
    for metric in &mut record.metrics {
        let parts = [metric.min(), metric.max(), None];
        *metric = MetricValue::checked(metric.name().to_owned(), metric.value(), parts).unwrap();
    }
    record
}

/// A store of schema version 2, written as vq-host wrote it before version 3.
fn version_2(path: &Path, runs: &[RunInfo], records: &[Record]) {
    let mut store = Connection::open(path).unwrap();
    let transaction = store.transaction().unwrap();
    MIGRATIONS[..2].iter().for_each(|step| transaction.execute_batch(step).unwrap());
    transaction.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    transaction.pragma_update(None, "user_version", 2).unwrap();
    schema::create_views(&transaction, 2).unwrap();
    for run in runs {
        let features = run.cpu_features.join(" ");
        let environment = canonical_json(&serde_json::json!(run.environment));
        let values = params![
            run.run_id,
            run.started_at,
            run.host_version,
            run.sweep_name,
            run.sweep_text,
            run.cpu_model,
            features,
            run.cores,
            run.memory_bytes.map(|bytes| bytes as i64),
            run.os,
            environment,
            seal::of_run(run),
        ];
        let marks = ["?"; 12].join(", ");
        let sql = format!("INSERT INTO stored_runs VALUES (NULL, {marks})");
        transaction.execute(&sql, values).unwrap();
    }
    let id = |table: &str, column: &str, text: &str| -> i64 {
        let find = format!("SELECT id FROM {table} WHERE {column} = ?1");
        let found = transaction.query_row(&find, [text], |row| row.get(0));
        found.unwrap_or_else(|_| {
            let sql = format!("INSERT INTO {table} VALUES (NULL, ?1)");
            transaction.execute(&sql, [text]).unwrap();
            transaction.last_insert_rowid()
        })
    };
    let text = |text: &str| id("stored_texts", "text", text);
    for record in records {
        let record = before_version_3(record);
        let Record { dataset, method, timing, .. } = &record;
        let values = params![
            record.key,
            id("stored_runs", "run_id", &record.run_id),
            text(&dataset.name),
            text(&dataset.digest),
            dataset.n as i64,
            dataset.dim as i64,
            dataset.queries as i64,
            text(&record.metric),
            text(&method.id),
            text(&method.version),
            text(&method.plugin_path),
            text(&method.plugin_digest),
            method.needs_digest.as_deref().map(text),
            text(&method.sdk),
            text(&method.abi),
            text(&canonical_json(&record.params)),
            text(&record.label),
            record.seed as i64,
            text(&canonical_json(&record.evaluation)),
            record.outcome.as_str(),
            record.error,
            record.log,
            record.sandbox.as_ref().map(|sandbox| text(&sandbox.to_string())),
            timing.threads,
            timing.jobs,
            timing.exclusive,
            timing.load_average,
            timing.block_rows.map(|rows| rows as i64),
            timing.threads_used,
            record.started_at,
            record.wall_s,
            seal::of_record(&record),
        ];
        let marks = ["?"; 32].join(", ");
        let sql = format!("INSERT INTO stored_cells VALUES (NULL, {marks})");
        transaction.execute(&sql, values).unwrap();
        let cell = transaction.last_insert_rowid();
        for metric in &record.metrics {
            let name = id("stored_names", "name", metric.name());
            let values = params![cell, name, metric.value(), metric.min(), metric.max()];
            transaction
                .execute("INSERT INTO stored_metrics VALUES (?, ?, ?, ?, ?)", values)
                .unwrap();
        }
    }
    scan::tally_anew(&transaction).unwrap();
    transaction.commit().unwrap();
}

/// A store of schema version 1, written as vq-host 0.1 wrote it.
fn version_1(path: &Path, runs: &[RunInfo], records: &[Record]) {
    let mut store = Connection::open(path).unwrap();
    let transaction = store.transaction().unwrap();
    transaction.execute_batch(MIGRATIONS[0]).unwrap();
    transaction.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    transaction.pragma_update(None, "user_version", 1).unwrap();
    transaction.execute_batch("CREATE VIEW results AS SELECT dataset, key FROM cells").unwrap();
    for run in runs {
        let features = run.cpu_features.join(" ");
        let memory = run.memory_bytes.map(|bytes| bytes as i64);
        transaction
            .execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    run.run_id,
                    run.started_at,
                    run.host_version,
                    run.sweep_name,
                    run.sweep_text,
                    run.cpu_model,
                    features,
                    run.cores,
                    memory,
                    run.os
                ],
            )
            .unwrap();
    }
    for record in records {
        let Record { dataset, method, timing, .. } = record;
        let marks = ["?"; 29].join(", ");
        transaction
            .execute(
                &format!("INSERT INTO cells VALUES ({marks})"),
                params![
                    record.key,
                    record.run_id,
                    dataset.name,
                    dataset.digest,
                    dataset.n as i64,
                    dataset.dim as i64,
                    dataset.queries as i64,
                    record.metric,
                    method.id,
                    method.version,
                    method.plugin_path,
                    method.plugin_digest,
                    method.sdk,
                    method.abi,
                    canonical_json(&record.params),
                    record.label,
                    record.seed as i64,
                    canonical_json(&record.evaluation),
                    record.outcome.as_str(),
                    record.error,
                    record.log,
                    record.sandbox.as_ref().map(Sandbox::to_string),
                    timing.threads,
                    timing.jobs,
                    timing.exclusive,
                    timing.load_average,
                    timing.block_rows.map(|rows| rows as i64),
                    record.started_at,
                    record.wall_s
                ],
            )
            .unwrap();
        for metric in &record.metrics {
            let MetricValue { .. } = metric;
            transaction
                .execute(
                    "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)",
                    params![record.key, metric.name(), metric.value(), metric.min(), metric.max()],
                )
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[test]
fn a_store_of_every_schema_version_is_read_and_upgraded() {
    let folder = TempDir::new().unwrap();
    let runs = [run("run-1"), run("run-2")];
    let records = several();
    for version in 0..=MIGRATIONS.len() {
        let path = folder.path().join(format!("{version}.db"));
        let older: Vec<Record> = records.iter().map(before_version_3).collect();
        let expected: &[Record] = match version {
            0 => &[],
            1 | 2 => &older,
            _ => &records,
        };
        match version {
            0 => fs::write(&path, "").unwrap(),
            1 => version_1(&path, &runs, &records),
            2 => version_2(&path, &runs, &records),
            3 => {
                let mut store = Store::open(&path).unwrap();
                runs.iter().for_each(|run| store.begin_run(run).unwrap());
                records.iter().for_each(|record| store.insert(record).unwrap());
            }
            _ => panic!("this test needs a store of schema version {version}"),
        }
        let before = fs::read(&path).unwrap();
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(all(&reader), expected, "version {version}");
        assert_eq!(reader.finished().unwrap().outcomes.len(), expected.len());
        let mut told = if version == 0 { vec![] } else { runs.to_vec() };
        if version == 1 {
            // It had no place for them.
            told.iter_mut().for_each(|run| run.environment.clear());
        }
        assert_eq!(reader.runs().unwrap(), told, "version {version}");
        drop(reader);
        assert_eq!(fs::read(&path).unwrap(), before, "to read is not to write");
        let mut store = Store::open(&path).unwrap();
        assert_eq!(all(&store), expected, "version {version}");
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        store.begin_run(&run("run-3")).unwrap();
        let mut more = usual(40);
        more.run_id = "run-3".to_owned();
        store.insert(&more).unwrap();
        assert_eq!(all(&store).len(), expected.len() + 1);
    }
}

#[test]
fn a_record_takes_a_third_of_the_bytes_that_version_1_took_and_a_thousand_for_its_queries() {
    let folder = TempDir::new().unwrap();
    let records: Vec<Record> = (0..52).map(usual).collect();
    let size = |path: &Path| fs::metadata(path).unwrap().len() / 52;
    let old = folder.path().join("old.db");
    version_1(&old, &[run("run-1")], &records);
    let names: BTreeMap<&str, f64> = records[0].metrics.iter().map(|m| (m.name(), 1.0)).collect();
    assert_eq!(names.len(), 69, "as many metrics as the default sweep has");
    let written = |change: fn(&Record) -> Record| {
        let (_folder, path, mut store) = fresh();
        records.iter().for_each(|record| store.insert(&change(record)).unwrap());
        size(&path)
    };
    let (old, same, all) = (size(&old), written(before_version_3), written(Record::clone));
    println!("{same} bytes a record, {old} in version 1; {all} with what version 3 added");
    assert!(3 * same <= old, "{same} bytes a record, {old} in version 1");
    assert!(same <= 2900, "{same} bytes a record, of which 157 are two empty tables");
    // Of 500 queries and three k 752 bytes, and 232 of standard errors.
    assert!(all <= same + 1300, "{all} bytes a record, {same} without");
}
