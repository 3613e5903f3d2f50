//! Several stores become one.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use rusqlite::Connection;

use super::error::write_error;
use super::files::beside;
use super::reader::copy_into;
use super::row::Known;
use super::scan::{Found, undescribed};
use super::schema::{create_results_view, index_if_large, migrate, tally};
use super::seal;
use super::spectra;
use super::writer::Writing;
use super::{Contents, Damage, MergeError, ReadError, Reader, Store, WriteError};
use crate::record::{Outcome, Record, RunInfo};

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Records that the store has now.
    pub records: usize,
    /// Records that it had before.
    pub before: usize,
    /// What is damaged, and was left out, in which of the stores.
    pub damage: Vec<(PathBuf, Damage)>,
}

/// A file that goes when this is dropped.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Store {
    /// Takes over what `others` have: of each cell and machine the one record that ranks highest,
    /// ok before not ok, then the later. The answer is the same in whichever order stores are
    /// merged, and however often.
    ///
    /// It is made in a file beside the store and then copied into it in one transaction, so that a
    /// kill leaves the store as it was. Of a damaged store what can be read is taken over.
    ///
    /// # Errors
    /// [`MergeError`]; the store is as it was then. [`WriteError::Corrupted`] when most of its own
    /// records are damaged or missing: that is one fault in what they share, and not theirs.
    pub fn merge(&mut self, others: &[Reader]) -> Result<Merged, MergeError> {
        let mut salvaged: BTreeMap<usize, Reader> = BTreeMap::new();
        let mut runs: BTreeMap<String, RunInfo> = BTreeMap::new();
        let mut merged = Merged::default();
        let mut damaged_here = false;
        let stores: Vec<&Reader> = std::iter::once(&self.reader).chain(others).collect();
        for (at, store) in stores.iter().enumerate() {
            let mut see = |found: Found| {
                match found {
                    Found::Run(run) => take_run(&mut runs, run),
                    Found::Record(_) if at == 0 => merged.before += 1,
                    Found::Damage(..) if at == 0 => damaged_here = true,
                    Found::Record(_) | Found::Spectrum(_) | Found::Damage(..) => {}
                }
                Ok::<(), ReadError>(())
            };
            match store.scan(&mut see) {
                Err(ReadError::Corrupted { .. }) if at > 0 => {
                    let what_is_left = store.salvaged()?;
                    what_is_left.scan(&mut see)?;
                    salvaged.insert(at, what_is_left);
                }
                read => read?,
            }
        }
        // One fault in what most records share is not theirs: left out, they would be lost for it.
        if damaged_here && let Some(detail) = self.too_damaged()? {
            return Err(WriteError::Corrupted { path: self.reader.path.clone(), detail }.into());
        }
        let mut runs: Vec<RunInfo> = runs.into_values().collect();
        runs.sort_by(|a, b| (&a.started_at, &a.run_id).cmp(&(&b.started_at, &b.run_id)));

        let path = self.reader.path.clone();
        let aside = Aside(beside(&path, ".merging"));
        let _left_by_a_killed_one = fs::remove_file(&aside.0);
        let failed = |source| write_error(&path, &self.reader.connection, &source);
        let mut made = Connection::open(&aside.0).map_err(failed)?;
        // Nobody reads it before it is whole.
        made.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            .and_then(|()| migrate(&mut made, 0))
            .map_err(failed)?;
        {
            let transaction = made.transaction().map_err(failed)?;
            let known = Known::load(&transaction).map_err(failed)?;
            let mut writing = Writing { path: &path, transaction, known };
            for run in &runs {
                writing.begin_run(run)?;
            }
            for (at, store) in stores.iter().enumerate() {
                let store = salvaged.get(&at).unwrap_or(store);
                store.scan(|found| {
                    match found {
                        // One that began since the first reading.
                        Found::Run(run) => {
                            writing.begin_run(&run)?;
                        }
                        Found::Record(record) => writing.insert_if_better(&record)?,
                        Found::Spectrum(spectrum) => {
                            let Writing { transaction, known, .. } = &mut writing;
                            spectra::insert_if_greater(transaction, known, &spectrum)
                                .map_err(|source| writing.failed(&source))?;
                        }
                        Found::Damage(damage, _) => {
                            merged.damage.push((store.path.clone(), damage));
                        }
                    }
                    Ok::<(), MergeError>(())
                })?;
            }
            merged.records = tally(&writing.transaction).map_err(failed)?;
            let Writing { transaction, known, .. } = writing;
            create_results_view(&transaction, &known.names).map_err(failed)?;
            index_if_large(&transaction).map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
        self.known = None;
        match copy_into(&made, &mut self.reader.connection) {
            Ok(()) => Ok(merged),
            Err(source) => Err(write_error(&path, &self.reader.connection, &source).into()),
        }
    }
}

impl Reader {
    /// The records of cells that several machines measured, and what is known of all runs.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn measured_twice(&self) -> Result<Contents, ReadError> {
        let keys = || -> rusqlite::Result<HashSet<String>> {
            let sql = "SELECT key FROM stored_cells GROUP BY key HAVING count(*) > 1";
            self.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let keys = keys().map_err(|source| self.read_error(&source))?;
        if keys.is_empty() {
            return Ok(Contents::default());
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.of_cells(&keys)
    }
}

/// Of two descriptions of one run, one of which may have been damaged and taken out, the better.
fn take_run(runs: &mut BTreeMap<String, RunInfo>, run: RunInfo) {
    let rank = |run: &RunInfo| (!run.started_at.is_empty(), seal::of_run(run));
    match runs.get(&run.run_id) {
        Some(known) if rank(known) >= rank(&run) => {}
        _ => drop(runs.insert(run.run_id.clone(), run)),
    }
}

impl Writing<'_> {
    /// Inserts `record` unless there is a better one of its cell and machine.
    fn insert_if_better(&mut self, record: &Record) -> Result<(), WriteError> {
        if !self.known.runs.contains_key(&record.run_id) {
            // Its description is damaged wherever there was one.
            self.begin_run(&undescribed(record.run_id.clone()))?;
        }
        match self.rank(record)? {
            Some(there) if there >= Rank::of(record)? => Ok(()),
            _ => self.insert(record),
        }
    }

    /// The rank of the stored record of the cell and the machine of `record`.
    fn rank(&self, record: &Record) -> Result<Option<Rank>, WriteError> {
        let key = &record.key;
        let run = self.known.runs.get(&record.run_id);
        let row = run.map(|run| self.known.cell(&self.transaction, key, *run));
        let row = row.transpose().map_err(|source| self.failed(&source))?.flatten();
        let Some(row) = row else { return Ok(None) };
        let (outcome, started_at, run_id, checksum) = self
            .transaction
            .prepare_cached(
                "SELECT outcome, c.started_at, run_id, c.checksum FROM stored_cells AS c \
                 JOIN stored_runs AS r ON r.id = c.run WHERE c.id = ?1",
            )
            .and_then(|mut statement| {
                statement.query_row([row], |row| {
                    let outcome: String = row.get(0)?;
                    let started_at: String = row.get(1)?;
                    Ok((outcome, started_at, row.get(2)?, row.get(3)?))
                })
            })
            .map_err(|source| self.failed(&source))?;
        Rank::new(key, outcome == Outcome::Ok.as_str(), &started_at, run_id, checksum).map(Some)
    }
}

/// The order by which merging prefers one record of a cell to another: ok, then later. The run's
/// id and the checksum make it total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    ok: bool,
    started: SystemTime,
    run_id: String,
    checksum: i64,
}

impl Rank {
    pub(super) fn of(record: &Record) -> Result<Self, WriteError> {
        let Record { key, outcome, started_at, run_id, .. } = record;
        Self::new(key, outcome.is_ok(), started_at, run_id.clone(), seal::of_record(record))
    }

    fn new(
        key: &str,
        ok: bool,
        started_at: &str,
        run_id: String,
        checksum: i64,
    ) -> Result<Self, WriteError> {
        let started = humantime::parse_rfc3339(started_at).map_err(|_| WriteError::Time {
            key: key.to_owned(),
            started_at: started_at.to_owned(),
        })?;
        Ok(Self { ok, started, run_id, checksum })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::record::Filter;
    use crate::record::tests::sample;
    use crate::store::tests::{columns_of_results, fresh, run};

    fn on(cpu: &str, id: &str) -> RunInfo {
        RunInfo { cpu_model: Some(cpu.to_owned()), ..run(id) }
    }

    fn record(run: &str, label: &str, outcome: Outcome, second: u32) -> Record {
        let mut record = sample("a", label, &[("mse", f64::from(second)), (label, 1.0)]);
        record.metrics.sort_by(|a, b| a.name().cmp(b.name()));
        record.run_id = run.to_owned();
        record.outcome = outcome;
        record.started_at = format!("2025-11-22T10:00:{second:02}Z");
        record
    }

    /// A store in `folder` with these runs and records.
    fn store(folder: &Path, name: &str, runs: &[RunInfo], records: &[Record]) -> PathBuf {
        let path = folder.join(name);
        let mut store = Store::open(&path).unwrap();
        runs.iter().for_each(|run| store.begin_run(run).unwrap());
        store.insert_all(records).unwrap();
        store.insert_spectrum("data", &[3.0]).unwrap();
        path
    }

    /// What `out` has after these were merged into it.
    fn merge(out: &Path, inputs: &[&Path]) -> (Contents, Merged) {
        let inputs: Vec<Reader> =
            inputs.iter().map(|path| Store::open_read_only(*path).unwrap()).collect();
        let mut store = Store::open(out).unwrap();
        let merged = store.merge(&inputs).unwrap();
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        (store.contents(&Filter::default()).unwrap(), merged)
    }

    /// Three stores of two machines, all with the same cells and more.
    fn three(folder: &TempDir) -> [PathBuf; 3] {
        use Outcome::{Crashed, Failed, Ok};
        let folder = folder.path();
        let (first, second, third) = (on("A", "run-1"), on("B", "run-2"), on("A", "run-3"));
        let one = [
            record("run-1", "both", Ok, 1),
            record("run-1", "ok-beats-later", Ok, 1),
            record("run-1", "later-ok", Ok, 1),
            record("run-1", "later-failure", Failed, 5),
            record("run-1", "mine", Ok, 1),
        ];
        let two = [record("run-2", "both", Ok, 2), record("run-2", "ok-beats-later", Failed, 9)];
        let three = [
            record("run-3", "ok-beats-later", Crashed, 8),
            record("run-3", "later-ok", Ok, 8),
            record("run-3", "later-failure", Failed, 2),
            record("run-3", "theirs", Ok, 1),
        ];
        [
            store(folder, "one.db", &[first], &one),
            store(folder, "two.db", &[second], &two),
            store(folder, "three.db", &[third], &three),
        ]
    }

    #[test]
    fn of_each_cell_and_machine_the_best_record_stays_in_any_order_and_as_often() {
        let folder = TempDir::new().unwrap();
        let stores = three(&folder);
        let [one, two, three] = stores.each_ref().map(PathBuf::as_path);
        let orders = [[one, two, three], [one, three, two], [two, one, three], [three, two, one]];
        let mut contents = Vec::new();
        for (at, order) in orders.iter().enumerate() {
            let out = folder.path().join(format!("out-{at}.db"));
            let (first, merged) = merge(&out, order);
            assert_eq!((merged.before, merged.records, merged.damage.len()), (0, 8, 0));
            let (again, merged) = merge(&out, &order[1..]);
            assert_eq!((merged.before, merged.records), (8, 8));
            assert_eq!(first, again, "twice is as once");
            contents.push(first);
        }
        // One after the other, into one of them.
        merge(one, &[three]);
        let (stepwise, _) = merge(one, &[two]);
        contents.push(stepwise);
        assert!(contents.iter().all(|of| *of == contents[0]), "{contents:?}");
        let of = |label: &str| -> Vec<(&str, f64)> {
            let records = contents[0].records.iter().filter(|of| of.label == label);
            records.map(|of| (of.run_id.as_str(), of.value("mse").unwrap())).collect()
        };
        assert_eq!(of("both"), [("run-1", 1.0), ("run-2", 2.0)]);
        assert_eq!(of("ok-beats-later"), [("run-1", 1.0), ("run-2", 9.0)]);
        assert_eq!(of("later-ok"), [("run-3", 8.0)]);
        assert_eq!(of("later-failure"), [("run-1", 5.0)]);
        assert_eq!(contents[0].runs.len(), 3);
        let out = Store::open_read_only(one).unwrap();
        assert!(columns_of_results(&out).contains(&"theirs".to_owned()));
        assert_eq!(out.spectra().unwrap().len(), 1);
        let twice = out.measured_twice().unwrap();
        assert_eq!(twice.records.len(), 4);
    }

    #[test]
    fn what_can_be_read_of_a_damaged_store_is_taken_and_the_rest_is_named() {
        let folder = TempDir::new().unwrap();
        let records: Vec<Record> = (0..40)
            .map(|i| {
                let mut record = record("run-2", &format!("m={i}"), Outcome::Ok, 1);
                record.log = Some("x".repeat(700));
                record
            })
            .collect();
        let path = store(folder.path(), "in.db", &[on("B", "run-2")], &records);
        // A page in the middle of the records, and a bit in one of another page.
        let mut bytes = fs::read(&path).unwrap();
        let pages = bytes.chunks(4096).enumerate();
        let with_logs: Vec<usize> = pages
            .filter(|(_, page)| page[0] == 13 && page.windows(9).any(|at| at == b"xxxxxxxxx"))
            .map(|(at, _)| at)
            .collect();
        assert!(with_logs.len() > 5, "{with_logs:?}");
        bytes[with_logs[2] * 4096..][..4096].fill(0x5a);
        let at = with_logs[4] * 4096
            + bytes[with_logs[4] * 4096..].windows(4).position(|at| at == b"xxxx").unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let out = folder.path().join("out.db");
        let (contents, merged) = merge(&out, &[&path]);
        assert!((25..40).contains(&merged.records), "{merged:?}");
        assert!(contents.records.iter().all(|record| records.contains(record)));
        assert!(merged.damage.iter().all(|(store, _)| *store == path) && !merged.damage.is_empty());
        assert!(merged.damage.iter().any(|(_, damage)| matches!(damage, Damage::Record { .. })));
        assert!(merged.damage.iter().any(|(_, damage)| *damage == Damage::Rows), "{merged:?}");
    }

    #[test]
    fn of_two_spectra_of_one_data_set_the_same_stays_in_any_order() {
        let folder = TempDir::new().unwrap();
        let one = store(folder.path(), "one.db", &[on("B", "run-2")], &[]);
        let two = folder.path().join("two.db");
        Store::open(&two).unwrap().insert_spectrum("data", &[5.0]).unwrap();
        let spectra = |name: &str, inputs: &[&Path]| {
            let out = folder.path().join(name);
            merge(&out, inputs);
            Store::open_read_only(out).unwrap().spectra().unwrap()
        };
        let there = spectra("there.db", &[&one, &two]);
        assert_eq!(there.len(), 1);
        assert_eq!(there, spectra("back.db", &[&two, &one]));
    }

    #[test]
    fn a_store_most_of_which_is_damaged_is_not_merged_into() {
        let folder = TempDir::new().unwrap();
        let records: Vec<Record> =
            (0..6).map(|i| record("run-2", &format!("m={i}"), Outcome::Ok, 1)).collect();
        let out = store(folder.path(), "out.db", &[on("B", "run-2")], &records);
        let other = store(folder.path(), "in.db", &[on("B", "run-3")], &[]);
        let connection = Connection::open(&out).unwrap();
        connection.execute_batch("UPDATE stored_texts SET text = text || '!'").unwrap();
        drop(connection);
        let before = fs::read(&out).unwrap();
        let other = Store::open_read_only(other).unwrap();
        let error = Store::open(&out).unwrap().merge(&[other]).unwrap_err();
        assert!(matches!(error, MergeError::Write(WriteError::Corrupted { .. })), "{error}");
        assert_eq!(fs::read(&out).unwrap(), before);
    }

    #[test]
    fn a_run_whose_description_is_damaged_gets_it_from_another_store() {
        let folder = TempDir::new().unwrap();
        let records = [record("run-2", "x", Outcome::Ok, 1)];
        let whole = store(folder.path(), "whole.db", &[on("B", "run-2")], &records);
        let damaged = folder.path().join("damaged.db");
        fs::copy(&whole, &damaged).unwrap();
        let connection = Connection::open(&damaged).unwrap();
        connection.execute_batch("UPDATE stored_runs SET cores = 999").unwrap();
        drop(connection);
        let out = folder.path().join("out.db");
        let (contents, merged) = merge(&out, &[&damaged]);
        assert_eq!((contents.records.len(), contents.runs[0].cores), (1, 0));
        assert!(matches!(merged.damage[..], [(_, Damage::Run { .. })]));
        let (contents, _) = merge(&out, &[&damaged, &whole]);
        assert_eq!(contents.records, records);
        assert_eq!(contents.runs[0].cpu_model.as_deref(), Some("B"));
    }

    #[test]
    fn a_machine_that_measures_a_cell_again_leaves_the_record_of_another() {
        let (_folder, _path, mut store) = fresh();
        store.begin_run(&on("B", "run-2")).unwrap();
        store.begin_run(&on("B", "run-3")).unwrap();
        for (run, second) in [("run-1", 1), ("run-2", 2), ("run-3", 3)] {
            store.insert(&record(run, "x", Outcome::Ok, second)).unwrap();
        }
        let records = store.records(&Filter::default()).unwrap();
        let runs: Vec<&str> = records.iter().map(|of| of.run_id.as_str()).collect();
        assert_eq!(runs, ["run-1", "run-3"]);
        // Under each name that its data set has, since what was renamed is renamed in every record.
        let mut renamed = record("run-3", "x", Outcome::Ok, 4);
        let name = std::mem::replace(&mut renamed.dataset.name, "renamed".to_owned());
        store.insert(&renamed).unwrap();
        let finished = store.finished().unwrap().outcomes;
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[&renamed.key].datasets, [name, "renamed".to_owned()]);
    }

    #[test]
    fn a_run_that_begins_while_its_store_is_merged_is_taken_whole_or_not_at_all() {
        const RUNS: usize = 40;
        let folder = TempDir::new().unwrap();
        let folder = folder.path();
        let grows = store(folder, "grows.db", &[on("A", "run-0")], &[]);
        let out = folder.join("out.db");
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let mut store = Store::open(&grows).unwrap();
                for i in 1..=RUNS {
                    let id = format!("run-{i}");
                    store.begin_run(&on("A", &id)).unwrap();
                    store.insert(&record(&id, &format!("cell-{i}"), Outcome::Ok, 1)).unwrap();
                }
            });
            loop {
                let last = running.is_finished();
                let (merged, _) = merge(&out, &[&grows]);
                // Whoever has a record has the description of its run.
                assert!(merged.runs.iter().all(|run| run.cpu_model.as_deref() == Some("A")));
                let described: HashSet<&str> =
                    merged.runs.iter().map(|run| run.run_id.as_str()).collect();
                assert!(merged.records.iter().all(|of| described.contains(of.run_id.as_str())));
                if last {
                    assert_eq!(merged.records.len(), RUNS);
                    break;
                }
            }
        });
    }
}
