//! A store with many records: what is wanted of it is found by indexes.

use std::fs;

use super::scan::{Which, damaged_page};
use super::schema::names_of;
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
        Filter { keys: names(&["c0"]), ..Filter::default() },
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
    let all = Filter::default();
    let one = wanted.last().unwrap();
    let of_cells = |sql: &str| -> Vec<String> {
        steps(&store, sql).into_iter().filter(|step| step.contains("stored_cells")).collect()
    };
    let ways = wanted.iter().map(Which::Wanted);
    for which in ways.chain([Which::Of(&keys), Which::Newest(50, &all)]) {
        let sql = which.query().0;
        let found = match which {
            // From the end, as far as they are wanted.
            Which::Newest(..) => "SCAN stored_cells",
            _ => "SEARCH stored_cells USING INDEX stored_cells_by_",
        };
        let of_cells = of_cells(&sql);
        assert!(of_cells.len() == 1 && of_cells[0].starts_with(found), "{which:?}: {of_cells:?}");
        let sorted = steps(&store, &sql).iter().any(|step| step.contains("TEMP B-TREE"));
        assert!(!sorted, "{which:?}");
    }
    let newest = of_cells(&Which::Newest(50, one).query().0);
    assert!(newest[0].contains("INTEGER PRIMARY KEY"), "{newest:?}");
    assert!(newest[1].contains("COVERING INDEX stored_cells_by_dataset"), "{newest:?}");
    let several = Filter { keys: vec!["c0".to_owned(), "77".to_owned()], ..Filter::default() };
    let several = of_cells(&Which::Wanted(&several).query().0);
    assert!(several.iter().all(|step| step.starts_with("SEARCH ")), "{several:?}");
    for column in ["dataset", "method"] {
        let of_names = of_cells(&names_of(column, true));
        let by_index =
            |step: &String| step.starts_with("SEARCH ") && step.contains("COVERING INDEX");
        assert!(of_names.len() == 2 && of_names.iter().all(by_index), "{of_names:?}");
    }

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
    let newest = store.newest(50, &all).unwrap().records;
    assert!(newest.len() == 50 && newest.iter().all(|record| records[9_950..].contains(record)));
    let of_one: Vec<&Record> = records.iter().filter(|record| one.wants(record)).collect();
    let newest = store.newest(30, one).unwrap().records;
    let last = &of_one[of_one.len() - 30..];
    assert!(newest.len() == 30 && newest.iter().all(|record| last.contains(&record)));
    assert_eq!(store.counted(one).unwrap(), of_one.len());
    assert_eq!(store.counted(&all).unwrap(), 10_000);
    let (datasets, methods) = store.names().unwrap();
    assert_eq!((datasets.len(), methods.len()), (100, METHODS));
    assert!(datasets.is_sorted() && methods.is_sorted());

    // What is wanted is verified, the rest is not read.
    store.connection.execute_batch("UPDATE stored_cells SET checksum = 1 WHERE id <= 100").unwrap();
    assert_eq!(store.contents(one).unwrap().damage, []);
    assert_eq!((store.runs().unwrap().len(), store.spectra().unwrap().len()), (1, 0));
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
