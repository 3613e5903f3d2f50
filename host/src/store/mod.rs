//! The store: every record of a sweep in one SQLite file.
//!
//! ```text
//! stored_runs     one row per call of `run`: sweep, version, machine
//! stored_cells    one row per cell and machine, the last record of it
//! stored_metrics  one row per record and metric: value, min, max, standard error
//! stored_recalls  one row per record and k: what each query found
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
mod files;
mod lock;
mod merge;
mod reader;
mod reason;
mod row;
mod salvage;
mod scan;
mod schema;
mod seal;
mod spectra;
mod writer;

pub use self::error::{MergeError, OpenError, ReadError, WriteError};
pub use self::merge::Merged;
pub use self::reader::{Contents, Finished, Reader};
pub use self::reason::Reason;
pub use self::scan::Damage;
pub use self::writer::Store;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod large;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::{Reader, Store};
    use crate::record::{Filter, Record, RunInfo};

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

    /// The error and its causes, in one line.
    pub(super) fn said(error: &dyn std::error::Error) -> String {
        let causes = std::iter::successors(Some(error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    pub(super) fn all(store: &Reader) -> Vec<Record> {
        store.records(&Filter::default()).unwrap()
    }

    pub(super) fn columns_of_results(store: &Reader) -> Vec<String> {
        let statement = store.connection.prepare("SELECT * FROM results").unwrap();
        statement.column_names().into_iter().map(str::to_owned).collect()
    }
}
