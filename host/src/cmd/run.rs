//! `vq-host run`: the main job.

use super::display::Display;
use super::interrupt::{self, CANCEL, Recording};
use super::plan::{self, Planned, State};
use super::{SOME_FAILED, counted, say, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::ExitCode;
use vq_host::plan::Cell;
use vq_host::record::{Filter, Record, RunInfo};
use vq_host::report::quality_changed;
use vq_host::report::results::{Format, Request, write_results};
use vq_host::report::tradeoffs::{tradeoffs, write_tradeoffs};
use vq_host::schedule::{self, Event, RunError, Schedule};
use vq_host::store::{OpenError, ReadError, Store, WriteError};
use vq_host::worker::supervise::Limits;

pub(super) fn run(args: cli::Run) -> miette::Result<ExitCode> {
    let display = Display::new();
    let progress = |name: &str, progress| display.preparing(name, progress);
    let asked = plan::ask(&args.selection)?;
    if args.dry_run {
        let planned = plan::prepare(asked, &args.selection, &progress)?;
        display.prepared();
        plan::show(&planned, &args.selection, args.format)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before data is prepared, which may take long: where nothing can be stored, nothing is done for
    // it. But a store that can only be read still tells that all is done.
    let mut store = match Store::open(&asked.sweep.run.store) {
        Err(error @ (OpenError::Beside { .. } | OpenError::ReadOnly { .. }))
            if !asked.may_be_done() && !error.is_full_disk() =>
        {
            return Err(miette!(
                help = "name another with --store; `vq-host results` reads a store without writing",
                "{error}"
            ));
        }
        Err(error) if !asked.may_be_done() => {
            return Err(with_help(error.is_full_disk(), error));
        }
        opened => opened,
    };
    let planned = match plan::prepare(asked, &args.selection, &progress) {
        Ok(planned) => planned,
        Err(error) => {
            store.into_iter().for_each(Store::abandon);
            return Err(error);
        }
    };
    display.prepared();
    if let Ok(store) = &mut store {
        // Named when the cells were planned. Also where nothing is left to run: what is damaged
        // may be a run's description, or a record of another sweep.
        store.discard_damaged().map_err(|error| with_help(error.is_full_disk(), error))?;
        rename(store, &planned).into_diagnostic()?;
    }
    let to_run = planned.to_run(&args.selection);
    let selected = planned.selected.len();
    if to_run.is_empty() {
        display.say(&format!(
            "{} done in {}; nothing to run",
            match selected {
                1 => "the 1 cell is".to_owned(),
                n => format!("all {n} cells are"),
            },
            planned.store.display()
        ));
    } else {
        let states = planned.states(&args.selection);
        let done = states.iter().filter(|state| matches!(state, State::Done(_))).count();
        let shared = match states.len() - done - to_run.len() {
            0 => String::new(),
            n => format!(", {n} the same as one of these"),
        };
        let skipped = match planned.plan.skips.len() {
            0 => String::new(),
            1 => ", 1 combination skipped (see vq-host plan)".to_owned(),
            n => format!(", {n} combinations skipped (see vq-host plan)"),
        };
        let to_do = counted(to_run.len(), "cell");
        display.say(&format!("{to_do} to run, {done} done already{shared}{skipped}"));
        let store = store.map_err(|error| with_help(error.is_full_disk(), error))?;
        run_cells(&args, &planned, to_run, store, &display)?;
    }
    display.finish();
    report(&args, &planned)
}

fn run_cells(
    args: &cli::Run,
    planned: &Planned,
    to_run: Vec<&Cell>,
    mut store: Store,
    display: &Display,
) -> miette::Result<()> {
    let options = &planned.sweep.run;
    let run = RunInfo::begin(&planned.sweep.name, planned.sweep.source.text());
    store.begin_run(&run).map_err(|error| with_help(error.is_full_disk(), error))?;
    for data in &planned.datasets {
        store
            .insert_spectrum(&data.digest, &data.spectrum)
            .map_err(|error| with_help(error.is_full_disk(), error))?;
    }
    let jobs = args.jobs.unwrap_or(options.jobs);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match args.threads.unwrap_or(options.threads) {
        0 => (cores / jobs).max(1),
        n => n,
    };
    let schedule = Schedule {
        datasets: &planned.datasets,
        evaluation: vq_host::plan::evaluation(&planned.sweep),
        limits: Limits {
            timeout: args.timeout.unwrap_or(options.timeout),
            own_time: None,
            memory: Some(args.memory.map_or(options.memory, |m| m.as_u64())),
            threads,
            scratch: args.scratch.map_or(options.scratch, |s| s.as_u64()),
            sandbox: !args.selection.places.no_sandbox,
        },
        jobs,
        run_id: run.run_id,
        block_rows: args.block_rows,
        cells: to_run,
    };
    let before =
        if args.selection.force { earlier(&store, &schedule.cells)? } else { HashMap::new() };
    let mut changed = 0;
    display.begin(&schedule.cells, jobs);
    let _recording = Recording::begin();
    schedule::run(&schedule, &CANCEL, &mut |event| {
        match event {
            Event::Started { slot, cell } => display.started(slot, schedule.cells[cell]),
            Event::Progress { slot, stage, fraction } => display.progress(slot, &stage, fraction),
            Event::Finished { slot, mut record } => {
                let earlier = before.get(&record.key);
                let notice = earlier.and_then(|earlier| quality_changed(earlier, &record));
                record.notices.extend(notice.clone());
                store.insert(&record)?;
                display.finished(slot, &record);
                if let Some(notice) = notice {
                    changed += 1;
                    display.say(&format!("  {notice}"));
                }
            }
            Event::Left { library, how, cells } => {
                let (library, cells) = (library.display(), counted(cells, "cell"));
                display.say(&format!(
                    "{library} {how} since this run was planned: {cells} of it left to the next run"
                ));
            }
        }
        Ok::<(), WriteError>(())
    })
    .map_err(|error| match error {
        RunError::Host(fault) => fault.into(),
        RunError::Event(error) => with_help(error.is_full_disk(), error),
    })?;
    if changed > 0 {
        let cells = counted(changed, "cell");
        display.say(&format!("{cells} of deterministic methods changed in quality"));
    }
    Ok(())
}

/// The records that measuring `cells` again will replace, by their keys.
fn earlier(store: &Store, cells: &[&Cell]) -> miette::Result<HashMap<String, Record>> {
    let wanted: HashSet<&str> = cells.iter().map(|cell| cell.key.as_str()).collect();
    let records = store.contents(&Filter::default()).into_diagnostic()?.records;
    let keyed = records.into_iter().map(|record| (record.key.clone(), record));
    Ok(keyed.filter(|(key, _)| wanted.contains(key.as_str())).collect())
}

/// What the store refused, and what to do where the disk is full.
fn with_help(full_disk: bool, error: impl std::fmt::Display) -> miette::Report {
    match full_disk {
        true => miette!(
            help =
                "free the disk or choose another --store, then run again: finished cells are kept",
            "{error}"
        ),
        false => miette!("{error}"),
    }
}

/// Ends with the best trade-offs of the selected cells, and says by the exit code how it went.
fn report(args: &cli::Run, planned: &Planned) -> miette::Result<ExitCode> {
    let store = Store::open_read_only(&planned.store).into_diagnostic()?;
    let contents = store.contents(&Filter::default()).into_diagnostic()?;
    let records = as_planned(planned, contents.records);
    let mut out = say::out();
    match args.format {
        // Ended before anything was measured.
        Format::Table if records.is_empty() && interrupt::exit_code().is_some() => {}
        Format::Table => {
            write_tradeoffs(&tradeoffs(&records), style(), &mut out).into_diagnostic()?
        }
        format => {
            let request = Request { format, ..Request::default() };
            write_results(&records, &request, style(), &mut out).into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()?;
    if let Some(code) = interrupt::exit_code() {
        interrupt::say_so("interrupted: finished cells are kept, run again to go on");
        return Ok(code);
    }
    let recorded: HashSet<&str> = records.iter().map(|record| record.key.as_str()).collect();
    let left = planned.cells().filter(|cell| !recorded.contains(cell.key.as_str())).count();
    if left > 0 {
        let all = counted(planned.selected.len(), "cell");
        let (are, them) = if left == 1 { ("is", "it") } else { ("are", "them") };
        say::line(&format!("{left} of {all} {are} left: run again to measure {them}"));
    }
    let failed = records.iter().filter(|r| !r.outcome.is_ok()).count();
    if failed > 0 {
        let all = counted(planned.selected.len(), "cell");
        let them = if failed == 1 { "it" } else { "them" };
        say::line(&format!("{failed} of {all} failed; --rerun failed tries {them} again"));
        return Ok(ExitCode::from(SOME_FAILED));
    }
    Ok(if left > 0 { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
}

/// Gives records the name that their data set has now: the sweep may have renamed it.
fn rename(store: &mut Store, planned: &Planned) -> Result<(), StoreError> {
    if planned.done.is_empty() {
        return Ok(());
    }
    let names = names(&planned.plan.cells);
    let mut renamed = store.contents(&Filter::default())?.records;
    // A record of two names keeps the one that it has.
    renamed.retain_mut(|record| match names.get(record.key.as_str()).map(Vec::as_slice) {
        Some(names @ [first, ..]) if !names.contains(&record.dataset.name.as_str()) => {
            (*first).clone_into(&mut record.dataset.name);
            true
        }
        _ => false,
    });
    if renamed.is_empty() { Ok(()) } else { Ok(store.insert_all(&renamed)?) }
}

/// By key, the names that the sweep gives the data sets of its cells.
fn names<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> HashMap<&'a str, Vec<&'a str>> {
    let mut names: HashMap<&str, Vec<&str>> = HashMap::new();
    for cell in cells {
        names.entry(&cell.key).or_default().push(&cell.dataset_name);
    }
    names
}

/// A store that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum StoreError {
    Read(#[from] ReadError),
    Write(#[from] WriteError),
}

/// The records of the selected cells, under the names that the sweep gives their data sets: a
/// record of two cells, whose data sets have one content, once for each.
fn as_planned(planned: &Planned, records: Vec<Record>) -> Vec<Record> {
    let names = names(planned.cells());
    let named = |record: Record| {
        let names = names.get(record.key.as_str()).cloned().unwrap_or_default();
        names.into_iter().map(move |name| {
            let mut record = record.clone();
            name.clone_into(&mut record.dataset.name);
            record
        })
    };
    records.into_iter().flat_map(named).collect()
}
