//! `vq-host run`: the main job.

use super::display::Display;
use super::interrupt::{self, CANCEL, Recording};
use super::plan::{self, Planned};
use super::{SOME_FAILED, say, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use vq_host::plan::Cell;
use vq_host::record::{Filter, RunInfo};
use vq_host::report::results::{Format, Request, write_results};
use vq_host::report::tradeoffs::{tradeoffs, write_tradeoffs};
use vq_host::schedule::{self, Event, Schedule};
use vq_host::store::{Store, WriteError};
use vq_host::worker::supervise::Limits;

pub(super) fn run(args: cli::Run) -> miette::Result<ExitCode> {
    let display = Display::new();
    let planned =
        plan::prepare(&args.selection, &|name, progress| display.preparing(name, progress))?;
    display.prepared();
    if args.dry_run {
        plan::show(&planned, &args.selection, args.format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let to_run = planned.to_run(&args.selection);
    let selected = planned.selected.len();
    if to_run.is_empty() {
        display.say(&format!(
            "all {selected} cells are done in {}; nothing to run",
            planned.store.display()
        ));
    } else {
        let done = selected - to_run.len();
        let skipped = match planned.plan.skips.len() {
            0 => String::new(),
            n => format!(", {n} combinations skipped (see vq-host plan)"),
        };
        display.say(&format!("{} cells to run, {done} done already{skipped}", to_run.len()));
        run_cells(&args, &planned, to_run, &display)?;
    }
    display.finish();
    report(&args, &planned)
}

fn run_cells(
    args: &cli::Run,
    planned: &Planned,
    to_run: Vec<&Cell>,
    display: &Display,
) -> miette::Result<()> {
    let options = &planned.sweep.run;
    let mut store = Store::open(&planned.store).into_diagnostic()?;
    let run = RunInfo::begin(&planned.sweep.name, planned.sweep.source.text());
    store.begin_run(&run).into_diagnostic()?;
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
            memory: Some(args.memory.map_or(options.memory, |m| m.as_u64())),
            threads,
            sandbox: !args.selection.places.no_sandbox,
        },
        jobs,
        run_id: run.run_id,
        block_rows: args.block_rows,
        cells: to_run,
    };
    display.begin(schedule.cells.len(), jobs);
    let _recording = Recording::begin();
    schedule::run(&schedule, &CANCEL, &mut |event| {
        match event {
            Event::Started { slot, cell } => display.started(slot, schedule.cells[cell]),
            Event::Progress { slot, stage, fraction } => display.progress(slot, &stage, fraction),
            Event::Finished { slot, record } => {
                store.insert(&record)?;
                display.finished(slot, &record);
            }
        }
        Ok::<(), WriteError>(())
    })
    .map_err(|error| {
        miette!(
            help =
                "free the disk or choose another --store, then run again: finished cells are kept",
            "cannot write to {}: {error}",
            planned.store.display()
        )
    })
}

/// Ends with the best trade-offs of the selected cells, and says by the exit code how it went.
fn report(args: &cli::Run, planned: &Planned) -> miette::Result<ExitCode> {
    let keys: HashSet<&str> = planned.cells().map(|cell| cell.key.as_str()).collect();
    let store = Store::open_read_only(&planned.store).into_diagnostic()?;
    let mut records = store.records(&Filter::default()).into_diagnostic()?;
    records.retain(|record| keys.contains(record.key.as_str()));
    let mut out = say::out();
    match args.format {
        Format::Table => {
            write_tradeoffs(&tradeoffs(&records), style(), &mut out).into_diagnostic()?
        }
        format => {
            let request = Request { metrics: Vec::new(), sort: None, best: false, format };
            write_results(&records, &request, style(), &mut out).into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()?;
    if let Some(code) = interrupt::exit_code() {
        interrupt::say_so("interrupted: finished cells are kept, run again to go on");
        return Ok(code);
    }
    let failed = records.iter().filter(|r| !r.outcome.is_ok()).count();
    if failed > 0 {
        let all = keys.len();
        say::line(&format!("{failed} of {all} cells failed; --rerun failed tries them again"));
        return Ok(ExitCode::from(SOME_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}
