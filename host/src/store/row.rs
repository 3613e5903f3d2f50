//! Records and runs as rows: what is written for each, and how it reads back.

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row, ToSql, named_params, params};

use crate::record::{
    DatasetInfo, MethodInfo, MetricValue, Record, RunInfo, TimingInfo, canonical_json,
};

const INSERT_CELL: &str = "INSERT OR REPLACE INTO cells (key, run_id, dataset, dataset_digest, n, \
    dim, queries, metric, method, method_version, plugin_path, plugin_digest, sdk, abi, params, \
    label, seed, evaluation, outcome, error, log, sandbox, threads, jobs, exclusive, load_average, \
    block_rows, started_at, wall_s) VALUES (:key, :run_id, :dataset, :dataset_digest, :n, :dim, \
    :queries, :metric, :method, :method_version, :plugin_path, :plugin_digest, :sdk, :abi, \
    :params, :label, :seed, :evaluation, :outcome, :error, :log, :sandbox, :threads, :jobs, :exclusive, \
    :load_average, :block_rows, :started_at, :wall_s)";

/// Adds a run; false if its id is there already.
pub(super) fn insert_run(connection: &Connection, run: &RunInfo) -> rusqlite::Result<bool> {
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

pub(super) fn insert_record(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let Record { dataset, method, timing, .. } = record;
    connection.prepare_cached(INSERT_CELL)?.execute(named_params! {
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
        ":sandbox": record.sandbox.as_ref().map(ToString::to_string),
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
pub(super) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
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

/// As [`parsed`], for a column that may hold nothing.
fn optional<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get::<_, Option<String>>(column)? {
        None => Ok(None),
        Some(_) => parsed(row, column).map(Some),
    }
}

/// A row of `cells`, without its metrics.
pub(super) fn read_cell(row: &Row<'_>) -> rusqlite::Result<Record> {
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
            needs_digest: None,
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
        sandbox: optional(row, "sandbox")?,
        timing: TimingInfo {
            threads: row.get("threads")?,
            jobs: row.get("jobs")?,
            exclusive: row.get("exclusive")?,
            load_average: row.get("load_average")?,
            block_rows: optional_count(row, "block_rows")?,
            threads_used: None,
        },
        started_at: row.get("started_at")?,
        wall_s: row.get("wall_s")?,
        metrics: Vec::new(),
    })
}

pub(super) fn read_metric(row: &Row<'_>) -> rusqlite::Result<MetricValue> {
    MetricValue::checked(row.get("name")?, row.get("value")?, row.get("min")?, row.get("max")?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Real, error.into()))
}

pub(super) fn read_run(row: &Row<'_>) -> rusqlite::Result<RunInfo> {
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
        environment: std::collections::BTreeMap::new(),
    })
}
