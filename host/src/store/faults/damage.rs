//! Bits that flip, rows that vanish.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{several, usual};
use crate::record::{Filter, Record};
use crate::store::tests::{all, fresh, run};
use crate::store::{Contents, Damage, OpenError, ReadError, Store, WriteError};

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
        places.extend((0..30).map(|_| (start + draw(page), draw(8))));
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
        // A new record costs none, also where the page that it is written to is damaged.
        if contents.damage.is_empty() {
            let mut store = Store::open(&copy).unwrap();
            let added = store.discard_damaged().and_then(|_| store.insert(&usual(50)));
            drop(store);
            if let Err(error) = added {
                assert!(error.to_string().contains("copy.db` is damaged"), "{what}: {error}");
            }
            expect_kept(&copy, &records, &what);
            continue;
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
    let Contents { records: sound, damage, .. } = reader.contents(&Filter::default()).unwrap();
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
    let Contents { records: sound, damage, .. } = store.contents(&Filter::default()).unwrap();
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
