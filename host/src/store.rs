//! The store: every record of a sweep in one SQLite file.
//!
//! ```text
//! runs     one row per call of `run`: sweep, version, machine
//! cells    one row per cell, primary key = the cell's key
//! metrics  one row per cell and metric: value, min, max
//! results  a view for people, one row per cell: SELECT * FROM results
//! ```
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

mod lock;
mod row;
mod schema;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior,
};

use self::lock::WriterLock;
use self::row::{insert_record, insert_run, parsed, read_cell, read_metric, read_run};
use self::schema::{APPLICATION_ID, MIGRATIONS, create_results_view, prepare_for_writing};
use crate::record::{Filter, Outcome, Record, RunInfo, cell_key};

/// How long to wait for another process that is inside a transaction of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store's folder cannot be made.
    #[error("cannot create the folder `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such file to read.
    #[error("there is no store at `{}`", path.display())]
    Missing {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Another process writes to this store.
    #[error(
        "the store `{}` is being written by another vq-host{}; wait for it to end or name another store",
        path.display(), process(*.pid)
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// The other process, if it left its number.
        pid: Option<u32>,
    },
    /// The lock beside the store cannot be taken.
    #[error("cannot lock `{}`; does its file system support locks?", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("`{}` is not a vq-host store; name another store or move that file away", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file was a store and is damaged.
    #[error(
        "the store `{0}` is damaged ({detail}); try `sqlite3 {0} .recover`, or move it away and run again",
        path.display()
    )]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file was written by a later vq-host.
    #[error(
        "the store `{}` has schema version {found} and this vq-host knows versions up to {known}; use a newer vq-host",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The newest one this build knows.
        known: usize,
    },
    /// The file needs an upgrade, which reading must not do.
    #[error(
        "the store `{}` has schema version {found} and is read as version {known}; the next run that writes to it upgrades it",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema version; 0 when nothing was ever stored.
        found: usize,
        /// The one this build reads.
        known: usize,
    },
    /// Anything else SQLite refuses.
    #[error("cannot open the store `{}`", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Why something cannot be stored; the store is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The record's run was never begun here.
    #[error("cell {key} belongs to the run `{run_id}`, which this store does not know")]
    UnknownRun {
        /// Key of the record.
        key: String,
        /// Its run.
        run_id: String,
    },
    /// The run was begun before.
    #[error("the run `{run_id}` is already in this store")]
    RepeatedRun {
        /// Its id.
        run_id: String,
    },
    /// A record names one metric twice.
    #[error("cell {key} has the metric `{metric}` twice")]
    RepeatedMetric {
        /// Key of the record.
        key: String,
        /// The metric.
        metric: String,
    },
    /// A time that is not RFC 3339 in UTC, by which merging could not decide.
    #[error("cell {key} started at `{started_at}`, which is not an RFC 3339 time")]
    Time {
        /// Key of the record.
        key: String,
        /// The text.
        started_at: String,
    },
    /// A reader kept the file for longer than the minute we wait.
    #[error("the store `{}` is held by another program; close what reads it", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Anything else SQLite refuses: a full disk, a file gone read-only.
    #[error("cannot write to the store `{}`", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A page or a value that no vq-host wrote.
    #[error(
        "the store `{0}` is damaged ({detail}); try `sqlite3 {0} .recover`, or move it away and run again",
        path.display()
    )]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// Anything else SQLite refuses.
    #[error("cannot read the store `{}`", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Why two stores cannot be merged; the one written to is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The other store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// This store cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

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
    /// The metrics that `results` has columns for.
    columns: BTreeSet<String>,
    // Last, since fields drop in this order: the file is closed before another may write it.
    _lock: WriterLock,
}

impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens the store at `path` for writing; makes the file and its folders if there are none
    /// and upgrades an older schema.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process writes there; [`OpenError::NotAStore`],
    /// [`OpenError::Corrupted`] or [`OpenError::Newer`] for a file to be left alone.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
        }
        let lock = WriterLock::acquire(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut reader = Reader::connect(path, flags)?;
        let found = reader.schema_version()?;
        let columns = prepare_for_writing(&mut reader.connection, found)
            .map_err(|source| open_error(&reader.path, source))?;
        Ok(Self { reader, columns, _lock: lock })
    }

    /// Opens the store at `path` to be read only, while another process may be writing it.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Missing`] if there is no such file.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Reader, OpenError> {
        let path = path.into();
        if !path.exists() {
            return Err(OpenError::Missing { path });
        }
        // Not SQLITE_OPEN_READ_ONLY: after a kill, the first to open the file has to roll the
        // journal back, reader or not. SQLite itself falls back to reading where it may not
        // write, and `query_only` keeps our own statements from writing.
        let reader = Reader::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let found = reader.schema_version()?;
        if found < MIGRATIONS.len() {
            return Err(OpenError::Older { path: reader.path, found, known: MIGRATIONS.len() });
        }
        reader
            .connection
            .execute_batch("PRAGMA query_only = ON;")
            .map_err(|source| open_error(&reader.path, source))?;
        Ok(reader)
    }

    /// Adds a run, to which the records that follow belong.
    ///
    /// # Errors
    /// [`WriteError::RepeatedRun`] if it is there already.
    pub fn begin_run(&mut self, run: &RunInfo) -> Result<(), WriteError> {
        let added = insert_run(&self.reader.connection, run)
            .map_err(|source| write_error(&self.reader.path, source))?;
        match added {
            true => Ok(()),
            false => Err(WriteError::RepeatedRun { run_id: run.run_id.clone() }),
        }
    }

    /// Stores a record in a transaction of its own; it takes the place of an earlier record with
    /// the same key. Once this returns, the record survives a kill and a power cut.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the record is stored then.
    pub fn insert(&mut self, record: &Record) -> Result<(), WriteError> {
        self.write(|writing| writing.insert(record))
    }

    /// Takes over the runs and cells of `other` in one transaction. Where both have a cell, an ok
    /// record wins over one that is not; otherwise the one that started later wins, so the result
    /// does not depend on the order of merging.
    ///
    /// # Errors
    /// [`MergeError`]; nothing is taken over then.
    pub fn merge_from(&mut self, other: &Reader) -> Result<Merged, MergeError> {
        let runs = other.runs()?;
        self.write(|writing| {
            let mut merged = Merged::default();
            for run in &runs {
                merged.runs += usize::from(writing.begin_run(run)?);
            }
            other.for_each_record(&Filter::default(), |theirs| {
                match writing.rank(&theirs.key)? {
                    None => merged.added += 1,
                    Some(ours) if Rank::of(&theirs)? > ours => merged.replaced += 1,
                    Some(_) => {
                        merged.kept += 1;
                        return Ok::<(), MergeError>(());
                    }
                }
                Ok(writing.insert(&theirs)?)
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
        let failed = |source| write_error(path, source);
        // Immediate: a transaction that first reads and then writes may not be made to wait.
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut writing = Writing { path, transaction, columns: self.columns.clone() };
        let value = body(&mut writing)?;
        let Writing { transaction, columns, .. } = writing;
        if columns != self.columns {
            create_results_view(&transaction, &columns).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.columns = columns;
        Ok(value)
    }
}

/// A transaction under way.
struct Writing<'a> {
    path: &'a Path,
    transaction: Transaction<'a>,
    columns: BTreeSet<String>,
}

impl Writing<'_> {
    fn begin_run(&self, run: &RunInfo) -> Result<bool, WriteError> {
        insert_run(&self.transaction, run).map_err(|source| write_error(self.path, source))
    }

    fn insert(&mut self, record: &Record) -> Result<(), WriteError> {
        let key = || record.key.clone();
        let mut names = BTreeSet::new();
        for metric in &record.metrics {
            if !names.insert(metric.name()) {
                return Err(WriteError::RepeatedMetric {
                    key: key(),
                    metric: metric.name().to_owned(),
                });
            }
        }
        Rank::of(record)?;
        let known = self
            .transaction
            .prepare_cached("SELECT 1 FROM runs WHERE run_id = ?1")
            .and_then(|mut statement| statement.exists([&record.run_id]))
            .map_err(|source| write_error(self.path, source))?;
        if !known {
            return Err(WriteError::UnknownRun { key: key(), run_id: record.run_id.clone() });
        }
        insert_record(&self.transaction, record)
            .map_err(|source| write_error(self.path, source))?;
        for name in names {
            if !self.columns.contains(name) {
                self.columns.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// The rank of the stored cell with this key.
    fn rank(&self, key: &str) -> Result<Option<Rank>, WriteError> {
        let stored = self
            .transaction
            .prepare_cached("SELECT outcome, started_at, run_id FROM cells WHERE key = ?1")
            .and_then(|mut statement| {
                let row = |row: &Row<'_>| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?))
                };
                statement.query_row([key], row).optional()
            })
            .map_err(|source| write_error(self.path, source))?;
        stored
            .map(|(outcome, started_at, run_id)| {
                Rank::new(key, outcome == Outcome::Ok.as_str(), &started_at, run_id)
            })
            .transpose()
    }
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

    /// Every stored cell and how it ended.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn finished(&self) -> Result<HashMap<String, Outcome>, ReadError> {
        let read = || -> rusqlite::Result<HashMap<String, Outcome>> {
            let mut statement = self.connection.prepare("SELECT key, outcome FROM cells")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, parsed(row, "outcome")?)))?;
            rows.collect()
        };
        read().map_err(|source| read_error(&self.path, source))
    }

    /// The names of the data sets and the ids of the methods that there are records of, sorted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn names(&self) -> Result<(Vec<String>, Vec<String>), ReadError> {
        let read = |sql| -> rusqlite::Result<Vec<String>> {
            self.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let datasets = read("SELECT DISTINCT dataset FROM cells ORDER BY dataset");
        let both = datasets.and_then(|datasets| {
            Ok((datasets, read("SELECT DISTINCT method FROM cells ORDER BY method")?))
        });
        both.map_err(|source| read_error(&self.path, source))
    }

    /// The records that `filter` wants, in the order they started; metrics sorted by name.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn records(&self, filter: &Filter) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        self.for_each_record(filter, |record| {
            records.push(record);
            Ok::<(), ReadError>(())
        })?;
        Ok(records)
    }

    /// Calls `visit` with each record that `filter` wants, one in memory at a time.
    ///
    /// # Errors
    /// [`ReadError`], or the first error of `visit`.
    pub fn for_each_record<E: From<ReadError>>(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |source| read_error(&self.path, source);
        let mut cells = self
            .connection
            .prepare("SELECT * FROM cells ORDER BY started_at, key")
            .map_err(failed)?;
        let mut metrics = self
            .connection
            .prepare("SELECT name, value, min, max FROM metrics WHERE cell_key = ?1 ORDER BY name")
            .map_err(failed)?;
        let mut rows = cells.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut record = read_cell(row).map_err(failed)?;
            if !filter.wants(&record) {
                continue;
            }
            record.metrics = metrics
                .query_map([&record.key], read_metric)
                .and_then(Iterator::collect)
                .map_err(failed)?;
            visit(record)?;
        }
        Ok(())
    }

    /// Every run, in the order they started.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn runs(&self) -> Result<Vec<RunInfo>, ReadError> {
        let read = || -> rusqlite::Result<Vec<RunInfo>> {
            let mut statement =
                self.connection.prepare("SELECT * FROM runs ORDER BY started_at, run_id")?;
            statement.query_map([], read_run)?.collect()
        };
        read().map_err(|source| read_error(&self.path, source))
    }

    /// Looks for damage: pages and indexes, rows that belong to nothing, records that do not read
    /// back and keys that are not their cell's digest. One line per finding, none for a sound
    /// file. Reads the whole file.
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
            let mut statement = self.connection.prepare("SELECT * FROM cells")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match read_cell(row) {
                    Ok(record) if record.key == cell_key(&record.key_parts()) => {}
                    Ok(record) => findings.push(format!("cell {} has another's key", record.key)),
                    Err(error) => findings.push(format!(
                        "cell {} does not read back: {error}",
                        row.get::<_, String>("key")?
                    )),
                }
            }
            Ok(())
        };
        read(&mut findings).map_err(|source| read_error(&self.path, source))?;
        Ok(findings)
    }

    /// The columns of `results` before its metrics.
    #[cfg(test)]
    pub(crate) fn identity_columns(&self) -> Vec<&'static str> {
        schema::IDENTITY.split(", ").collect()
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
            Err(source) => Err(open_error(&path, source)),
        }
    }

    /// The file's schema version, 0 when it is new; refuses what is not ours or newer than us.
    fn schema_version(&self) -> Result<usize, OpenError> {
        let header = || -> rusqlite::Result<(i32, i64, i64)> {
            let pragma = |sql| self.connection.query_row(sql, [], |row| row.get(0));
            let id = self.connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            let version = pragma("PRAGMA user_version")?;
            Ok((id, version, pragma("SELECT count(*) FROM sqlite_schema")?))
        };
        let path = || self.path.clone();
        let (id, version, entries) = header().map_err(|source| open_error(&self.path, source))?;
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
        Ok(found)
    }
}

fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotAStore { path },
        Some(ErrorCode::DatabaseCorrupt) => {
            OpenError::Corrupted { path, detail: source.to_string() }
        }
        _ => OpenError::Sqlite { path, source },
    }
}

fn write_error(path: &Path, source: rusqlite::Error) -> WriteError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => WriteError::Busy { path },
        _ => WriteError::Sqlite { path, source },
    }
}

fn read_error(path: &Path, source: rusqlite::Error) -> ReadError {
    let path = path.to_owned();
    let damaged = matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    ) || matches!(source, rusqlite::Error::FromSqlConversionFailure(..));
    match damaged {
        true => ReadError::Corrupted { path, detail: source.to_string() },
        false => ReadError::Sqlite { path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::schema::VIEW_METRICS;
    use super::*;
    use crate::record::MetricValue;
    use crate::record::tests::sample;

    fn run(id: &str) -> RunInfo {
        RunInfo { run_id: id.to_owned(), ..RunInfo::begin("first-look", "[sweep]\n") }
    }

    /// A store with the run `run-1`, in a folder that does not exist yet.
    fn fresh() -> (TempDir, PathBuf, Store) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("deep/er/store.db");
        let mut store = Store::open(&path).unwrap();
        store.begin_run(&run("run-1")).unwrap();
        (folder, path, store)
    }

    fn all(store: &Reader) -> Vec<Record> {
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
        assert_eq!(reader.finished().unwrap(), HashMap::from([(record.key, Outcome::Invalid)]));
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
        insert_record(&store.connection, &sample("b", "x", &[("sse", 1.0)])).unwrap();
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
        for i in 0..200 {
            let mut record = sample("b", &i.to_string(), &[("mse", 1.0)]);
            record.log = Some("x".repeat(4000));
            insert_record(&store.connection, &record).unwrap();
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
        assert!(matches!(Store::open_read_only(&path), Err(OpenError::Older { found: 0, .. })));
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
        let (_c, untouched) = fill("run-1", &ours);
        let expected = Merged { runs: 1, added: 1, replaced: 1, kept: 2 };
        assert_eq!(one.merge_from(&two).unwrap(), expected);
        let expected = Merged { runs: 0, added: 1, replaced: 2, kept: 1 };
        assert_eq!(two.merge_from(&untouched).unwrap(), expected);
        assert_eq!(all(&one), all(&two));
        assert_eq!(columns_of_results(&one), columns_of_results(&two));
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
