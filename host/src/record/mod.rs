//! Each cell leaves one [`Record`], however it ended.
//!
//! ```text
//! key = BLAKE3( canonical JSON { dataset, evaluation, method, metric, params, plugin, seed } )
//! ```
//!
//! The key decides what is computed again, so it holds all that can change a result and nothing
//! else: thread counts, file names, the time of day and which families of metrics are measured stay
//! out. What was measured comes from the
//! referee as one JSON line; a record is stored as one row of `cells` plus its rows of `metrics`.

mod dataset;
mod done;
mod filter;
mod key;
mod method;
mod metric_value;
mod name;
mod outcome;
mod proof;
mod recalls;
mod run;
mod sandbox;
mod timing;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::dataset::{DatasetInfo, Facts};
pub use self::done::{Done, RecordedSource};
pub use self::filter::Filter;
pub use self::key::{CellKeyParts, canonical_json, cell_key, deciding};
pub use self::method::MethodInfo;
pub use self::metric_value::{MetricError, MetricValue};
pub(crate) use self::name::natural_key;
pub use self::outcome::{Outcome, UnknownOutcome};
pub use self::proof::{Proof, UnknownProof};
pub use self::recalls::{QueryRecalls, RecallsError};
pub use self::run::RunInfo;
pub use self::sandbox::{Sandbox, UnknownSandbox};
pub use self::timing::{TimingInfo, timestamp};

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

impl Record {
    /// The value of the metric called `name`, if it was measured.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name() == name).map(MetricValue::value)
    }

    /// The standard error of the metric called `name`, if it has one.
    pub fn standard_error(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name() == name)?.standard_error()
    }

    /// What each query found of its k nearest, if it was kept.
    pub fn recalls(&self, k: u32) -> Option<&QueryRecalls> {
        self.recalls.iter().find(|recalls| recalls.k() == k)
    }

    /// The families of metrics that were measured beside those that every record has, by name; none in
    /// records from before they could be chosen.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        let listed = self.evaluation.get("metrics").and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The name of the data set whose neighbours are the true ones, where they are not its own.
    pub fn truth_of(&self) -> Option<&str> {
        self.evaluation.get("truth")?.get("of")?.as_str()
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
}
