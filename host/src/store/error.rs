//! Why a store cannot be opened, written, read or merged.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::{Damage, Reason, reason};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store's folder cannot be made.
    #[error("cannot create the folder `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: Reason,
    },
    /// The store's file cannot be made.
    #[error("cannot make the store `{}`", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: Reason,
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
    /// The file beside the store that is locked cannot be made.
    #[error("cannot write beside the store, to `{}`", path.display())]
    Beside {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: Reason,
    },
    /// The lock beside the store cannot be taken.
    #[error("cannot lock `{}`; does its file system support locks?", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: Reason,
    },
    /// The store's file may only be read.
    #[error(
        "the store `{}` cannot be written; name another store with --store",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        reason: Reason,
    },
    /// The file is something else.
    #[error("`{}` is not a vq-host store; name another store or move that file away", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// A pipe or a device.
    #[error("`{}` is not a regular file; name another store", path.display())]
    NotAFile {
        /// What is no file.
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
    /// Another program is writing for longer than the minute we wait.
    #[error("the store `{}` is held by another program{}; close it", path.display(), process(*.pid))]
    Busy {
        /// The file.
        path: PathBuf,
        /// The other process, where the system tells it.
        pid: Option<u32>,
    },
    /// Anything else SQLite refuses.
    #[error("cannot open the store `{}`", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        reason: Reason,
    },
}

impl OpenError {
    /// True when there is no room for the store.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Self::Folder { reason, .. }
            | Self::Create { reason, .. }
            | Self::Beside { reason, .. }
            | Self::Lock { reason, .. }
            | Self::Sqlite { reason, .. } => reason.is_full_disk(),
            _ => false,
        }
    }
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
    #[error(
        "the store `{}` is held by another program{}; close what reads it",
        path.display(), process(*.pid)
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// The other process, where the system tells it.
        pid: Option<u32>,
    },
    /// A page that no vq-host wrote, or more damage than a run may take out.
    #[error(
        "the store `{0}` is damaged ({detail}); try `sqlite3 {0} .recover`, or move it away and run again",
        path.display()
    )]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Anything else: a full disk, a file gone read-only.
    #[error("cannot write to the store `{}`", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        reason: Reason,
    },
}

impl WriteError {
    /// True when there is no room for what was to be stored.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Sqlite { reason, .. } if reason.is_full_disk())
    }
}

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A page that no vq-host wrote.
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
    /// A record or a run that is not what was written.
    #[error(
        "in the store `{}` {damage}{}; `vq-host run` measures again what is damaged",
        path.display(), and_more(*.more)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first damage.
        damage: Damage,
        /// How many there are beside it.
        more: usize,
    },
    /// Another program is writing for longer than the minute we wait.
    #[error("the store `{}` is held by another program{}; close it", path.display(), process(*.pid))]
    Busy {
        /// The file.
        path: PathBuf,
        /// The other process, where the system tells it.
        pid: Option<u32>,
    },
    /// Anything else SQLite refuses.
    #[error("cannot read the store `{}`", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        reason: Reason,
    },
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    }
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

pub(super) fn sqlite_error(code: ErrorCode) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error { code, extended_code: 0 }, None)
}

/// True for what only a damaged file answers to our own statements.
pub(super) fn is_corruption(source: &rusqlite::Error) -> bool {
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

pub(super) fn open_error(
    path: &Path,
    connection: Option<&Connection>,
    source: &rusqlite::Error,
) -> OpenError {
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

pub(super) fn write_error(
    path: &Path,
    connection: &Connection,
    source: &rusqlite::Error,
) -> WriteError {
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
