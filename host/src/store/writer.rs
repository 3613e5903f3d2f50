//! A store that is written.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};

use super::error::{sqlite_error, write_error};
use super::files::is_no_file;
use super::lock::WriterLock;
use super::merge::Rank;
use super::reader::{Reader, copy_into, in_memory};
use super::row::{Known, insert_record, insert_run};
use super::scan::{self, most, sound_and_damaged};
use super::schema::{MIGRATIONS, create_results_view, index_if_large, prepare_for_writing};
use super::spectra::{self, Spectrum};
use super::{Damage, OpenError, WriteError, create};
use crate::record::{MetricValue, QueryRecalls, Record, RunInfo};

/// A store that is written, by this process alone; it also reads.
#[derive(Debug)]
pub struct Store {
    pub(super) reader: Reader,
    /// What is in the file; none until the first write, and after one that failed.
    pub(super) known: Option<Known>,
    /// The file, where there was none before.
    made: Option<Made>,
    // Last, since fields drop in this order: the file is closed before another may write it.
    _lock: WriterLock,
}

/// What [`Store::open`] made.
#[derive(Debug)]
struct Made {
    file: PathBuf,
    folder: Option<PathBuf>,
}

impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens the store at `path` for writing; makes the file and its folders if there are none
    /// and upgrades an older schema. An empty file is a new store.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process writes there; [`OpenError::NotAStore`],
    /// [`OpenError::Corrupted`] or [`OpenError::Newer`] for a file to be left alone.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let target = create::target(&path);
        // Before anything is made beside it.
        if fs::metadata(&target).is_ok_and(|about| is_no_file(&about)) {
            return Err(OpenError::NotAFile { path });
        }
        let mut new_folder = None;
        if let Some(folder) = target.parent() {
            new_folder = (!folder.exists()).then(|| folder.to_owned());
            fs::create_dir_all(folder).map_err(|error| OpenError::Folder {
                path: folder.to_owned(),
                reason: error.into(),
            })?;
        }
        let lock = WriterLock::acquire(&path, &target)?;
        let made = create::ensure(&target)?.then_some(Made { file: target, folder: new_folder });
        let mut reader = Reader::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // Also rolls back what a kill left, which may be all there is.
        let found = reader.schema_version()?;
        if reader.connection.is_readonly(MAIN_DB).unwrap_or(false) {
            let error = ErrorCode::ReadOnly;
            let reason = reader.reason(&sqlite_error(error));
            return Err(OpenError::ReadOnly { path: reader.path, reason });
        }
        prepare_for_writing(&mut reader.connection, found)
            .map_err(|source| reader.open_error(&source))?;
        Ok(Self { reader, known: None, made, _lock: lock })
    }

    /// Opens the store at `path` to be read only, while another process may be writing it. A file
    /// of an older schema is read as it would be after an upgrade, and stays as it is; an empty
    /// one is a store without records.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Missing`] if there is no such file.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Reader, OpenError> {
        let path = path.into();
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Missing { path });
            }
            Err(error) => return Err(OpenError::Sqlite { path, reason: error.into() }),
            Ok(about) if is_no_file(&about) => return Err(OpenError::NotAFile { path }),
            Ok(_) => {}
        }
        // Not SQLITE_OPEN_READ_ONLY: after a kill, the first to open the file has to roll the
        // journal back, reader or not. SQLite itself falls back to reading where it may not
        // write, and `query_only` keeps our own statements from writing.
        let reader = Reader::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let (reader, found) = match reader.schema_version() {
            Ok(found) => (reader, found),
            Err(error) => reader.rolled_back_elsewhere().ok_or(error)?,
        };
        let reader = match found < MIGRATIONS.len() {
            true => reader.upgraded_in_memory(found)?,
            false => reader,
        };
        // The inner pages of a large store's trees, by which each record is sought, are more than
        // SQLite's 2 MB. Not before the journal is rolled back: this reads the file.
        reader
            .connection
            .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -65536;")
            .map_err(|source| reader.open_error(&source))?;
        Ok(reader)
    }

    /// Closes the store. One that [`open`](Self::open) made, and in which no run was begun, is
    /// removed with the folder that was made for it: nothing came of it.
    pub fn abandon(self) {
        let Self { reader, made, _lock, .. } = self;
        let unused = reader.runs().is_ok_and(|runs| runs.is_empty());
        drop(reader);
        if let (Some(made), true) = (made, unused) {
            let _ = fs::remove_file(made.file);
            drop(_lock);
            made.folder.map(fs::remove_dir);
        }
    }

    /// Adds a run, to which the records that follow belong.
    ///
    /// # Errors
    /// [`WriteError::RepeatedRun`] if it is there already.
    pub fn begin_run(&mut self, run: &RunInfo) -> Result<(), WriteError> {
        self.write(|writing| match writing.begin_run(run)? {
            true => Ok(()),
            false => Err(WriteError::RepeatedRun { run_id: run.run_id.clone() }),
        })
    }

    /// Stores a record in a transaction of its own; it takes the place of an earlier record with
    /// the same key. Once this returns, the record survives a kill and a power cut.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the record is stored then.
    pub fn insert(&mut self, record: &Record) -> Result<(), WriteError> {
        self.write(|writing| writing.insert(record))
    }

    /// As [`insert`](Self::insert) of each, in one transaction: all are stored or none.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is stored then.
    pub fn insert_all(&mut self, records: &[Record]) -> Result<(), WriteError> {
        self.write(|writing| records.iter().try_for_each(|record| writing.insert(record)))
    }

    /// Stores the eigenvalues of the data with this digest, unless they are there or there are
    /// none.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is stored then.
    pub fn insert_spectrum(
        &mut self,
        dataset_digest: &str,
        eigenvalues: &[f64],
    ) -> Result<(), WriteError> {
        if eigenvalues.is_empty() {
            return Ok(());
        }
        let (dataset_digest, eigenvalues) = (dataset_digest.to_owned(), eigenvalues.to_vec());
        self.write(|writing| writing.insert_spectrum(&Spectrum { dataset_digest, eigenvalues }))
    }

    /// Takes out what is damaged, so that its cells are measured again, and says what it was. A
    /// run whose description is damaged keeps its records and loses the description. Pages that
    /// hold no record and are damaged are made anew as well: the next row might be written there.
    ///
    /// # Errors
    /// [`WriteError`]; the store is as it was then. [`WriteError::Corrupted`] when most records
    /// are damaged or missing: that is one fault in what they share, and not theirs.
    pub fn discard_damaged(&mut self) -> Result<Vec<Damage>, WriteError> {
        let Reader { path, connection } = &mut self.reader;
        let path: &Path = path;
        let (rebuilt, damaged) = match without_damage(path, connection)? {
            (None, damaged) => return Ok(damaged),
            (Some(rebuilt), damaged) => (rebuilt, damaged),
        };
        self.known = None;
        match copy_into(&rebuilt, connection) {
            Ok(()) => Ok(damaged),
            Err(source) => Err(write_error(path, connection, &source)),
        }
    }

    /// As [`discard_damaged`](Self::discard_damaged), where every record was read already and is
    /// sound: they are read again only if a page is damaged.
    ///
    /// # Errors
    /// As [`discard_damaged`](Self::discard_damaged).
    pub fn discard_damaged_pages(&mut self) -> Result<Vec<Damage>, WriteError> {
        let Reader { path, connection } = &self.reader;
        match scan::damaged_page(connection) {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(_)) => self.discard_damaged(),
            Err(source) => Err(write_error(path, connection, &source)),
        }
    }

    /// Runs `body` in one transaction and commits it if all went well.
    pub(super) fn write<T, E: From<WriteError>>(
        &mut self,
        body: impl FnOnce(&mut Writing<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Reader { path, connection } = &mut self.reader;
        let path: &Path = path;
        // Immediate: a transaction that first reads and then writes may not be made to wait.
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
            .map_err(|source| write_error(path, connection, &source))?;
        let failed = |source| write_error(path, connection, &source);
        let known = match self.known.take() {
            Some(known) => known,
            None => Known::load(&transaction).map_err(failed)?,
        };
        let columns = known.names.len();
        let mut writing = Writing { path, transaction, known };
        let value = body(&mut writing)?;
        let Writing { transaction, known, .. } = writing;
        if known.names.len() > columns {
            create_results_view(&transaction, &known.names).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.known = Some(known);
        Ok(value)
    }
}

/// What is damaged in the store, and the store without it: a copy in memory, whose pages and
/// records are checked before anything takes their place in the file. No copy where nothing is
/// damaged.
///
/// What is damaged may be in pages that a write would read, and put a row where an intact one
/// lies. So nothing is written to the file before all of it is known to be sound.
fn without_damage(
    path: &Path,
    connection: &Connection,
) -> Result<(Option<Connection>, Vec<Damage>), WriteError> {
    let refused = |detail| Err(WriteError::Corrupted { path: path.to_owned(), detail });
    let failed = |source| write_error(path, connection, &source);
    let (sound, damaged) = sound_and_damaged(connection).map_err(failed)?;
    if damaged.is_empty() && scan::damaged_page(connection).map_err(failed)?.is_none() {
        return Ok((None, Vec::new()));
    }
    if let Some(most) = most(connection, sound.len(), &damaged).map_err(failed)? {
        return refused(most);
    }
    let rebuild = || -> rusqlite::Result<Connection> {
        let copy = in_memory(connection)?;
        // An index is a second copy, and a damaged one would be in the way of taking rows out. Its
        // pages are given back without being read.
        copy.execute_batch(
            "PRAGMA writable_schema = ON;
             DELETE FROM sqlite_schema WHERE type = 'index' AND name LIKE 'stored_cells_by_%';
             PRAGMA writable_schema = RESET;",
        )?;
        let taking_out = copy.unchecked_transaction()?;
        scan::discard(&copy, &damaged)?;
        taking_out.commit()?;
        // Rows whose place in their table was damaged get one again.
        copy.execute_batch("VACUUM")?;
        index_if_large(&copy)?;
        Ok(copy)
    };
    let rebuilt = match rebuild() {
        // Rows that were read one after the other, and that a search does not find.
        Err(source) if source.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            return refused(source.to_string());
        }
        rebuilt => rebuilt.map_err(failed)?,
    };
    let (left, still) = sound_and_damaged(&rebuilt).map_err(failed)?;
    if let Some((damage, _)) = still.first() {
        return refused(damage.to_string());
    }
    if left != sound {
        return refused("its tables do not keep what is written".to_owned());
    }
    if let Some(page) = scan::damaged_page(&rebuilt).map_err(failed)? {
        return refused(page);
    }
    Ok((Some(rebuilt), damaged.into_iter().map(|(damage, _)| damage).collect()))
}

/// A transaction under way.
pub(super) struct Writing<'a> {
    pub(super) path: &'a Path,
    pub(super) transaction: Transaction<'a>,
    pub(super) known: Known,
}

impl Writing<'_> {
    pub(super) fn failed(&self, source: &rusqlite::Error) -> WriteError {
        write_error(self.path, &self.transaction, source)
    }

    /// False if the run is there already.
    pub(super) fn begin_run(&mut self, run: &RunInfo) -> Result<bool, WriteError> {
        if self.known.runs.contains_key(&run.run_id) {
            return Ok(false);
        }
        insert_run(&self.transaction, &mut self.known, run)
            .map_err(|source| self.failed(&source))?;
        Ok(true)
    }

    pub(super) fn insert(&mut self, record: &Record) -> Result<(), WriteError> {
        let key = || record.key.clone();
        if let Some(twice) = repeated(record.metrics.iter().map(MetricValue::name)) {
            return Err(WriteError::RepeatedMetric { key: key(), metric: twice.to_owned() });
        }
        if let Some(twice) = repeated(record.recalls.iter().map(QueryRecalls::k)) {
            return Err(WriteError::RepeatedMetric {
                key: key(),
                metric: format!("recall@{twice}"),
            });
        }
        Rank::of(record)?;
        let Some(run) = self.known.runs.get(&record.run_id).copied() else {
            return Err(WriteError::UnknownRun { key: key(), run_id: record.run_id.clone() });
        };
        insert_record(&self.transaction, &mut self.known, run, record)
            .map_err(|source| self.failed(&source))
    }

    pub(super) fn insert_spectrum(&mut self, spectrum: &Spectrum) -> Result<(), WriteError> {
        spectra::insert(&self.transaction, &mut self.known, spectrum)
            .map_err(|source| self.failed(&source))
    }
}

/// One of `items` that is there twice.
fn repeated<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().find(|item| !seen.insert(*item))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::*;
    use crate::record::tests::sample;
    use crate::record::{Done, Outcome};
    use crate::store::tests::{all, columns_of_results, fresh, run};

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let (_folder, path, mut store) = fresh();
        let mut record = sample("example", "m=8", &[("bits_per_dim", 0.1 + 0.2)]);
        record.metrics.push(MetricValue::with_range("fit_s", 2.0, 1.5, 2.5).unwrap());
        record.seed = u64::MAX;
        record.error = Some("it's \"quoted\"\u{0}".to_owned());
        record.log = Some("line\nline".to_owned());
        record.outcome = Outcome::Invalid;
        store.insert(&record).unwrap();
        assert_eq!(all(&store), [record.clone()]);
        let runs = store.runs().unwrap();
        drop(store);
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(all(&reader), [record.clone()]);
        assert_eq!(reader.runs().unwrap(), runs);
        assert_eq!(
            reader.finished().unwrap().outcomes,
            HashMap::from([(record.key.clone(), Done::from(&record))])
        );
    }

    #[test]
    fn a_closed_store_is_one_file() {
        let (_folder, path, mut store) = fresh();
        store.insert(&sample("example", "m=8", &[("mse", 1.0)])).unwrap();
        drop(store);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["store.db"]);
    }

    #[test]
    fn a_second_record_of_a_cell_replaces_the_first_and_its_metrics() {
        let (_folder, _path, mut store) = fresh();
        let first = sample("example", "m=8", &[("mse", 1.0), ("old", 2.0)]);
        let second = sample("example", "m=8", &[("mse", 3.0)]);
        store.insert(&first).unwrap();
        store.insert(&second).unwrap();
        assert_eq!(all(&store), [second]);
        let left: i64 = store
            .connection
            .query_row("SELECT count(*) FROM metrics", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 1);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_record_that_breaks_a_promise_leaves_no_trace() {
        let (_folder, _path, mut store) = fresh();
        let mut twice = sample("a", "x", &[("new", 1.0)]);
        twice.metrics.push(twice.metrics[0].clone());
        assert!(matches!(store.insert(&twice), Err(WriteError::RepeatedMetric { .. })));
        let mut twice = sample("a", "x", &[("new", 1.0)]);
        twice.recalls = vec![QueryRecalls::new(10, vec![1]).unwrap(); 2];
        assert!(matches!(store.insert(&twice), Err(WriteError::RepeatedMetric { .. })));
        let mut stray = sample("a", "x", &[("new", 1.0)]);
        stray.run_id = "run-2".to_owned();
        assert!(matches!(store.insert(&stray), Err(WriteError::UnknownRun { .. })));
        let mut late = sample("a", "x", &[("new", 1.0)]);
        late.started_at = "yesterday".to_owned();
        assert!(matches!(store.insert(&late), Err(WriteError::Time { .. })));
        assert!(matches!(store.begin_run(&run("run-1")), Err(WriteError::RepeatedRun { .. })));
        assert_eq!(all(&store), []);
        assert!(!columns_of_results(&store).contains(&"new".to_owned()));
    }

    #[test]
    fn what_was_not_committed_is_not_there_after_reopening() {
        let (_folder, path, mut store) = fresh();
        let kept = sample("a", "x", &[("mse", 1.0)]);
        store.insert(&kept).unwrap();
        store.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut known = Known::load(&store.connection).unwrap();
        let lost = sample("b", "x", &[("sse", 1.0)]);
        insert_record(&store.connection, &mut known, 1, &lost).unwrap();
        drop(store);
        assert_eq!(all(&Store::open(&path).unwrap()), [kept]);
    }

    /// A copy of the files, made while a transaction has half of its pages written, is what a
    /// kill leaves.
    #[test]
    fn half_a_transaction_is_rolled_back_by_whoever_opens_the_file_next() {
        let (folder, path, mut store) = fresh();
        let kept = sample("a", "x", &[("mse", 1.0)]);
        store.insert(&kept).unwrap();
        store.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
        let mut known = Known::load(&store.connection).unwrap();
        for i in 0..200 {
            let mut record = sample("b", &i.to_string(), &[("mse", 1.0)]);
            record.log = Some("x".repeat(4000));
            insert_record(&store.connection, &mut known, 1, &record).unwrap();
        }
        let expected = [kept];
        for name in ["reader", "writer"] {
            let copy = folder.path().join(format!("{name}.db"));
            fs::copy(&path, &copy).unwrap();
            let journal = format!("{}-journal", path.display());
            fs::copy(journal, format!("{}-journal", copy.display())).unwrap();
            assert!(fs::metadata(&copy).unwrap().len() > 400_000, "no page was written early");
            if name == "reader" {
                assert_eq!(all(&Store::open_read_only(&copy).unwrap()), expected);
            }
            let store = Store::open(&copy).unwrap();
            assert_eq!(all(&store), expected);
            assert_eq!(store.check().unwrap(), Vec::<String>::new());
        }
    }

    /// The child of the next test: writes until it is killed.
    #[test]
    #[ignore = "the child of another test"]
    fn child_that_writes_until_it_is_killed() {
        let path = std::env::var_os("VQ_HOST_TEST_STORE").expect("told by the parent");
        let mut store = Store::open(PathBuf::from(path)).unwrap();
        store.begin_run(&run("run-1")).unwrap();
        for i in 0.. {
            let name = format!("metric_{}", i % 50);
            store.insert(&sample("a", &i.to_string(), &[("mse", 1.0), (&name, 1.0)])).unwrap();
            // Not println, which the test harness would keep for itself.
            let mut stderr = io::stderr().lock();
            writeln!(stderr, "stored {i}").unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_kill_loses_nothing_that_was_stored() {
        let folder = TempDir::new().unwrap();
        for round in 1..=5 {
            let path = folder.path().join(format!("{round}.db"));
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", "--ignored"])
                .arg("store::writer::tests::child_that_writes_until_it_is_killed")
                .env("VQ_HOST_TEST_STORE", &path)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let mut stored = 0;
            for line in lines {
                stored += usize::from(line.unwrap().starts_with("stored"));
                if stored == 7 * round {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            assert!(stored >= 7 * round);
            let store = Store::open(&path).unwrap();
            let found = all(&store).len();
            assert!(found == stored || found == stored + 1, "{stored} told, {found} found");
            assert_eq!(store.check().unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_gone() {
        let (_folder, path, store) = fresh();
        let error = Store::open(&path).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(error, OpenError::Locked { pid: Some(found), .. } if found == pid));
        assert!(error.to_string().contains("store.db"), "{error}");
        Store::open_read_only(&path).unwrap();
        drop(store);
        Store::open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_store_does_not_get_around_its_lock() {
        let (folder, path, _store) = fresh();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Store::open(&link), Err(OpenError::Locked { .. })));
    }
}
