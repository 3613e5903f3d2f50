//! `vq-host run`: the main job.

use super::plan::{self, Planned};
use super::{CANCEL, INTERRUPTED, SOME_FAILED, style};
use crate::cli;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, miette};
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vq_host::data;
use vq_host::plan::Cell;
use vq_host::record::{Filter, Outcome, Record, RunInfo};
use vq_host::report::results::{Format, Request, write_results};
use vq_host::report::tradeoffs::{tradeoffs, write_tradeoffs};
use vq_host::schedule::{self, Event, Schedule};
use vq_host::store::{Store, WriteError};
use vq_host::worker::supervise::Limits;

/// Cells are running: an interrupt waits until the running ones are recorded as cancelled.
static RUNNING: AtomicBool = AtomicBool::new(false);

pub(super) fn run(args: cli::Run) -> miette::Result<ExitCode> {
    // Before the first cell there is nothing to keep but the cache, which is written atomically;
    // the second Ctrl-C is for the impatient. Children die with this process either way.
    ctrlc::set_handler(|| {
        if CANCEL.swap(true, Ordering::Relaxed) || !RUNNING.load(Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .into_diagnostic()?;
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
    RUNNING.store(true, Ordering::Relaxed);
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
    let mut out = std::io::stdout().lock();
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
    if CANCEL.load(Ordering::Relaxed) {
        eprintln!("interrupted: finished cells are kept, run again to go on");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let failed = records.iter().filter(|r| !r.outcome.is_ok()).count();
    if failed > 0 {
        eprintln!("{failed} of {} cells failed; --rerun failed tries them again", keys.len());
        return Ok(ExitCode::from(SOME_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Bars with ETA on a terminal, plain lines elsewhere; always on stderr.
struct Display {
    bars: Option<Bars>,
    /// Cells finished and to run.
    count: Mutex<(usize, usize)>,
    /// The stage of data preparation that was last named in a plain line.
    preparing: Mutex<String>,
}

struct Bars {
    all: MultiProgress,
    data: ProgressBar,
    total: ProgressBar,
    slots: Mutex<Vec<ProgressBar>>,
}

impl Display {
    fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let hidden = || {
                let bar = ProgressBar::hidden();
                bar.set_style(ProgressStyle::default_bar());
                bar
            };
            Bars { data: hidden(), total: hidden(), slots: Mutex::new(Vec::new()), all }
        });
        Display { bars, count: Mutex::new((0, 0)), preparing: Mutex::new(String::new()) }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn preparing(&self, name: &str, progress: data::Progress) {
        let what = format!("{name}: {}", progress.stage);
        if let Some(bars) = &self.bars {
            if bars.data.is_hidden() {
                bars.all.add(bars.data.clone());
                bars.data.set_style(style_of("{msg:40} {wide_bar} {percent:>3}% {eta:>4}"));
            }
            bars.data.set_length(progress.total);
            bars.data.set_position(progress.done);
            bars.data.set_message(what);
        } else if let Ok(mut last) = self.preparing.lock()
            && *last != what
        {
            eprintln!("preparing {what}");
            *last = what;
        }
    }

    fn prepared(&self) {
        if let Some(bars) = &self.bars {
            bars.data.finish_and_clear();
        }
    }

    fn begin(&self, cells: usize, jobs: usize) {
        if let Ok(mut count) = self.count.lock() {
            *count = (0, cells);
        }
        let Some(bars) = &self.bars else { return };
        let Ok(mut slots) = bars.slots.lock() else { return };
        for _ in 0..jobs {
            let bar = bars.all.insert_before(&bars.total, ProgressBar::new(100));
            bar.set_style(style_of("  {msg:58!} {wide_bar} {elapsed:>4}"));
            bar.enable_steady_tick(Duration::from_millis(250));
            slots.push(bar);
        }
        bars.all.add(bars.total.clone());
        bars.total.set_length(cells as u64);
        bars.total.set_style(style_of("{pos}/{len} cells {wide_bar} elapsed {elapsed} eta {eta}"));
        bars.total.enable_steady_tick(Duration::from_millis(250));
    }

    fn started(&self, slot: usize, cell: &Cell) {
        self.with_slot(slot, |bar| {
            bar.reset();
            bar.set_message(cell.title());
        });
    }

    fn progress(&self, slot: usize, stage: &str, fraction: f32) {
        self.with_slot(slot, |bar| {
            bar.set_position((100.0 * fraction) as u64);
            let message = bar.message();
            let title = message.split(" · ").next().unwrap_or_default();
            bar.set_message(format!("{title} · {stage}"));
        });
    }

    fn finished(&self, slot: usize, record: &Record) {
        self.with_slot(slot, |bar| bar.set_message(""));
        let (done, of) = self.count.lock().map_or((0, 0), |mut count| {
            count.0 += 1;
            *count
        });
        if let Some(bars) = &self.bars {
            bars.total.inc(1);
        }
        let width = of.to_string().len();
        let title = format!("{} {} {}", record.dataset.name, record.method.id, record.label);
        let end = match record.outcome {
            Outcome::Ok => summary(record),
            outcome => {
                format!("{outcome}: {}", record.error.as_deref().unwrap_or("no cause known"))
            }
        };
        self.say(&format!("[{done:>width$}/{of}] {title} seed={}: {end}", record.seed));
    }

    fn with_slot(&self, slot: usize, act: impl FnOnce(&ProgressBar)) {
        if let Some(bars) = &self.bars
            && let Ok(slots) = bars.slots.lock()
            && let Some(bar) = slots.get(slot)
        {
            act(bar);
        }
    }

    fn finish(&self) {
        if let Some(bars) = &self.bars {
            if let Ok(slots) = bars.slots.lock() {
                slots.iter().for_each(ProgressBar::finish_and_clear);
            }
            bars.total.finish_and_clear();
        }
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn summary(record: &Record) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, metric: &str, digits: usize| {
        if let Some(value) = record.value(metric) {
            parts.push(format!("{name} {value:.digits$}"));
        }
    };
    part("bits/dim", "bits_per_dim", 3);
    part("rel. error", "relative_error", 4);
    part("recall@10", "recall@10", 3);
    parts.push(format!("{:.1} s", record.wall_s));
    parts.join(", ")
}
