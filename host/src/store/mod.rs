//! The store: every record of a sweep in one SQLite file.
//!
//! ```text
//! stored_runs     one row per call of `run`: sweep, version, machine
//! stored_cells    one row per cell, the last record of it
//! stored_metrics  one row per cell and metric: value, min, max, standard error
//! stored_recalls  one row per cell and k: what each query found
//! stored_spectra  the eigenvalues of each data set
//! stored_texts    what many cells say, once; stored_names the same for metrics
//! stored_tally    how many there are, and the sum of their checksums
//! runs, cells, metrics, results   views for people: SELECT * FROM results
//! ```
//!
//! Every record and run has a checksum, which is verified whenever it is read.
//!
//! A record is one transaction, so a kill at any moment loses the cell under way and nothing
//! finished. One [`Store`] writes to a file at a time; any number of [`Reader`]s look on.
//!
//! The journal is SQLite's rollback journal in mode `DELETE`. A write-ahead log needs shared
//! memory, which network file systems of clusters lack, and leaves its newest records in a second
//! file after a kill, where a copy of the first one misses them; `TRUNCATE` leaves an empty file
//! behind. `synchronous = EXTRA` also syncs the folder once the journal is gone: with `FULL`, a
//! power cut may bring the journal back and undo the last record. A record takes about 20 ms that
//! way on a busy disk, measured; a cell takes longer.

mod create;
mod error;
mod lock;
mod reason;
mod row;
mod scan;
mod schema;
mod seal;
mod spectra;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};

pub use self::error::{MergeError, OpenError, ReadError, WriteError};
use self::lock::WriterLock;
pub use self::reason::Reason;
use self::row::{Known, insert_record, insert_run};
pub use self::scan::Damage;
use self::scan::{Found, scan};
use self::schema::{APPLICATION_ID, MIGRATIONS, create_results_view, migrate, prepare_for_writing};
use self::spectra::Spectrum;
use crate::record::{Filter, MetricValue, Outcome, QueryRecalls, Record, RunInfo, cell_key};

/// How long to wait for another process that is inside a transaction of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Runs that this store did not know.
    pub runs: usize,
    /// Cells that this store did not know.
    pub added: usize,
    /// Cells for which the other store's record was the better one.
    pub replaced: usize,
    /// Cells for which this store's record stayed.
    pub kept: usize,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The records that are what was written, in the order they started; metrics sorted by name.
    pub records: Vec<Record>,
    /// What is not.
    pub damage: Vec<Damage>,
}

/// The cells of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// How each recorded cell ended. A cell whose record is damaged is not among them.
    pub outcomes: HashMap<String, Outcome>,
    /// What is damaged.
    pub damage: Vec<Damage>,
}

/// A store that is read; it takes no lock and sees whole records only.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

/// A store that is written, by this process alone; it also reads.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    /// What is in the file; none until the first write, and after one that failed.
    known: Option<Known>,
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
        reader
            .connection
            .execute_batch("PRAGMA query_only = ON;")
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
    /// run whose description is damaged keeps its records and loses the description.
    ///
    /// # Errors
    /// [`WriteError`]; the store is as it was then. [`WriteError::Corrupted`] when most records
    /// are damaged or missing: that is one fault in what they share, and not theirs.
    pub fn discard_damaged(&mut self) -> Result<Vec<Damage>, WriteError> {
        let damaged = self.write(|writing| {
            let connection: &Connection = &writing.transaction;
            let failed = |source| write_error(writing.path, connection, &source);
            let refused =
                |detail| Err(WriteError::Corrupted { path: writing.path.to_owned(), detail });
            let (sound, damaged) = sound_and_damaged(connection).map_err(failed)?;
            if !damaged.is_empty() {
                if let Some(most) = most(connection, sound.len(), &damaged).map_err(failed)? {
                    return refused(most);
                }
                scan::discard(connection, &damaged).map_err(failed)?;
                let (left, damaged) = sound_and_damaged(connection).map_err(failed)?;
                if let Some((damage, _)) = damaged.first() {
                    return refused(damage.to_string());
                }
                if left != sound {
                    return refused("its tables do not keep what is written".to_owned());
                }
                writing.known = Known::load(connection).map_err(failed)?;
            }
            Ok(damaged)
        })?;
        if !damaged.is_empty() {
            // Rows whose place in their table was damaged get one again.
            let _ = self.reader.connection.execute_batch("VACUUM");
        }
        Ok(damaged.into_iter().map(|(damage, _)| damage).collect())
    }

    /// Takes over the runs and cells of `other` in one transaction. Where both have a cell, an ok
    /// record wins over one that is not; otherwise the one that started later wins, so the result
    /// does not depend on the order of merging.
    ///
    /// # Errors
    /// [`MergeError`]; nothing is taken over then, also when `other` is damaged.
    pub fn merge_from(&mut self, other: &Reader) -> Result<Merged, MergeError> {
        self.write(|writing| {
            let mut merged = Merged::default();
            other.scan(|found| {
                match found {
                    Found::Run(run) => merged.runs += usize::from(writing.begin_run(&run)?),
                    Found::Record(theirs) => {
                        match writing.rank(&theirs.key)? {
                            None => merged.added += 1,
                            Some(ours) if Rank::of(&theirs)? > ours => merged.replaced += 1,
                            Some(_) => {
                                merged.kept += 1;
                                return Ok::<(), MergeError>(());
                            }
                        }
                        writing.insert(&theirs)?;
                    }
                    Found::Spectrum(spectrum) => writing.insert_spectrum(&spectrum)?,
                    Found::Damage(damage, _) => {
                        let path = other.path.clone();
                        return Err(ReadError::Damaged { path, damage, more: 0 }.into());
                    }
                }
                Ok(())
            })?;
            Ok(merged)
        })
    }

    /// Runs `body` in one transaction and commits it if all went well.
    fn write<T, E: From<WriteError>>(
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

/// A transaction under way.
struct Writing<'a> {
    path: &'a Path,
    transaction: Transaction<'a>,
    known: Known,
}

impl Writing<'_> {
    fn failed(&self, source: &rusqlite::Error) -> WriteError {
        write_error(self.path, &self.transaction, source)
    }

    /// False if the run is there already.
    fn begin_run(&mut self, run: &RunInfo) -> Result<bool, WriteError> {
        if self.known.runs.contains_key(&run.run_id) {
            return Ok(false);
        }
        insert_run(&self.transaction, &mut self.known, run)
            .map_err(|source| self.failed(&source))?;
        Ok(true)
    }

    fn insert(&mut self, record: &Record) -> Result<(), WriteError> {
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

    fn insert_spectrum(&mut self, spectrum: &Spectrum) -> Result<(), WriteError> {
        spectra::insert(&self.transaction, &mut self.known, spectrum)
            .map_err(|source| self.failed(&source))
    }

    /// The rank of the stored cell with this key.
    fn rank(&self, key: &str) -> Result<Option<Rank>, WriteError> {
        let Some(row) = self.known.cells.get(key) else { return Ok(None) };
        let (outcome, started_at, run_id) = self
            .transaction
            .prepare_cached(
                "SELECT outcome, c.started_at, run_id FROM stored_cells AS c \
                 JOIN stored_runs AS r ON r.id = c.run WHERE c.id = ?1",
            )
            .and_then(|mut statement| {
                statement.query_row([row], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?))
                })
            })
            .map_err(|source| self.failed(&source))?;
        Rank::new(key, outcome == Outcome::Ok.as_str(), &started_at, run_id).map(Some)
    }
}

/// One of `items` that is there twice.
fn repeated<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().find(|item| !seen.insert(*item))
}

/// The order by which merging prefers one record of a cell to another: ok, then later. The run's
/// id makes it total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    ok: bool,
    started: SystemTime,
    run_id: String,
}

impl Rank {
    fn of(record: &Record) -> Result<Self, WriteError> {
        Self::new(&record.key, record.outcome.is_ok(), &record.started_at, record.run_id.clone())
    }

    fn new(key: &str, ok: bool, started_at: &str, run_id: String) -> Result<Self, WriteError> {
        let started = humantime::parse_rfc3339(started_at).map_err(|_| WriteError::Time {
            key: key.to_owned(),
            started_at: started_at.to_owned(),
        })?;
        Ok(Self { ok, started, run_id })
    }
}

impl Reader {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every recorded cell and how it ended, each record held against its checksum.
    ///
    /// # Errors
    /// [`ReadError`]; damaged records are no error, they are named in the answer.
    pub fn finished(&self) -> Result<Finished, ReadError> {
        let mut finished = Finished::default();
        self.scan(|found| {
            match found {
                Found::Run(_) | Found::Spectrum(_) => {}
                Found::Record(record) => {
                    finished.outcomes.insert(record.key, record.outcome);
                }
                Found::Damage(damage, _) => finished.damage.push(damage),
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(finished)
    }

    /// The names of the data sets and the ids of the methods that there are records of, sorted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn names(&self) -> Result<(Vec<String>, Vec<String>), ReadError> {
        let names = |column| -> rusqlite::Result<Vec<String>> {
            let sql = format!(
                "SELECT text FROM stored_texts WHERE id IN (SELECT {column} FROM stored_cells) \
                 ORDER BY text"
            );
            self.connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let both = names("dataset").and_then(|datasets| Ok((datasets, names("method")?)));
        both.map_err(|source| self.read_error(&source))
    }

    /// The records that `filter` wants, in the order they started; metrics sorted by name.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Damaged`] when anything in the store is.
    pub fn records(&self, filter: &Filter) -> Result<Vec<Record>, ReadError> {
        let Contents { records, damage } = self.contents(filter)?;
        let more = damage.len().saturating_sub(1);
        match damage.into_iter().next() {
            Some(damage) => Err(ReadError::Damaged { path: self.path.clone(), damage, more }),
            None => Ok(records),
        }
    }

    /// As [`Reader::records`], but what is damaged is left out and named, whatever the filter.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn contents(&self, filter: &Filter) -> Result<Contents, ReadError> {
        let mut contents = Contents::default();
        self.scan(|found| {
            match found {
                Found::Record(record) if filter.wants(&record) => contents.records.push(record),
                Found::Record(_) | Found::Run(_) | Found::Spectrum(_) => {}
                Found::Damage(damage, _) => contents.damage.push(damage),
            }
            Ok::<(), ReadError>(())
        })?;
        contents.records.sort_by(|a, b| (&a.started_at, &a.key).cmp(&(&b.started_at, &b.key)));
        Ok(contents)
    }

    /// Says how many, where so many records are damaged that
    /// [`discard_damaged`](Store::discard_damaged) refuses.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn too_damaged(&self) -> Result<Option<String>, ReadError> {
        let read = || {
            let _moment = self.connection.unchecked_transaction()?;
            let (sound, damaged) = sound_and_damaged(&self.connection)?;
            most(&self.connection, sound.len(), &damaged)
        };
        read().map_err(|source| self.read_error(&source))
    }

    /// Every run, in the order they started.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn runs(&self) -> Result<Vec<RunInfo>, ReadError> {
        let mut runs = Vec::new();
        self.scan(|found| {
            match found {
                Found::Run(run) => runs.push(run),
                Found::Damage(damage @ Damage::Run { .. }, _) => {
                    return Err(ReadError::Damaged { path: self.path.clone(), damage, more: 0 });
                }
                Found::Record(_) | Found::Spectrum(_) | Found::Damage(..) => {}
            }
            Ok(())
        })?;
        runs.sort_by(|a, b| (&a.started_at, &a.run_id).cmp(&(&b.started_at, &b.run_id)));
        Ok(runs)
    }

    /// The eigenvalues of each data set's covariance, descending, by the digest of the data; those
    /// that are damaged are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn spectra(&self) -> Result<BTreeMap<String, Vec<f64>>, ReadError> {
        let mut spectra = BTreeMap::new();
        self.scan(|found| {
            if let Found::Spectrum(Spectrum { dataset_digest, eigenvalues }) = found {
                spectra.insert(dataset_digest, eigenvalues);
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(spectra)
    }

    /// Looks for damage: pages and indexes, rows that belong to nothing, records that are not what
    /// was written and keys that are not their cell's digest. One line per finding, none for a
    /// sound file. Reads the whole file.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot even be searched.
    pub fn check(&self) -> Result<Vec<String>, ReadError> {
        let mut findings = Vec::new();
        let read = |findings: &mut Vec<String>| {
            let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
            for line in statement.query_map([], |row| row.get::<_, String>(0))? {
                findings.push(line?);
            }
            findings.retain(|line| line != "ok");
            let mut statement = self.connection.prepare("PRAGMA foreign_key_check")?;
            let orphans = statement.query_map([], |row| {
                Ok(format!(
                    "a row of `{}` belongs to no row of `{}`",
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(2)?
                ))
            })?;
            for line in orphans {
                findings.push(line?);
            }
            Ok(())
        };
        read(&mut findings).map_err(|source| self.read_error(&source))?;
        self.scan(|found| {
            match found {
                Found::Record(record) if record.key != cell_key(&record.key_parts()) => {
                    findings.push(format!("cell {} has another's key", record.key));
                }
                Found::Record(_) | Found::Run(_) | Found::Spectrum(_) => {}
                Found::Damage(damage, _) => findings.push(damage.to_string()),
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(findings)
    }

    /// The columns of `results` before its metrics.
    #[cfg(test)]
    pub(crate) fn identity_columns(&self) -> Vec<&'static str> {
        schema::IDENTITY.split(", ").collect()
    }

    /// Shows `visit` everything as it is at one moment.
    fn scan<E: From<ReadError>>(
        &self,
        mut visit: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Either's error.
        enum Failed<E> {
            Read(rusqlite::Error),
            Visit(E),
        }
        impl<E> From<rusqlite::Error> for Failed<E> {
            fn from(error: rusqlite::Error) -> Self {
                Self::Read(error)
            }
        }
        let read = || -> Result<(), Failed<E>> {
            // Ends without a trace when it is dropped.
            let _moment = self.connection.unchecked_transaction()?;
            scan(&self.connection, |found| visit(found).map_err(Failed::Visit))
        };
        let mut read = read;
        read().map_err(|failed| match failed {
            Failed::Read(source) => self.read_error(&source).into(),
            Failed::Visit(error) => error,
        })
    }

    fn connect(path: PathBuf, flags: OpenFlags) -> Result<Self, OpenError> {
        let connect = || {
            let connection =
                Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(PATIENCE)?;
            // A store may come from someone else: its schema gets to call nothing.
            connection.execute_batch("PRAGMA trusted_schema = OFF;")?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => Ok(Self { path, connection }),
            Err(source) => Err(open_error(&path, None, &source)),
        }
    }

    /// The file's schema version, 0 when it is new; refuses what is not ours, newer than
    /// us, or has tables that no vq-host made.
    fn schema_version(&self) -> Result<usize, OpenError> {
        // At one moment: another process may be upgrading the file.
        let _moment =
            self.connection.unchecked_transaction().map_err(|source| self.open_error(&source))?;
        let header = || -> rusqlite::Result<(i32, i64, i64)> {
            let pragma = |sql| self.connection.query_row(sql, [], |row| row.get(0));
            let id = self.connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            let version = pragma("PRAGMA user_version")?;
            Ok((id, version, pragma("SELECT count(*) FROM sqlite_schema")?))
        };
        let path = || self.path.clone();
        let (id, version, entries) = header().map_err(|source| self.open_error(&source))?;
        if (id, version, entries) == (0, 0, 0) {
            return Ok(0);
        }
        let found = match usize::try_from(version) {
            Ok(found) if id == APPLICATION_ID && found > 0 => found,
            _ => return Err(OpenError::NotAStore { path: path() }),
        };
        if found > MIGRATIONS.len() {
            return Err(OpenError::Newer { path: path(), found, known: MIGRATIONS.len() });
        }
        let other = schema::difference(&self.connection, found);
        match other.map_err(|source| self.open_error(&source))? {
            Some(detail) => Err(OpenError::Corrupted { path: path(), detail }),
            None => Ok(found),
        }
    }

    /// A store whose last writer was killed and that we may not write cannot be rolled back where
    /// it is: a copy of it can.
    fn rolled_back_elsewhere(&self) -> Option<(Self, usize)> {
        let journal = beside(&self.path, "-journal");
        if !journal.exists() {
            return None;
        }
        let folder = tempfile::tempdir().ok()?;
        let copy = folder.path().join("store.db");
        fs::copy(&self.path, &copy).ok()?;
        fs::copy(&journal, beside(&copy, "-journal")).ok()?;
        // A copy has the rights of what it was copied from.
        for file in [&copy, &beside(&copy, "-journal")] {
            set_writable(file).ok()?;
        }
        let copied = Self::connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
        let found = copied.schema_version().ok()?;
        let reader = Self { path: self.path.clone(), connection: copied.in_memory().ok()? };
        Some((reader, found))
    }

    /// A copy of the store in memory, brought to our schema; the file stays as it is.
    fn upgraded_in_memory(&self, found: usize) -> Result<Self, OpenError> {
        let upgraded = || {
            let mut connection = match found {
                0 => Connection::open_in_memory()?,
                _ => self.in_memory()?,
            };
            migrate(&mut connection, found)?;
            Ok(connection)
        };
        match upgraded() {
            Ok(connection) => Ok(Self { path: self.path.clone(), connection }),
            Err(source) => Err(self.open_error(&source)),
        }
    }

    fn in_memory(&self) -> rusqlite::Result<Connection> {
        let mut copy = Connection::open_in_memory()?;
        Backup::new(&self.connection, &mut copy)?.run_to_completion(
            std::ffi::c_int::MAX,
            Duration::from_millis(50),
            None,
        )?;
        Ok(copy)
    }

    fn reason(&self, source: &rusqlite::Error) -> Reason {
        Reason::of(source, &self.path, Some(&self.connection))
    }

    fn open_error(&self, source: &rusqlite::Error) -> OpenError {
        open_error(&self.path, Some(&self.connection), source)
    }

    fn read_error(&self, source: &rusqlite::Error) -> ReadError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ReadError::Busy { pid: reason::holder(&path), path }
            }
            _ if is_corruption(source) => ReadError::Corrupted { path, detail: source.to_string() },
            _ => ReadError::Sqlite { path, reason: self.reason(source) },
        }
    }
}

/// Something damaged, with its row.
type DamagedRow = (Damage, Option<i64>);

/// The keys of the records that are what was written, and everything damaged.
fn sound_and_damaged(connection: &Connection) -> rusqlite::Result<(Vec<String>, Vec<DamagedRow>)> {
    let (mut sound, mut damaged) = (Vec::new(), Vec::new());
    scan(connection, |found| {
        match found {
            Found::Run(_) | Found::Spectrum(_) => {}
            Found::Record(record) => sound.push(record.key),
            Found::Damage(damage, row) => damaged.push((damage, row)),
        }
        Ok::<(), rusqlite::Error>(())
    })?;
    sound.sort_unstable();
    Ok((sound, damaged))
}

/// Says how many, where most records are damaged or missing: not by faults of their own, but by
/// one in what they share. To take them out would lose them for it. Of fewer than four it tells
/// nothing.
fn most(
    connection: &Connection,
    sound: usize,
    damaged: &[DamagedRow],
) -> rusqlite::Result<Option<String>> {
    let records = damaged.iter().filter(|(damage, _)| matches!(damage, Damage::Record { .. }));
    let lost = records.count() + scan::missing(connection)?;
    let all = sound + lost;
    let most = all >= 4 && 2 * lost > all;
    Ok(most.then(|| format!("{lost} of {all} records are damaged or missing")))
}

/// `path` with more at its end: a file that belongs to it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// True for pipes and devices, which may be waited for without end. What is wrong with a folder,
/// the system says.
fn is_no_file(about: &fs::Metadata) -> bool {
    !about.is_file() && !about.is_dir()
}

fn set_writable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
}

fn sqlite_error(code: ErrorCode) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error { code, extended_code: 0 }, None)
}

/// True for what only a damaged file answers to our own statements.
fn is_corruption(source: &rusqlite::Error) -> bool {
    match source {
        rusqlite::Error::SqliteFailure(error, _) => {
            matches!(
                error.code,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
            )
        }
        // No such table or column, no such text, a value of another type.
        _ => true,
    }
}

fn open_error(path: &Path, connection: Option<&Connection>, source: &rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotAStore { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            OpenError::Busy { pid: reason::holder(&path), path }
        }
        _ if is_corruption(source) => OpenError::Corrupted { path, detail: source.to_string() },
        _ => {
            let reason = Reason::of(source, &path, connection);
            OpenError::Sqlite { path, reason }
        }
    }
}

fn write_error(path: &Path, connection: &Connection, source: &rusqlite::Error) -> WriteError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            WriteError::Busy { pid: reason::holder(&path), path }
        }
        _ if is_corruption(source) => WriteError::Corrupted { path, detail: source.to_string() },
        _ => {
            let reason = Reason::of(source, &path, Some(connection));
            WriteError::Sqlite { path, reason }
        }
    }
}

#[cfg(test)]
mod faults;

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::schema::VIEW_METRICS;
    use super::*;
    use crate::record::MetricValue;
    use crate::record::tests::sample;

    pub(super) fn run(id: &str) -> RunInfo {
        RunInfo { run_id: id.to_owned(), ..RunInfo::begin("first-look", "[sweep]\n") }
    }

    /// A store with the run `run-1`, in a folder that does not exist yet.
    pub(super) fn fresh() -> (TempDir, PathBuf, Store) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("deep/er/store.db");
        let mut store = Store::open(&path).unwrap();
        store.begin_run(&run("run-1")).unwrap();
        (folder, path, store)
    }

    pub(super) fn all(store: &Reader) -> Vec<Record> {
        store.records(&Filter::default()).unwrap()
    }

    fn columns_of_results(store: &Reader) -> Vec<String> {
        let statement = store.connection.prepare("SELECT * FROM results").unwrap();
        statement.column_names().into_iter().map(str::to_owned).collect()
    }

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
            HashMap::from([(record.key, Outcome::Invalid)])
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
    fn the_filter_selects_by_dataset_method_and_outcome() {
        let (_folder, _path, mut store) = fresh();
        let a = sample("a", "x", &[]);
        let mut b = sample("b", "x", &[]);
        b.outcome = Outcome::Crashed;
        store.insert(&a).unwrap();
        store.insert(&b).unwrap();
        let wanted = |filter| store.records(&filter).unwrap();
        let methods = vec!["b".to_owned()];
        assert_eq!(wanted(Filter { methods, ..Filter::default() }), [b.clone()]);
        let outcomes = vec![Outcome::Ok, Outcome::Failed];
        assert_eq!(wanted(Filter { outcomes, ..Filter::default() }), [a]);
        let datasets = vec!["elsewhere".to_owned()];
        assert_eq!(wanted(Filter { datasets, ..Filter::default() }), []);
    }

    #[test]
    fn the_view_gains_a_column_with_each_new_metric() {
        let (_folder, path, mut store) = fresh();
        let identity = columns_of_results(&store);
        assert_eq!(identity.first().map(String::as_str), Some("dataset"));
        store.insert(&sample("a", "x", &[("recall@10", 0.5), ("recall@2", 0.25)])).unwrap();
        let added = |store: &Reader| columns_of_results(store)[identity.len()..].to_vec();
        assert_eq!(added(&store), ["recall@2", "recall@10"]);
        store.insert(&sample("b", "x", &[("it's \"odd\", n", 2.0), ("dim", 3.0)])).unwrap();
        assert_eq!(added(&store).len(), 4);
        drop(store);
        let store = Store::open(&path).unwrap();
        let found: (f64, Option<f64>) = store
            .connection
            .query_row(
                r#"SELECT "recall@10", "it's ""odd"", n" FROM results WHERE method = 'a'"#,
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(found, (0.5, None));
    }

    #[test]
    fn the_view_holds_hundreds_of_metrics() {
        let (_folder, _path, mut store) = fresh();
        let names: Vec<String> = (0..VIEW_METRICS + 50).map(|i| format!("recall@{i}")).collect();
        let metrics: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
        store.insert(&sample("a", "x", &metrics)).unwrap();
        let query = "SELECT \"recall@777\" FROM results";
        let value: f64 = store.connection.query_row(query, [], |row| row.get(0)).unwrap();
        assert_eq!(value, 0.5);
        store.connection.query_row("SELECT * FROM results", [], |_| Ok(())).unwrap();
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

    /// The child of the next test: writes until it is killed. Alone, it does nothing.
    #[test]
    fn child_that_writes_until_it_is_killed() {
        let Some(path) = std::env::var_os("VQ_HOST_TEST_STORE") else {
            return;
        };
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
                .args(["--exact", "--nocapture"])
                .arg("store::tests::child_that_writes_until_it_is_killed")
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

    #[test]
    fn a_reader_sees_what_is_written_meanwhile_and_writes_nothing() {
        let (_folder, path, mut store) = fresh();
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(all(&reader), []);
        store.insert(&sample("a", "x", &[("mse", 1.0)])).unwrap();
        assert_eq!(all(&reader).len(), 1);
        assert!(reader.connection.execute("DELETE FROM cells", []).is_err());
    }

    #[test]
    fn a_store_of_a_newer_schema_is_refused() {
        let (_folder, path, store) = fresh();
        let newer = MIGRATIONS.len() + 1;
        store.connection.pragma_update(None, "user_version", newer as i64).unwrap();
        drop(store);
        for error in [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
            assert!(matches!(error, OpenError::Newer { found, .. } if found == newer));
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let folder = TempDir::new().unwrap();
        let text = folder.path().join("notes.txt");
        fs::write(&text, "a few notes, longer than the header of a database\n".repeat(40)).unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        for path in [text, foreign] {
            let before = fs::read(&path).unwrap();
            for error in
                [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()]
            {
                assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
                assert!(error.to_string().contains(path.to_str().unwrap()));
            }
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }

    #[test]
    fn a_damaged_store_says_so_and_never_panics() {
        let (folder, path, mut store) = fresh();
        for i in 0..50 {
            store.insert(&sample("a", &i.to_string(), &[("mse", 1.0)])).unwrap();
        }
        drop(store);
        let whole = fs::read(&path).unwrap();
        let mut reported = 0;
        for page in 0..whole.len() / 4096 {
            let mut bytes = whole.clone();
            bytes[page * 4096 + 100..(page + 1) * 4096].fill(0xa5);
            let copy = folder.path().join("copy.db");
            fs::write(&copy, &bytes).unwrap();
            let found = match Store::open(&copy) {
                Err(error) => {
                    assert!(error.to_string().contains("copy.db"));
                    true
                }
                Ok(store) => {
                    let found = store.check();
                    found.map_or(true, |lines| !lines.is_empty())
                }
            };
            reported += usize::from(found);
        }
        assert!(reported > whole.len() / 4096 - 3, "{reported} of {}", whole.len() / 4096);
        let copy = folder.path().join("cut.db");
        fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
        let cut = Store::open(&copy).map(|store| store.check().is_ok_and(|found| found.is_empty()));
        assert!(!matches!(cut, Ok(true)));
    }

    #[test]
    fn reading_a_store_that_is_not_there_makes_no_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("none.db");
        assert!(matches!(Store::open_read_only(&path), Err(OpenError::Missing { .. })));
        fs::write(&path, "").unwrap();
        assert_eq!(all(&Store::open_read_only(&path).unwrap()), [], "an empty file is a new store");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        Store::open(&path).unwrap().begin_run(&run("run-1")).unwrap();
    }

    #[test]
    fn a_key_that_is_not_its_cells_is_found() {
        let (_folder, _path, mut store) = fresh();
        let mut record = sample("a", "x", &[]);
        record.seed += 1;
        store.insert(&record).unwrap();
        assert_eq!(store.check().unwrap().len(), 1);
    }

    #[test]
    fn merging_prefers_ok_and_then_the_later_whichever_way_round() {
        let at = |label: &str, outcome, started_at: &str, value| {
            let mut record = sample("a", label, &[("mse", value), (label, value)]);
            record.outcome = outcome;
            record.started_at = started_at.to_owned();
            record
        };
        let (early, late) = ("2025-11-22T10:00:00Z", "2025-11-22T10:00:00.5Z");
        let ours = [
            at("ours-only", Outcome::Ok, early, 1.0),
            at("ok-beats-later", Outcome::Ok, early, 1.0),
            at("later-ok", Outcome::Ok, early, 1.0),
            at("later-failure", Outcome::Failed, late, 1.0),
        ];
        let mut theirs = [
            at("theirs-only", Outcome::Ok, early, 2.0),
            at("ok-beats-later", Outcome::Crashed, late, 2.0),
            at("later-ok", Outcome::Ok, late, 2.0),
            at("later-failure", Outcome::Failed, early, 2.0),
        ];
        for record in &mut theirs {
            record.run_id = "run-2".to_owned();
        }
        let fill = |id: &str, records: &[Record]| {
            let (folder, _path, mut store) = fresh();
            if id != "run-1" {
                store.begin_run(&run(id)).unwrap();
            }
            for record in records {
                store.insert(record).unwrap();
            }
            (folder, store)
        };
        let (_a, mut one) = fill("run-1", &ours);
        let (_b, mut two) = fill("run-2", &theirs);
        two.insert_spectrum("data", &[3.0]).unwrap();
        let (_c, untouched) = fill("run-1", &ours);
        let expected = Merged { runs: 1, added: 1, replaced: 1, kept: 2 };
        assert_eq!(one.merge_from(&two).unwrap(), expected);
        let expected = Merged { runs: 0, added: 1, replaced: 2, kept: 1 };
        assert_eq!(two.merge_from(&untouched).unwrap(), expected);
        assert_eq!(all(&one), all(&two));
        assert_eq!(columns_of_results(&one), columns_of_results(&two));
        assert_eq!(one.spectra().unwrap(), BTreeMap::from([("data".to_owned(), vec![3.0])]));
        let value = |label: &str| {
            all(&one).into_iter().find(|r| r.label == label).and_then(|r| r.value("mse"))
        };
        assert_eq!(value("ours-only"), Some(1.0));
        assert_eq!(value("theirs-only"), Some(2.0));
        assert_eq!(value("ok-beats-later"), Some(1.0));
        assert_eq!(value("later-ok"), Some(2.0));
        assert_eq!(value("later-failure"), Some(1.0));
        let again = one.merge_from(&two).unwrap();
        assert_eq!(again, Merged { kept: 5, ..Merged::default() });
    }
}
