//! The file's schema: tables, how an older file becomes a newer one, and the views for people.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use rusqlite::{Connection, TransactionBehavior};

use super::scan;
use crate::record::natural_key;

/// Written into the file's header, so that other people's SQLite files are told apart ("vqho").
pub(super) const APPLICATION_ID: i32 = 0x7671_686f;

/// Step `i` brings a file from schema version `i` to `i + 1`. Released steps never change.
pub(super) const MIGRATIONS: [&str; 3] = [
    "
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
",
    "
    DROP VIEW IF EXISTS results;
    CREATE TABLE stored_runs (
        id           INTEGER NOT NULL PRIMARY KEY,
        run_id       TEXT    NOT NULL,
        started_at   TEXT    NOT NULL,
        host_version TEXT    NOT NULL,
        sweep_name   TEXT    NOT NULL,
        sweep_text   TEXT    NOT NULL,
        cpu_model    TEXT,
        cpu_features TEXT    NOT NULL, -- separated by spaces
        cores        INTEGER NOT NULL,
        memory_bytes INTEGER,
        os           TEXT    NOT NULL,
        environment  TEXT    NOT NULL, -- JSON
        checksum     INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE stored_texts (
        id   INTEGER NOT NULL PRIMARY KEY,
        text TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE stored_cells (
        id             INTEGER NOT NULL PRIMARY KEY,
        key            TEXT    NOT NULL,
        run            INTEGER NOT NULL REFERENCES stored_runs (id),
        dataset        INTEGER NOT NULL, -- a text, as all that say so
        dataset_digest INTEGER NOT NULL, -- text
        n              INTEGER NOT NULL,
        dim            INTEGER NOT NULL,
        queries        INTEGER NOT NULL,
        metric         INTEGER NOT NULL, -- text
        method         INTEGER NOT NULL, -- text
        method_version INTEGER NOT NULL, -- text
        plugin_path    INTEGER NOT NULL, -- text
        plugin_digest  INTEGER NOT NULL, -- text
        needs_digest   INTEGER,          -- text
        sdk            INTEGER NOT NULL, -- text
        abi            INTEGER NOT NULL, -- text
        params         INTEGER NOT NULL, -- text, JSON
        label          INTEGER NOT NULL, -- text
        seed           ANY     NOT NULL, -- decimal text from 2^63 on
        evaluation     INTEGER NOT NULL, -- text, JSON
        outcome        TEXT    NOT NULL,
        error          TEXT,
        log            TEXT,
        sandbox        INTEGER,          -- text
        threads        INTEGER NOT NULL,
        jobs           INTEGER NOT NULL,
        exclusive      INTEGER NOT NULL,
        load_average   REAL,
        block_rows     INTEGER,
        threads_used   REAL,
        started_at     TEXT    NOT NULL,
        wall_s         REAL    NOT NULL,
        checksum       INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE stored_names (
        id   INTEGER NOT NULL PRIMARY KEY,
        name TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE stored_metrics (
        cell  INTEGER NOT NULL REFERENCES stored_cells (id),
        name  INTEGER NOT NULL REFERENCES stored_names (id),
        value REAL    NOT NULL,
        min   REAL,
        max   REAL,
        PRIMARY KEY (cell, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE stored_tally (
        runs     INTEGER NOT NULL,
        cells    INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    INSERT INTO stored_tally VALUES (0, 0, 0);
    INSERT INTO stored_runs SELECT NULL, run_id, started_at, host_version, sweep_name, sweep_text,
        cpu_model, cpu_features, cores, memory_bytes, os, '{}', 0
        FROM runs ORDER BY started_at, run_id;
    INSERT INTO stored_texts (text)
        SELECT dataset FROM cells UNION SELECT dataset_digest FROM cells
        UNION SELECT metric FROM cells UNION SELECT method FROM cells
        UNION SELECT method_version FROM cells UNION SELECT plugin_path FROM cells
        UNION SELECT plugin_digest FROM cells UNION SELECT sdk FROM cells
        UNION SELECT abi FROM cells UNION SELECT params FROM cells
        UNION SELECT label FROM cells UNION SELECT evaluation FROM cells
        UNION SELECT sandbox FROM cells WHERE sandbox IS NOT NULL;
    INSERT INTO stored_names (name) SELECT DISTINCT name FROM metrics ORDER BY name;
    CREATE INDEX texts_to_ids ON stored_texts (text);
    CREATE INDEX runs_to_ids ON stored_runs (run_id);
    INSERT INTO stored_cells SELECT NULL, key,
        (SELECT id FROM stored_runs AS r WHERE r.run_id = c.run_id),
        (SELECT id FROM stored_texts WHERE text = c.dataset),
        (SELECT id FROM stored_texts WHERE text = c.dataset_digest),
        n, dim, queries,
        (SELECT id FROM stored_texts WHERE text = c.metric),
        (SELECT id FROM stored_texts WHERE text = c.method),
        (SELECT id FROM stored_texts WHERE text = c.method_version),
        (SELECT id FROM stored_texts WHERE text = c.plugin_path),
        (SELECT id FROM stored_texts WHERE text = c.plugin_digest),
        NULL,
        (SELECT id FROM stored_texts WHERE text = c.sdk),
        (SELECT id FROM stored_texts WHERE text = c.abi),
        (SELECT id FROM stored_texts WHERE text = c.params),
        (SELECT id FROM stored_texts WHERE text = c.label),
        seed,
        (SELECT id FROM stored_texts WHERE text = c.evaluation),
        outcome, error, log,
        (SELECT id FROM stored_texts WHERE text = c.sandbox),
        threads, jobs, exclusive, load_average, block_rows, NULL, started_at, wall_s, 0
        FROM cells AS c ORDER BY started_at, key;
    CREATE INDEX cells_to_ids ON stored_cells (key);
    INSERT INTO stored_metrics SELECT c.id, n.id, value, min, max
        FROM metrics AS m JOIN stored_cells AS c ON c.key = m.cell_key
        JOIN stored_names AS n ON n.name = m.name;
    DROP INDEX texts_to_ids;
    DROP INDEX runs_to_ids;
    DROP INDEX cells_to_ids;
    DROP TABLE metrics;
    DROP TABLE cells;
    DROP TABLE runs;
",
    "
    ALTER TABLE stored_cells ADD COLUMN train_rows INTEGER;
    ALTER TABLE stored_cells ADD COLUMN train_apart INTEGER;
    ALTER TABLE stored_cells ADD COLUMN synthetic INTEGER;
    ALTER TABLE stored_cells ADD COLUMN zero_queries INTEGER;
    ALTER TABLE stored_cells ADD COLUMN queries_in_base INTEGER;
    ALTER TABLE stored_cells ADD COLUMN duplicate_rows INTEGER;
    ALTER TABLE stored_cells ADD COLUMN tied_queries INTEGER;
    ALTER TABLE stored_cells ADD COLUMN needs_training INTEGER;
    ALTER TABLE stored_cells ADD COLUMN deterministic INTEGER;
    ALTER TABLE stored_cells ADD COLUMN proof INTEGER; -- text
    ALTER TABLE stored_cells ADD COLUMN notices TEXT; -- JSON, a list
    ALTER TABLE stored_metrics ADD COLUMN standard_error REAL;
    CREATE TABLE stored_recalls (
        cell    INTEGER NOT NULL REFERENCES stored_cells (id),
        k       INTEGER NOT NULL,
        queries INTEGER NOT NULL,
        hits    BLOB    NOT NULL, -- of each query, in as many bits as k has, lowest bit first
        PRIMARY KEY (cell, k)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE stored_spectra (
        dataset_digest INTEGER NOT NULL PRIMARY KEY, -- text
        eigenvalues    BLOB    NOT NULL, -- f64, little-endian
        checksum       INTEGER NOT NULL
    ) STRICT;
",
];

/// The schema version from which on records carry checksums.
const FIRST_SEALED: usize = 2;

/// The schema version from which on the views have [`CELLS_SINCE_3`].
const FIRST_PROVEN: usize = 3;

/// The columns of `stored_cells` whose texts stand in `stored_texts`, once for all records.
pub(super) const SHARED_TEXTS: [&str; 15] = [
    "dataset",
    "dataset_digest",
    "metric",
    "method",
    "method_version",
    "plugin_path",
    "plugin_digest",
    "needs_digest",
    "sdk",
    "abi",
    "params",
    "label",
    "evaluation",
    "sandbox",
    "proof",
];

/// The columns of the view `cells`.
const CELLS: &str = "key, run_id, dataset, dataset_digest, n, dim, queries, metric, method, \
    method_version, plugin_path, plugin_digest, needs_digest, sdk, abi, params, label, seed, \
    evaluation, outcome, error, log, sandbox, threads, jobs, exclusive, load_average, block_rows, \
    threads_used, started_at, wall_s";

/// Those that it has since schema version 3.
const CELLS_SINCE_3: &str = "train_rows, train_apart, synthetic, zero_queries, queries_in_base, \
    duplicate_rows, tied_queries, needs_training, deterministic, proof, notices";

/// The columns of the view `runs`.
const RUNS: &str = "run_id, started_at, host_version, sweep_name, sweep_text, cpu_model, \
    cpu_features, cores, memory_bytes, os, environment";

/// The first columns of the view `results`, before its metrics.
pub(super) const IDENTITY: &str = "dataset, method, label, seed, outcome, metric, n, dim, queries, error, \
    sandbox, proof, notices, threads, jobs, exclusive, threads_used, started_at, wall_s, \
    method_version, needs_training, deterministic, train_rows, train_apart, synthetic, \
    zero_queries, queries_in_base, duplicate_rows, tied_queries, plugin_digest, needs_digest, \
    params, run_id, key";

/// Metrics beyond this many stay out of the view; SQLite knows no wider result than 2000 columns.
pub(super) const VIEW_METRICS: usize = 1900;

/// Sets up a connection that writes and upgrades the schema from version `found`.
pub(super) fn prepare_for_writing(
    connection: &mut Connection,
    found: usize,
) -> rusqlite::Result<()> {
    // Answers with the mode it chose; a file in write-ahead mode is brought back.
    connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    // Without foreign keys: this program writes no row that belongs to nothing, and to look them up
    // in a damaged table would keep the next record from being written.
    connection.execute_batch("PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = OFF;")?;
    migrate(connection, found)?;
    if (1..FIRST_SEALED).contains(&found) {
        // What the old tables held is free now. A disk too full for it costs nothing but space.
        let _ = connection.execute_batch("VACUUM");
    }
    // A store of which nobody knows how many records it has is found damaged later.
    let _ = index_if_large(connection);
    Ok(())
}

/// So many records are read whole and verified whole, whatever is wanted of them. A store with more
/// has indexes, and only what is wanted of it is read and verified.
pub(super) const LARGE: i64 = 5_000;

/// What finds records of a large store. A small one has none: an index is a second copy, which can
/// disagree with the first.
const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS stored_cells_by_key ON stored_cells (key, run);
    CREATE INDEX IF NOT EXISTS stored_cells_by_dataset ON stored_cells (dataset, method);
    CREATE INDEX IF NOT EXISTS stored_cells_by_method ON stored_cells (method);
";

/// Whether a store has more than [`LARGE`] records.
pub(super) fn is_large(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT cells > ?1 FROM stored_tally", [LARGE], |row| row.get(0))
}

/// Whether its indexes were made, which a store gets when it is opened with more than [`LARGE`] records.
pub(super) fn is_indexed(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'stored_cells_by_key'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|found| found > 0)
}

/// How many records a store counts.
pub(super) fn tally(connection: &Connection) -> rusqlite::Result<usize> {
    let cells = connection.query_row("SELECT cells FROM stored_tally", [], |row| row.get(0));
    cells.map(|cells: i64| usize::try_from(cells).unwrap_or(0))
}

/// The statement that finds the texts of a column of `stored_cells`, each once, sorted. An index
/// leads from each to the next, past all records that have the same.
pub(super) fn names_of(column: &str, indexed: bool) -> String {
    let there = match indexed {
        false => format!("SELECT {column} FROM stored_cells"),
        true => format!(
            "WITH RECURSIVE there (id) AS (
                 SELECT min({column}) FROM stored_cells
                 UNION ALL
                 SELECT (SELECT min({column}) FROM stored_cells WHERE {column} > there.id)
                 FROM there WHERE there.id IS NOT NULL
             ) SELECT id FROM there"
        ),
    };
    format!("SELECT text FROM stored_texts WHERE id IN ({there}) ORDER BY text")
}

/// Gives a large store its indexes.
pub(super) fn index_if_large(connection: &Connection) -> rusqlite::Result<()> {
    if is_large(connection)? { connection.execute_batch(INDEXES) } else { Ok(()) }
}

/// Brings the schema from version `found` to ours, in one transaction.
pub(super) fn migrate(connection: &mut Connection, found: usize) -> rusqlite::Result<()> {
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in MIGRATIONS.iter().skip(found) {
        transaction.execute_batch(step)?;
    }
    if found < FIRST_SEALED {
        scan::seal_all(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    create_views(&transaction, MIGRATIONS.len())?;
    transaction.commit()
}

/// What the file's schema says otherwise than version `version` of ours. A bit that flips in the
/// name of a column leaves a table that SQLite finds sound and of which no record can be read.
///
/// What someone else added is left out, and so are the columns of `results`.
pub(super) fn difference(
    connection: &Connection,
    version: usize,
) -> rusqlite::Result<Option<String>> {
    let ours = Connection::open_in_memory()?;
    for step in MIGRATIONS.iter().take(version) {
        ours.execute_batch(step)?;
    }
    if version >= FIRST_SEALED {
        create_views(&ours, version)?;
    }
    let theirs = entries(connection)?;
    for entry in entries(&ours)? {
        if !theirs.contains(&entry) {
            let [kind, name, ..] = &entry;
            return Ok(Some(format!("its {kind} `{name}` is not what was made")));
        }
    }
    // Two tables at one place would be read and written as each other.
    let shared: bool = connection.query_row(
        "SELECT count(*) > count(DISTINCT rootpage) FROM sqlite_schema WHERE rootpage > 0",
        [],
        |row| row.get(0),
    )?;
    Ok(shared.then(|| "two of its tables are at one place".to_owned()))
}

/// Kind, name, table and definition of all that the schema names.
fn entries(connection: &Connection) -> rusqlite::Result<HashSet<[String; 4]>> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    let mut entries = HashSet::new();
    while let Some(row) = rows.next()? {
        let text = |index| -> rusqlite::Result<String> {
            let bytes = row.get_ref(index)?.as_bytes_or_null()?.unwrap_or_default();
            Ok(String::from_utf8_lossy(bytes).into_owned())
        };
        let name = text(1)?;
        let sql = if name == "results" { String::new() } else { text(3)? };
        entries.insert([text(0)?, name, text(2)?, sql]);
    }
    Ok(entries)
}

/// The metrics that the view shows, with their numbers.
pub(super) fn stored_names(connection: &Connection) -> rusqlite::Result<BTreeMap<String, i64>> {
    let mut statement = connection.prepare("SELECT name, id FROM stored_names")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Where a column of a view comes from.
fn source(column: &str) -> String {
    match column {
        "run_id" => "(SELECT run_id FROM stored_runs WHERE id = c.run) AS run_id".to_owned(),
        text if SHARED_TEXTS.contains(&text) => {
            format!("(SELECT text FROM stored_texts WHERE id = c.{text}) AS {text}")
        }
        own => format!("c.{own} AS {own}"),
    }
}

fn sources(columns: &str) -> String {
    columns.split(", ").map(source).collect::<Vec<_>>().join(", ")
}

/// Makes every view anew, as schema version `version` has it; `results` as ours has it.
pub(super) fn create_views(connection: &Connection, version: usize) -> rusqlite::Result<()> {
    let mut cells = sources(CELLS);
    let mut error = "";
    if version >= FIRST_PROVEN {
        cells = format!("{cells}, {}", sources(CELLS_SINCE_3));
        error = ", m.standard_error AS standard_error";
    }
    connection.execute_batch(&format!(
        "DROP VIEW IF EXISTS runs; DROP VIEW IF EXISTS cells; DROP VIEW IF EXISTS metrics;
         CREATE VIEW runs AS SELECT {RUNS} FROM stored_runs;
         CREATE VIEW cells AS SELECT {cells} FROM stored_cells AS c;
         CREATE VIEW metrics AS SELECT c.key AS cell_key, n.name AS name, m.value AS value,
             m.min AS min, m.max AS max{error}
             FROM stored_metrics AS m JOIN stored_cells AS c ON c.id = m.cell
             JOIN stored_names AS n ON n.id = m.name;"
    ))?;
    create_results_view(connection, &stored_names(connection)?)
}

/// Makes `results` anew with one column per name, in natural order: `recall@2` before
/// `recall@10`.
///
/// Each metric is a subquery of its own: SQLite then looks up only those that a query selects,
/// and a join of all metrics would end at 64 tables.
pub(super) fn create_results_view(
    connection: &Connection,
    names: &BTreeMap<String, i64>,
) -> rusqlite::Result<()> {
    let mut names: Vec<(&str, i64)> = names.iter().map(|(name, id)| (name.as_str(), *id)).collect();
    names.sort_by_cached_key(|(name, _)| natural_key(name));
    let identity = sources(IDENTITY);
    let mut sql = format!("DROP VIEW IF EXISTS results; CREATE VIEW results AS SELECT {identity}");
    for (name, id) in names.into_iter().take(VIEW_METRICS) {
        let column = name.replace('"', "\"\"");
        write!(
            sql,
            ", (SELECT value FROM stored_metrics WHERE cell = c.id AND name = {id}) \
             AS \"{column}\""
        )
        .expect("writing to a String cannot fail");
    }
    sql.push_str(" FROM stored_cells AS c;");
    connection.execute_batch(&sql)
}
