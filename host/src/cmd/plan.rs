//! `vq-host plan`: everything that `run` does before it runs.

use super::display::Display;
use super::interrupt::{self, CANCEL};
use super::needed::{self, Known};
use super::{cache_dir, counted, find_plugins, on_screen, probe, say, style};
use crate::cli::{self, Selection};
use miette::{IntoDiagnostic, miette};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use vq_host::cost::Expected;
use vq_host::output;
use vq_host::plan::{Cell, Partition, Skip};
use vq_host::plugin::{Found, Remembered};
use vq_host::python::interpreter;
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
    let catalog = find_plugins(&selection.places, &cache, false, &sweep.methods)?;
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
                let (path, digests) = (&library.path, library.digests());
                let python = library.python.clone();
                ask::expand(path, digests, python, &method.id, requests, sandbox, &CANCEL)
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
    let (display, selection) = (Display::only_bars(), &args.selection);
    let session = ask(selection)?;
    let catalog = args.probe.then(|| session.catalog().clone());
    let planned = prepare(session, selection, &display)?;
    display.finish();
    if let Some(catalog) = catalog {
        probe::run(&planned, catalog, &cache_dir(selection.cache_dir.as_ref())?, selection)?;
        if let Some(code) = interrupt::exit_code() {
            interrupt::say_so("interrupted: what was probed is kept");
            return Ok(code);
        }
    }
    show(&planned, selection, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints cells, skips and what is done.
pub(super) fn show(planned: &Planned, selection: &Selection, format: Format) -> miette::Result<()> {
    // Buffered: stdout by itself writes each line alone, and JSON has many.
    let mut out = std::io::BufWriter::new(say::out());
    let states = planned.states();
    let to_run = states.iter().filter(|state| state.runs()).count();
    let known = Known::of(planned, &cache_dir(selection.cache_dir.as_ref())?)?;
    let expected: Vec<Option<Expected>> = planned
        .cells()
        .zip(&states)
        .map(|(cell, state)| state.runs().then(|| known.expected(planned, cell)).flatten())
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
                        expected.as_ref(),
                    )
                })
                .collect();
            let skips: Vec<_> = planned.plan.skips.iter().map(output::skip).collect();
            let probes: Vec<_> = known.probed.iter().map(output::probe).collect();
            let json = serde_json::json!({ "cells": cells, "skips": skips, "probes": probes });
            output::write(&json, &mut out).into_diagnostic()?;
        }
        Format::Csv => return Err(miette!("plan has no CSV form; use --format table or json")),
        Format::Table => {
            let cells: Vec<&Cell> = planned.cells().collect();
            let text = |head, of: &dyn Fn(&Cell) -> String| {
                Column::text(head, cells.iter().map(|cell| of(cell)))
            };
            let seed = Column::number("seed", cells.iter().map(|cell| cell.seed.to_string()));
            // Those of the rows, and those that the method sees.
            let dims = |cell: &Cell| {
                let d = planned.rows[&cell.dataset].dim();
                (d, cell.transform.dim(d).unwrap_or(d))
            };
            let mut columns = vec![
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
            if cells.iter().any(|cell| dims(cell).0 != dims(cell).1) {
                let text = |(d, k): (usize, usize)| {
                    if d == k { d.to_string() } else { format!("{d} → {k}") }
                };
                let column = Column::number("dims", cells.iter().map(|cell| text(dims(cell))));
                columns.insert(3, column);
            }
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
            for line in needed::lines(planned, &expected, &states, &known) {
                writeln!(out, "{}", on_screen(&line, 2)).into_diagnostic()?;
            }
        }
    }
    out.flush().into_diagnostic()
}
