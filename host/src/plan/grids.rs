//! What to ask the grid generators, and which configurations they answer.

use std::collections::{BTreeMap, BTreeSet};

use vq_plugin_api::handle::Proposal;
use vq_plugin_api::params::Config;
use vq_plugin_api::{GridRequest, Space, Value};

use super::cells::params;
use super::{Candidate, Choice, Chosen, DataShape, Grids, PlanError, Second, Skip};
use crate::plugin::Found;
use crate::record::{MethodInfo, canonical_json};
use crate::sweep::Sweep;
use crate::transform::Chain;

/// What to ask the grid generator of one method for one data set.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Position of the method among the chosen.
    pub method: usize,
    /// Position of the data set in the sweep.
    pub dataset: usize,
    /// Whether it is for the method's second code.
    pub second: bool,
    /// What is done to rows before the method sees them.
    pub transform: Chain,
    /// One request, or one per target rate.
    pub requests: Vec<GridRequest>,
}

impl Asked {
    /// The method that is asked.
    pub fn of<'c, 'a>(&self, choice: &'c Choice<'a>) -> &'c Chosen<'a> {
        let of = &choice.methods[self.method];
        of.second.as_deref().filter(|_| self.second).unwrap_or(of)
    }
}

/// The requests of all methods for all data sets they run on, in the order of the cells.
///
/// # Errors
/// A chain that cannot be applied to the rows of a data set, at its place in the sweep.
pub fn requests(
    sweep: &Sweep,
    choice: &Choice<'_>,
    datasets: &[DataShape],
) -> Result<Vec<Asked>, PlanError> {
    let mut asked = Vec::new();
    for (dataset, data) in datasets.iter().enumerate() {
        let methods = choice.methods.iter().enumerate();
        for (method, of) in methods.filter(|(_, of)| of.runs_on(&data.name)) {
            let written = of.used.transforms.as_ref();
            let written = written.or(sweep.datasets[dataset].transforms.as_ref());
            let chains = match written {
                None => vec![(Chain::default(), 0..0)],
                Some(of) => of.iter().map(|of| (of.get_ref().clone(), of.span())).collect(),
            };
            for (transform, span) in chains {
                let dim = transform.dim(data.dim).map_err(|error| {
                    let problem = format!("`{}` (d = {}): {error}", data.name, data.dim);
                    PlanError::at(&sweep.source, span, problem, "cannot be applied", None)
                })?;
                let space = Space { dim, metric: transform.metric(data.metric).into() };
                let request_of = |of: &Chosen<'_>, bits_per_dim| GridRequest {
                    space,
                    bits_per_dim,
                    axes: of.axes.clone(),
                };
                let request = |bits_per_dim| request_of(of, bits_per_dim);
                let rate = |rate: &toml::Spanned<f64>| {
                    request(Some(rate_of_kept(*rate.get_ref(), data.dim, dim)))
                };
                let requests = match of.rates.is_empty() {
                    true => vec![request(None)],
                    false => of.rates.iter().map(rate).collect(),
                };
                // Before the first: those are then known.
                if let Some(second) = &of.second {
                    let (requests, transform) = (vec![request_of(second, None)], transform.clone());
                    asked.push(Asked { method, dataset, second: true, transform, requests });
                }
                asked.push(Asked { method, dataset, second: false, transform, requests });
            }
        }
    }
    Ok(asked)
}

/// The rate for `kept` of `dim` dimensions that is as many bytes as `rate` is for all of them: not one
/// fewer for rounding.
fn rate_of_kept(rate: f64, dim: usize, kept: usize) -> f64 {
    if dim == kept {
        return rate;
    }
    let bits = rate * dim as f64;
    let mut of_kept = bits / kept as f64;
    while of_kept * (kept as f64) < bits {
        of_kept = of_kept.next_up();
    }
    of_kept
}

/// What can be measured, from the generators' answers: `answers[i]` belongs to `asked[i]`, a list
/// per request.
///
/// # Errors
/// A method without any valid configuration on a data set, quoting its reasons; all methods, where
/// none of them has one.
pub fn assemble(
    sweep: &Sweep,
    datasets: &[DataShape],
    choice: &Choice<'_>,
    asked: &[Asked],
    answers: Vec<Vec<Vec<Proposal>>>,
) -> Result<Grids, PlanError> {
    let mut grids = Grids::default();
    let mut known = BTreeSet::new();
    // Of the method and data set that were asked about before.
    let mut seconds: Vec<Second> = Vec::new();
    // Of each method and data set: what is valid of all its chains, and why nothing else is.
    let mut found: Vec<Validity<'_, '_>> = Vec::new();
    for (asked, answers) in asked.iter().zip(answers) {
        let (of, data) = (asked.of(choice), &datasets[asked.dataset]);
        let info = method_info(of.found, &asked.transform);
        let told = |what: String| after(what, &asked.transform);
        if asked.second || of.second.is_none() {
            seconds.clear();
        }
        let mut reasons: Vec<(Config, String)> = Vec::new();
        let mut valid = 0usize;
        let answers = answers.into_iter().enumerate();
        let proposals = answers.flat_map(|(i, of)| of.into_iter().map(move |one| (i, one)));
        // Of each request, whether anything was answered, and whether one of it is taken.
        let mut answered = vec![false; asked.requests.len()];
        let mut taken = answered.clone();
        for (i, proposal) in proposals {
            answered[i] = true;
            let (config, label, code_bytes) = match proposal {
                Proposal::Emit { config, label, code_bytes } => (config, label, code_bytes),
                Proposal::Skip { config, reason } => {
                    let mut skip = skip(data, &info, &config, &of.axes, &reason);
                    skip.what = told(skip.what);
                    grids.skips.push(skip);
                    reasons.push((config, reason));
                    continue;
                }
            };
            if of.used.exclude.iter().any(|e| e.applies(|name| config.get(name))) {
                let reason = "excluded by the sweep".to_owned();
                let mut skip = skip(data, &info, &config, &of.axes, &reason);
                skip.what = told(skip.what);
                grids.skips.push(skip);
                reasons.push((config, reason));
                continue;
            }
            if of.first_only && !of.rates.is_empty() && std::mem::replace(&mut taken[i], true) {
                continue;
            }
            valid += 1;
            if asked.second {
                let python = of.found.library.python.clone();
                seconds.push(Second { method: info.clone(), python, config, label, code_bytes });
                continue;
            }
            // Two [[method]] blocks, or two target rates, may ask for the same thing. Two data sets
            // of one content are not known yet, and each keeps its cells.
            let whole = [None].into_iter().filter(|_| of.second.is_none());
            for second in whole.chain(seconds.iter().map(Some)) {
                let same = (
                    asked.dataset,
                    info.id.clone(),
                    info.plugin_digest.clone(),
                    info.needs_digest.clone(),
                    canonical_json(&params(&config, &asked.transform, second)),
                );
                if !known.insert(same) {
                    continue;
                }
                let candidate = Candidate {
                    dataset: asked.dataset,
                    dataset_name: data.name.clone(),
                    method: info.clone(),
                    python: of.found.library.python.clone(),
                    config: config.clone(),
                    label: label.clone(),
                    code_bytes,
                    bits_per_dim: None,
                    transform: asked.transform.clone(),
                    second: second.cloned(),
                };
                grids.candidates.push(with_second(candidate, data.dim));
            }
        }
        // What a rate that was asked of many methods is not answered with stands among the skips.
        for (i, _) in answered.iter().enumerate().filter(|(_, some)| !**some) {
            if of.first_only {
                grids.skips.push(Skip {
                    dataset: data.name.clone(),
                    method: info.id.clone(),
                    what: told(
                        of.rates
                            .get(i)
                            .map(|rate| format!("{} bits/dim", rate.get_ref()))
                            .unwrap_or_default(),
                    ),
                    reason: "no configuration of it stores this".to_owned(),
                });
            }
        }
        if of.is_one_of_all() {
            continue;
        }
        let same =
            |one: &&mut Validity<'_, '_>| std::ptr::eq(one.of, of) && std::ptr::eq(one.data, data);
        match found.iter_mut().find(same) {
            Some(one) => {
                one.valid += valid;
                one.reasons.extend(reasons);
            }
            None => found.push(Validity { of, data, transform: &asked.transform, valid, reasons }),
        }
    }
    if let Some(one) = found.iter().find(|one| one.valid == 0) {
        return Err(nothing_valid(sweep, one));
    }
    for (data, shape) in datasets.iter().enumerate() {
        let runs = |of: &&Chosen<'_>| of.is_one_of_all() && of.runs_on(&shape.name);
        let all = choice.methods.iter().find(runs);
        if let Some(of) = all
            && !grids.candidates.iter().any(|candidate| candidate.dataset == data)
        {
            return Err(nothing_of_all(sweep, of, shape, &grids.skips));
        }
        for (id, reason) in &choice.left_out {
            grids.skips.push(Skip {
                dataset: shape.name.clone(),
                method: (*id).to_owned(),
                what: String::new(),
                reason: reason.clone(),
            });
        }
    }
    Ok(grids)
}

/// The error for a data set on which no method found has a configuration.
fn nothing_of_all(sweep: &Sweep, of: &Chosen<'_>, data: &DataShape, skips: &[Skip]) -> PlanError {
    let skips = skips.iter().filter(|skip| skip.dataset == data.name);
    let mut told: Vec<String> =
        skips.map(|skip| format!("{}: {}", skip.method, skip.reason)).collect();
    told.dedup();
    let more = told.len().saturating_sub(5);
    told.truncate(5);
    if more > 0 {
        told.push(format!("… and {more} more reasons"));
    }
    let problem =
        format!("no method has a valid configuration on `{}` (d = {})", data.name, data.dim);
    let label = "nothing here can be run";
    PlanError::at(&sweep.source, of.span(), problem, label, Some(told.join("\n")))
}

/// What a method has on a data set.
struct Validity<'s, 'a> {
    of: &'s Chosen<'a>,
    data: &'s DataShape,
    /// Its first chain.
    transform: &'s Chain,
    valid: usize,
    reasons: Vec<(Config, String)>,
}

/// A label, or the beginning of one, with what is done to rows before.
fn after(label: String, transform: &Chain) -> String {
    match (label.is_empty(), transform.is_empty()) {
        (_, true) => label,
        (true, false) => format!("after {transform}"),
        (false, false) => format!("{label} after {transform}"),
    }
}

fn method_info(Found { library, method }: Found<'_>, transform: &Chain) -> MethodInfo {
    MethodInfo {
        id: method.id.clone(),
        version: method.version.clone(),
        plugin_path: library.path.display().to_string(),
        plugin_digest: library.digest.clone(),
        needs_digest: library.needs_digest.clone(),
        sdk: library.about.sdk.clone(),
        abi: format!("{}.{}", library.about.abi.0, library.about.abi.1),
        needs_training: Some(method.needs_training || transform.learns()),
        deterministic: Some(method.deterministic),
    }
}

/// What both codes of a candidate are together: label, bytes, whether they learn and promise equal
/// codes.
fn with_second(mut of: Candidate, dim: usize) -> Candidate {
    if let Some(second) = &of.second {
        let both = [of.label.as_str(), "+", &second.method.id, &second.label];
        of.label = both.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        of.code_bytes = of.code_bytes.zip(second.code_bytes).map(|(first, second)| first + second);
        let (first, second) = (&mut of.method, &second.method);
        first.needs_training =
            first.needs_training.zip(second.needs_training).map(|(first, second)| first || second);
        first.deterministic =
            first.deterministic.zip(second.deterministic).map(|(first, second)| first && second);
    }
    of.label = after(of.label, &of.transform);
    of.bits_per_dim = of.code_bytes.map(|bytes| 8.0 * bytes as f64 / dim as f64);
    of
}

fn skip(
    data: &DataShape,
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
fn nothing_valid(sweep: &Sweep, of: &Validity<'_, '_>) -> PlanError {
    let Validity { of, data, transform, reasons, .. } = of;
    let id = &of.found.method.id;
    let axis_of = |reason: &str| {
        let name = reason.split_once(':')?.0;
        of.used.axes.iter().find(|axis| axis.name == name)
    };
    let mut axes = reasons.iter().map(|(_, reason)| axis_of(reason));
    let first = axes.next().flatten();
    let agreed = first.filter(|first| axes.all(|axis| axis.is_some_and(|a| a.name == first.name)));
    let rates = of.rates.first();
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
    let kept = transform.dim(data.dim).unwrap_or(data.dim);
    let on = after(format!("`{}`", data.name), transform);
    PlanError::at(
        &sweep.source,
        span,
        format!("{id} has no valid configuration on {on} (d = {kept})"),
        "nothing here can be run",
        Some(help),
    )
}
