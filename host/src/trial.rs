//! What a run would record of a method, before there is one: small cells of made-up rows, measured
//! by the same three processes.
//!
//! The conformance kit runs in the plugin's own process, which can say what it likes. Here the
//! verdict is the referee's.

use crate::data::{DatasetSpec, Metric, PrepareError, Prepared, Queries, Source, Synthetic};
use crate::data::{SyntheticKind, Train, prepare};
use crate::plugin::Digests;
use crate::plugin::needs::Needs;
use crate::python::is_python;
use crate::python::source;
use crate::transform::Chain;
use crate::worker::ask::{self, CheckError, ExpandError};
use crate::worker::fault::HostFault;
use crate::worker::protocol::{
    Answer, CheckFinding, CheckedMethod, Engine, Evaluation, Measured, Stage, Step,
};
use crate::worker::sandbox;
use crate::worker::scratch::Scratch;
use crate::worker::supervise::{CellJob, Ended, Limits, measure};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use vq_plugin_api::conformance::{self, Skip};
use vq_plugin_api::handle::{Descriptor, Proposal};
use vq_plugin_api::params::{self, Config};
use vq_plugin_api::{GridRequest, Space, Value};

/// Dimension and metric of each cell.
const SPACES: [(usize, Metric); 2] = [(32, Metric::L2), (24, Metric::Cosine)];
/// Rows of the source: enough for training rows apart, and for calls of more than 1,000 rows.
const ROWS: usize = 2420;
const QUERIES: usize = 20;
const SEED: u64 = 1;

/// Why the cells cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The rows.
    #[error("the rows for a trial cannot be made: {0}")]
    Rows(#[from] PrepareError),
    /// The host's own part.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// The library.
    #[error("the library cannot be read any more: {0}")]
    Library(#[from] std::io::Error),
}

/// A library under trial, and the rows of all cells, which are gone when this is dropped.
#[derive(Debug)]
pub struct Trial<'a> {
    library: &'a Path,
    digests: Digests,
    limits: &'a Limits,
    cancel: &'a AtomicBool,
    datasets: Vec<Prepared>,
    _folder: Scratch,
}

impl<'a> Trial<'a> {
    /// Draws the rows and finds their neighbours: some hundredths of a second.
    ///
    /// # Errors
    /// No place for them, or no library.
    pub fn prepare(
        library: &'a Path,
        limits: &'a Limits,
        cancel: &'a AtomicBool,
    ) -> Result<Self, TrialError> {
        let folder = Scratch::make()?;
        let rows = |(dim, metric): (usize, Metric)| {
            let kind = SyntheticKind::Gaussian;
            let spec = DatasetSpec {
                name: format!("d = {dim}, {}", metric.name()),
                source: Source::Synthetic(Synthetic { kind, n: ROWS, dim, seed: SEED }),
                queries: Queries::HoldOut(QUERIES),
                train: Train::Reserved(None),
                limit: None,
                thin: None,
                metric,
                own_metric: false,
                unusable: crate::data::UnusableRows::Told,
                neighbours: None,
            };
            prepare(&spec, 100, &folder.work(), &|_| !cancel.load(Ordering::Relaxed))
        };
        let datasets = SPACES.into_iter().map(rows).collect::<Result<_, _>>()?;
        let digests = digests(library)?;
        Ok(Trial { library, digests, limits, cancel, datasets, _folder: folder })
    }

    /// Measures `method` of the library once for each data set, in its default configuration but
    /// for what is `fixed`, and adds to `checked` what a run would not record as `ok` and proven.
    ///
    /// # Errors
    /// As [`ask::check`].
    pub fn of(
        &self,
        method: &Descriptor,
        fixed: &Config,
        on_step: &mut dyn FnMut(&Step),
        checked: &mut CheckedMethod,
    ) -> Result<(), CheckError> {
        let Trial { library, digests, limits, cancel, .. } = self;
        let rule = conformance::rule(conformance::AS_IN_RUN);
        let broken = |severity: &str, function: String, input: String, found| CheckFinding {
            rule: rule.id.to_owned(),
            severity: severity.to_owned(),
            function,
            input,
            found,
            contract: rule.contract.to_owned(),
        };
        let skip = |place: String, why: String| Skip { rule: rule.id.to_owned(), place, why };
        if checked.findings.iter().any(|finding| finding.severity == "error") {
            checked.skipped.push(skip(String::new(), "it breaks other rules".to_owned()));
            return Ok(());
        }
        on_step(&Step { function: "expand_grid".to_owned(), rule: rule.id.to_owned() });
        let requests = self.datasets.iter().flat_map(|data| requests(data, method, fixed));
        let sandbox = limits.sandbox;
        let asked = requests.collect();
        let answers =
            ask::expand(library, digests.clone(), None, &method.id, asked, sandbox, cancel);
        let answers = match answers {
            Ok(answers) => answers,
            Err(ExpandError::Host(fault)) => return Err(fault.into()),
            Err(_) if cancel.load(Ordering::Relaxed) => return Err(CheckError::Interrupted),
            Err(error) => {
                let (function, found) = ("expand_grid".to_owned(), error.to_string());
                let input = "the default configuration and the default grid".to_owned();
                checked.findings.push(broken("error", function, input, found));
                return Ok(());
            }
        };
        for (data, answers) in self.datasets.iter().zip(answers.chunks(2)) {
            let config = match first(&method.params, answers) {
                Ok(config) => config,
                Err(why) => {
                    checked.skipped.push(skip(data.name.clone(), why));
                    continue;
                }
            };
            let place = place(data, method, &config);
            let mut stage = String::new();
            let engine = Engine {
                method: method.id.clone(),
                config,
                space: Space { dim: data.dim, metric: data.metric.into() },
                seed: SEED,
                threads: limits.threads,
                python: None,
            };
            let evaluation = &evaluation();
            let whole = (Stage::Whole, None);
            let transform = &Chain::default();
            let cell =
                CellJob { engine, data, transform, evaluation, stage: whole, block_rows: None };
            checked.checks += 1;
            let ended = measure(library, digests, &cell, limits, cancel, &mut |now, _| {
                if stage != now {
                    now.clone_into(&mut stage);
                    let function = stage.clone();
                    on_step(&Step { function, rule: format!("{} ({place})", rule.id) });
                }
            })?;
            if cancel.load(Ordering::Relaxed) {
                return Err(CheckError::Interrupted);
            }
            let logs = [checked.log.take(), ended.log.clone()].into_iter().flatten();
            checked.log = Some(logs.collect::<Vec<_>>().join("\n")).filter(|log| !log.is_empty());
            let (severity, function, found) = match verdict(ended, limits) {
                Verdict::AsPromised => continue,
                Verdict::NotHeld(why) => {
                    let why = format!("it is ok; that it is proven cannot be shown: {why}");
                    checked.skipped.push(skip(place, why));
                    continue;
                }
                Verdict::Unproven { function, why } => {
                    ("warning", function.to_owned(), format!("ok, but unproven: {why}"))
                }
                Verdict::Otherwise(found) => ("error", stage, found),
            };
            // Once, if each cell says so.
            if checked.findings.iter().any(|f| f.rule == rule.id && f.found == found) {
                continue;
            }
            let input = format!("a cell as in a run: {} rows, {place}", data.base.rows);
            checked.findings.push(broken(severity, function, input, found));
        }
        Ok(())
    }
}

/// What a run would say.
enum Verdict {
    AsPromised,
    /// `ok`; this system, or the user, does not hold plugins so that more could be said.
    NotHeld(String),
    /// `ok`, by which function's fault it heads no table, and why.
    Unproven {
        function: &'static str,
        why: String,
    },
    Otherwise(String),
}

fn verdict(ended: Ended, limits: &Limits) -> Verdict {
    match ended.answer {
        Answer::Measured(Measured { unproven: None, .. }) => Verdict::AsPromised,
        Answer::Measured(Measured { unproven: Some(why), .. }) => {
            if !limits.sandbox || !sandbox::keeps_files() {
                return Verdict::NotHeld(why);
            }
            let function = match &why {
                why if why.contains("scorer") => "score",
                why if why.contains("search") => "search",
                _ => "save",
            };
            Verdict::Unproven { function, why }
        }
        Answer::Failed { outcome, error } => Verdict::Otherwise(format!("{outcome}: {error}")),
        Answer::Replaced { how } => Verdict::Otherwise(format!("the library {how}")),
        _ => Verdict::Otherwise("crashed: the worker answered another question".to_owned()),
    }
}

/// The default configuration with what is `fixed`, and, where that cannot be here, the grid's first.
fn requests(data: &Prepared, method: &Descriptor, fixed: &Config) -> [GridRequest; 2] {
    let space = Space { dim: data.dim, metric: data.metric.into() };
    let of = |config: &Config| -> BTreeMap<String, Vec<Value>> {
        config.iter().map(|(name, value)| (name.clone(), vec![value.clone()])).collect()
    };
    let mut usual = Config::new();
    let default = |param: &params::Param| Some((param.name.clone(), param.default.clone()?));
    usual.extend(method.params.iter().filter_map(default));
    usual.extend(fixed.clone());
    [of(&usual), of(fixed)].map(|axes| GridRequest { space, bits_per_dim: None, axes })
}

/// The first configuration of `answers`, or why there is none.
fn first(schema: &[params::Param], answers: &[Vec<Proposal>]) -> Result<Config, String> {
    let mut why = "its grid generator offers nothing".to_owned();
    for proposal in answers.iter().flatten() {
        match proposal {
            Proposal::Emit { config, .. } => match params::check(schema, config) {
                Ok(()) => return Ok(config.clone()),
                Err(error) => why = error.to_string(),
            },
            Proposal::Skip { reason, .. } => why.clone_from(reason),
        }
    }
    Err(why)
}

fn place(data: &Prepared, method: &Descriptor, config: &Config) -> String {
    let differs = |param: &&params::Param| config.get(&param.name) != param.default.as_ref();
    let differing = method.params.iter().filter(differs);
    let told: Vec<String> = differing
        .filter_map(|param| Some(format!("{}={}", param.name, config.get(&param.name)?)))
        .collect();
    let configuration = match told.is_empty() {
        true => "default configuration".to_owned(),
        false => told.join(" "),
    };
    format!("{configuration}, {}", data.name)
}

fn evaluation() -> Evaluation {
    Evaluation {
        definitions: crate::metric::DEFINITIONS,
        k: vec![1, 10],
        pairs: 200,
        rerank: vec![1],
        repeats: 1,
        metrics: crate::metric::Family::usual(),
        truth: None,
    }
}

fn digests(library: &Path) -> std::io::Result<Digests> {
    if is_python(library) {
        return Ok(Digests { file: source::Source::of(library)?.digest()?, needs: None });
    }
    let mut file = blake3::Hasher::new();
    file.update_reader(File::open(library)?)?;
    let needs = Needs::of(library).digest()?;
    Ok(Digests { file: file.finalize().to_hex().to_string(), needs })
}
