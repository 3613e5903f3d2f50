//! Configurations that can be measured, and the cells that they are with each seed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use serde_json::{Value, json};
use vq_plugin_api::params::Config;

use super::partition::cell_name;
use crate::plugin::config_json;
use crate::record::{CellKeyParts, MethodInfo, cell_key};
use crate::sweep::{SECOND, Sweep};
use crate::transform::{Chain, TRANSFORM};
use crate::worker::protocol::{Evaluation, OtherTruth};

/// Another method, which codes each row a second time and ranks what the first finds.
#[derive(Clone, Debug)]
pub struct Second {
    /// The method and the library it comes from.
    pub method: MethodInfo,
    /// The Python that the sweep names for it alone, to run it in; what that is stands in the method's
    /// `needs_digest`.
    pub python: Option<PathBuf>,
    /// All its parameters.
    pub config: Config,
    /// `bits=8`.
    pub label: String,
    /// Stored bytes per vector, where the method knows before training.
    pub code_bytes: Option<usize>,
}

/// The parameters of a record, and with them what is done to rows before and the second method with its
/// own.
pub(super) fn params(config: &Config, transform: &Chain, second: Option<&Second>) -> Value {
    let mut params = config_json(config);
    if !transform.is_empty() {
        params[TRANSFORM] = json!(transform);
    }
    if let Some(Second { method, config, .. }) = second {
        let mut about = json!({
            "use": method.id,
            "version": method.version,
            "plugin": method.plugin_digest,
            "params": config_json(config),
        });
        // As in a key: absent rather than null.
        if let Some(needs) = &method.needs_digest {
            about["needs"] = needs.as_str().into();
        }
        params[SECOND] = about;
    }
    params
}

/// A configuration that can be measured on a data set: a cell for each seed. It has no key yet:
/// that needs the digest of the data.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Position of the data set in the sweep.
    pub dataset: usize,
    /// The data set's name.
    pub dataset_name: String,
    /// The method and the library it comes from.
    pub method: MethodInfo,
    /// The Python that the sweep names for it alone, to run it in; what that is stands in the method's
    /// `needs_digest`.
    pub python: Option<PathBuf>,
    /// All parameters.
    pub config: Config,
    /// `m=8 bits=4`.
    pub label: String,
    /// Stored bytes per vector, where the method knows before training.
    pub code_bytes: Option<usize>,
    /// The same as bits per dimension.
    pub bits_per_dim: Option<f64>,
    /// What is done to rows before it sees them, which is in the label.
    pub transform: Chain,
    /// The second code of each row, whose label and bytes are in those above.
    pub second: Option<Second>,
}

impl Candidate {
    /// The name of its cell with this seed; see [`Cell::name`].
    pub fn name(&self, seed: u64) -> String {
        let Self { dataset_name, method, config, transform, second, .. } = self;
        cell_name(dataset_name, &method.id, config, (transform, second.as_ref()), seed)
    }

    /// The title of its cell with this seed; see [`Cell::title`].
    pub fn title(&self, seed: u64) -> String {
        title(&self.dataset_name, &self.method.id, &self.label, seed)
    }
}

/// A combination that will not be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Skip {
    /// The data set's name.
    pub dataset: String,
    /// The method's id.
    pub method: String,
    /// The combination, as far as it is known.
    pub what: String,
    /// Why not.
    pub reason: String,
}

/// What the grid generators answered, checked: all that is known before data is read.
#[derive(Clone, Debug, Default)]
pub struct Grids {
    /// In the order of the sweep.
    pub candidates: Vec<Candidate>,
    /// What was asked and cannot be.
    pub skips: Vec<Skip>,
}

impl Grids {
    /// The plan, now that the data sets are read: `digests` of their prepared data, in the order
    /// of the sweep.
    ///
    /// # Panics
    /// When a data set has no digest.
    pub fn into_plan(self, sweep: &Sweep, digests: &[&str]) -> Plan {
        let of_dataset = |dataset| serde_json::to_value(evaluation(sweep, dataset, digests));
        let evaluations: Vec<_> =
            (0..sweep.datasets.len()).map(|at| of_dataset(at).unwrap_or_default()).collect();
        let cells = self.candidates.into_iter().flat_map(|of| {
            let params = params(&of.config, &of.transform, of.second.as_ref());
            let metric = sweep.datasets[of.dataset].spec.metric.name();
            let cell = |seed: &u64| Cell {
                key: cell_key(&CellKeyParts {
                    dataset_digest: digests[of.dataset],
                    metric,
                    method: &of.method.id,
                    params: &params,
                    evaluation: &evaluations[of.dataset],
                    seed: *seed,
                    plugin_digest: &of.method.plugin_digest,
                    needs_digest: of.method.needs_digest.as_deref(),
                }),
                dataset: of.dataset,
                dataset_name: of.dataset_name.clone(),
                method: of.method.clone(),
                python: of.python.clone(),
                config: of.config.clone(),
                label: of.label.clone(),
                seed: *seed,
                code_bytes: of.code_bytes,
                bits_per_dim: of.bits_per_dim,
                transform: of.transform.clone(),
                second: of.second.clone(),
            };
            sweep.seeds.iter().map(cell).collect::<Vec<_>>()
        });
        Plan { cells: cells.collect(), skips: self.skips }
    }
}

/// One configuration on one data set with one seed.
#[derive(Clone, Debug)]
pub struct Cell {
    /// BLAKE3 over everything that decides the result; cells of two data sets with one content
    /// share it and are measured once.
    pub key: String,
    /// Position of the data set in the sweep.
    pub dataset: usize,
    /// The data set's name.
    pub dataset_name: String,
    /// The method and the library it comes from.
    pub method: MethodInfo,
    /// The Python that the sweep names for it alone, to run it in; what that is stands in the method's
    /// `needs_digest`.
    pub python: Option<PathBuf>,
    /// All parameters.
    pub config: Config,
    /// `m=8 bits=4`.
    pub label: String,
    /// The seed.
    pub seed: u64,
    /// Stored bytes per vector, where the method knows before training.
    pub code_bytes: Option<usize>,
    /// The same as bits per dimension.
    pub bits_per_dim: Option<f64>,
    /// What is done to rows before it sees them, which is in the label.
    pub transform: Chain,
    /// The second code of each row, whose label and bytes are in those above.
    pub second: Option<Second>,
}

impl Cell {
    /// Its parameters as records have them, with those of the second method.
    pub fn params(&self) -> Value {
        params(&self.config, &self.transform, self.second.as_ref())
    }

    /// The method, and that of the second code.
    pub fn methods(&self) -> impl Iterator<Item = &MethodInfo> {
        [Some(&self.method), self.second.as_ref().map(|second| &second.method)]
            .into_iter()
            .flatten()
    }

    /// What it is called before its data is read, by which [parts](super::Partition) of a sweep are
    /// made: 16 hexadecimal digits over data set, method, parameters and seed.
    pub fn name(&self) -> String {
        let Self { dataset_name, method, config, transform, second, seed, .. } = self;
        cell_name(dataset_name, &method.id, config, (transform, second.as_ref()), *seed)
    }

    /// How people and `--only` call it: `glove zlattice scale=0.5 seed=42`.
    pub fn title(&self) -> String {
        title(&self.dataset_name, &self.method.id, &self.label, self.seed)
    }
}

fn title(dataset: &str, method: &str, label: &str, seed: u64) -> String {
    let seed = format!("seed={seed}");
    let parts = [dataset, method, label, &seed].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// Everything a sweep asks for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order of the sweep.
    pub cells: Vec<Cell>,
    /// What was asked and cannot be.
    pub skips: Vec<Skip>,
}

/// The names of data sets with the same contents: of each, the first that has them and itself.
/// `datasets` are (name, digest).
pub fn same_contents<'a>(
    datasets: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(&'a str, &'a str)> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut same = Vec::new();
    for (name, digest) in datasets {
        // The digest covers the metric.
        match first.entry(digest) {
            Entry::Vacant(entry) => drop(entry.insert(name)),
            Entry::Occupied(entry) => same.push((*entry.get(), name)),
        }
    }
    same
}

/// The sweep's evaluation settings as cells of a data set carry them; `digests` of all prepared data.
///
/// # Panics
/// When a data set has no digest.
pub fn evaluation(sweep: &Sweep, dataset: usize, digests: &[&str]) -> Evaluation {
    let truth = sweep.truth_of(dataset).map(|other| OtherTruth {
        of: sweep.datasets[other].spec.name.clone(),
        digest: digests[other].to_owned(),
    });
    let of = &sweep.evaluate;
    Evaluation {
        definitions: crate::metric::DEFINITIONS,
        k: of.k.clone(),
        pairs: of.pairs,
        rerank: of.rerank.clone(),
        repeats: of.repeats,
        metrics: of.metrics.clone(),
        truth,
    }
}
