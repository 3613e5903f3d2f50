//! `vq-host plan`: everything that `run` does before it runs.

use super::display::Display;
use super::interrupt::CANCEL;
use super::{cache_dir, counted, find_plugins, on_screen, say, style};
use crate::cli::{self, Selection};
use bytesize::ByteSize;
use miette::{IntoDiagnostic, miette};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use vq_host::cost::{Costs, Work};
use vq_host::data::PreparedRows;
use vq_host::output;
use vq_host::plan::{Cell, Partition, Skip};
use vq_host::plugin::{Found, Remembered};
use vq_host::python::interpreter;
use vq_host::record::{Filter, Record};
use vq_host::report::results::Format;
use vq_host::report::table::{self, Column};
use vq_host::session::{self, Callbacks, Planned, Recorded, Session, SessionError, State};
use vq_host::store::{Damage, OpenError, Store};
use vq_host::sweep::{self, ALL_METHODS, RunArguments, Sweep};
use vq_host::tournament;
use vq_host::worker::ask;

pub(super) fn read_sweep(selection: &Selection) -> miette::Result<Sweep> {
    let mut sweep = match &selection.sweep {
        Some(path) => Sweep::load(path)?,
        None => {
            let text = sweep::from_arguments(&RunArguments {
                data: selection.data.clone(),
                queries: selection.queries.clone(),
                metric: selection.metric.clone(),
                limit: selection.limit,
                method: selection.method.clone().unwrap_or_else(|| ALL_METHODS.to_owned()),
                bits_per_dim: match selection.method {
                    None => tournament::BITS.to_vec(),
                    Some(_) => Vec::new(),
                },
                params: selection.params.clone(),
                store: None,
            });
            Sweep::parse(sweep::COMMAND_LINE, &text, Path::new(""))?
        }
    };
    if let Some(store) = &selection.store {
        sweep.run.store.clone_from(store);
    } else if let Some(suffix) = selection.partition.as_ref().and_then(Partition::suffix) {
        // Parts run at once, and a store has one writer.
        let stem = sweep.run.store.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}.{suffix}.db");
        sweep.run.store.set_file_name(name);
    }
    Ok(sweep)
}

/// Reads what is asked for and refuses what cannot be, as far as no data is needed.
pub(super) fn ask(selection: &Selection) -> miette::Result<Session> {
    let sweep = read_sweep(selection)?;
    if let Some(python) = &sweep.run.python {
        interpreter::name(python.clone());
    }
    let done = done(&sweep)?;
    let cache = cache_dir(selection.cache_dir.as_ref())?;
    let catalog = find_plugins(&selection.places, &cache, false)?;
    Ok(Session::new(sweep, catalog, cache, done)?)
}

/// What the store of `sweep` has.
pub(super) fn done(sweep: &Sweep) -> miette::Result<Recorded> {
    let store = &sweep.run.store;
    let reader = match Store::open_read_only(store) {
        Err(OpenError::Missing { .. }) => return Ok(HashMap::new().into()),
        opened => opened.into_diagnostic()?,
    };
    if reader.is_large().into_diagnostic()? {
        return Ok(Recorded::Large(reader));
    }
    let finished = reader.finished().into_diagnostic()?;
    // Now, since preparing data may take long.
    warn_of(&finished.damage, store);
    Ok(Recorded::All(finished))
}

fn warn_of(damage: &[Damage], store: &Path) {
    for line in Damage::lines(damage) {
        let store = store.display();
        say::warning(&format!("{store}: {line}; a damaged record counts as not done"));
    }
}

/// Which of its cells.
fn cells(selection: &Selection) -> session::Selection {
    let Selection { only, partition, rerun, force, .. } = selection;
    let (only, partition) = (only.clone(), partition.clone());
    session::Selection { only, partition, rerun: *rerun, force: *force }
}

/// Calls `act` with what a session needs of a terminal and of plugins; `display` shows how far data
/// is prepared.
pub(super) fn with_callbacks<T>(
    selection: &Selection,
    display: &Display,
    act: impl FnOnce(&Callbacks<'_>) -> Result<T, SessionError>,
) -> miette::Result<T> {
    let sandbox = !selection.places.no_sandbox;
    let remembered = Remembered::in_cache(&cache_dir(selection.cache_dir.as_ref())?, sandbox);
    Ok(act(&Callbacks {
        expand: &|Found { library, method }, requests| {
            remembered.expand(library, &method.id, requests, |requests| {
                let digests = library.digests();
                ask::expand(&library.path, digests, &method.id, requests, sandbox, &CANCEL)
            })
        },
        progress: &|name, progress| display.preparing(name, progress),
        note: &|name, text| say::note_once(&format!("{}: {text}", say::beginning(name))),
        cancel: &CANCEL,
    })?)
}

/// Plans all cells and selects those that are asked for.
pub(super) fn prepare(
    session: Session,
    selection: &Selection,
    display: &Display,
) -> miette::Result<Planned> {
    // What is damaged of another was told when it was read.
    let untold = session.is_of_large_store();
    let planned = with_callbacks(selection, display, |on| session.plan(&cells(selection), on))?;
    if untold {
        warn_of(&planned.damage, planned.store());
    }
    for (first, second) in planned.same_contents() {
        say::note(&format!(
            "{second} is the same data as {first}: each of their cells is measured once"
        ));
    }
    Ok(planned)
}

pub(super) fn plan(args: &cli::PlanArgs) -> miette::Result<ExitCode> {
    let display = Display::only_bars();
    let planned = prepare(ask(&args.selection)?, &args.selection, &display)?;
    display.finish();
    show(&planned, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// So many records tell what cells take.
const TELLING: usize = 5_000;

/// What the store of the plan has, if there is one; of many records the newest.
pub(super) fn recorded(planned: &Planned) -> miette::Result<Vec<Record>> {
    match Store::open_read_only(planned.store()) {
        Err(OpenError::Missing { .. }) => Ok(Vec::new()),
        opened => {
            let reader = opened.into_diagnostic()?;
            Ok(reader.newest(TELLING, &Filter::default()).into_diagnostic()?.records)
        }
    }
}

pub(super) fn work(rows: &PreparedRows) -> Work {
    Work { rows: rows.base.rows, queries: rows.queries.rows, train: rows.train.rows }
}

/// The time, disk and memory that cells to run will take, and the limits that they would hit.
fn needed(planned: &Planned, expected: &[Option<f64>], states: &[State<'_>]) -> Vec<String> {
    let to_run = || planned.cells().zip(states).filter(|(_, state)| state.runs());
    let mut lines = Vec::new();
    let (known, cells) = (expected.iter().flatten().count(), to_run().count());
    if known > 0 {
        let seconds = expected.iter().flatten().sum::<f64>().ceil();
        let time = humantime::format_duration(Duration::from_secs_f64(seconds));
        let rest = match cells - known {
            0 => String::new(),
            n => format!("; nothing is known of the other {n}, whose methods have no record here"),
        };
        let jobs = planned.sweep.run.jobs;
        let beside = if jobs > 1 { format!(" divided among {jobs} jobs") } else { String::new() };
        lines.push(format!(
            "{} {} about {time}{beside}, by records here{rest}",
            counted(known, "cell"),
            if known == 1 { "takes" } else { "take" }
        ));
        let timeout = planned.sweep.run.timeout;
        let longer = expected.iter().flatten().filter(|of| **of > timeout.as_secs_f64()).count();
        if longer > 0 {
            lines.push(format!(
                "{} of these {} likely to reach the time limit of {}",
                counted(longer, "cell"),
                if longer == 1 { "is" } else { "are" },
                humantime::format_duration(timeout)
            ));
        }
    }
    let rows_of = |cell: &Cell| &planned.rows[&cell.dataset];
    let codes = to_run()
        .filter_map(|(cell, _)| Some(cell.code_bytes? as u64 * rows_of(cell).base.rows as u64))
        .max();
    let training = to_run().map(|(cell, _)| {
        let rows = rows_of(cell);
        4 * rows.train.rows as u64 * rows.train.dim as u64
    });
    let training = training.max();
    if let (Some(codes), Some(training)) = (codes, training) {
        lines.push(format!(
            "a cell keeps up to {} of codes in the cache folder and {} of training rows in memory",
            ByteSize(codes),
            ByteSize(training)
        ));
        let jobs = planned.sweep.run.jobs as u64;
        let room = planned.rows.values().next().and_then(PreparedRows::room);
        if let Some(room) = room.filter(|room| codes.saturating_mul(jobs) > *room) {
            lines.push(format!(
                "that is more than the {} that the cache folder has room for",
                ByteSize(room)
            ));
        }
        let memory = planned.sweep.run.memory;
        if training > memory {
            lines.push(format!(
                "its training rows alone are more than the {} of memory that it may take",
                ByteSize(memory)
            ));
        }
    }
    lines
}

/// Prints cells, skips and what is done.
pub(super) fn show(planned: &Planned, format: Format) -> miette::Result<()> {
    // Buffered: stdout by itself writes each line alone, and JSON has many.
    let mut out = std::io::BufWriter::new(say::out());
    let states = planned.states();
    let to_run = states.iter().filter(|state| state.runs()).count();
    let costs = Costs::of(&recorded(planned)?);
    let expected: Vec<Option<f64>> = planned
        .cells()
        .zip(&states)
        .map(|(cell, state)| {
            let known = state.runs() && costs.knows(&cell.method.id);
            known.then(|| costs.expected(&cell.method.id, &work(&planned.rows[&cell.dataset])))
        })
        .collect();
    match format {
        Format::Json => {
            let cells: Vec<serde_json::Value> = planned
                .cells()
                .zip(&states)
                .zip(&expected)
                .map(|((cell, state), expected)| {
                    output::cell(
                        cell,
                        &planned.rows[&cell.dataset],
                        planned.facts.get(&cell.dataset).copied(),
                        &state.to_string(),
                        *expected,
                    )
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
                let Skip { dataset, method, what, reason } = skip;
                let what = if what.is_empty() { String::new() } else { format!(" {what}") };
                let line = format!("  {dataset} {method}{what}: {reason}");
                writeln!(out, "{}", on_screen(&line, 4)).into_diagnostic()?;
            }
            let all = counted(planned.cells().len(), "cell");
            let store = planned.store().display();
            let line = format!("{all}, {to_run} to run; results in {store}");
            writeln!(out, "\n{}", on_screen(&line, 2)).into_diagnostic()?;
            for line in needed(planned, &expected, &states) {
                writeln!(out, "{}", on_screen(&line, 2)).into_diagnostic()?;
            }
        }
    }
    out.flush().into_diagnostic()
}
