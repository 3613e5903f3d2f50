//! Reading everything, each record held against its checksum.

use std::fmt;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Statement, params, params_from_iter};

use super::row::{
    CellRow, Columns, METRICS_OF_CELL, RECALLS_OF_CELL, Texts, lossy, read_metric, read_recalls,
    read_record, read_run,
};
use super::seal;
use super::spectra::{self, Spectrum};
use crate::record::{Filter, MetricValue, Record, RunInfo};

/// A part of a store that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A record.
    Record {
        /// Its cell's key, as far as it can be read.
        key: String,
        /// Data set, method, configuration and seed, as far as they can be read.
        title: String,
    },
    /// What a run says about itself and its machine.
    Run {
        /// Its id, as far as it can be read.
        run_id: String,
    },
    /// The eigenvalues of a data set.
    Spectrum {
        /// Digest of the data, as far as it can be read.
        dataset_digest: String,
    },
    /// Rows that were written are not there, or are there twice.
    Rows,
}

/// More than these would scroll away what matters.
const TOLD: usize = 10;

impl Damage {
    /// A line for each, as far as a person reads on.
    pub fn lines(damage: &[Self]) -> Vec<String> {
        let mut lines: Vec<String> = damage.iter().take(TOLD).map(Self::to_string).collect();
        if damage.len() > TOLD {
            lines.push(format!("{} more are damaged", damage.len() - TOLD));
        }
        lines
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { key, title } => {
                write!(f, "the record of {title} is damaged (cell {key})")
            }
            Self::Run { run_id } => write!(f, "the description of run {run_id} is damaged"),
            Self::Spectrum { dataset_digest } => {
                write!(f, "the eigenvalues of the data {dataset_digest} are damaged")
            }
            Self::Rows => f.write_str("records are missing, or there twice"),
        }
    }
}

/// What [`scan`] comes by.
#[expect(clippy::large_enum_variant, reason = "one at a time, and most are records")]
pub(super) enum Found {
    Run(RunInfo),
    Record(Record),
    Spectrum(Spectrum),
    /// The row of a run, a cell or a spectrum, or none for what has no row.
    Damage(Damage, Option<i64>),
}

/// Shows `visit` every run and then every record, in the order they were written, and at last
/// whether rows are missing. To be called in a transaction.
pub(super) fn scan<E: From<rusqlite::Error>>(
    connection: &Connection,
    mut visit: impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let (runs, mut sum, mut broken) = scan_runs(connection, &mut visit)?;
    let mut cells = 0i64;
    let mut reading = Reading::new(connection)?;
    let mut statement = connection.prepare("SELECT * FROM stored_cells ORDER BY id")?;
    let columns = Columns::of(&statement);
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let row = CellRow { row, columns: &columns };
        let checksum = row.get("checksum").unwrap_or(0);
        (cells, sum) = (cells + 1, sum.wrapping_add(checksum));
        let found = reading.record(row)?;
        broken |= matches!(found, Found::Damage(..));
        visit(found)?;
    }
    spectra::scan(connection, &reading.texts, &mut visit)?;
    let told: (i64, i64, i64) =
        connection.query_row("SELECT runs, cells, checksum FROM stored_tally", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    // A damaged row may have a damaged checksum, with which no sum can be right.
    let missing = (runs, cells) != (told.0, told.1) || (sum != told.2 && !broken);
    if missing {
        visit(Found::Damage(Damage::Rows, None))?;
    }
    Ok(())
}

/// Shows `visit` every run; how many there are, the sum of their checksums, and whether any is
/// damaged.
pub(super) fn scan_runs<E: From<rusqlite::Error>>(
    connection: &Connection,
    visit: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(i64, i64, bool), E> {
    let (mut runs, mut sum, mut broken) = (0i64, 0i64, false);
    let mut statement = connection.prepare("SELECT * FROM stored_runs ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let checksum = row.get("checksum").unwrap_or(0);
        (runs, sum) = (runs + 1, sum.wrapping_add(checksum));
        match read_run(row) {
            Ok(run) if seal::of_run(&run) == checksum => visit(Found::Run(run))?,
            _ => {
                broken = true;
                let damage = Damage::Run { run_id: lossy(row, "run_id") };
                visit(Found::Damage(damage, row.get("id").ok()))?;
            }
        }
    }
    Ok((runs, sum, broken))
}

/// Which records are read of a store that is too large to be read whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// Those that it wants.
    Wanted(&'a Filter),
    /// Those of the cells with these keys.
    Of(&'a [&'a str]),
    /// The last so many that were written of those that it wants.
    Newest(usize, &'a Filter),
}

/// What SQL says of the records that `filter` wants, and what is to be put into it.
pub(super) fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let Filter { datasets, methods, outcomes, keys } = filter;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    for (column, names) in [("dataset", datasets), ("method", methods)] {
        if !names.is_empty() {
            let places = vec!["?"; names.len()].join(", ");
            conditions.push(format!(
                "{column} IN (SELECT id FROM stored_texts WHERE text IN ({places}))"
            ));
            values.extend(names.iter().map(|name| text(name)));
        }
    }
    if !outcomes.is_empty() {
        let places = vec!["?"; outcomes.len()].join(", ");
        conditions.push(format!("outcome IN ({places})"));
        values.extend(outcomes.iter().map(|outcome| text(outcome.as_str())));
    }
    if !keys.is_empty() {
        // Not LIKE or GLOB, for which SQLite asks no index where what they look for is put in.
        let places = vec!["key BETWEEN ? AND ?"; keys.len()].join(" OR ");
        conditions.push(format!("({places})"));
        values
            .extend(keys.iter().flat_map(|key| [text(key), text(&format!("{key}{}", char::MAX))]));
    }
    match conditions.is_empty() {
        true => ("TRUE".to_owned(), values),
        false => (conditions.join(" AND "), values),
    }
}

impl Which<'_> {
    /// The statement that finds them, with what is to be put into it each time that it is run.
    pub(super) fn query(&self) -> (String, Vec<Vec<Value>>) {
        let text = |text: &str| Value::Text(text.to_owned());
        let all = "SELECT * FROM stored_cells";
        match self {
            Self::Of(keys) => {
                (format!("{all} WHERE key = ?"), keys.iter().map(|key| vec![text(key)]).collect())
            }
            Self::Newest(most, filter) => {
                let most = Value::Integer(i64::try_from(*most).unwrap_or(i64::MAX));
                if **filter == Filter::default() {
                    return (format!("{all} ORDER BY id DESC LIMIT ?"), vec![vec![most]]);
                }
                // An index knows which are the last, and no other row is read.
                let (conditions, mut values) = conditions(filter);
                values.push(most);
                let sql = format!(
                    "{all} WHERE id IN (SELECT id FROM stored_cells WHERE {conditions} \
                     ORDER BY id DESC LIMIT ?)"
                );
                (sql, vec![values])
            }
            Self::Wanted(filter) => {
                let (conditions, values) = conditions(filter);
                (format!("{all} WHERE {conditions}"), vec![values])
            }
        }
    }
}

/// As [`scan`], but of some records only: what else there is is not read, and not verified.
pub(super) fn scan_some<E: From<rusqlite::Error>>(
    connection: &Connection,
    which: Which<'_>,
    mut visit: impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    scan_runs(connection, &mut visit)?;
    let mut reading = Reading::new(connection)?;
    let (sql, times) = which.query();
    let mut statement = connection.prepare(&sql)?;
    let columns = Columns::of(&statement);
    for values in times {
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            visit(reading.record(CellRow { row, columns: &columns })?)?;
        }
    }
    Ok(())
}

/// What reading records takes.
struct Reading<'c> {
    texts: Texts,
    metrics: Statement<'c>,
    recalls: Statement<'c>,
}

impl<'c> Reading<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            texts: Texts::load(connection)?,
            metrics: connection.prepare(METRICS_OF_CELL)?,
            recalls: connection.prepare(RECALLS_OF_CELL)?,
        })
    }

    /// The record in a row of `stored_cells`, or that it is damaged.
    fn record(&mut self, row: CellRow<'_>) -> rusqlite::Result<Found> {
        let Self { texts, metrics, recalls } = self;
        let told: i64 = row.get("checksum").unwrap_or(0);
        let mut read = || {
            let id: i64 = row.get("id")?;
            let metrics = metrics
                .query_map([id], |row| read_metric(row, texts))?
                .collect::<rusqlite::Result<_>>()?;
            let recalls =
                recalls.query_map([id], read_recalls)?.collect::<rusqlite::Result<_>>()?;
            read_record(row, texts, metrics, recalls)
        };
        match read() {
            Ok((record, checksum)) if checksum == told => Ok(Found::Record(record)),
            Err(error) if !is_damage(&error) => Err(error),
            _ => {
                let damage = Damage::Record { key: row.lossy("key"), title: title(row, texts) };
                Ok(Found::Damage(damage, row.get("id").ok()))
            }
        }
    }
}

/// How many records the tally has that a damaged page no longer shows.
pub(super) fn missing(connection: &Connection) -> rusqlite::Result<usize> {
    let (cells, sum) =
        connection.query_row("SELECT cells, checksum FROM stored_tally", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
    let [(_, first), (shown, second)] = tally(connection)?;
    // With the right sum all are there, and it is the tally that counts wrong.
    let all = first.wrapping_add(second) == sum;
    Ok(if all { 0 } else { usize::try_from(cells.saturating_sub(shown)).unwrap_or(0) })
}

/// Gives every run and record its checksum and makes the tally anew. What cannot be read gets
/// none, and so stays damaged.
pub(super) fn seal_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut seals = Vec::new();
    let mut statement = connection.prepare("SELECT * FROM stored_runs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Ok(run) = read_run(row) {
            seals.push((row.get::<_, i64>("id")?, seal::of_run(&run)));
        }
    }
    let mut update = connection.prepare("UPDATE stored_runs SET checksum = ?2 WHERE id = ?1")?;
    for (id, checksum) in seals.drain(..) {
        update.execute([id, checksum])?;
    }
    let mut texts = Texts::load(connection)?;
    let mut statement = connection.prepare("SELECT * FROM stored_cells")?;
    let columns = Columns::of(&statement);
    let mut metrics = connection.prepare(METRICS_OF_CELL)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let row = CellRow { row, columns: &columns };
        let id: i64 = row.get("id")?;
        let read: rusqlite::Result<Vec<MetricValue>> =
            metrics.query_map([id], |row| read_metric(row, &texts))?.collect();
        let read = read.and_then(|metrics| read_record(row, &mut texts, metrics, Vec::new()));
        if let Ok((_, checksum)) = read {
            seals.push((id, checksum));
        }
    }
    let mut update = connection.prepare("UPDATE stored_cells SET checksum = ?2 WHERE id = ?1")?;
    for (id, checksum) in seals {
        update.execute([id, checksum])?;
    }
    tally_anew(connection)
}

/// How many runs and how many cells there are, with the sums of their checksums.
fn tally(connection: &Connection) -> rusqlite::Result<[(i64, i64); 2]> {
    let mut sums = [(0i64, 0i64); 2];
    for (sum, table) in sums.iter_mut().zip(["stored_runs", "stored_cells"]) {
        let mut statement = connection.prepare(&format!("SELECT checksum FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            *sum = (sum.0 + 1, sum.1.wrapping_add(row.get(0).unwrap_or(0)));
        }
    }
    Ok(sums)
}

/// Counts what is there.
pub(super) fn tally_anew(connection: &Connection) -> rusqlite::Result<()> {
    let [(runs, first), (cells, second)] = tally(connection)?;
    connection.execute("DELETE FROM stored_tally", [])?;
    connection.execute(
        "INSERT INTO stored_tally VALUES (?1, ?2, ?3)",
        params![runs, cells, first.wrapping_add(second)],
    )?;
    Ok(())
}

/// Takes the damaged rows out, so that their cells are not done.
pub(super) fn discard(
    connection: &Connection,
    damaged: &[(Damage, Option<i64>)],
) -> rusqlite::Result<()> {
    for (damage, row) in damaged {
        if let (Damage::Record { .. }, Some(row)) = (damage, row) {
            connection.execute("DELETE FROM stored_recalls WHERE cell = ?1", [row])?;
            connection.execute("DELETE FROM stored_metrics WHERE cell = ?1", [row])?;
            connection.execute("DELETE FROM stored_cells WHERE id = ?1", [row])?;
        }
    }
    // The others are put in order again: a row that stands at a wrong place in its table would be
    // in the way of the next record. Not those of cells that a damaged page no longer shows.
    for (table, column) in [("stored_metrics", "name"), ("stored_recalls", "k")] {
        connection.execute_batch(&format!(
            "CREATE TEMP TABLE sound AS SELECT * FROM {table}
                 WHERE cell IN (SELECT id FROM stored_cells);
             DELETE FROM {table};
             INSERT OR IGNORE INTO {table} SELECT * FROM sound ORDER BY cell, {column};
             DROP TABLE sound;"
        ))?;
    }
    for (damage, row) in damaged {
        if let (Damage::Run { .. }, Some(row)) = (damage, row) {
            describe_anew(connection, *row)?;
        }
        if let (Damage::Spectrum { .. }, Some(row)) = (damage, row) {
            connection.execute("DELETE FROM stored_spectra WHERE rowid = ?1", [row])?;
        }
    }
    tally_anew(connection)
}

/// A run whose description is damaged keeps its id, which its records know by their checksums,
/// and says nothing else; without records it goes.
fn describe_anew(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    let used = connection.prepare("SELECT 1 FROM stored_cells WHERE run = ?1")?.exists([row])?;
    if !used {
        connection.execute("DELETE FROM stored_runs WHERE id = ?1", [row])?;
        return Ok(());
    }
    let run_id: String =
        connection
            .query_row("SELECT run_id FROM stored_runs WHERE id = ?1", [row], |row| row.get(0))?;
    let run = undescribed(run_id);
    connection.execute(
        "UPDATE stored_runs SET started_at = '', host_version = '', sweep_name = '(damaged)', \
         sweep_text = '', cpu_model = NULL, cpu_features = '', cores = 0, memory_bytes = NULL, \
         os = '', environment = '{}', checksum = ?2 WHERE id = ?1",
        params![row, seal::of_run(&run)],
    )?;
    Ok(())
}

/// A run of which nothing is known.
pub(super) fn undescribed(run_id: String) -> RunInfo {
    RunInfo {
        started_at: String::new(),
        host_version: String::new(),
        sweep_name: "(damaged)".to_owned(),
        sweep_text: String::new(),
        cpu_model: None,
        cpu_features: Vec::new(),
        cores: 0,
        memory_bytes: None,
        os: String::new(),
        environment: std::collections::BTreeMap::new(),
        run_id,
    }
}

/// True for what a damaged file may cause; the rest is the system's.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        None => true,
        Some(code) => {
            matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::TypeMismatch | ErrorCode::TooBig)
        }
    }
}

/// The first fault in how the file's pages hang together, which a reader of the records may never
/// meet. Reads the whole file.
pub(super) fn damaged_page(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let first: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((first != "ok").then_some(first))
}

fn title(row: CellRow<'_>, texts: &Texts) -> String {
    let text = |column| texts.text(row.get(column).ok()?).ok().map(str::to_owned);
    let seed = row.get::<i64>("seed").ok().map(|seed| format!("seed={seed}"));
    let parts = [text("dataset"), text("method"), text("label"), seed];
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => "an unknown cell".to_owned(),
        false => parts.join(" "),
    }
}

/// Something damaged, with its row.
pub(super) type DamagedRow = (Damage, Option<i64>);

/// The keys of the records that are what was written, and everything damaged.
pub(super) fn sound_and_damaged(
    connection: &Connection,
) -> rusqlite::Result<(Vec<String>, Vec<DamagedRow>)> {
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
pub(super) fn most(
    connection: &Connection,
    sound: usize,
    damaged: &[DamagedRow],
) -> rusqlite::Result<Option<String>> {
    let records = damaged.iter().filter(|(damage, _)| matches!(damage, Damage::Record { .. }));
    let lost = records.count() + missing(connection)?;
    let all = sound + lost;
    let most = all >= 4 && 2 * lost > all;
    Ok(most.then(|| format!("{lost} of {all} records are damaged or missing")))
}
