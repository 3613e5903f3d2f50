//! `vq-host run`: the main job.

use super::advised::advised;
use super::display::Display;
use super::interrupt::{self, CANCEL, Recording};
use super::plan::{self, with_callbacks};
use super::{SOME_FAILED, counted, say, style, tournament};
use crate::cli;
use miette::IntoDiagnostic;
use std::collections::HashSet;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use vq_host::report::one_of_each;
use vq_host::report::results::{Format, Request, write_results};
use vq_host::report::tradeoffs::{tradeoffs, write_tradeoffs};
use vq_host::schedule::{RunError, RunEvent};
use vq_host::session::{Capacity, Planned, Ready, State};
use vq_host::store::{OpenError, Store};
use vq_host::worker::supervise::Limits;

pub(super) fn run(args: cli::RunArgs) -> miette::Result<ExitCode> {
    if args.selection.is_tournament() {
        return tournament::run(&args);
    }
    let display = Display::new();
    let session = plan::ask(&args.selection)?;
    if args.dry_run {
        let planned = plan::prepare(session, &args.selection, &display)?;
        display.prepared();
        plan::show(&planned, args.format)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before data is prepared, which may take long: where nothing can be stored, nothing is done for
    // it. But a store that can only be read still tells that all is done.
    let mut store = match Store::open(&session.sweep().run.store) {
        Err(error @ (OpenError::Beside { .. } | OpenError::ReadOnly { .. }))
            if !session.may_be_done() && !error.is_full_disk() =>
        {
            return Err(advised(error, Some(ANOTHER_STORE)));
        }
        Err(error) if !session.may_be_done() => return Err(opening(error)),
        opened => opened,
    };
    let prepare = || {
        let planned = plan::prepare(session, &args.selection, &display)?;
        let ready = with_callbacks(&args.selection, &display, |on| planned.neighbours(on))?;
        Ok((planned, ready))
    };
    let (planned, ready) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            store.into_iter().for_each(Store::abandon);
            return Err(error);
        }
    };
    display.prepared();
    if let Ok(store) = &mut store {
        // Named when the cells were planned. Also where nothing is left to run: what is damaged
        // may be a run's description, or a record of another sweep.
        let discarded = match planned.damage.is_empty() {
            false => store.discard_damaged(),
            true if store.is_large().into_diagnostic()? => Ok(Vec::new()),
            // Every record was read then, and is not read again.
            true => store.discard_damaged_pages(),
        };
        discarded.map_err(|error| advised_if_full(error.is_full_disk(), error))?;
        planned.rename(store).map_err(|error| advised_if_full(error.is_full_disk(), error))?;
    }
    if ready.is_empty() {
        display.say(&format!(
            "{} done in {}; nothing to run",
            match planned.cells().len() {
                0 => "no cell falls into this part; what it has is".to_owned(),
                1 => "the 1 cell is".to_owned(),
                n => format!("all {n} cells are"),
            },
            planned.store().display()
        ));
    } else {
        let states = planned.states();
        let to_run = states.iter().filter(|state| state.runs()).count();
        let done = states.iter().filter(|state| matches!(state, State::Done(_))).count();
        let shared = match states.len() - done - to_run {
            0 => String::new(),
            n => format!(", {n} the same as one of these"),
        };
        let skipped = match planned.plan.skips.len() {
            0 => String::new(),
            1 => ", 1 combination skipped (see vq-host plan)".to_owned(),
            n => format!(", {n} combinations skipped (see vq-host plan)"),
        };
        let to_do = counted(to_run, "cell");
        display.say(&format!("{to_do} to run, {done} done already{shared}{skipped}"));
        run_cells(&args, &planned, &ready, &mut store.map_err(opening)?, &display)?;
    }
    display.finish();
    report(&args, &planned)
}

pub(super) fn run_cells(
    args: &cli::RunArgs,
    planned: &Planned,
    ready: &Ready,
    store: &mut Store,
    display: &Display,
) -> miette::Result<()> {
    let options = &planned.sweep.run;
    let jobs = args.jobs.unwrap_or(options.jobs);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match args.threads.unwrap_or(options.threads) {
        0 => (cores / jobs).max(1),
        n => n,
    };
    let capacity = Capacity {
        jobs,
        limits: Limits {
            timeout: args.timeout.unwrap_or(options.timeout),
            own_time: None,
            memory: Some(args.memory.map_or(options.memory, |m| m.as_u64())),
            threads,
            scratch: args.scratch.map_or(options.scratch, |s| s.as_u64()),
            sandbox: !args.selection.places.no_sandbox,
        },
        block_rows: args.block_rows,
    };
    let cells = planned.to_run();
    let mut changed = 0;
    display.begin(&cells, jobs);
    let _recording = Recording::begin();
    let ended = planned.run(ready, store, capacity, &CANCEL, &mut |event, notice| match event {
        RunEvent::Started { slot, cell } => display.started(slot, cells[cell]),
        RunEvent::Progress { slot, stage, fraction } => display.progress(slot, &stage, fraction),
        RunEvent::Finished { slot, record } => {
            display.finished(slot, &record);
            if let Some(notice) = notice {
                changed += 1;
                display.say(&format!("  {notice}"));
            }
        }
        RunEvent::Left { library, how, cells } => {
            let (library, cells) = (library.display(), counted(cells, "cell"));
            display.say(&format!(
                "{library} {how} since this run was planned: {cells} of it left to the next run"
            ));
        }
    });
    ended.map_err(|error| match error {
        RunError::Host(fault) => fault.into(),
        RunError::Event(error) => advised_if_full(error.is_full_disk(), error),
    })?;
    if changed > 0 {
        let cells = counted(changed, "cell");
        display.say(&format!("{cells} of deterministic methods changed in quality"));
    }
    Ok(())
}

const ANOTHER_STORE: &str =
    "name another with --store; `vq-host results` reads a store without writing";
const FREE_THE_DISK: &str =
    "free the disk or choose another --store, then run again: finished cells are kept";

/// What the store refused, and what to do where the disk is full.
fn advised_if_full(full: bool, error: impl Error + Send + Sync + 'static) -> miette::Report {
    advised(error, full.then_some(FREE_THE_DISK))
}

pub(super) fn opening(error: OpenError) -> miette::Report {
    advised_if_full(error.is_full_disk(), error)
}

/// Ends with the best trade-offs of the selected cells, and says by the exit code how it went.
fn report(args: &cli::RunArgs, planned: &Planned) -> miette::Result<ExitCode> {
    let store = Store::open_read_only(planned.store()).into_diagnostic()?;
    let keys: Vec<&str> = planned.cells().map(|cell| cell.key.as_str()).collect();
    let contents = store.of_cells(&keys).into_diagnostic()?;
    let records = planned.records_of_cells(one_of_each(contents.records, &contents.runs));
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
        let all = counted(planned.cells().len(), "cell");
        let (are, them) = if left == 1 { ("is", "it") } else { ("are", "them") };
        say::line(&format!("{left} of {all} {are} left: run again to measure {them}"));
    }
    let failed = records.iter().filter(|r| !r.outcome.is_ok()).count();
    if failed > 0 {
        let all = counted(planned.cells().len(), "cell");
        let them = if failed == 1 { "it" } else { "them" };
        say::line(&format!("{failed} of {all} failed; --rerun failed tries {them} again"));
        return Ok(ExitCode::from(SOME_FAILED));
    }
    Ok(if left > 0 { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
}
