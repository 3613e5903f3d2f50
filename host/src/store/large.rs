//! A store with many records: what is wanted of it is found by indexes.

use std::fs;

use super::scan::{Which, damaged_page};
use super::tests::fresh;
use super::{Reader, Store};
use crate::record::tests::sample;
use crate::record::{Filter, Outcome, Record};

const METHODS: usize = 20;

/// Record `i` of `n`, in 100 data sets.
fn record(i: usize) -> Record {
    let names: Vec<String> = (0..2).map(|m| format!("metric_{m}")).collect();
    let values: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), i as f64)).collect();
    let mut record = sample(&format!("method-{}", i % METHODS), &format!("m={i}"), &values);
    record.dataset.name = format!("data-{}", i / METHODS % 100);
    record.key = blake3::hash(&i.to_le_bytes()).to_hex().to_string();
    if i.is_multiple_of(50) {
        record.outcome = Outcome::Failed;
    }
    record
}

fn filters() -> Vec<Filter> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let one = Filter { datasets: names(&["data-7"]), ..Filter::default() };
    let two = Filter { datasets: names(&["data-7", "data-8"]), ..Filter::default() };
    vec![
        Filter { methods: names(&["method-3"]), ..two },
        Filter { methods: names(&["method-3"]), ..Filter::default() },
        Filter { outcomes: vec![Outcome::Failed], ..one.clone() },
        one,
    ]
}

/// How SQLite finds what is wanted.
fn steps(store: &Reader, sql: &str) -> Vec<String> {
    let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let places = statement.parameter_count();
    let values = vec!["x"; places];
    let steps =
        statement.query_map(rusqlite::params_from_iter(values), |row| row.get("detail")).unwrap();
    steps.map(Result::unwrap).collect()
}

#[test]
fn ten_thousand_records_are_found_by_indexes_and_not_read_whole() {
    let (_folder, path, mut store) = fresh();
    let records: Vec<Record> = (0..10_000).map(record).collect();
    store.insert_all(&records[..4_000]).unwrap();
    drop(store);
    let mut store = Store::open(&path).unwrap();
    assert!(!store.is_large().unwrap());
    let sql = "SELECT * FROM stored_cells WHERE key = ?";
    assert_eq!(steps(&store, sql), ["SCAN stored_cells"], "a small store has no index");
    store.insert_all(&records[4_000..]).unwrap();
    drop(store);
    let mut store = Store::open(&path).unwrap();
    assert!(store.is_large().unwrap());

    let wanted = filters();
    let keys: Vec<&str> = (0..1_000).map(|i| records[7 * i].key.as_str()).collect();
    let ways = wanted.iter().map(Which::Wanted).chain([Which::Of(&keys), Which::Newest(50)]);
    for which in ways {
        let steps = steps(&store, &which.query().0);
        let of_cells: Vec<&String> =
            steps.iter().filter(|step| step.contains("stored_cells")).collect();
        let found = match which {
            // From the end, as far as they are wanted.
            Which::Newest(_) => "SCAN stored_cells",
            _ => "SEARCH stored_cells USING INDEX stored_cells_by_",
        };
        assert!(of_cells.len() == 1 && of_cells[0].starts_with(found), "{which:?}: {steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{which:?}: {steps:?}");
    }
    let of_names = steps(&store, "SELECT dataset FROM stored_cells");
    assert!(of_names[0].contains("USING COVERING INDEX"), "{of_names:?}");

    for filter in &wanted {
        let found = store.contents(filter).unwrap();
        assert!(!found.records.is_empty());
        let all: Vec<&Record> = records.iter().filter(|record| filter.wants(record)).collect();
        assert_eq!(found.records.len(), all.len());
        assert!(all.iter().all(|record| found.records.contains(record)));
        assert_eq!(found.runs.len(), 1);
    }
    let finished = store.finished_of(&keys).unwrap();
    assert_eq!(finished.outcomes.len(), 1_000);
    let newest = store.newest(50).unwrap().records;
    assert!(newest.len() == 50 && newest.iter().all(|record| records[9_950..].contains(record)));

    // What is wanted is verified, the rest is not read.
    store.connection.execute_batch("UPDATE stored_cells SET checksum = 1 WHERE id <= 100").unwrap();
    assert_eq!(store.contents(&wanted[3]).unwrap().damage, []);
    let damaged = Filter { datasets: vec!["data-2".to_owned()], ..Filter::default() };
    assert_eq!(store.contents(&damaged).unwrap().damage.len(), 20);
    assert_eq!(store.finished_of(&[records[5].key.as_str()]).unwrap().damage.len(), 1);

    // A record in another's place is found by its index as well.
    let mut again = records[9_000].clone();
    again.started_at = "2026-01-01T00:00:00Z".to_owned();
    store.insert(&again).unwrap();
    assert_eq!(store.of_cells(&[again.key.as_str()]).unwrap().records, [again]);
    drop(store);

    // A key that is another in its row and in its index, each in its own way.
    let key = records[7_000].key.as_bytes();
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - key.len())
        .filter(|at| bytes[*at] == key[0] && bytes[*at..].starts_with(key))
        .collect();
    assert!(places.len() >= 2, "{places:?}");
    for (i, at) in places.into_iter().enumerate() {
        bytes[at + i % 8] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let mut store = Store::open(&path).unwrap();
    assert!(damaged_page(&store.connection).unwrap().is_some());
    assert!(!store.discard_damaged().unwrap().is_empty());
    assert_eq!(damaged_page(&store.connection).unwrap(), None);
    assert_eq!(store.finished().unwrap().damage, []);
    assert!(steps(&store, sql)[0].contains("USING INDEX stored_cells_by_key"));
    store.insert(&records[7_000]).unwrap();
    let found = store.of_cells(&[records[7_000].key.as_str()]).unwrap().records;
    assert_eq!(found, records[7_000..=7_000]);
}
