//! What happens to stores: bits flip, disks fill up, processes are killed, files are old.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::schema::{APPLICATION_ID, MIGRATIONS};
use super::tests::{all, fresh, run};
use super::*;
use crate::record::tests::sample;
use crate::record::{Facts, MetricValue, Proof, Sandbox, canonical_json};

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

/// What `record` was before schema version 3: it knew less.
fn before_version_3(record: &Record) -> Record {
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

#[test]
fn a_flipped_bit_is_named_and_never_read_as_another_number() {
    let (folder, path, mut store) = fresh();
    let records = several();
    for record in &records {
        store.insert(record).unwrap();
    }
    let spectra = [("a", 5), ("clustered", 40)];
    for (data, n) in spectra {
        store
            .insert_spectrum(data, &(1..=n).map(|i| 1.0 / f64::from(i)).collect::<Vec<_>>())
            .unwrap();
    }
    let spectra = store.spectra().unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    let runs = Store::open_read_only(&path).unwrap().runs().unwrap();
    let page = 4096;
    // In every page: its first bytes, where its structure stands, and places drawn from the rest.
    let mut places = Vec::new();
    let mut state = 1u64;
    let mut draw = |n: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for start in (0..whole.len()).step_by(page) {
        places.extend((0..16).map(|at| (start + at, draw(8))));
        places.extend((0..60).map(|_| (start + draw(page), draw(8))));
    }
    assert!(places.len() > 500, "{} places", places.len());
    let (mut same, mut named, mut healed) = (0, 0, 0);
    let copy = folder.path().join("copy.db");
    for (at, bit) in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&copy, &bytes).unwrap();
        let what = format!("bit {bit} of byte {at}");
        let read =
            Store::open_read_only(&copy).map_err(|error| error.to_string()).and_then(|reader| {
                let contents =
                    reader.contents(&Filter::default()).map_err(|error| error.to_string());
                let shown = reader.spectra().unwrap_or_default();
                for (data, eigenvalues) in shown {
                    assert_eq!(spectra.get(&data), Some(&eigenvalues), "{what}");
                }
                Ok((contents?, reader.records(&Filter::default()), reader.runs()))
            });
        let Ok((contents, strict, told)) = read.inspect_err(|error| {
            assert!(error.contains("copy.db"), "{what}: {error}");
        }) else {
            named += 1;
            continue;
        };
        for record in &contents.records {
            assert!(records.contains(record), "{what} gives other numbers");
        }
        match contents.damage.is_empty() {
            true => {
                assert_eq!(contents.records, records, "{what}");
                assert_eq!(strict.unwrap(), records, "{what}");
                assert_eq!(told.unwrap(), runs, "{what}");
                same += 1;
            }
            false => {
                let error = strict.unwrap_err().to_string();
                assert!(error.contains("copy.db"), "{what}: {error}");
                assert!(told.is_err() || told.unwrap() == runs, "{what}");
                named += 1;
            }
        }
        // The next run measures anew what is damaged, and all is well again.
        if !contents.damage.is_empty() {
            match measured_again(&copy, &records) {
                Ok(()) => healed += 1,
                // The shape of a page is damaged, which SQLite finds, or what most records share.
                Err(error) => {
                    assert!(error.contains("copy.db` is damaged"), "{what}: {error}");
                    expect_kept(&copy, &contents.records, &what);
                }
            }
        }
    }
    println!("{same} the same, {named} named; {healed} healed by a run");
    assert!(named > 100 && healed > 100, "{same} the same, {named} named, {healed} healed");
}

/// Whatever became of the store: the records that were intact still are.
fn expect_kept(path: &Path, intact: &[Record], what: &str) {
    let reader = Store::open_read_only(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    let left = reader.contents(&Filter::default()).unwrap().records;
    for record in intact {
        assert!(left.contains(record), "{what} lost {}", record.label);
    }
}

#[test]
fn a_flipped_bit_in_the_schema_costs_no_intact_record() {
    let (folder, path, mut store) = fresh();
    let records = several();
    store.insert_all(&records).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    // Also where it stood before its page was put in order.
    let find = |text: &str| -> Vec<usize> {
        let parts = whole.windows(text.len()).enumerate();
        parts.filter(|(_, part)| *part == text.as_bytes()).map(|(at, _)| at).collect()
    };
    let copy = folder.path().join("copy.db");
    let run_of = |at: usize, bit: u8| {
        let what = format!("bit {bit} of byte {at}");
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&copy, &bytes).unwrap();
        let read = Store::open_read_only(&copy);
        let mut store = match Store::open(&copy) {
            Ok(store) => store,
            Err(error) => {
                assert!(error.to_string().contains("copy.db"), "{what}: {error}");
                assert!(read.is_err(), "{what} is refused for writing alone: {error}");
                assert_eq!(fs::read(&copy).unwrap(), bytes, "{what}: a refused store is written");
                return Some(error);
            }
        };
        let intact = read.map(|reader| reader.contents(&Filter::default()));
        let intact = intact.unwrap().map(|contents| contents.records).unwrap_or_default();
        let written = store.discard_damaged().and_then(|_| {
            store.begin_run(&run("run-2"))?;
            store.insert(&Record { run_id: "run-2".to_owned(), ..usual(40) })
        });
        drop(store);
        if let Err(error) = written {
            assert!(error.to_string().contains("copy.db` is damaged"), "{what}: {error}");
            assert_eq!(fs::read(&copy).unwrap(), bytes, "{what}: written before it was refused");
        }
        if !intact.is_empty() {
            expect_kept(&copy, &intact, &what);
        }
        None
    };
    // The names of columns, tables and views, and their kinds.
    for text in ["sandbox        INT", "stored_metrics (", "tablestored_runs", "viewcells"] {
        let ended = find(text).into_iter().map(|at| run_of(at, 1)).collect::<Vec<_>>();
        let named = |error: &Option<_>| matches!(error, Some(OpenError::Corrupted { .. }));
        assert!(ended.iter().any(named), "{text}: {ended:?}");
    }
    // Pages of the schema: the first, and those where its texts go on.
    let page = 4096;
    let pages = (0..whole.len() / page).filter(|number| {
        let text = String::from_utf8_lossy(&whole[number * page..(number + 1) * page]);
        *number == 0 || text.contains(" NOT NULL") || text.contains("FROM stored_")
    });
    let (mut refused, mut passed) = (0, 0);
    for number in pages {
        for i in 0..page / 23 {
            // Not the header of the file, which says other things.
            let at = number * page + i * 23 + i % 7;
            if at >= 100 {
                match run_of(at, (i % 8) as u8) {
                    Some(_) => refused += 1,
                    None => passed += 1,
                }
            }
        }
    }
    println!("{refused} refused, {passed} passed");
    assert!(refused > 100, "{refused} refused, {passed} passed");
}

#[test]
fn what_damages_most_records_is_not_cleared_away() {
    let (_folder, path, mut store) = fresh();
    store.insert_all(&several()).unwrap();
    store.connection.execute_batch("UPDATE stored_texts SET text = text || '!'").unwrap();
    drop(store);
    let before = fs::read(&path).unwrap();
    let told = Store::open_read_only(&path).unwrap().too_damaged().unwrap();
    assert_eq!(told.as_deref(), Some("6 of 6 records are damaged or missing"));
    let error = Store::open(&path).unwrap().discard_damaged().unwrap_err().to_string();
    assert!(error.contains("6 of 6 records") && error.contains("store.db"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    // One bit in a page of the table hides all that is below it.
    let (_folder, path, mut store) = fresh();
    store.insert_all(&several()).unwrap();
    store.connection.execute_batch("DELETE FROM stored_cells WHERE id > 2").unwrap();
    let error = store.discard_damaged().unwrap_err().to_string();
    assert!(error.contains("4 of 6 records"), "{error}");
    drop(path);
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    let mut paths = vec![PathBuf::from("/dev/null")];
    if Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        paths.push(pipe);
    }
    for path in paths {
        for error in [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
            assert!(error.to_string().contains("is not a regular file"), "{error}");
        }
        assert!(!beside(&path, ".lock").exists());
    }
}

/// What a run does with a store in which something is damaged: measures it again.
fn measured_again(path: &Path, records: &[Record]) -> Result<(), String> {
    let said = |error: WriteError| error.to_string();
    let mut store = Store::open(path).map_err(|error| error.to_string())?;
    assert!(!store.discard_damaged().map_err(said)?.is_empty());
    let left = store.records(&Filter::default()).map_err(|error| error.to_string())?;
    match store.begin_run(&run("run-1")) {
        Ok(()) | Err(WriteError::RepeatedRun { .. }) => {}
        Err(error) => return Err(said(error)),
    }
    for record in records.iter().filter(|record| !left.contains(record)) {
        store.insert(record).map_err(said)?;
    }
    let all = store.records(&Filter::default()).map_err(|error| error.to_string())?;
    assert_eq!(all, records);
    Ok(())
}

#[test]
fn a_damaged_record_is_named_and_its_cell_is_not_done() {
    let (_folder, path, mut store) = fresh();
    let records = several();
    records.iter().for_each(|record| store.insert(record).unwrap());
    store
        .connection
        .execute_batch("UPDATE stored_metrics SET value = value + 1 WHERE cell = 1 AND name = 7")
        .unwrap();
    drop(store);
    let reader = Store::open_read_only(&path).unwrap();
    let Contents { records: sound, damage } = reader.contents(&Filter::default()).unwrap();
    assert_eq!(sound, records[1..]);
    assert_eq!(Damage::lines(&damage).len(), 1);
    let line = damage[0].to_string();
    assert!(line.contains("clustered a m=1 bits=8 seed=42"), "{line}");
    assert!(line.contains(&records[0].key), "{line}");
    assert!(!reader.finished().unwrap().outcomes.contains_key(&records[0].key));
    assert!(matches!(reader.records(&Filter::default()), Err(ReadError::Damaged { more: 0, .. })));
}

#[test]
fn a_damaged_spectrum_is_named_taken_out_and_costs_no_record() {
    let (_folder, path, mut store) = fresh();
    let records = several();
    store.insert_all(&records).unwrap();
    for eigenvalues in [&[][..], &[2.0, 1.0], &[9.0]] {
        store.insert_spectrum("data", eigenvalues).unwrap();
    }
    let kept = BTreeMap::from([("data".to_owned(), vec![2.0, 1.0])]);
    assert_eq!(store.spectra().unwrap(), kept, "the first one stays");
    store.connection.execute_batch("UPDATE stored_spectra SET checksum = checksum + 1").unwrap();
    let Contents { records: sound, damage } = store.contents(&Filter::default()).unwrap();
    assert_eq!(sound, records);
    let line = Damage::lines(&damage).join(" ");
    assert_eq!(line, "the eigenvalues of the data data are damaged");
    assert!(store.spectra().unwrap().is_empty());
    drop(store);
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.discard_damaged().unwrap(), damage);
    assert_eq!(all(&store), records);
    store.insert_spectrum("data", &[2.0, 1.0]).unwrap();
    assert_eq!(store.spectra().unwrap(), kept);
}

#[test]
fn rows_that_vanish_are_missed() {
    let (_folder, path, mut store) = fresh();
    several().iter().for_each(|record| store.insert(record).unwrap());
    store.connection.execute_batch("DELETE FROM stored_cells WHERE id = 2").unwrap();
    drop(store);
    let contents = Store::open_read_only(&path).unwrap().contents(&Filter::default()).unwrap();
    assert_eq!(contents.damage, [Damage::Rows]);
}

#[test]
fn a_full_disk_is_named_and_loses_nothing_that_was_stored() {
    let (_folder, path, mut store) = fresh();
    let records = several();
    store.insert(&records[0]).unwrap();
    store.connection.execute_batch("PRAGMA max_page_count = 20").unwrap();
    let mut large = usual(7);
    large.log = Some("x".repeat(200_000));
    let refused = store.insert(&large).unwrap_err();
    assert!(refused.is_full_disk());
    let error = refused.to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("store.db"), "{error}");
    store.connection.execute_batch("PRAGMA max_page_count = 100000").unwrap();
    store.insert(&large).unwrap();
    store.insert(&records[1]).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(all(&store).len(), 3);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn what_a_killed_creation_and_an_earlier_store_left_behind_is_cleaned_up() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    fs::write(beside(&path, ".creating"), "half a sto").unwrap();
    fs::write(beside(&path, ".lock"), "4242\n").unwrap();
    // The journal of a store that was removed, and not its journal with it.
    let (_other, other, mut store) = fresh();
    store.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    let mut known = Known::load(&store.connection).unwrap();
    for i in 0..50 {
        let record = Record { log: Some("x".repeat(4000)), ..usual(i) };
        insert_record(&store.connection, &mut known, 1, &record).unwrap();
    }
    fs::copy(beside(&other, "-journal"), beside(&path, "-journal")).unwrap();
    store.known = None;
    drop(Store::open(&path).unwrap());
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["store.db"]);
    assert_eq!(all(&Store::open_read_only(&path).unwrap()), []);
    assert_eq!(Store::open(&path).unwrap().check().unwrap(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_makes_the_store_where_it_leads() {
    let folder = TempDir::new().unwrap();
    let (link, file) = (folder.path().join("link.db"), folder.path().join("far/away/store.db"));
    std::os::unix::fs::symlink("far/away/store.db", &link).unwrap();
    let store = Store::open(&link).unwrap();
    assert!(matches!(Store::open(&file), Err(OpenError::Locked { .. })));
    drop(store);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(all(&Store::open_read_only(&file).unwrap()), []);
}

#[test]
fn two_that_make_one_store_make_one_and_the_other_is_told() {
    let folder = TempDir::new().unwrap();
    for round in 0..20 {
        let path = folder.path().join(format!("{round}.db"));
        let start = std::sync::Barrier::new(4);
        let ended: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                start.wait();
                let store = Store::open(&path);
                start.wait();
                store.map(|_| ())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ended.iter().filter(|made| made.is_ok()).count(), 1, "{ended:?}");
        let refused = ended.iter().filter(|made| matches!(made, Err(OpenError::Locked { .. })));
        assert_eq!(refused.count(), 3, "{ended:?}");
        assert_eq!(all(&Store::open_read_only(&path).unwrap()), []);
    }
}

/// Opened only for reading, SQLite cannot roll back.
#[test]
fn a_reader_that_may_not_write_rolls_a_killed_writer_back_in_a_copy() {
    let (folder, path, mut store) = fresh();
    let kept = usual(0);
    store.insert(&kept).unwrap();
    store.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    let mut known = Known::load(&store.connection).unwrap();
    for i in 1..50 {
        let record = Record { log: Some("x".repeat(4000)), ..usual(i) };
        insert_record(&store.connection, &mut known, 1, &record).unwrap();
    }
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(beside(&path, "-journal"), beside(&copy, "-journal")).unwrap();
    let before = fs::read(&copy).unwrap();
    let reader = Reader::connect(copy.clone(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let error = reader.schema_version().unwrap_err();
    assert!(matches!(error, OpenError::Sqlite { .. }), "{error:?}");
    let (reader, found) = reader.rolled_back_elsewhere().expect("a copy");
    assert_eq!((found, all(&reader)), (MIGRATIONS.len(), vec![kept]));
    assert_eq!(fs::read(&copy).unwrap(), before);
}

#[test]
fn what_the_system_refuses_is_said_in_its_words() {
    let folder = TempDir::new().unwrap();
    let error = Store::open_read_only(folder.path()).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("is a directory"), "{error}");
    fs::write(folder.path().join("file"), "x").unwrap();
    let error = Store::open(folder.path().join("file/store.db")).unwrap_err().to_string();
    assert!(error.contains("Not a directory") || error.contains("File exists"), "{error}");
    // Even root may not make files here.
    let error = Store::open("/proc/store.db").unwrap_err().to_string();
    assert!(error.contains("/proc/store.db.lock`: No such file or directory"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn who_holds_the_file_is_named() {
    if Command::new("sqlite3").arg("-version").output().is_err() {
        println!("skipped: there is no sqlite3 program to hold the file");
        return;
    }
    let (_folder, path, mut store) = fresh();
    let mut other = Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = other.stdin.take().unwrap();
    stdin.write_all(b"BEGIN EXCLUSIVE;\nSELECT 'begun';\n").unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(other.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    store.connection.busy_timeout(Duration::from_millis(20)).unwrap();
    let error = store.insert(&usual(0)).unwrap_err().to_string();
    assert!(error.contains(&format!("(process {})", other.id())), "{error}");
    drop(stdin);
    other.wait().unwrap();
    store.insert(&usual(0)).unwrap();
}

const CHILD: &str = "store::faults::child_that_makes_a_store_and_writes_a_record";

/// The child of the next two tests. Alone, it does nothing.
#[test]
fn child_that_makes_a_store_and_writes_a_record() {
    let Some(path) = std::env::var_os("VQ_HOST_TEST_NEW_STORE") else {
        return;
    };
    let made = Store::open(PathBuf::from(path)).map_err(|error| error.to_string());
    let written = made.and_then(|mut store| {
        store.begin_run(&run("run-1")).map_err(|error| error.to_string())?;
        store.insert(&usual(0)).map_err(|error| error.to_string())
    });
    let mut stderr = io::stderr().lock();
    match written {
        Ok(()) => writeln!(stderr, "stored").unwrap(),
        Err(error) => writeln!(stderr, "refused: {error}").unwrap(),
    }
}

/// Runs the child with the `n`th of `calls` in `folder` answered by `fault`; none where the
/// system does not let us.
fn injected(folder: &Path, calls: &str, fault: &str, n: usize) -> Option<Output> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    // Only calls that reach the store's folder.
    for name in ["", "store.db", "store.db.creating", "store.db.lock", "store.db-journal"] {
        strace.arg("-P").arg(folder.join(name));
    }
    strace.args(["-e", &format!("inject={calls}:{fault}:when={n}")]);
    strace
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", CHILD])
        .env("VQ_HOST_TEST_NEW_STORE", folder.join("store.db"))
        .output()
        .ok()
}

/// True when strace can do it here; says why the test is skipped otherwise.
fn can_inject() -> bool {
    let folder = TempDir::new().unwrap();
    let works = injected(folder.path(), "fsync,fdatasync", "signal=KILL", 1)
        .is_some_and(|output| !String::from_utf8_lossy(&output.stderr).contains("stored"));
    if !works {
        println!("skipped: strace is not installed, or may not trace here");
    }
    works
}

/// Whatever `fault` left in the folder, the next run is done as if nothing had been.
fn expect_next_run_succeeds(folder: &Path, what: &str) {
    let path = folder.join("store.db");
    match Store::open_read_only(&path) {
        Ok(reader) => assert!(all(&reader).len() <= 1, "{what}"),
        Err(error) => assert!(matches!(error, OpenError::Missing { .. }), "{what}: {error}"),
    }
    let mut store = Store::open(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
    match store.begin_run(&run("run-1")) {
        Ok(()) | Err(WriteError::RepeatedRun { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    store.insert(&usual(0)).unwrap();
    assert_eq!(all(&store), [usual(0)], "{what}");
    assert_eq!(store.check().unwrap(), Vec::<String>::new(), "{what}");
    drop(store);
    let left: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["store.db"], "{what}");
}

/// Walks n = 1, 2, … until the child gets through; answers how many faults there were.
fn walk(calls: &str, fault: &str, look: impl Fn(&str, &str)) -> usize {
    for n in 1..200 {
        let folder = TempDir::new().unwrap();
        let output = injected(folder.path(), calls, fault, n).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("{fault} at call {n} of {calls}");
        if said.contains("stored")
            && all(&Store::open(folder.path().join("store.db")).unwrap()).len() == 1
        {
            let through = n - 1;
            // One that was answered with a fault and did not matter is not the end.
            if fault == "signal=KILL" || !said.contains("refused") {
                return through;
            }
        }
        look(&said, &what);
        expect_next_run_succeeds(folder.path(), &what);
    }
    panic!("no end of {calls}")
}

#[cfg(target_os = "linux")]
#[test]
fn a_kill_at_any_call_of_a_creation_leaves_what_the_next_run_takes() {
    if !can_inject() {
        return;
    }
    let syncs = walk("fsync,fdatasync", "signal=KILL", |_, _| ());
    assert!(syncs >= 8, "{syncs} syncs: two of the creation, the rest of the first records");
    let calls = "pwrite64,write,ftruncate,rename,renameat,renameat2,unlink,unlinkat";
    let others = walk(calls, "signal=KILL", |_, _| ());
    println!("killed at {syncs} syncs and at {others} other calls");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_at_any_call_of_a_creation_is_named_and_leaves_what_the_next_run_takes() {
    if !can_inject() {
        return;
    }
    let look = |said: &str, what: &str| {
        if let Some((_, error)) = said.split_once("refused: ") {
            // The file system has room again when the program asks it why SQLite could not open.
            let opened = ["it opens for reading only", "unable to open database file"];
            let named = error.contains("No space left on device");
            assert!(named || opened.iter().any(|words| error.contains(words)), "{what}: {error}");
            assert!(error.contains("store.db"), "{what}: {error}");
        }
    };
    let mut faults = 0;
    for calls in ["pwrite64,write", "fsync,fdatasync", "openat"] {
        for n in 1..40 {
            let folder = TempDir::new().unwrap();
            let output = injected(folder.path(), calls, "error=ENOSPC", n).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!("ENOSPC at call {n} of {calls}");
            faults += usize::from(said.contains("refused"));
            look(&said, &what);
            expect_next_run_succeeds(folder.path(), &what);
        }
    }
    println!("{faults} faults");
    assert!(faults >= 20, "{faults} faults");
}
