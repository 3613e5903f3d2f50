//! Sweep + descriptors → cells. Pure: nothing here opens a library or reads data, so that
//! everything that can be rejected is rejected before anything trains.
//!
//! ```text
//! choose: sweep × catalog ─► methods with checked axes
//! requests: methods × data sets ─► what to ask each grid generator (asked by the caller)
//! assemble: the answers ─► cells, skips
//! ```

use crate::data::Prepared;
use crate::plugin::{Catalog, Found, ResolveError, config_json};
use crate::record::{CellKeyParts, MethodInfo, cell_key};
use crate::suggest::nearest_name;
use crate::sweep::{MethodUse, Sweep, SweepSource};
use crate::worker::protocol::Evaluation;
use miette::{NamedSource, SourceSpan};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use vq_plugin_api::handle::Proposal;
use vq_plugin_api::params::{Config, Kind, Param};
use vq_plugin_api::{GridRequest, Space, Value};

/// A sweep that cannot be planned, said at the place where it is written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{problem}")]
pub struct PlanError {
    problem: Box<str>,
    #[source_code]
    text: Arc<NamedSource<Arc<str>>>,
    #[label("{label}")]
    span: SourceSpan,
    label: Box<str>,
    #[help]
    help: Option<Box<str>>,
}

impl PlanError {
    /// `problem` with what is written at `span` of `source`.
    pub fn at(
        source: &SweepSource,
        span: Range<usize>,
        problem: impl ToString,
        label: impl ToString,
        help: Option<String>,
    ) -> Self {
        PlanError {
            problem: problem.to_string().into(),
            text: Arc::new(source.named()),
            span: span.into(),
            label: label.to_string().into(),
            help: help.map(Into::into),
        }
    }
}

/// A `[[method]]` with the library that serves it and its axes as values of the right kind.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    used: &'a MethodUse,
    found: Found<'a>,
    axes: BTreeMap<String, Vec<Value>>,
}

impl<'a> Chosen<'a> {
    /// The library and method.
    pub fn found(&self) -> Found<'a> {
        self.found
    }

    fn runs_on(&self, dataset: &str) -> bool {
        let named =
            |names: &Vec<toml::Spanned<String>>| names.iter().any(|n| n.get_ref() == dataset);
        self.used.datasets.as_ref().is_none_or(named)
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
}

impl Cell {
    /// How people and `--only` call it: `glove zlattice scale=0.5 seed=42`.
    pub fn title(&self) -> String {
        let Cell { dataset_name, method, label, seed, .. } = self;
        [dataset_name, &method.id, label, &format!("seed={seed}")]
            .into_iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
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

/// Everything a sweep asks for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order of the sweep.
    pub cells: Vec<Cell>,
    /// What was asked and cannot be.
    pub skips: Vec<Skip>,
}

/// Finds the library of each `[[method]]` and checks its axes against the method's schema.
///
/// # Errors
/// An unknown method, parameter or data set, a value that the schema forbids, a digest that
/// differs from the pin.
pub fn choose<'a>(sweep: &'a Sweep, catalog: &'a Catalog) -> Result<Vec<Chosen<'a>>, PlanError> {
    sweep.methods.iter().map(|used| choose_one(sweep, catalog, used)).collect()
}

fn choose_one<'a>(
    sweep: &'a Sweep,
    catalog: &'a Catalog,
    used: &'a MethodUse,
) -> Result<Chosen<'a>, PlanError> {
    let source = &sweep.source;
    let file = used.plugin.as_ref();
    let found =
        catalog.resolve(used.id.get_ref(), file.map(|f| f.get_ref().as_str())).map_err(|e| {
            let span = match (&e, file) {
                (ResolveError::NotInFile { .. }, Some(file)) => file.span(),
                _ => used.id.span(),
            };
            PlanError::at(source, span, &e, "asked for here", Some(resolve_help(&e, catalog)))
        })?;
    if let Some(pin) = &used.digest
        && *pin.get_ref() != found.library.digest
    {
        return Err(PlanError::at(
            source,
            pin.span(),
            format!("{} is not the pinned file", found.library.path.display()),
            "pinned here",
            Some(format!("the file found has the digest {}", found.library.digest)),
        ));
    }
    for name in used.datasets.iter().flatten() {
        if !sweep.datasets.iter().any(|d| d.spec.name == *name.get_ref()) {
            let names = sweep.datasets.iter().map(|d| d.spec.name.as_str());
            let nearest = nearest_name(name.get_ref(), names);
            return Err(PlanError::at(
                source,
                name.span(),
                format!("no [[dataset]] is named `{}`", name.get_ref()),
                "named here",
                nearest.map(|n| format!("did you mean `{n}`?")),
            ));
        }
    }
    let schema = &found.method.params;
    let known = |name: &str, span: Range<usize>| {
        schema
            .iter()
            .find(|p| p.name == name)
            .ok_or_else(|| unknown_parameter(source, span, &found.method.id, name, schema))
    };
    let mut axes = BTreeMap::new();
    for axis in &used.axes {
        let param = known(&axis.name, axis.key_span.clone())?;
        let mut values = Vec::with_capacity(axis.values.len());
        for value in &axis.values {
            let coerced = param.coerce(value.get_ref().clone());
            param.check(&coerced).map_err(|reason| {
                PlanError::at(
                    source,
                    value.span(),
                    format!("{}: {reason}", axis.name),
                    "here",
                    Some(about(param)),
                )
            })?;
            values.push(coerced);
        }
        axes.insert(axis.name.clone(), values);
    }
    for exclude in &used.exclude {
        for (name, _) in &exclude.values {
            known(name.get_ref(), name.span())?;
        }
    }
    Ok(Chosen { used, found, axes })
}

fn resolve_help(error: &ResolveError, catalog: &Catalog) -> String {
    let methods = catalog.methods();
    let ids = || methods.iter().map(|f| f.method.id.as_str());
    match error {
        ResolveError::Ambiguous { .. } => {
            "say which with plugin = \"FILE\" in this [[method]]".into()
        }
        ResolveError::NotInFile { .. } => "`vq-host methods` lists files and their methods".into(),
        ResolveError::Unknown { .. } if methods.is_empty() => {
            let places: Vec<String> =
                catalog.searched.iter().map(|(p, _)| p.display().to_string()).collect();
            format!("no plugin was found at all; searched: {}", places.join(", "))
        }
        ResolveError::Unknown { id } => {
            let all = ids().collect::<Vec<_>>().join(", ");
            match nearest_name(id, ids()) {
                Some(near) => format!("did you mean `{near}`? found are: {all}"),
                None => format!("found are: {all}; `vq-host methods` tells where was searched"),
            }
        }
    }
}

fn unknown_parameter(
    source: &SweepSource,
    span: Range<usize>,
    method: &str,
    name: &str,
    schema: &[Param],
) -> PlanError {
    let names = || schema.iter().map(|p| p.name.as_str());
    let all = names().collect::<Vec<_>>().join(", ");
    let help = match nearest_name(name, names()) {
        Some(near) => format!("did you mean `{near}`? {method} knows: {all}"),
        None if schema.is_empty() => format!("{method} has no parameters"),
        None => format!("{method} knows: {all}"),
    };
    let problem = format!("{method} has no parameter `{name}`");
    PlanError::at(source, span, problem, "unknown parameter", Some(help))
}

fn about(param: &Param) -> String {
    let article = if matches!(param.kind, Kind::Int) { "an" } else { "a" };
    let mut text = format!("{} is {article} {}", param.name, param.kind);
    if let Some(kind) = param.item_kind {
        text += &format!(" of {kind}");
    }
    match (&param.min, &param.max) {
        (Some(min), Some(max)) => text += &format!(" from {min} to {max}"),
        (Some(min), None) => text += &format!(" from {min} on"),
        (None, Some(max)) => text += &format!(" up to {max}"),
        (None, None) => {}
    }
    if !param.choices.is_empty() {
        let choices: Vec<String> = param.choices.iter().map(Value::to_string).collect();
        text += &format!(", one of {}", choices.join(", "));
    }
    if param.help.is_empty() { text } else { format!("{text}: {}", param.help) }
}

/// The names of data sets with the same contents: of each, the first that has them and itself.
pub fn same_contents(datasets: &[Prepared]) -> Vec<(&str, &str)> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut same = Vec::new();
    for data in datasets {
        // The digest covers the metric.
        match first.entry(&data.digest) {
            Entry::Vacant(entry) => drop(entry.insert(&data.name)),
            Entry::Occupied(entry) => same.push((*entry.get(), data.name.as_str())),
        }
    }
    same
}

/// What to ask the grid generator of one method for one data set.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Position of the method among the chosen.
    pub method: usize,
    /// Position of the data set in the sweep.
    pub dataset: usize,
    /// One request, or one per target rate.
    pub requests: Vec<GridRequest>,
}

/// The requests of all methods for all data sets they run on, in the order of the cells.
pub fn requests(chosen: &[Chosen<'_>], datasets: &[Prepared]) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (dataset, data) in datasets.iter().enumerate() {
        for (method, of) in chosen.iter().enumerate().filter(|(_, c)| c.runs_on(&data.name)) {
            let request = |bits_per_dim| GridRequest {
                space: Space { dim: data.dim, metric: data.metric.into() },
                bits_per_dim,
                axes: of.axes.clone(),
            };
            let rates = &of.used.bits_per_dim;
            let requests = match rates.is_empty() {
                true => vec![request(None)],
                false => rates.iter().map(|rate| request(Some(*rate.get_ref()))).collect(),
            };
            asked.push(Asked { method, dataset, requests });
        }
    }
    asked
}

/// Cells from the generators' answers: `answers[i]` belongs to `asked[i]`, a list per request.
///
/// # Errors
/// A method without any valid configuration on a data set, quoting its reasons.
pub fn assemble(
    sweep: &Sweep,
    datasets: &[Prepared],
    chosen: &[Chosen<'_>],
    asked: &[Asked],
    answers: Vec<Vec<Vec<Proposal>>>,
) -> Result<Plan, PlanError> {
    let evaluation = evaluation(sweep);
    let evaluation_json = serde_json::to_value(&evaluation).unwrap_or_default();
    let mut plan = Plan::default();
    let mut keys = BTreeSet::new();
    for (asked, answers) in asked.iter().zip(answers) {
        let (of, data) = (&chosen[asked.method], &datasets[asked.dataset]);
        let Found { library, method } = of.found;
        let info = MethodInfo {
            id: method.id.clone(),
            version: method.version.clone(),
            plugin_path: library.path.display().to_string(),
            plugin_digest: library.digest.clone(),
            needs_digest: library.needs_digest.clone(),
            sdk: library.about.sdk.clone(),
            abi: format!("{}.{}", library.about.abi.0, library.about.abi.1),
            needs_training: Some(method.needs_training),
            deterministic: Some(method.deterministic),
        };
        let mut reasons: Vec<(Config, String)> = Vec::new();
        let mut valid = 0usize;
        for proposal in answers.into_iter().flatten() {
            let (config, label, code_bytes) = match proposal {
                Proposal::Emit { config, label, code_bytes } => (config, label, code_bytes),
                Proposal::Skip { config, reason } => {
                    plan.skips.push(skip(data, &info, &config, &of.axes, &reason));
                    reasons.push((config, reason));
                    continue;
                }
            };
            if of.used.exclude.iter().any(|e| e.applies(|name| config.get(name))) {
                let reason = "excluded by the sweep".to_owned();
                plan.skips.push(skip(data, &info, &config, &of.axes, &reason));
                reasons.push((config, reason));
                continue;
            }
            valid += 1;
            let params = config_json(&config);
            for seed in &sweep.seeds {
                let key = cell_key(&CellKeyParts {
                    dataset_digest: &data.digest,
                    metric: data.metric.name(),
                    method: &info.id,
                    params: &params,
                    evaluation: &evaluation_json,
                    seed: *seed,
                    plugin_digest: &info.plugin_digest,
                    needs_digest: info.needs_digest.as_deref(),
                });
                // Two [[method]] blocks, or two target rates, may ask for the same thing. Two data
                // sets of one content share keys too, and each keeps its cells.
                if !keys.insert((asked.dataset, key.clone())) {
                    continue;
                }
                plan.cells.push(Cell {
                    key,
                    dataset: asked.dataset,
                    dataset_name: data.name.clone(),
                    method: info.clone(),
                    config: config.clone(),
                    label: label.clone(),
                    seed: *seed,
                    code_bytes,
                    bits_per_dim: code_bytes.map(|b| 8.0 * b as f64 / data.dim as f64),
                });
            }
        }
        if valid == 0 {
            return Err(nothing_valid(sweep, of, data, &reasons));
        }
    }
    Ok(plan)
}

/// The sweep's evaluation settings as cells carry them.
pub fn evaluation(sweep: &Sweep) -> Evaluation {
    let of = &sweep.evaluate;
    Evaluation {
        definitions: crate::metric::DEFINITIONS,
        k: of.k.clone(),
        pairs: of.pairs,
        rerank: of.rerank.clone(),
        repeats: of.repeats,
    }
}

fn skip(
    data: &Prepared,
    method: &MethodInfo,
    config: &Config,
    axes: &BTreeMap<String, Vec<Value>>,
    reason: &str,
) -> Skip {
    let told = config.iter().filter(|(name, _)| axes.is_empty() || axes.contains_key(*name));
    let what: Vec<String> = told.map(|(name, value)| format!("{name}={value}")).collect();
    Skip {
        dataset: data.name.clone(),
        method: method.id.clone(),
        what: what.join(" "),
        reason: reason.to_owned(),
    }
}

/// The error for a method that has no configuration on a data set: at the parameter that the
/// reasons name, if they agree on one.
fn nothing_valid(
    sweep: &Sweep,
    of: &Chosen<'_>,
    data: &Prepared,
    reasons: &[(Config, String)],
) -> PlanError {
    let id = &of.found.method.id;
    let axis_of = |reason: &str| {
        let name = reason.split_once(':')?.0;
        of.used.axes.iter().find(|axis| axis.name == name)
    };
    let mut axes = reasons.iter().map(|(_, reason)| axis_of(reason));
    let first = axes.next().flatten();
    let agreed = first.filter(|first| axes.all(|axis| axis.is_some_and(|a| a.name == first.name)));
    let rates = of.used.bits_per_dim.first();
    let span = agreed
        .map(|axis| axis.value_span.clone())
        .or_else(|| rates.map(toml::Spanned::span))
        .unwrap_or_else(|| of.used.id.span());
    let mut told: Vec<&str> = reasons.iter().map(|(_, reason)| reason.as_str()).collect();
    told.dedup();
    let more = told.len().saturating_sub(5);
    told.truncate(5);
    let mut help = match told.as_slice() {
        [] => "its grid generator offered nothing and gave no reason".to_owned(),
        told => told.join("\n"),
    };
    if more > 0 {
        help += &format!("\n… and {more} more reasons");
    }
    help += &format!("\n`vq-host methods {id}` shows what it takes");
    PlanError::at(
        &sweep.source,
        span,
        format!("{id} has no valid configuration on `{}` (d = {})", data.name, data.dim),
        "nothing here can be run",
        Some(help),
    )
}
