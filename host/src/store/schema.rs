//! The file's schema: tables, how an older file becomes a newer one, and the view for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rusqlite::{Connection, TransactionBehavior};

use crate::record::natural_key;

/// Written into the file's header, so that other people's SQLite files are told apart ("vqho").
pub(super) const APPLICATION_ID: i32 = 0x7671_686f;

/// Step `i` brings a file from schema version `i` to `i + 1`. Released steps never change.
pub(super) const MIGRATIONS: [&str; 1] = ["
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
        sandbox        TEXT,
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
pub(super) const IDENTITY: &str = "dataset, method, label, seed, outcome, metric, n, dim, queries, error, \
    sandbox, threads, jobs, exclusive, started_at, wall_s, method_version, plugin_digest, params, run_id, \
    key";

/// Metrics beyond this many stay out of the view; SQLite knows no wider result than 2000 columns.
pub(super) const VIEW_METRICS: usize = 1900;

/// Sets up a connection that writes, upgrades the schema from version `found` and returns the
/// metrics that the view shows.
pub(super) fn prepare_for_writing(
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
pub(super) fn create_results_view(
    connection: &Connection,
    names: &BTreeSet<String>,
) -> rusqlite::Result<()> {
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
