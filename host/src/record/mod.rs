//! What a cell leaves behind: one [`Record`], whatever its end.
//!
//! ```text
//! key = BLAKE3( canonical JSON { dataset, evaluation, method, metric, params, plugin, seed } )
//! ```
//!
//! The key decides what is computed again, so it holds all that can change a result and nothing
//! else: thread counts, file names and the time of day stay out. What was measured comes from the
//! referee as one JSON line; a record is stored as one row of `cells` plus its rows of `metrics`.

mod proof;
mod recalls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::proof::{Proof, UnknownProof};
pub use self::recalls::{QueryRecalls, RecallsError};

/// One finished cell: one dataset × one method × one configuration × one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Identity of the cell: the BLAKE3 digest of [`Record::key_parts`], in hexadecimal.
    pub key: String,
    /// The run that produced it; a [`RunInfo::run_id`].
    pub run_id: String,
    /// What was compressed.
    pub dataset: DatasetInfo,
    /// The space's metric: `l2`, `ip` or `cosine`.
    pub metric: String,
    /// What compressed it, and from which file.
    pub method: MethodInfo,
    /// The method's parameters, an object; written with sorted keys.
    pub params: Value,
    /// The configuration for people, as the method names it: `m=8 bits=8`.
    pub label: String,
    /// Seed of everything random in the cell.
    pub seed: u64,
    /// The evaluation settings the metrics were measured with.
    pub evaluation: Value,
    /// How the cell ended.
    pub outcome: Outcome,
    /// Why it ended so, in one clear line; none when it went well.
    pub error: Option<String>,
    /// The end of what the plugin printed and logged.
    pub log: Option<String>,
    /// What held the plugin in its place; none when the process ended before it was confined.
    pub sandbox: Option<Sandbox>,
    /// Whether its numbers were shown to come from the stored bytes; none when it did not go well,
    /// and in records from before this was looked at.
    pub proof: Option<Proof>,
    /// What a reader of this record should know, a line each.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Conditions under which times were measured.
    pub timing: TimingInfo,
    /// When the cell began: RFC 3339, UTC; see [`timestamp`].
    pub started_at: String,
    /// Seconds from the start of the cell's processes to the end of the last.
    pub wall_s: f64,
    /// What was measured, each name at most once; the store sorts them by name.
    pub metrics: Vec<MetricValue>,
    /// What each query found, for each k at most once; the store sorts them by k.
    #[serde(default)]
    pub recalls: Vec<QueryRecalls>,
}

/// The prepared dataset of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetInfo {
    /// Its name in the sweep.
    pub name: String,
    /// Content digest of the prepared data: base, training sample and queries.
    pub digest: String,
    /// Rows of the base.
    pub n: u64,
    /// Dimensions of a row.
    pub dim: u64,
    /// Number of queries.
    pub queries: u64,
    /// Rows that methods learn from. As with all that follows: none in records from before this
    /// was kept.
    pub train_rows: Option<u64>,
    /// True when no row that methods learn from is in the base.
    pub train_apart: Option<bool>,
    /// What is peculiar about it.
    pub facts: Option<Facts>,
}

/// What is peculiar about some data, counted: results are to be read with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The rows were drawn from a known distribution.
    pub synthetic: bool,
    /// Queries of which every value is zero. All rows tie for them under ip and cosine.
    pub zero_queries: u64,
    /// Queries that are equal to a row of the base.
    pub queries_in_base: u64,
    /// Rows of the base that are equal to an earlier one.
    pub duplicate_rows: u64,
    /// Queries for which another row is as near as the last of the neighbours that are kept, so
    /// that which rows are the nearest is a matter of their numbers.
    pub tied_queries: u64,
}

/// The method of a cell and the library it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodInfo {
    /// The method's id in a sweep.
    pub id: String,
    /// The method's own version.
    pub version: String,
    /// The library's file.
    pub plugin_path: String,
    /// BLAKE3 of the library's file, in hexadecimal.
    pub plugin_digest: String,
    /// BLAKE3, in hexadecimal, over the libraries outside the system's folders that the file names
    /// as needed; none where it names no such library.
    pub needs_digest: Option<String>,
    /// Name and version of the SDK that the plugin states.
    pub sdk: String,
    /// ABI version that the plugin states: `1.0`.
    pub abi: String,
    /// Whether the method learns from the training rows; none in records from before this was kept.
    pub needs_training: Option<bool>,
    /// Whether the method promises equal codes for equal seeds; likewise.
    pub deterministic: Option<bool>,
}

/// The conditions of a cell's timings; times are comparable only between equal conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingInfo {
    /// Threads of the cell.
    pub threads: u32,
    /// Cells that ran at once.
    pub jobs: u32,
    /// True when the run gave the machine to this cell alone.
    pub exclusive: bool,
    /// The machine's one-minute load average when the cell began, where the system tells it.
    pub load_average: Option<f64>,
    /// Rows of a block in the walk over the base.
    pub block_rows: Option<u64>,
    /// CPU seconds per second of wall time in the plugin's calls, the most of any stage; above
    /// `threads`, the plugin took more than it was given.
    pub threads_used: Option<f64>,
}

impl TimingInfo {
    /// True when the plugin's calls took more CPU time than its threads have, by more than what
    /// threads take to come and go: its speeds are those of more threads than it was given.
    pub fn over_budget(&self) -> bool {
        self.threads_used.is_some_and(|used| used > 1.1 * f64::from(self.threads))
    }
}

/// What held the plugin in its place while the cell ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sandbox {
    /// The kernel enforced everything: other files, the network and other processes were denied.
    Full,
    /// The kernel enforced a part.
    Partial {
        /// What it could not deny, in a clause.
        missing: String,
    },
    /// Nothing was enforced: the plugin had all rights of the user.
    Off {
        /// Why, in a clause.
        reason: String,
    },
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Partial { missing } => write!(f, "partial: {missing}"),
            Self::Off { reason } => write!(f, "off: {reason}"),
        }
    }
}

/// A text that describes no sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown sandbox `{text}`; full, `partial: …` or `off: …`")]
pub struct UnknownSandbox {
    /// The text.
    pub text: String,
}

impl FromStr for Sandbox {
    type Err = UnknownSandbox;

    fn from_str(text: &str) -> Result<Self, UnknownSandbox> {
        match text.split_once(": ") {
            None if text == "full" => Ok(Self::Full),
            Some(("partial", missing)) => Ok(Self::Partial { missing: missing.to_owned() }),
            Some(("off", reason)) => Ok(Self::Off { reason: reason.to_owned() }),
            _ => Err(UnknownSandbox { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Sandbox {
    type Error = UnknownSandbox;

    fn try_from(text: String) -> Result<Self, UnknownSandbox> {
        text.parse()
    }
}

impl From<Sandbox> for String {
    fn from(sandbox: Sandbox) -> Self {
        sandbox.to_string()
    }
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was measured.
    Ok,
    /// The plugin returned an error.
    Failed,
    /// The plugin panicked and its adapter caught it.
    Panicked,
    /// The worker ended without a final record: a signal, an abort, an exit.
    Crashed,
    /// The cell's time was up.
    Timeout,
    /// The cell's memory was used up.
    OutOfMemory,
    /// The plugin broke its contract: wrong sizes, NaN, a write past the end, an untrue ratio.
    Invalid,
    /// The user stopped the run.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of the definition.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Panicked,
        Self::Crashed,
        Self::Timeout,
        Self::OutOfMemory,
        Self::Invalid,
        Self::Cancelled,
    ];

    /// The stored name: `out_of_memory`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::Invalid => "invalid",
            Self::Cancelled => "cancelled",
        }
    }

    /// True for [`Outcome::Ok`].
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown outcome `{name}`; one of ok, failed, panicked, crashed, timeout, out_of_memory, invalid, cancelled"
)]
pub struct UnknownOutcome {
    /// The text.
    pub name: String,
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(name: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == name)
            .ok_or_else(|| UnknownOutcome { name: name.to_owned() })
    }
}

/// A measured number under its name; always finite, because neither JSON nor a comparison knows
/// what to do with NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "MetricWire", into = "MetricWire")]
pub struct MetricValue {
    name: String,
    value: f64,
    min: Option<f64>,
    max: Option<f64>,
    standard_error: Option<f64>,
}

/// The JSON of a [`MetricValue`], before it is believed.
#[derive(Serialize, Deserialize)]
#[serde(rename = "MetricValue", deny_unknown_fields)]
struct MetricWire {
    name: String,
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standard_error: Option<f64>,
}

/// Why a metric is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// NaN or an infinity.
    #[error("metric `{name}` is {value}, not a finite number")]
    NonFinite {
        /// The metric's name.
        name: String,
        /// Its value, or the bound that is not finite.
        value: f64,
    },
    /// A standard error below zero.
    #[error("metric `{name}` has the standard error {value}")]
    Negative {
        /// The metric's name.
        name: String,
        /// The standard error.
        value: f64,
    },
    /// An empty name or one with control characters, which could not become a column.
    #[error("{name:?} cannot name a metric")]
    Name {
        /// The name.
        name: String,
    },
}

impl MetricValue {
    /// A single value.
    ///
    /// # Errors
    /// [`MetricError`] when `value` is not finite or `name` is empty or has control characters.
    pub fn new(name: impl Into<String>, value: f64) -> Result<Self, MetricError> {
        Self::checked(name.into(), value, [None; 3])
    }

    /// A median with the smallest and the largest of its repeats.
    ///
    /// # Errors
    /// As [`MetricValue::new`], for any of the three.
    pub fn with_range(
        name: impl Into<String>,
        value: f64,
        min: f64,
        max: f64,
    ) -> Result<Self, MetricError> {
        Self::checked(name.into(), value, [Some(min), Some(max), None])
    }

    /// A mean with its standard error, where it is a mean of more than one.
    ///
    /// # Errors
    /// As [`MetricValue::new`], also for the standard error, which is not negative.
    pub fn with_error(
        name: impl Into<String>,
        value: f64,
        standard_error: Option<f64>,
    ) -> Result<Self, MetricError> {
        Self::checked(name.into(), value, [None, None, standard_error])
    }

    /// A metric as it was stored; the smallest and the largest of its repeats and its standard
    /// error.
    pub(crate) fn checked(
        name: String,
        value: f64,
        [min, max, standard_error]: [Option<f64>; 3],
    ) -> Result<Self, MetricError> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(MetricError::Name { name });
        }
        let all = [Some(value), min, max, standard_error];
        if let Some(value) = all.into_iter().flatten().find(|x| !x.is_finite()) {
            return Err(MetricError::NonFinite { name, value });
        }
        match standard_error {
            Some(value) if value < 0.0 => Err(MetricError::Negative { name, value }),
            _ => Ok(Self { name, value, min, max, standard_error }),
        }
    }

    /// Name with its unit, such as `fit_s` or `recall@10`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value; the median where it was repeated.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The smallest of the repeats.
    pub fn min(&self) -> Option<f64> {
        self.min
    }

    /// The largest of the repeats.
    pub fn max(&self) -> Option<f64> {
        self.max
    }

    /// The standard error of a mean over queries or rows.
    pub fn standard_error(&self) -> Option<f64> {
        self.standard_error
    }
}

impl TryFrom<MetricWire> for MetricValue {
    type Error = MetricError;

    fn try_from(wire: MetricWire) -> Result<Self, MetricError> {
        Self::checked(wire.name, wire.value, [wire.min, wire.max, wire.standard_error])
    }
}

impl From<MetricValue> for MetricWire {
    fn from(metric: MetricValue) -> Self {
        let MetricValue { name, value, min, max, standard_error } = metric;
        Self { name, value, min, max, standard_error }
    }
}

impl Record {
    /// The value of the metric called `name`, if it was measured.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }

    /// The standard error of the metric called `name`, if it has one.
    pub fn standard_error(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name == name)?.standard_error
    }

    /// What each query found of its k nearest, if it was kept.
    pub fn recalls(&self, k: u32) -> Option<&QueryRecalls> {
        self.recalls.iter().find(|recalls| recalls.k() == k)
    }

    /// Whether the method learned from rows that it is measured on; none where that is not known.
    pub fn learned_from_base(&self) -> Option<bool> {
        match (self.method.needs_training, self.dataset.train_apart) {
            (Some(false), _) | (_, Some(true)) => Some(false),
            (Some(true), Some(false)) => Some(true),
            (None, _) | (_, None) => None,
        }
    }

    /// What the cell's key is made of, taken from the record.
    pub fn key_parts(&self) -> CellKeyParts<'_> {
        CellKeyParts {
            dataset_digest: &self.dataset.digest,
            metric: &self.metric,
            method: &self.method.id,
            params: &self.params,
            evaluation: &self.evaluation,
            seed: self.seed,
            plugin_digest: &self.method.plugin_digest,
            needs_digest: self.method.needs_digest.as_deref(),
        }
    }
}

/// Which records are wanted; an empty list wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of datasets.
    pub datasets: Vec<String>,
    /// Ids of methods.
    pub methods: Vec<String>,
    /// Outcomes.
    pub outcomes: Vec<Outcome>,
}

impl Filter {
    /// True when `record` is wanted.
    pub fn wants(&self, record: &Record) -> bool {
        fn any<T: PartialEq>(list: &[T], item: &T) -> bool {
            list.is_empty() || list.contains(item)
        }
        any(&self.datasets, &record.dataset.name)
            && any(&self.methods, &record.method.id)
            && any(&self.outcomes, &record.outcome)
    }
}

/// Everything that identifies a cell.
#[derive(Clone, Copy, Debug)]
pub struct CellKeyParts<'a> {
    /// Content digest of the prepared data.
    pub dataset_digest: &'a str,
    /// `l2`, `ip` or `cosine`.
    pub metric: &'a str,
    /// The method's id.
    pub method: &'a str,
    /// Every parameter with the value it has, defaults included.
    pub params: &'a Value,
    /// The evaluation settings.
    pub evaluation: &'a Value,
    /// The seed.
    pub seed: u64,
    /// Digest of the library that holds the method.
    pub plugin_digest: &'a str,
    /// Digest of the libraries that it brings along, if it names any.
    pub needs_digest: Option<&'a str>,
}

/// The identity of a cell: 64 hexadecimal digits, equal on every machine for equal parts.
pub fn cell_key(parts: &CellKeyParts<'_>) -> String {
    let mut object = serde_json::json!({
        "dataset": parts.dataset_digest,
        "evaluation": parts.evaluation,
        "method": parts.method,
        "metric": parts.metric,
        "params": parts.params,
        "plugin": parts.plugin_digest,
        "seed": parts.seed,
    });
    // Absent rather than null: the key of a library that needs none is what it always was.
    if let Some(needs) = parts.needs_digest {
        object["needs"] = needs.into();
    }
    blake3::hash(canonical_json(&object).as_bytes()).to_hex().to_string()
}

/// One text per value: no spaces, keys sorted by their bytes, and equal numbers written equally,
/// so `1`, `1.0` and `1e0` are all `1`.
///
/// Integers keep all their digits; other numbers are the shortest decimal, without an exponent,
/// that reads back as the same f64.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
        Value::Number(number) => write_canonical_number(number, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Sorted here, since a crate elsewhere may switch serde_json to insertion order.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
    }
}

fn write_canonical_number(number: &serde_json::Number, out: &mut String) {
    let written = if let Some(integer) = number.as_i64() {
        write!(out, "{integer}")
    } else if let Some(integer) = number.as_u64() {
        write!(out, "{integer}")
    } else {
        // std's Display of f64 is the shortest text that reads back and never has an exponent,
        // unlike the float writer inside serde_json, which has changed over time. `+ 0.0` turns
        // −0 into 0.
        write!(out, "{}", number.as_f64().unwrap_or_default() + 0.0)
    };
    written.expect("writing to a String cannot fail");
}

/// Sorts names as people do, runs of digits by their value.
pub(crate) fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        pieces.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    pieces
}

/// `time` as RFC 3339 in UTC with milliseconds: `2025-11-22T20:31:00.000Z`.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// One call of `run`: what was asked, by which version, on which machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Unique over machines; sorts by time.
    pub run_id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Version of vq-host.
    pub host_version: String,
    /// Name of the sweep.
    pub sweep_name: String,
    /// The sweep's text, whole.
    pub sweep_text: String,
    /// The processor's name, where the system tells it.
    pub cpu_model: Option<String>,
    /// The processor's features that kernels make use of, sorted; Linux's names.
    pub cpu_features: Vec<String>,
    /// Threads that run at once on this machine, as far as this process may use them.
    pub cores: u32,
    /// Installed memory, where the system tells it.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture: `linux x86_64`.
    pub os: String,
    /// The variables that workers were given, by name.
    pub environment: BTreeMap<String, String>,
}

impl RunInfo {
    /// A new run, now and on this machine.
    pub fn begin(sweep_name: impl Into<String>, sweep_text: impl Into<String>) -> Self {
        let now = SystemTime::now();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Two machines of a cluster may begin in the same second; std's hash seeds are random.
        let random = RandomState::new().build_hasher().finish() as u32;
        let second = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
        Self {
            run_id: format!("{second}-{random:08x}"),
            started_at: timestamp(now),
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            sweep_name: sweep_name.into(),
            sweep_text: sweep_text.into(),
            cpu_model: cpu_model(&cpuinfo),
            cpu_features: cpu_features(&cpuinfo),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_bytes: memory_bytes(&meminfo),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            environment: crate::worker::environment::recorded(),
        }
    }
}

/// The values of `/proc` lines `key : value` with this key.
fn proc_values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "cpu model"]
        .into_iter()
        .find_map(|key| proc_values(cpuinfo, key).next())
        .filter(|model| !model.is_empty())
        .map(str::to_owned)
}

/// The features that decide how fast a quantizer runs, by Linux's names.
const CPU_FEATURES: [&str; 23] = [
    "amx_bf16",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "asimd",
    "asimddp",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx512_vpopcntdq",
    "avx512bw",
    "avx512dq",
    "avx512f",
    "avx512vbmi",
    "avx512vl",
    "avx_vnni",
    "f16c",
    "fma",
    "i8mm",
    "sve",
    "sve2",
];

fn cpu_features(cpuinfo: &str) -> Vec<String> {
    let line = ["flags", "Features"].into_iter().find_map(|key| proc_values(cpuinfo, key).next());
    let present: BTreeSet<&str> = match line {
        Some(line) => line.split_whitespace().collect(),
        None => detected_features(),
    };
    CPU_FEATURES.into_iter().filter(|name| present.contains(name)).map(str::to_owned).collect()
}

/// What the processor itself says, where there is no `/proc/cpuinfo`.
#[cfg(target_arch = "x86_64")]
fn detected_features() -> BTreeSet<&'static str> {
    [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512_vnni", is_x86_feature_detected!("avx512vnni")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
    ]
    .into_iter()
    .filter_map(|(name, present)| present.then_some(name))
    .collect()
}

/// NEON is part of the architecture's baseline.
#[cfg(target_arch = "aarch64")]
fn detected_features() -> BTreeSet<&'static str> {
    BTreeSet::from(["asimd"])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected_features() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = proc_values(meminfo, "MemTotal").next()?;
    let kib: u64 = total.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A record that went well, with its true key; tests change what they are about.
    pub(crate) fn sample(method: &str, label: &str, metrics: &[(&str, f64)]) -> Record {
        let mut record = Record {
            key: String::new(),
            run_id: "run-1".to_owned(),
            dataset: DatasetInfo {
                name: "glove".to_owned(),
                digest: "d1".to_owned(),
                n: 10_000,
                dim: 100,
                queries: 500,
                train_rows: None,
                train_apart: None,
                facts: None,
            },
            metric: "l2".to_owned(),
            method: MethodInfo {
                id: method.to_owned(),
                version: "1.2.0".to_owned(),
                plugin_path: format!("plugins/libvq_{method}.so"),
                plugin_digest: "p1".to_owned(),
                needs_digest: None,
                sdk: "vq-plugin-api 0.1.0".to_owned(),
                abi: "1.0".to_owned(),
                needs_training: None,
                deterministic: None,
            },
            params: json!({ "label": label }),
            label: label.to_owned(),
            seed: 42,
            evaluation: json!({ "k": [1, 10, 100], "pairs": 10_000 }),
            outcome: Outcome::Ok,
            error: None,
            log: None,
            sandbox: Some(Sandbox::Full),
            proof: None,
            notices: Vec::new(),
            timing: TimingInfo {
                threads: 2,
                jobs: 1,
                exclusive: true,
                load_average: Some(0.25),
                block_rows: Some(4096),
                threads_used: None,
            },
            started_at: "2025-11-22T20:31:00.000Z".to_owned(),
            wall_s: 1.5,
            metrics: metrics
                .iter()
                .map(|&(name, value)| MetricValue::new(name, value).unwrap())
                .collect(),
            recalls: Vec::new(),
        };
        record.key = cell_key(&record.key_parts());
        record
    }

    fn parts<'a>(params: &'a Value, evaluation: &'a Value) -> CellKeyParts<'a> {
        CellKeyParts {
            dataset_digest: "0f1e2d",
            metric: "l2",
            method: "example",
            params,
            evaluation,
            seed: 42,
            plugin_digest: "a1b2c3",
            needs_digest: None,
        }
    }

    #[test]
    fn the_key_of_a_cell_never_changes() {
        let params = json!({ "m": 8, "bits": 8, "scale": 0.5, "levels": [0, 2.0, 4] });
        let evaluation = json!({ "k": [1, 10, 100], "pairs": 10_000, "rerank": [1, 4] });
        // A change of this digest makes every stored result be computed again.
        assert_eq!(
            cell_key(&parts(&params, &evaluation)),
            "bd182047e41f4e8de901c6e950ec27b9c39a4ebfb901544dd0ad97a7eba037c6"
        );
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let (params, evaluation) = (json!({ "m": 8 }), json!({ "k": [1] }));
        let (other_params, other_evaluation) = (json!({ "m": 16 }), json!({ "k": [10] }));
        let base = parts(&params, &evaluation);
        let keys = BTreeSet::from([
            cell_key(&base),
            cell_key(&CellKeyParts { dataset_digest: "x", ..base }),
            cell_key(&CellKeyParts { metric: "ip", ..base }),
            cell_key(&CellKeyParts { method: "x", ..base }),
            cell_key(&CellKeyParts { params: &other_params, ..base }),
            cell_key(&CellKeyParts { evaluation: &other_evaluation, ..base }),
            cell_key(&CellKeyParts { seed: 43, ..base }),
            cell_key(&CellKeyParts { plugin_digest: "x", ..base }),
            cell_key(&CellKeyParts { needs_digest: Some("x"), ..base }),
        ]);
        assert_eq!(keys.len(), 9);
    }

    #[test]
    fn canonical_json_writes_equal_values_equally() {
        let text = r#" { "b": 1.0, "a": [ 1e2, -0.0, 0.1, "é\n" ], "c": {"y": null, "x": true} } "#;
        let value: Value = serde_json::from_str(text).unwrap();
        let expected = r#"{"a":[100,0,0.1,"é\n"],"b":1,"c":{"x":true,"y":null}}"#;
        assert_eq!(canonical_json(&value), expected);
        let again: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(canonical_json(&again), expected);
        assert_eq!(canonical_json(&json!(u64::MAX)), u64::MAX.to_string());
        assert_eq!(canonical_json(&json!(1e-7)), "0.0000001");
    }

    #[test]
    fn a_record_survives_one_json_line() {
        let mut record = sample("example", "m=8", &[("recall@10", 0.1 + 0.2)]);
        record.metrics.push(MetricValue::with_range("fit_s", 2.0, 1.5, 2.5).unwrap());
        record.metrics.push(MetricValue::with_error("recall@1", 0.5, Some(0.25)).unwrap());
        record.outcome = Outcome::OutOfMemory;
        record.error = Some("line one\nline two".to_owned());
        record.proof = Some(Proof::Unproven { reason: "why: not".to_owned() });
        record.notices.push("busy".to_owned());
        record.recalls.push(QueryRecalls::new(10, vec![10, 0, 7]).unwrap());
        record.dataset.facts = Some(Facts { synthetic: true, ..Facts::default() });
        record.method.needs_training = Some(true);
        let line = serde_json::to_string(&record).unwrap();
        assert!(!line.contains('\n'));
        assert!(line.contains(r#""outcome":"out_of_memory""#));
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }

    #[test]
    fn a_metric_that_is_not_finite_is_refused() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(
                MetricValue::new("sqnr_db", value),
                Err(MetricError::NonFinite { name, .. }) if name == "sqnr_db"
            ));
            assert!(MetricValue::with_range("fit_s", 1.0, value, 2.0).is_err());
            assert!(MetricValue::with_range("fit_s", 1.0, 1.0, value).is_err());
            assert!(MetricValue::with_error("mse", 1.0, Some(value)).is_err());
        }
        let negative = MetricValue::with_error("mse", 1.0, Some(-0.5));
        assert!(matches!(negative, Err(MetricError::Negative { .. })), "{negative:?}");
        let line = r#"{"name":"mse","value":null}"#;
        assert!(serde_json::from_str::<MetricValue>(line).is_err());
        let line = r#"{"name":"","value":1.0}"#;
        assert!(serde_json::from_str::<MetricValue>(line).is_err());
    }

    #[test]
    fn only_a_method_that_learns_learned_from_the_rows_it_is_measured_on() {
        let mut record = sample("a", "x", &[]);
        let mut of = |needs, apart| {
            (record.method.needs_training, record.dataset.train_apart) = (needs, apart);
            record.learned_from_base()
        };
        assert_eq!(of(Some(true), Some(false)), Some(true));
        assert_eq!(of(Some(true), Some(true)), Some(false));
        assert_eq!(of(Some(false), Some(false)), Some(false));
        assert_eq!(of(None, Some(true)), Some(false));
        assert_eq!((of(None, Some(false)), of(Some(true), None)), (None, None));
    }

    #[test]
    fn every_outcome_reads_back_from_its_name() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
        assert!("okay".parse::<Outcome>().is_err());
    }

    #[test]
    fn every_sandbox_reads_back_from_its_text() {
        let partial = Sandbox::Partial { missing: "a: b, c".to_owned() };
        for sandbox in [Sandbox::Full, partial, Sandbox::Off { reason: String::new() }] {
            assert_eq!(sandbox.to_string().parse(), Ok(sandbox.clone()));
            let json = serde_json::to_string(&sandbox).unwrap();
            assert_eq!(serde_json::from_str::<Sandbox>(&json).unwrap(), sandbox);
        }
        assert!("fully".parse::<Sandbox>().is_err() && "partial".parse::<Sandbox>().is_err());
    }

    #[test]
    fn the_machine_is_described_from_what_linux_says() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n\
                       flags\t\t: fpu avx2 fma amx_tile avx512_vnni sse\nprocessor\t: 1\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("Some CPU @ 2.00GHz"));
        assert_eq!(cpu_features(cpuinfo), ["amx_tile", "avx2", "avx512_vnni", "fma"]);
        let arm = "Features\t: fp asimd sve\nCPU implementer\t: 0x41\n";
        assert_eq!(cpu_features(arm), ["asimd", "sve"]);
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2_097_152));
        assert_eq!(memory_bytes("MemTotal: lots\n"), None);
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn two_runs_never_share_an_id() {
        let (a, b) = (RunInfo::begin("s", "text"), RunInfo::begin("s", "text"));
        assert_ne!(a.run_id, b.run_id);
        assert!(a.cores >= 1);
        assert!(humantime::parse_rfc3339(&a.started_at).is_ok());
    }

    #[test]
    fn names_sort_as_people_count() {
        let mut names = ["recall@100", "mse", "recall@10/rerank=4", "recall@2", "recall@10", "a"];
        names.sort_by_cached_key(|name| natural_key(name));
        let expected = ["a", "mse", "recall@2", "recall@10", "recall@10/rerank=4", "recall@100"];
        assert_eq!(names, expected);
    }
}
