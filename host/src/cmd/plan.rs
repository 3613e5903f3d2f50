//! `vq-host plan`: everything that `run` does before it runs.

use super::display::Display;
use super::interrupt::CANCEL;
use super::{cache_dir, counted, find_plugins, not_interrupted, on_screen, say, style};
use crate::cli::{self, Rerun, Selection};
use miette::{IntoDiagnostic, miette};
use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use vq_host::data::{self, Blame, DataError, PrepareError, Prepared};
use vq_host::metric::retrieval::RANK_DEPTH;
use vq_host::output;
use vq_host::plan::{self, Cell, Plan, PlanError};
use vq_host::plugin::Catalog;
use vq_host::record::Outcome;
use vq_host::report::results::Format;
use vq_host::report::table::{self, Column};
use vq_host::store::{Damage, OpenError, Store};
use vq_host::sweep::{self, Dataset, RunArguments, Sweep};
use vq_host::worker::ask::{self, ExpandError};

/// A sweep, read, checked, its data prepared and its cells known.
pub(super) struct Planned {
    pub(super) sweep: Sweep,
    pub(super) datasets: Vec<Prepared>,
    pub(super) plan: Plan,
    /// Positions of the selected cells.
    pub(super) selected: Vec<usize>,
    /// What is recorded already, of all cells.
    pub(super) done: HashMap<String, Outcome>,
    pub(super) store: PathBuf,
}

impl Planned {
    /// The selected cells.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.selected.iter().map(|i| &self.plan.cells[*i])
    }

    /// What is to be done about each of [`Planned::cells`], in their order.
    pub(super) fn states(&self, selection: &Selection) -> Vec<State<'_>> {
        let mut first: HashMap<&str, &str> = HashMap::new();
        let state = |cell: &'_ Cell| match self.done.get(&cell.key) {
            None => State::ToRun,
            // An interrupted cell is not done.
            Some(Outcome::Cancelled) => State::Again(Outcome::Cancelled),
            Some(outcome) => {
                let again = selection.force
                    || match selection.rerun {
                        None => false,
                        Some(Rerun::Failed) => !outcome.is_ok(),
                        Some(Rerun::Outcome(wanted)) => wanted == *outcome,
                    };
                if again { State::Again(*outcome) } else { State::Done(*outcome) }
            }
        };
        self.cells()
            .map(|cell| match (state(cell), first.get(cell.key.as_str())) {
                (done @ State::Done(_), _) => done,
                (_, Some(other)) => State::With(other),
                (to_run, None) => {
                    first.insert(&cell.key, &cell.dataset_name);
                    to_run
                }
            })
            .collect()
    }

    /// The selected cells that have to run, each key once.
    pub(super) fn to_run(&self, selection: &Selection) -> Vec<&Cell> {
        let states = self.states(selection);
        self.cells().zip(states).filter(|(_, state)| state.runs()).map(|(cell, _)| cell).collect()
    }
}

/// What is to be done about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State<'a> {
    /// There is no record of it.
    ToRun,
    /// There is a record, and it is measured again.
    Again(Outcome),
    /// There is a record.
    Done(Outcome),
    /// It is the same cell as one of this data set, which runs.
    With(&'a str),
}

impl State<'_> {
    fn runs(self) -> bool {
        matches!(self, State::ToRun | State::Again(_))
    }
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::ToRun => f.write_str("to run"),
            State::Again(outcome) => write!(f, "again: {outcome}"),
            State::Done(outcome) => write!(f, "done: {outcome}"),
            State::With(dataset) => write!(f, "same as {dataset}"),
        }
    }
}

pub(super) fn read_sweep(selection: &Selection) -> miette::Result<Sweep> {
    let mut sweep = match &selection.sweep {
        Some(path) => Sweep::load(path)?,
        None => {
            let text = sweep::from_arguments(&RunArguments {
                data: selection.data.clone(),
                queries: selection.queries.clone(),
                metric: selection.metric.clone(),
                limit: selection.limit,
                method: selection.method.clone().unwrap_or_default(),
                params: selection.params.clone(),
                store: None,
            });
            Sweep::parse(sweep::COMMAND_LINE, &text, Path::new(""))?
        }
    };
    if let Some(store) = &selection.store {
        sweep.run.store.clone_from(store);
    }
    Ok(sweep)
}

/// A sweep, read and held against plugins and store, before any data is looked at.
pub(super) struct Asked {
    pub(super) sweep: Sweep,
    catalog: Catalog,
    cache: PathBuf,
    /// See [`Planned::done`].
    done: HashMap<String, Outcome>,
}

impl Asked {
    /// Whether data is prepared, and cells are recorded: whether all may be done already.
    pub(super) fn may_be_done(&self) -> bool {
        let prepared =
            |of: &Dataset| data::is_prepared(&of.spec, neighbours(&self.sweep), &self.cache);
        !self.done.is_empty() && self.sweep.datasets.iter().all(prepared)
    }
}

/// Reads what is asked for and refuses what cannot be, as far as no data is needed.
pub(super) fn ask(selection: &Selection) -> miette::Result<Asked> {
    let sweep = read_sweep(selection)?;
    let done = match Store::open_read_only(&sweep.run.store) {
        Err(OpenError::Missing { .. }) => HashMap::new(),
        opened => {
            let finished = opened.into_diagnostic()?.finished().into_diagnostic()?;
            for line in Damage::lines(&finished.damage) {
                let store = sweep.run.store.display();
                say::warning(&format!("{store}: {line}; a damaged record counts as not done"));
            }
            finished.outcomes
        }
    };
    let cache = cache_dir(selection.cache_dir.as_ref())?;
    let catalog = find_plugins(&selection.places, &cache, false)?;
    plan::choose(&sweep, &catalog)?;
    Ok(Asked { sweep, catalog, cache, done })
}

/// Prepares the data and expands the grids. `progress` hears of data preparation.
pub(super) fn prepare(
    asked: Asked,
    selection: &Selection,
    progress: &(dyn Fn(&str, data::Progress) + Sync),
) -> miette::Result<Planned> {
    let Asked { sweep, catalog, cache, done } = asked;
    let chosen = plan::choose(&sweep, &catalog)?;
    let datasets: Vec<Prepared> = sweep
        .datasets
        .iter()
        .map(|dataset| prepare_data(&sweep, dataset, &cache, progress))
        .collect::<miette::Result<_>>()?;
    for (first, second) in plan::same_contents(&datasets) {
        say::note(&format!(
            "{second} is the same data as {first}: each of their cells is measured once"
        ));
    }
    let plan = expand(&sweep, &catalog, &chosen, &datasets, !selection.places.no_sandbox)?;
    let matches = |cell: &Cell| {
        let title = cell.title();
        selection.only.is_empty() || selection.only.iter().any(|text| title.contains(text.as_str()))
    };
    let selected: Vec<usize> = (0..plan.cells.len()).filter(|i| matches(&plan.cells[*i])).collect();
    if selected.is_empty() {
        let example = plan.cells.first().map(Cell::title).unwrap_or_default();
        return Err(miette!(
            help = format!("titles look like: {example}"),
            "--only {} selects none of the {} cells",
            selection.only.join(" --only "),
            plan.cells.len()
        ));
    }
    let store = sweep.run.store.clone();
    Ok(Planned { sweep, datasets, plan, selected, done, store })
}

/// Exact neighbours that are needed for each query.
fn neighbours(sweep: &Sweep) -> usize {
    sweep.evaluate.k.iter().copied().max().unwrap_or(1).max(RANK_DEPTH)
}

fn prepare_data(
    sweep: &Sweep,
    dataset: &Dataset,
    cache: &Path,
    progress: &(dyn Fn(&str, data::Progress) + Sync),
) -> miette::Result<Prepared> {
    let name = &dataset.spec.name;
    let prepared = data::prepare(&dataset.spec, neighbours(sweep), cache, &|now| {
        progress(name, now);
        !CANCEL.load(Ordering::Relaxed)
    });
    let prepared = prepared.map_err(|PrepareError { blame, error }| -> miette::Report {
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text += &format!(": {cause}");
        }
        let help = data_advice(sweep, dataset, &error);
        let span = match blame {
            Blame::Base => dataset.source_span.clone(),
            Blame::Queries => dataset.queries_span.clone(),
            Blame::Train => dataset.train_span.clone().unwrap_or(dataset.source_span.clone()),
            Blame::Cache => {
                let help = help.unwrap_or_default();
                return miette!(help = help, "`{name}` cannot be prepared: {text}");
            }
        };
        PlanError::at(&sweep.source, span, text, format!("`{name}` cannot be prepared"), help)
            .into()
    })?;
    let name = say::beginning(name);
    for note in prepared.notices.iter().chain(&prepared.notes) {
        say::note(&format!("{name}: {note}"));
    }
    let rows = prepared.base.rows;
    let above: Vec<String> =
        sweep.evaluate.k.iter().filter(|k| **k > rows).map(usize::to_string).collect();
    if !above.is_empty() {
        say::note(&format!(
            "{name}: its base has {}: metrics of k = {} are not recorded",
            counted(rows, "row"),
            above.join(", ")
        ));
    }
    Ok(prepared)
}

/// What to do about data that cannot be prepared, with what the user has: keys or flags.
fn data_advice(sweep: &Sweep, dataset: &Dataset, error: &DataError) -> Option<String> {
    let flags = sweep.source.name() == sweep::COMMAND_LINE;
    let advice = match error {
        DataError::HoldOut { .. } if flags && dataset.spec.limit.is_some() => {
            "raise --limit, or name a file of queries with --queries FILE"
        }
        DataError::HoldOut { .. } if flags => "name a file of queries with --queries FILE",
        DataError::HoldOut { .. } if dataset.spec.limit.is_some() => {
            "hold out fewer rows, raise `limit`, or name a file: queries = \"FILE\""
        }
        DataError::HoldOut { .. } => "hold out fewer rows, or name a file: queries = \"FILE\"",
        DataError::TooManyRows { .. } if flags => "take only the first rows with --limit ROWS",
        _ => error.remedy()?,
    };
    Some(advice.to_owned())
}

/// Asks every grid generator, in child processes.
fn expand(
    sweep: &Sweep,
    catalog: &Catalog,
    chosen: &[plan::Chosen<'_>],
    datasets: &[Prepared],
    sandbox: bool,
) -> miette::Result<Plan> {
    debug_assert!(!catalog.libraries.is_empty(), "choose found every method");
    let asked = plan::requests(chosen, datasets);
    let mut answers = Vec::with_capacity(asked.len());
    for ask_for in &asked {
        let found = chosen[ask_for.method].found();
        let answer = ask::expand(
            &found.library.path,
            found.library.digests(),
            &found.method.id,
            ask_for.requests.clone(),
            sandbox,
            &CANCEL,
        );
        not_interrupted()?;
        let answer = match answer {
            Err(ExpandError::Host(fault)) => return Err(fault.into()),
            Err(error @ ExpandError::Replaced { .. }) => return Err(miette!("{error}")),
            Err(ExpandError::Method(error)) => Err(error),
            Ok(answer) => Ok(answer),
        };
        answers.push(answer.map_err(|error| {
            let used = &sweep.methods[ask_for.method];
            PlanError::at(
                &sweep.source,
                used.id.span(),
                format!("the grid generator of {} failed: {error}", found.method.id),
                "its plugin cannot be used",
                Some(format!("report it to the author of {}", found.library.path.display())),
            )
        })?);
    }
    Ok(plan::assemble(sweep, datasets, chosen, &asked, answers)?)
}

pub(super) fn plan(args: &cli::Plan) -> miette::Result<ExitCode> {
    let display = Display::only_bars();
    let asked = ask(&args.selection)?;
    let progress = |name: &str, progress| display.preparing(name, progress);
    let planned = prepare(asked, &args.selection, &progress)?;
    display.finish();
    show(&planned, &args.selection, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints cells, skips and what is done.
pub(super) fn show(planned: &Planned, selection: &Selection, format: Format) -> miette::Result<()> {
    // Buffered: stdout by itself writes each line alone, and JSON has many.
    let mut out = std::io::BufWriter::new(say::out());
    let states = planned.states(selection);
    let to_run = states.iter().filter(|state| state.runs()).count();
    match format {
        Format::Json => {
            let cells: Vec<serde_json::Value> = planned
                .cells()
                .zip(&states)
                .map(|(cell, state)| {
                    output::cell(cell, &planned.datasets[cell.dataset], &state.to_string())
                })
                .collect();
            let skips: Vec<_> = planned.plan.skips.iter().map(output::skip).collect();
            let json = serde_json::json!({ "cells": cells, "skips": skips });
            output::write(&json, &mut out).into_diagnostic()?;
        }
        Format::Csv => return Err(miette!("plan has no CSV form; use --format table or json")),
        Format::Table => {
            let cells: Vec<&Cell> = planned.cells().collect();
            let text = |head, of: &dyn Fn(&Cell) -> String| {
                Column::text(head, cells.iter().map(|cell| of(cell)))
            };
            let seed = Column::number("seed", cells.iter().map(|cell| cell.seed.to_string()));
            let columns = [
                text("data set", &|cell| cell.dataset_name.clone()),
                text("method", &|cell| cell.method.id.clone()),
                text("configuration", &|cell| cell.label.clone()),
                if cells.iter().any(|cell| cell.seed != cells[0].seed) {
                    seed
                } else {
                    seed.spare()
                },
                Column::number(
                    "bits/dim",
                    cells.iter().map(|cell| {
                        cell.bits_per_dim.map_or_else(|| "after fit".into(), |b| format!("{b:.3}"))
                    }),
                ),
                Column::text("state", states.iter().map(State::to_string)),
            ];
            table::write(&columns, 3, style(), &mut out).into_diagnostic()?;
            if !planned.plan.skips.is_empty() {
                writeln!(out, "\nskipped:").into_diagnostic()?;
            }
            for skip in &planned.plan.skips {
                let plan::Skip { dataset, method, what, reason } = skip;
                let what = if what.is_empty() { String::new() } else { format!(" {what}") };
                let line = format!("  {dataset} {method}{what}: {reason}");
                writeln!(out, "{}", on_screen(&line, 4)).into_diagnostic()?;
            }
            let (all, store) = (counted(planned.selected.len(), "cell"), planned.store.display());
            let line = format!("{all}, {to_run} to run; results in {store}");
            writeln!(out, "\n{}", on_screen(&line, 2)).into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()
}
