//! Records and runs as rows: what is written for each, and how it reads back.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row, ToSql, named_params, params};

use super::schema::is_indexed;
use super::seal;
use crate::record::{
    DatasetInfo, Facts, MethodInfo, MetricValue, QueryRecalls, Record, RunInfo, TimingInfo,
    canonical_json,
};

const INSERT_RUN: &str = "INSERT INTO stored_runs (run_id, started_at, host_version, sweep_name, \
    sweep_text, cpu_model, cpu_features, cores, memory_bytes, os, environment, checksum) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const INSERT_CELL: &str = "INSERT INTO stored_cells (key, run, dataset, dataset_digest, n, dim, \
    queries, metric, method, method_version, plugin_path, plugin_digest, needs_digest, sdk, abi, \
    params, label, seed, evaluation, outcome, error, log, sandbox, threads, jobs, exclusive, \
    load_average, block_rows, threads_used, started_at, wall_s, checksum, train_rows, train_apart, \
    synthetic, zero_queries, queries_in_base, duplicate_rows, tied_queries, needs_training, \
    deterministic, proof, notices) VALUES (:key, :run, \
    :dataset, :dataset_digest, :n, :dim, :queries, :metric, :method, :method_version, \
    :plugin_path, :plugin_digest, :needs_digest, :sdk, :abi, :params, :label, :seed, \
    :evaluation, :outcome, :error, :log, :sandbox, :threads, :jobs, :exclusive, :load_average, \
    :block_rows, :threads_used, :started_at, :wall_s, :checksum, :train_rows, :train_apart, \
    :synthetic, :zero_queries, :queries_in_base, :duplicate_rows, :tied_queries, \
    :needs_training, :deterministic, :proof, :notices)";

/// What is in the file, as far as writing has to know it.
///
/// No index of a small store is asked for it: with one writer none is needed, it has none, and a flipped
/// bit in one would put the next record beside that of its cell and not in its place. A large store is too
/// large to be read before each run; its index is asked for one cell at a time.
#[derive(Debug)]
pub(super) struct Known {
    /// The row of each run, by its id.
    pub(super) runs: HashMap<String, i64>,
    /// The machine of each run, by its row: a position among `names_of_machines`.
    machines: HashMap<i64, usize>,
    names_of_machines: Vec<String>,
    /// The row of each record, by the key of its cell and its machine; none in a large store.
    cells: Option<HashMap<(String, usize), i64>>,
    /// The metrics that `results` has columns for.
    pub(super) names: BTreeMap<String, i64>,
    texts: HashMap<String, i64>,
}

impl Known {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let read = |sql| -> rusqlite::Result<HashMap<String, i64>> {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut known = HashMap::new();
            let mut times: HashMap<i64, usize> = HashMap::new();
            while let Some(row) = rows.next()? {
                // A text that a flipped bit made unreadable is nobody's.
                if let (Ok(text), Ok(id)) = (row.get(0), row.get(1)) {
                    known.insert(text, id);
                    *times.entry(id).or_default() += 1;
                }
            }
            // Nor is a number that a flipped bit made another's.
            known.retain(|_, id| times[id] == 1);
            Ok(known)
        };
        let mut known = Self {
            runs: read("SELECT run_id, id FROM stored_runs")?,
            machines: HashMap::new(),
            names_of_machines: Vec::new(),
            cells: None,
            names: read("SELECT name, id FROM stored_names")?.into_iter().collect(),
            texts: read("SELECT text, id FROM stored_texts")?,
        };
        let mut statement = connection.prepare("SELECT * FROM stored_runs ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // A run that says nothing is of no machine, as one without a row.
            if let (Ok(id), Ok(run)) = (row.get("id"), read_run(row)) {
                known.is_on(id, run.machine());
            }
        }
        if is_indexed(connection)? {
            return Ok(known);
        }
        let mut statement = connection.prepare("SELECT key, id, run FROM stored_cells")?;
        let mut rows = statement.query([])?;
        let mut cells = HashMap::new();
        let mut times: HashMap<i64, usize> = HashMap::new();
        while let Some(row) = rows.next()? {
            if let (Ok(key), Ok(id), Ok(run)) = (row.get(0), row.get(1), row.get(2)) {
                let machine = known.machine(run);
                cells.insert((key, machine), id);
                *times.entry(id).or_default() += 1;
            }
        }
        cells.retain(|_, id| times[id] == 1);
        known.cells = Some(cells);
        Ok(known)
    }

    /// Notes that the run in row `run` was on `machine`.
    fn is_on(&mut self, run: i64, machine: String) {
        let known = self.names_of_machines.iter().position(|name| *name == machine);
        let at = known.unwrap_or_else(|| {
            self.names_of_machines.push(machine);
            self.names_of_machines.len() - 1
        });
        self.machines.insert(run, at);
    }

    /// The machine of the run in row `run`: all of which nothing is known are one.
    fn machine(&self, run: i64) -> usize {
        self.machines.get(&run).copied().unwrap_or(usize::MAX)
    }

    /// The row of the record of the cell `key` on the machine of the run in row `run`.
    pub(super) fn cell(
        &self,
        connection: &Connection,
        key: &str,
        run: i64,
    ) -> rusqlite::Result<Option<i64>> {
        let machine = self.machine(run);
        if let Some(cells) = &self.cells {
            return Ok(cells.get(&(key.to_owned(), machine)).copied());
        }
        let sql = "SELECT id, run FROM stored_cells WHERE key = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([key])?;
        while let Some(row) = rows.next()? {
            if self.machine(row.get(1)?) == machine {
                return row.get(0).map(Some);
            }
        }
        Ok(None)
    }

    pub(super) fn text(&mut self, connection: &Connection, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.texts.get(text) {
            return Ok(*id);
        }
        connection
            .prepare_cached("INSERT INTO stored_texts (text) VALUES (?1)")?
            .execute([text])?;
        let id = connection.last_insert_rowid();
        self.texts.insert(text.to_owned(), id);
        Ok(id)
    }

    fn name(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        connection
            .prepare_cached("INSERT INTO stored_names (name) VALUES (?1)")?
            .execute([name])?;
        let id = connection.last_insert_rowid();
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }
}

/// Adds a run that is not there yet.
pub(super) fn insert_run(
    connection: &Connection,
    known: &mut Known,
    run: &RunInfo,
) -> rusqlite::Result<()> {
    let checksum = seal::of_run(run);
    connection.prepare_cached(INSERT_RUN)?.execute(params![
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
        canonical_json(&serde_json::json!(run.environment)),
        checksum,
    ])?;
    let row = connection.last_insert_rowid();
    known.runs.insert(run.run_id.clone(), row);
    known.is_on(row, run.machine());
    add_to_tally(connection, 1, 0, checksum)
}

/// Puts `record` of the run in row `run` in the place of an earlier record of its cell on the same
/// machine.
pub(super) fn insert_record(
    connection: &Connection,
    known: &mut Known,
    run: i64,
    record: &Record,
) -> rusqlite::Result<()> {
    if let Some(earlier) = known.cell(connection, &record.key, run)? {
        remove_cell(connection, earlier)?;
    }
    let Record { dataset, method, timing, .. } = record;
    let checksum = seal::of_record(record);
    let mut text = |text: &str| known.text(connection, text);
    let needs = method.needs_digest.as_deref().map(&mut text).transpose()?;
    let sandbox = record.sandbox.as_ref().map(ToString::to_string);
    let sandbox = sandbox.as_deref().map(&mut text).transpose()?;
    let proof = record.proof.as_ref().map(ToString::to_string);
    let proof = proof.as_deref().map(&mut text).transpose()?;
    let notices = match record.notices.as_slice() {
        [] => None,
        notices => Some(canonical_json(&serde_json::json!(notices))),
    };
    let facts = dataset.facts;
    let fact = |of: fn(&Facts) -> u64| facts.as_ref().map(of).map(Count);
    connection.prepare_cached(INSERT_CELL)?.execute(named_params! {
        ":key": record.key,
        ":run": run,
        ":dataset": text(&dataset.name)?,
        ":dataset_digest": text(&dataset.digest)?,
        ":n": Count(dataset.n),
        ":dim": Count(dataset.dim),
        ":queries": Count(dataset.queries),
        ":metric": text(&record.metric)?,
        ":method": text(&method.id)?,
        ":method_version": text(&method.version)?,
        ":plugin_path": text(&method.plugin_path)?,
        ":plugin_digest": text(&method.plugin_digest)?,
        ":needs_digest": needs,
        ":sdk": text(&method.sdk)?,
        ":abi": text(&method.abi)?,
        ":params": text(&canonical_json(&record.params))?,
        ":label": text(&record.label)?,
        ":seed": Count(record.seed),
        ":evaluation": text(&canonical_json(&record.evaluation))?,
        ":outcome": record.outcome.as_str(),
        ":error": record.error,
        ":log": record.log,
        ":sandbox": sandbox,
        ":threads": timing.threads,
        ":jobs": timing.jobs,
        ":exclusive": timing.exclusive,
        ":load_average": timing.load_average,
        ":block_rows": timing.block_rows.map(Count),
        ":threads_used": timing.threads_used,
        ":started_at": record.started_at,
        ":wall_s": record.wall_s,
        ":checksum": checksum,
        ":train_rows": dataset.train_rows.map(Count),
        ":train_apart": dataset.train_apart,
        ":synthetic": facts.map(|facts| facts.synthetic),
        ":zero_queries": fact(|facts| facts.zero_queries),
        ":queries_in_base": fact(|facts| facts.queries_in_base),
        ":duplicate_rows": fact(|facts| facts.duplicate_rows),
        ":tied_queries": fact(|facts| facts.tied_queries),
        ":needs_training": method.needs_training,
        ":deterministic": method.deterministic,
        ":proof": proof,
        ":notices": notices,
    })?;
    let cell = connection.last_insert_rowid();
    let machine = known.machine(run);
    if let Some(cells) = &mut known.cells {
        cells.insert((record.key.clone(), machine), cell);
    }
    let mut metrics = Vec::with_capacity(record.metrics.len());
    for metric in &record.metrics {
        metrics.push((known.name(connection, metric.name())?, metric));
    }
    // In the order of the table, which fills its pages better.
    metrics.sort_unstable_by_key(|(name, _)| *name);
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO stored_metrics (cell, name, value, min, max, standard_error) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (name, metric) in metrics {
        let (value, error) = (metric.value(), metric.standard_error());
        statement.execute(params![cell, name, value, metric.min(), metric.max(), error])?;
    }
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO stored_recalls (cell, k, queries, hits) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for recalls in &record.recalls {
        let queries = recalls.hits().len() as u64;
        statement.execute(params![cell, recalls.k(), Count(queries), recalls.packed()])?;
    }
    add_to_tally(connection, 0, 1, checksum)
}

/// Removes a cell and what belongs to it.
fn remove_cell(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM stored_recalls WHERE cell = ?1")?.execute([row])?;
    connection.prepare_cached("DELETE FROM stored_metrics WHERE cell = ?1")?.execute([row])?;
    let checksum: i64 = connection
        .prepare_cached("DELETE FROM stored_cells WHERE id = ?1 RETURNING checksum")?
        .query_row([row], |row| row.get(0))?;
    add_to_tally(connection, 0, -1, checksum.wrapping_neg())
}

/// The tally counts runs and cells and adds up their checksums, so that a row which a damaged page
/// no longer shows is missed.
fn add_to_tally(
    connection: &Connection,
    runs: i64,
    cells: i64,
    checksum: i64,
) -> rusqlite::Result<()> {
    // Added here: SQLite turns a sum beyond 64 bits into a float.
    let sum: i64 = connection
        .prepare_cached("SELECT checksum FROM stored_tally")?
        .query_row([], |row| row.get(0))?;
    connection
        .prepare_cached(
            "UPDATE stored_tally SET runs = runs + ?1, cells = cells + ?2, checksum = ?3",
        )?
        .execute([runs, cells, sum.wrapping_add(checksum)])?;
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

/// A text read by the type's own `FromStr`.
fn parsed_text<T>(text: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into())
    })
}

/// As [`parsed_text`], for a column.
pub(super) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    parsed_text(&row.get::<_, String>(column)?)
}

/// The texts that cells and metrics share, by their numbers.
pub(super) struct Texts {
    runs: HashMap<i64, String>,
    texts: HashMap<i64, String>,
    names: HashMap<i64, String>,
}

impl Texts {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let read = |sql| -> rusqlite::Result<HashMap<i64, String>> {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut texts = HashMap::new();
            while let Some(row) = rows.next()? {
                // What refers to an unreadable one is found damaged when it is read.
                if let (Ok(id), Ok(text)) = (row.get(0), row.get(1)) {
                    texts.insert(id, text);
                }
            }
            Ok(texts)
        };
        Ok(Self {
            runs: read("SELECT id, run_id FROM stored_runs")?,
            texts: read("SELECT id, text FROM stored_texts")?,
            names: read("SELECT id, name FROM stored_names")?,
        })
    }

    fn run(&self, row: &Row<'_>) -> rusqlite::Result<&str> {
        found(&self.runs, row.get("run")?)
    }

    pub(super) fn text(&self, row: &Row<'_>, column: &str) -> rusqlite::Result<&str> {
        found(&self.texts, row.get(column)?)
    }

    fn optional(&self, row: &Row<'_>, column: &str) -> rusqlite::Result<Option<&str>> {
        row.get::<_, Option<i64>>(column)?.map(|id| found(&self.texts, id)).transpose()
    }
}

fn found(texts: &HashMap<i64, String>, id: i64) -> rusqlite::Result<&str> {
    texts.get(&id).map(String::as_str).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// A row of `stored_cells`, without its metrics and recalls.
pub(super) fn read_cell(row: &Row<'_>, texts: &Texts) -> rusqlite::Result<Record> {
    let text = |column| texts.text(row, column);
    let owned = |column| text(column).map(str::to_owned);
    let facts = match row.get::<_, Option<bool>>("synthetic")? {
        None => None,
        Some(synthetic) => Some(Facts {
            synthetic,
            zero_queries: count(row, "zero_queries")?,
            queries_in_base: count(row, "queries_in_base")?,
            duplicate_rows: count(row, "duplicate_rows")?,
            tied_queries: count(row, "tied_queries")?,
        }),
    };
    let notices = match row.get::<_, Option<String>>("notices")? {
        None => Vec::new(),
        Some(list) => from_json(&list)?,
    };
    Ok(Record {
        key: row.get("key")?,
        run_id: texts.run(row)?.to_owned(),
        dataset: DatasetInfo {
            name: owned("dataset")?,
            digest: owned("dataset_digest")?,
            n: count(row, "n")?,
            dim: count(row, "dim")?,
            queries: count(row, "queries")?,
            train_rows: optional_count(row, "train_rows")?,
            train_apart: row.get("train_apart")?,
            facts,
        },
        metric: owned("metric")?,
        method: MethodInfo {
            id: owned("method")?,
            version: owned("method_version")?,
            plugin_path: owned("plugin_path")?,
            plugin_digest: owned("plugin_digest")?,
            needs_digest: texts.optional(row, "needs_digest")?.map(str::to_owned),
            sdk: owned("sdk")?,
            abi: owned("abi")?,
            needs_training: row.get("needs_training")?,
            deterministic: row.get("deterministic")?,
            python: None,
        },
        params: parsed_text(text("params")?)?,
        label: owned("label")?,
        seed: count(row, "seed")?,
        evaluation: parsed_text(text("evaluation")?)?,
        outcome: parsed(row, "outcome")?,
        error: row.get("error")?,
        log: row.get("log")?,
        sandbox: texts.optional(row, "sandbox")?.map(parsed_text).transpose()?,
        proof: texts.optional(row, "proof")?.map(parsed_text).transpose()?,
        notices,
        timing: TimingInfo {
            threads: row.get("threads")?,
            jobs: row.get("jobs")?,
            exclusive: row.get("exclusive")?,
            load_average: row.get("load_average")?,
            block_rows: optional_count(row, "block_rows")?,
            threads_used: row.get("threads_used")?,
        },
        started_at: row.get("started_at")?,
        wall_s: row.get("wall_s")?,
        metrics: Vec::new(),
        recalls: Vec::new(),
    })
}

/// What [`read_metric`] reads.
pub(super) const METRICS_OF_CELL: &str = "SELECT name, value, min, max, standard_error \
    FROM stored_metrics WHERE cell = ?1 ORDER BY name";

/// A row of [`METRICS_OF_CELL`].
pub(super) fn read_metric(row: &Row<'_>, texts: &Texts) -> rusqlite::Result<MetricValue> {
    let name = found(&texts.names, row.get(0)?)?.to_owned();
    MetricValue::checked(name, row.get(1)?, [row.get(2)?, row.get(3)?, row.get(4)?])
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Real, error.into()))
}

/// What [`read_recalls`] reads.
pub(super) const RECALLS_OF_CELL: &str =
    "SELECT k, queries, hits FROM stored_recalls WHERE cell = ?1 ORDER BY k";

/// A row of [`RECALLS_OF_CELL`].
pub(super) fn read_recalls(row: &Row<'_>) -> rusqlite::Result<QueryRecalls> {
    let hits: Vec<u8> = row.get(2)?;
    QueryRecalls::unpacked(row.get(0)?, row.get::<_, u32>(1)? as usize, &hits)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, Type::Blob, error.into()))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

pub(super) fn read_run(row: &Row<'_>) -> rusqlite::Result<RunInfo> {
    let features: String = row.get("cpu_features")?;
    let environment: String = row.get("environment")?;
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
        environment: from_json(&environment)?,
    })
}
