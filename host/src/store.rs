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
//! power cut may bring the journal back and undo the last record. It costs a few milliseconds per
//! cell.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::types::{ToSqlOutput, Type};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, ToSql, Transaction,
    TransactionBehavior, named_params, params,
};

use crate::record::{
    DatasetInfo, Filter, MethodInfo, MetricValue, Outcome, Record, RunInfo, TimingInfo,
    canonical_json, cell_key,
};

/// Written into the file's header, so that other people's SQLite files are told apart ("vqho").
const APPLICATION_ID: i32 = 0x7671_686f;

/// Step `i` brings a file from schema version `i` to `i + 1`. Released steps never change.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE runs (
        run_id       TEXT    NOT NULL PRIMARY KEY,
        started_at   TEXT    NOT NULL,
        host_version TEXT    NOT NULL,
        sweep_name   TEXT    NOT NULL,
        sweep_text   TEXT    NOT NULL,
        cpu_model    TEXT,
        cpu_features TEXT    NOT NULL, -- separated by spaces
        cores        INTEGER NOT NULL,
        memory_bytes INTEGER,
        os           TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE cells (
        key            TEXT    NOT NULL PRIMARY KEY,
        run_id         TEXT    NOT NULL REFERENCES runs (run_id),
        dataset        TEXT    NOT NULL,
        dataset_digest TEXT    NOT NULL,
        n              INTEGER NOT NULL,
        dim            INTEGER NOT NULL,
        queries        INTEGER NOT NULL,
        metric         TEXT    NOT NULL,
        method         TEXT    NOT NULL,
        method_version TEXT    NOT NULL,
        plugin_path    TEXT    NOT NULL,
        plugin_digest  TEXT    NOT NULL,
        sdk            TEXT    NOT NULL,
        abi            TEXT    NOT NULL,
        params         TEXT    NOT NULL, -- JSON
        label          TEXT    NOT NULL,
        seed           ANY     NOT NULL, -- decimal text from 2^63 on
        evaluation     TEXT    NOT NULL, -- JSON
        outcome        TEXT    NOT NULL,
        error          TEXT,
        log            TEXT,
        threads        INTEGER NOT NULL,
        jobs           INTEGER NOT NULL,
        exclusive      INTEGER NOT NULL,
        load_average   REAL,
        block_rows     INTEGER,
        started_at     TEXT    NOT NULL,
        wall_s         REAL    NOT NULL
    ) STRICT;
    CREATE INDEX cells_by_run ON cells (run_id);
    CREATE TABLE metrics (
        cell_key TEXT NOT NULL REFERENCES cells (key) ON DELETE CASCADE,
        name     TEXT NOT NULL,
        value    REAL NOT NULL,
        min      REAL,
        max      REAL,
        PRIMARY KEY (cell_key, name)
    ) STRICT, WITHOUT ROWID;
"];

/// The first columns of the view `results`, before its metrics.
const IDENTITY: &str = "dataset, method, label, seed, outcome, metric, n, dim, queries, error, \
    threads, jobs, exclusive, started_at, wall_s, method_version, plugin_digest, params, run_id, \
    key";

/// Metrics beyond this many stay out of the view; SQLite knows no wider result than 2000 columns.
const VIEW_METRICS: usize = 1900;

const INSERT_CELL: &str = "INSERT OR REPLACE INTO cells (key, run_id, dataset, dataset_digest, n, \
    dim, queries, metric, method, method_version, plugin_path, plugin_digest, sdk, abi, params, \
    label, seed, evaluation, outcome, error, log, threads, jobs, exclusive, load_average, \
    block_rows, started_at, wall_s) VALUES (:key, :run_id, :dataset, :dataset_digest, :n, :dim, \
    :queries, :metric, :method, :method_version, :plugin_path, :plugin_digest, :sdk, :abi, \
    :params, :label, :seed, :evaluation, :outcome, :error, :log, :threads, :jobs, :exclusive, \
    :load_average, :block_rows, :started_at, :wall_s)";

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
    /// A reader kept the file for longer than [`PATIENCE`] allows.
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
            fs::create_dir_all(folder).map_err(|source| OpenError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        let lock = WriterLock::acquire(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut reader = Reader::connect(path, flags)?;
        let found = reader.schema_version()?;
        let columns = prepare_for_writing(&mut reader.connection, found)
            .map_err(|source| open_error(&reader.path, source))?;
        Ok(Self {
            reader,
            columns,
            _lock: lock,
        })
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
            return Err(OpenError::Older {
                path: reader.path,
                found,
                known: MIGRATIONS.len(),
            });
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
            false => Err(WriteError::RepeatedRun {
                run_id: run.run_id.clone(),
            }),
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
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut writing = Writing {
            path,
            transaction,
            columns: self.columns.clone(),
        };
        let value = body(&mut writing)?;
        let Writing {
            transaction,
            columns,
            ..
        } = writing;
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
            return Err(WriteError::UnknownRun {
                key: key(),
                run_id: record.run_id.clone(),
            });
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
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        row.get(2)?,
                    ))
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
        Self::new(
            &record.key,
            record.outcome.is_ok(),
            &record.started_at,
            record.run_id.clone(),
        )
    }

    fn new(key: &str, ok: bool, started_at: &str, run_id: String) -> Result<Self, WriteError> {
        let started = humantime::parse_rfc3339(started_at).map_err(|_| WriteError::Time {
            key: key.to_owned(),
            started_at: started_at.to_owned(),
        })?;
        Ok(Self {
            ok,
            started,
            run_id,
        })
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
            let mut statement = self
                .connection
                .prepare("SELECT * FROM runs ORDER BY started_at, run_id")?;
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
        IDENTITY.split(", ").collect()
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
            let id = self
                .connection
                .query_row("PRAGMA application_id", [], |row| row.get(0))?;
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
            return Err(OpenError::Newer {
                path: path(),
                found,
                known: MIGRATIONS.len(),
            });
        }
        Ok(found)
    }
}

/// Sets up a connection that writes, upgrades the schema from version `found` and returns the
/// metrics that the view shows.
fn prepare_for_writing(
    connection: &mut Connection,
    found: usize,
) -> rusqlite::Result<BTreeSet<String>> {
    // Answers with the mode it chose; a file in write-ahead mode is brought back.
    connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = ON;")?;
    for (version, step) in (1..).zip(MIGRATIONS).skip(found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        // The view spells out columns of `cells`, so every step ends with a fresh one.
        let names = stored_metrics(&transaction)?;
        create_results_view(&transaction, &names)?;
        transaction.commit()?;
    }
    stored_metrics(connection)
}

fn stored_metrics(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare("SELECT DISTINCT name FROM metrics")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Makes `results` anew with one column per name, in natural order: `recall@2` before
/// `recall@10`.
///
/// Each metric is a subquery of its own: SQLite then looks up only those that a query selects,
/// and a join of all metrics would end at 64 tables.
fn create_results_view(connection: &Connection, names: &BTreeSet<String>) -> rusqlite::Result<()> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_by_cached_key(|name| natural_key(name));
    let mut sql = format!("DROP VIEW IF EXISTS results; CREATE VIEW results AS SELECT {IDENTITY}");
    for name in names.into_iter().take(VIEW_METRICS) {
        let (text, column) = (name.replace('\'', "''"), name.replace('"', "\"\""));
        write!(
            sql,
            ", (SELECT value FROM metrics WHERE cell_key = cells.key AND name = '{text}') \
             AS \"{column}\""
        )
        .expect("writing to a String cannot fail");
    }
    sql.push_str(" FROM cells;");
    connection.execute_batch(&sql)
}

/// Sorts names as people do, runs of digits by their value.
pub(crate) fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        pieces.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    pieces
}

/// Adds a run; false if its id is there already.
fn insert_run(connection: &Connection, run: &RunInfo) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO runs (run_id, started_at, host_version, sweep_name, sweep_text, cpu_model, \
         cpu_features, cores, memory_bytes, os) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (run_id) DO NOTHING",
    )?;
    let added = statement.execute(params![
        run.run_id,
        run.started_at,
        run.host_version,
        run.sweep_name,
        run.sweep_text,
        run.cpu_model,
        run.cpu_features.join(" "),
        run.cores,
        run.memory_bytes.map(Count),
        run.os,
    ])?;
    Ok(added == 1)
}

fn insert_record(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let Record {
        dataset,
        method,
        timing,
        ..
    } = record;
    connection
        .prepare_cached(INSERT_CELL)?
        .execute(named_params! {
            ":key": record.key,
            ":run_id": record.run_id,
            ":dataset": dataset.name,
            ":dataset_digest": dataset.digest,
            ":n": Count(dataset.n),
            ":dim": Count(dataset.dim),
            ":queries": Count(dataset.queries),
            ":metric": record.metric,
            ":method": method.id,
            ":method_version": method.version,
            ":plugin_path": method.plugin_path,
            ":plugin_digest": method.plugin_digest,
            ":sdk": method.sdk,
            ":abi": method.abi,
            ":params": canonical_json(&record.params),
            ":label": record.label,
            ":seed": Count(record.seed),
            ":evaluation": canonical_json(&record.evaluation),
            ":outcome": record.outcome.as_str(),
            ":error": record.error,
            ":log": record.log,
            ":threads": timing.threads,
            ":jobs": timing.jobs,
            ":exclusive": timing.exclusive,
            ":load_average": timing.load_average,
            ":block_rows": timing.block_rows.map(Count),
            ":started_at": record.started_at,
            ":wall_s": record.wall_s,
        })?;
    // The metrics of a replaced cell went with it, by ON DELETE CASCADE.
    let mut statement = connection.prepare_cached(
        "INSERT INTO metrics (cell_key, name, value, min, max) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for metric in &record.metrics {
        statement.execute(params![
            record.key,
            metric.name(),
            metric.value(),
            metric.min(),
            metric.max()
        ])?;
    }
    Ok(())
}

/// A u64 in SQLite, whose integers are i64: the few beyond are text.
struct Count(u64);

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match i64::try_from(self.0) {
            Ok(integer) => integer.into(),
            Err(_) => self.0.to_string().into(),
        })
    }
}

/// The counterpart of [`Count`].
fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    use rusqlite::types::ValueRef;
    let index = row.as_ref().column_index(column)?;
    match row.get_ref(index)? {
        ValueRef::Integer(integer) => u64::try_from(integer).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(index, Type::Integer, error.into())
        }),
        _ => parsed(row, column),
    }
}

fn optional_count(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    match row.get::<_, Option<i64>>(column)? {
        None => Ok(None),
        Some(_) => count(row, column).map(Some),
    }
}

/// A text column read by the type's own `FromStr`.
fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error.into())
    })
}

/// A row of `cells`, without its metrics.
fn read_cell(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key: row.get("key")?,
        run_id: row.get("run_id")?,
        dataset: DatasetInfo {
            name: row.get("dataset")?,
            digest: row.get("dataset_digest")?,
            n: count(row, "n")?,
            dim: count(row, "dim")?,
            queries: count(row, "queries")?,
        },
        metric: row.get("metric")?,
        method: MethodInfo {
            id: row.get("method")?,
            version: row.get("method_version")?,
            plugin_path: row.get("plugin_path")?,
            plugin_digest: row.get("plugin_digest")?,
            sdk: row.get("sdk")?,
            abi: row.get("abi")?,
        },
        params: parsed(row, "params")?,
        label: row.get("label")?,
        seed: count(row, "seed")?,
        evaluation: parsed(row, "evaluation")?,
        outcome: parsed(row, "outcome")?,
        error: row.get("error")?,
        log: row.get("log")?,
        timing: TimingInfo {
            threads: row.get("threads")?,
            jobs: row.get("jobs")?,
            exclusive: row.get("exclusive")?,
            load_average: row.get("load_average")?,
            block_rows: optional_count(row, "block_rows")?,
        },
        started_at: row.get("started_at")?,
        wall_s: row.get("wall_s")?,
        metrics: Vec::new(),
    })
}

fn read_metric(row: &Row<'_>) -> rusqlite::Result<MetricValue> {
    MetricValue::checked(
        row.get("name")?,
        row.get("value")?,
        row.get("min")?,
        row.get("max")?,
    )
    .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Real, error.into()))
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<RunInfo> {
    let features: String = row.get("cpu_features")?;
    Ok(RunInfo {
        run_id: row.get("run_id")?,
        started_at: row.get("started_at")?,
        host_version: row.get("host_version")?,
        sweep_name: row.get("sweep_name")?,
        sweep_text: row.get("sweep_text")?,
        cpu_model: row.get("cpu_model")?,
        cpu_features: features.split_whitespace().map(str::to_owned).collect(),
        cores: row.get("cores")?,
        memory_bytes: optional_count(row, "memory_bytes")?,
        os: row.get("os")?,
    })
}

fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotAStore { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupted {
            path,
            detail: source.to_string(),
        },
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
        true => ReadError::Corrupted {
            path,
            detail: source.to_string(),
        },
        false => ReadError::Sqlite { path, source },
    }
}

/// The right to write a store: an exclusive lock on `<store>.lock` beside it, which the system
/// gives back however the process ends.
#[derive(Debug)]
struct WriterLock {
    path: PathBuf,
    file: File,
}

impl WriterLock {
    fn acquire(store: &Path) -> Result<Self, OpenError> {
        // A link to a store is locked where the store is.
        let mut name = fs::canonicalize(store)
            .unwrap_or_else(|_| store.to_owned())
            .into_os_string();
        name.push(OsString::from(".lock"));
        let path = PathBuf::from(name);
        loop {
            let failed = |source| OpenError::Lock {
                path: path.clone(),
                source,
            };
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let pid = file.read_to_string(&mut holder).ok();
                    let pid = pid.and_then(|_| holder.trim().parse().ok());
                    return Err(OpenError::Locked {
                        path: store.to_owned(),
                        pid,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Between our opening and our locking, its last holder may have removed the file.
            if !is_file_at(&file, &path) {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Self { path, file });
        }
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // While the lock is still held, so that this can only be our own file. A file that stays
        // behind does no harm: it is the lock that counts.
        if cfg!(unix) && is_file_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// True when `path` still leads to the open `file`.
#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Elsewhere the lock file is never removed.
#[cfg(not(unix))]
fn is_file_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::*;
    use crate::record::tests::sample;

    fn run(id: &str) -> RunInfo {
        RunInfo {
            run_id: id.to_owned(),
            ..RunInfo::begin("first-look", "[sweep]\n")
        }
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
        statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let (_folder, path, mut store) = fresh();
        let mut record = sample("example", "m=8", &[("bits_per_dim", 0.1 + 0.2)]);
        record
            .metrics
            .push(MetricValue::with_range("fit_s", 2.0, 1.5, 2.5).unwrap());
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
            reader.finished().unwrap(),
            HashMap::from([(record.key, Outcome::Invalid)])
        );
    }

    #[test]
    fn a_closed_store_is_one_file() {
        let (_folder, path, mut store) = fresh();
        store
            .insert(&sample("example", "m=8", &[("mse", 1.0)]))
            .unwrap();
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
        assert_eq!(
            wanted(Filter {
                methods,
                ..Filter::default()
            }),
            [b.clone()]
        );
        let outcomes = vec![Outcome::Ok, Outcome::Failed];
        assert_eq!(
            wanted(Filter {
                outcomes,
                ..Filter::default()
            }),
            [a]
        );
        let datasets = vec!["elsewhere".to_owned()];
        assert_eq!(
            wanted(Filter {
                datasets,
                ..Filter::default()
            }),
            []
        );
    }

    #[test]
    fn the_view_gains_a_column_with_each_new_metric() {
        let (_folder, path, mut store) = fresh();
        let identity = columns_of_results(&store);
        assert_eq!(identity.first().map(String::as_str), Some("dataset"));
        store
            .insert(&sample("a", "x", &[("recall@10", 0.5), ("recall@2", 0.25)]))
            .unwrap();
        let added = |store: &Reader| columns_of_results(store)[identity.len()..].to_vec();
        assert_eq!(added(&store), ["recall@2", "recall@10"]);
        store
            .insert(&sample("b", "x", &[("it's \"odd\", n", 2.0), ("dim", 3.0)]))
            .unwrap();
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
        let names: Vec<String> = (0..VIEW_METRICS + 50)
            .map(|i| format!("recall@{i}"))
            .collect();
        let metrics: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
        store.insert(&sample("a", "x", &metrics)).unwrap();
        let query = "SELECT \"recall@777\" FROM results";
        let value: f64 = store
            .connection
            .query_row(query, [], |row| row.get(0))
            .unwrap();
        assert_eq!(value, 0.5);
        store
            .connection
            .query_row("SELECT * FROM results", [], |_| Ok(()))
            .unwrap();
    }

    #[test]
    fn a_record_that_breaks_a_promise_leaves_no_trace() {
        let (_folder, _path, mut store) = fresh();
        let mut twice = sample("a", "x", &[("new", 1.0)]);
        twice.metrics.push(twice.metrics[0].clone());
        assert!(matches!(
            store.insert(&twice),
            Err(WriteError::RepeatedMetric { .. })
        ));
        let mut stray = sample("a", "x", &[("new", 1.0)]);
        stray.run_id = "run-2".to_owned();
        assert!(matches!(
            store.insert(&stray),
            Err(WriteError::UnknownRun { .. })
        ));
        let mut late = sample("a", "x", &[("new", 1.0)]);
        late.started_at = "yesterday".to_owned();
        assert!(matches!(store.insert(&late), Err(WriteError::Time { .. })));
        assert!(matches!(
            store.begin_run(&run("run-1")),
            Err(WriteError::RepeatedRun { .. })
        ));
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
        store
            .connection
            .execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE")
            .unwrap();
        for i in 0..200 {
            let mut record = sample("b", &i.to_string(), &[("mse", 1.0)]);
            record.log = Some("x".repeat(4000));
            insert_record(&store.connection, &record).unwrap();
        }
        for name in ["reader", "writer"] {
            let copy = folder.path().join(format!("{name}.db"));
            fs::copy(&path, &copy).unwrap();
            let journal = format!("{}-journal", path.display());
            fs::copy(journal, format!("{}-journal", copy.display())).unwrap();
            assert!(
                fs::metadata(&copy).unwrap().len() > 400_000,
                "no page was written early"
            );
            if name == "reader" {
                assert_eq!(all(&Store::open_read_only(&copy).unwrap()), [kept.clone()]);
            }
            let store = Store::open(&copy).unwrap();
            assert_eq!(all(&store), [kept.clone()]);
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
            store
                .insert(&sample("a", &i.to_string(), &[("mse", 1.0), (&name, 1.0)]))
                .unwrap();
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
            assert!(
                found == stored || found == stored + 1,
                "{stored} told, {found} found"
            );
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
        store
            .connection
            .pragma_update(None, "user_version", newer as i64)
            .unwrap();
        drop(store);
        for error in [
            Store::open(&path).unwrap_err(),
            Store::open_read_only(&path).unwrap_err(),
        ] {
            assert!(matches!(error, OpenError::Newer { found, .. } if found == newer));
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let folder = TempDir::new().unwrap();
        let text = folder.path().join("notes.txt");
        fs::write(
            &text,
            "a few notes, longer than the header of a database\n".repeat(40),
        )
        .unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign)
            .unwrap()
            .execute_batch("CREATE TABLE t (x)")
            .unwrap();
        for path in [text, foreign] {
            let before = fs::read(&path).unwrap();
            for error in [
                Store::open(&path).unwrap_err(),
                Store::open_read_only(&path).unwrap_err(),
            ] {
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
            store
                .insert(&sample("a", &i.to_string(), &[("mse", 1.0)]))
                .unwrap();
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
        assert!(
            reported > whole.len() / 4096 - 3,
            "{reported} of {}",
            whole.len() / 4096
        );
        let copy = folder.path().join("cut.db");
        fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
        let cut = Store::open(&copy).map(|store| store.check().is_ok_and(|found| found.is_empty()));
        assert!(!matches!(cut, Ok(true)));
    }

    #[test]
    fn reading_a_store_that_is_not_there_makes_no_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("none.db");
        assert!(matches!(
            Store::open_read_only(&path),
            Err(OpenError::Missing { .. })
        ));
        fs::write(&path, "").unwrap();
        assert!(matches!(
            Store::open_read_only(&path),
            Err(OpenError::Older { found: 0, .. })
        ));
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
        let expected = Merged {
            runs: 1,
            added: 1,
            replaced: 1,
            kept: 2,
        };
        assert_eq!(one.merge_from(&two).unwrap(), expected);
        let expected = Merged {
            runs: 0,
            added: 1,
            replaced: 2,
            kept: 1,
        };
        assert_eq!(two.merge_from(&untouched).unwrap(), expected);
        assert_eq!(all(&one), all(&two));
        assert_eq!(columns_of_results(&one), columns_of_results(&two));
        let value = |label: &str| {
            all(&one)
                .into_iter()
                .find(|r| r.label == label)
                .and_then(|r| r.value("mse"))
        };
        assert_eq!(value("ours-only"), Some(1.0));
        assert_eq!(value("theirs-only"), Some(2.0));
        assert_eq!(value("ok-beats-later"), Some(1.0));
        assert_eq!(value("later-ok"), Some(2.0));
        assert_eq!(value("later-failure"), Some(1.0));
        let again = one.merge_from(&two).unwrap();
        assert_eq!(
            again,
            Merged {
                kept: 5,
                ..Merged::default()
            }
        );
    }

    #[test]
    fn names_sort_as_people_count() {
        let mut names = [
            "recall@100",
            "mse",
            "recall@10/rerank=4",
            "recall@2",
            "recall@10",
            "a",
        ];
        names.sort_by_cached_key(|name| natural_key(name));
        let expected = [
            "a",
            "mse",
            "recall@2",
            "recall@10",
            "recall@10/rerank=4",
            "recall@100",
        ];
        assert_eq!(names, expected);
    }
}
