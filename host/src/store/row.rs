//! Records and runs as rows: what is written for each, and how it reads back.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::{FromSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row, RowIndex, Statement, ToSql, named_params, params};

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
fn count(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    match row.get_ref(index)? {
        ValueRef::Integer(integer) => u64::try_from(integer).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(index, Type::Integer, error.into())
        }),
        _ => parsed_text(&row.get::<_, String>(index)?),
    }
}

fn optional_count(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    match row.get::<_, Option<i64>>(index)? {
        None => Ok(None),
        Some(_) => count(row, index).map(Some),
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

/// Where the columns of a statement are, sought once: by its name a column is compared with each of
/// the 44 for each value that is read.
pub(super) struct Columns(HashMap<String, usize>);

impl Columns {
    pub(super) fn of(statement: &Statement<'_>) -> Self {
        let names = statement.column_names().into_iter().map(str::to_owned);
        Self(names.zip(0..).collect())
    }
}

/// A row of `stored_cells`.
#[derive(Clone, Copy)]
pub(super) struct CellRow<'r> {
    pub(super) row: &'r Row<'r>,
    pub(super) columns: &'r Columns,
}

impl CellRow<'_> {
    fn at(self, column: &str) -> rusqlite::Result<usize> {
        let at = self.columns.0.get(column).copied();
        at.ok_or_else(|| rusqlite::Error::InvalidColumnName(column.to_owned()))
    }

    pub(super) fn get<T: FromSql>(self, column: &str) -> rusqlite::Result<T> {
        self.row.get(self.at(column)?)
    }

    fn count(self, column: &str) -> rusqlite::Result<u64> {
        count(self.row, self.at(column)?)
    }

    fn optional_count(self, column: &str) -> rusqlite::Result<Option<u64>> {
        optional_count(self.row, self.at(column)?)
    }

    /// What is left to read of a text, as far as there is one.
    pub(super) fn lossy(self, column: &str) -> String {
        self.at(column).map(|at| lossy(self.row, at)).unwrap_or_default()
    }
}

/// The text in a column, whatever became of it.
pub(super) fn lossy(row: &Row<'_>, column: impl RowIndex) -> String {
    let value = row.get_ref(column).ok();
    let bytes = value.and_then(|value| value.as_bytes().ok()).unwrap_or_default();
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
}

/// The texts that cells and metrics share, by their numbers.
pub(super) struct Texts {
    runs: HashMap<i64, String>,
    texts: HashMap<i64, String>,
    names: HashMap<i64, String>,
    /// Those that are JSON, once a record was read that has them.
    json: HashMap<i64, Json>,
}

/// A text that is JSON, and the same as its checksum knows it.
struct Json {
    value: serde_json::Value,
    canonical: String,
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
            json: HashMap::new(),
        })
    }

    pub(super) fn text(&self, id: i64) -> rusqlite::Result<&str> {
        found(&self.texts, id)
    }

    fn optional(&self, id: Option<i64>) -> rusqlite::Result<Option<&str>> {
        id.map(|id| self.text(id)).transpose()
    }

    /// Parses a text that many records share.
    fn json(&mut self, id: i64) -> rusqlite::Result<&Json> {
        if !self.json.contains_key(&id) {
            let value = parsed_text(self.text(id)?)?;
            let canonical = canonical_json(&value);
            self.json.insert(id, Json { value, canonical });
        }
        self.json.get(&id).ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

fn found(texts: &HashMap<i64, String>, id: i64) -> rusqlite::Result<&str> {
    texts.get(&id).map(String::as_str).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// The record in a row of `stored_cells`, whose metrics and recalls are these, and its checksum.
pub(super) fn read_record(
    row: CellRow<'_>,
    texts: &mut Texts,
    mut metrics: Vec<MetricValue>,
    recalls: Vec<QueryRecalls>,
) -> rusqlite::Result<(Record, i64)> {
    metrics.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let (params, evaluation) = (row.get("params")?, row.get("evaluation")?);
    let mut record = read_cell(row, texts)?;
    (record.metrics, record.recalls) = (metrics, recalls);
    record.params = texts.json(params)?.value.clone();
    record.evaluation = texts.json(evaluation)?.value.clone();
    let [params, evaluation] = [params, evaluation].map(|id| texts.json[&id].canonical.as_str());
    let checksum = seal::with_texts(&record, params, evaluation);
    Ok((record, checksum))
}

/// A row of `stored_cells`, without its JSON, its metrics and its recalls.
fn read_cell(row: CellRow<'_>, texts: &Texts) -> rusqlite::Result<Record> {
    let owned = |column| texts.text(row.get(column)?).map(str::to_owned);
    let count = |column| row.count(column);
    let facts = match row.get::<Option<bool>>("synthetic")? {
        None => None,
        Some(synthetic) => Some(Facts {
            synthetic,
            zero_queries: count("zero_queries")?,
            queries_in_base: count("queries_in_base")?,
            duplicate_rows: count("duplicate_rows")?,
            tied_queries: count("tied_queries")?,
        }),
    };
    let notices = match row.get::<Option<String>>("notices")? {
        None => Vec::new(),
        Some(list) => from_json(&list)?,
    };
    Ok(Record {
        key: row.get("key")?,
        run_id: found(&texts.runs, row.get("run")?)?.to_owned(),
        dataset: DatasetInfo {
            name: owned("dataset")?,
            digest: owned("dataset_digest")?,
            n: count("n")?,
            dim: count("dim")?,
            queries: count("queries")?,
            train_rows: row.optional_count("train_rows")?,
            train_apart: row.get("train_apart")?,
            facts,
        },
        metric: owned("metric")?,
        method: MethodInfo {
            id: owned("method")?,
            version: owned("method_version")?,
            plugin_path: owned("plugin_path")?,
            plugin_digest: owned("plugin_digest")?,
            needs_digest: texts.optional(row.get("needs_digest")?)?.map(str::to_owned),
            sdk: owned("sdk")?,
            abi: owned("abi")?,
            needs_training: row.get("needs_training")?,
            deterministic: row.get("deterministic")?,
        },
        params: serde_json::Value::Null,
        label: owned("label")?,
        seed: count("seed")?,
        evaluation: serde_json::Value::Null,
        outcome: parsed_text(&row.get::<String>("outcome")?)?,
        error: row.get("error")?,
        log: row.get("log")?,
        sandbox: texts.optional(row.get("sandbox")?)?.map(parsed_text).transpose()?,
        proof: texts.optional(row.get("proof")?)?.map(parsed_text).transpose()?,
        notices,
        timing: TimingInfo {
            threads: row.get("threads")?,
            jobs: row.get("jobs")?,
            exclusive: row.get("exclusive")?,
            load_average: row.get("load_average")?,
            block_rows: row.optional_count("block_rows")?,
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
        memory_bytes: optional_count(row, row.as_ref().column_index("memory_bytes")?)?,
        os: row.get("os")?,
        environment: from_json(&environment)?,
    })
}
