//! Cells → records: keeps a few workers busy and turns each end into a record.

use crate::data::Prepared;
use crate::plan::Cell;
use crate::plugin::config_json;
use crate::record::{DatasetInfo, MetricValue, Outcome, Record, TimingInfo, timestamp};
use crate::worker::protocol::{Answer, Evaluation, Job, Measurement};
use crate::worker::supervise::{self, Ended, Limits};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

/// What all cells of a run share.
#[derive(Debug)]
pub struct Schedule<'a> {
    /// Cells to run, in order.
    pub cells: Vec<&'a Cell>,
    /// The prepared data sets of the sweep.
    pub datasets: &'a [Prepared],
    /// What is measured.
    pub evaluation: Evaluation,
    /// Per cell.
    pub limits: Limits,
    /// Cells at once.
    pub jobs: usize,
    /// The run these records belong to.
    pub run_id: String,
    /// Rows per block; `None`: chosen from the dimension.
    pub block_rows: Option<usize>,
}

/// What happens while a schedule runs. `slot` tells simultaneous cells apart, 0..jobs.
#[derive(Debug)]
pub enum Event {
    /// A cell has begun.
    Started {
        /// Which worker.
        slot: usize,
        /// Position in the schedule.
        cell: usize,
    },
    /// Where a cell stands.
    Progress {
        /// Which worker.
        slot: usize,
        /// `fit`, `compress`, …
        stage: String,
        /// 0 to 1.
        fraction: f32,
    },
    /// A cell has ended, in whatever way.
    Finished {
        /// Which worker.
        slot: usize,
        /// Its record.
        record: Box<Record>,
    },
}

/// Runs all cells, `jobs` at once, and hands every event to `on_event` on this thread.
///
/// `cancel` stops what runs (recorded as cancelled) and starts nothing more.
///
/// # Errors
/// The first error of `on_event`, after the running cells were stopped.
pub fn run<E>(
    schedule: &Schedule<'_>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(Event) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let (events, inbox) = mpsc::channel();
    thread::scope(|scope| {
        let _stop = StopOnPanic(cancel);
        for slot in 0..schedule.jobs.min(schedule.cells.len()) {
            let (events, next) = (events.clone(), &next);
            // The worker process lives no longer than this thread, as it must (see supervise).
            scope.spawn(move || {
                while !cancel.load(Ordering::Relaxed) {
                    let cell = next.fetch_add(1, Ordering::Relaxed);
                    let Some(of) = schedule.cells.get(cell) else { break };
                    let _ = events.send(Event::Started { slot, cell });
                    let record =
                        Box::new(run_cell(schedule, of, cancel, &mut |stage, fraction| {
                            let _ = events.send(Event::Progress {
                                slot,
                                stage: stage.into(),
                                fraction,
                            });
                        }));
                    let _ = events.send(Event::Finished { slot, record });
                }
            });
        }
        drop(events);
        let mut outcome = Ok(());
        for event in inbox {
            if outcome.is_ok() {
                outcome = on_event(event);
                if outcome.is_err() {
                    cancel.store(true, Ordering::Relaxed);
                }
            }
        }
        outcome
    })
}

/// A panic in `on_event` waits for the workers' threads: without this, until all cells are done.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn run_cell(
    schedule: &Schedule<'_>,
    cell: &Cell,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Record {
    let data = &schedule.datasets[cell.dataset];
    let started_at = timestamp(SystemTime::now());
    let load_average = load_average();
    let job = Job::Measure(Box::new(Measurement {
        method: cell.method.id.clone(),
        config: cell.config.clone(),
        seed: cell.seed,
        threads: schedule.limits.threads,
        data: data.clone(),
        evaluation: schedule.evaluation.clone(),
        block_rows: schedule.block_rows,
    }));
    let library = Path::new(&cell.method.plugin_path);
    let digest = Some(cell.method.plugin_digest.as_str());
    let ended = supervise::run(library, digest, job, &schedule.limits, cancel, on_progress);
    let Ended { answer, log, sandbox, peak_rss_bytes, wall_s, .. } = ended;
    let (outcome, error, metrics, block_rows) = match answer {
        Answer::Measured(mut of) => {
            of.metrics.extend(MetricValue::new("overhead_s", wall_s - of.measured_s));
            (Outcome::Ok, None, of.metrics, Some(of.block_rows as u64))
        }
        Answer::Failed { outcome, error } => {
            let peak = MetricValue::new("peak_rss_bytes", peak_rss_bytes as f64);
            (outcome, Some(error), peak.into_iter().collect(), None)
        }
        _ => (Outcome::Crashed, Some("the worker answered another question".into()), vec![], None),
    };
    Record {
        key: cell.key.clone(),
        run_id: schedule.run_id.clone(),
        dataset: DatasetInfo {
            name: data.name.clone(),
            digest: data.digest.clone(),
            n: data.base.rows as u64,
            dim: data.dim as u64,
            queries: data.queries.rows as u64,
        },
        metric: data.metric.name().to_owned(),
        method: cell.method.clone(),
        params: config_json(&cell.config),
        label: cell.label.clone(),
        seed: cell.seed,
        evaluation: serde_json::to_value(&schedule.evaluation).unwrap_or_default(),
        outcome,
        error,
        log,
        sandbox,
        timing: TimingInfo {
            threads: u32::try_from(schedule.limits.threads).unwrap_or(u32::MAX),
            jobs: u32::try_from(schedule.jobs).unwrap_or(u32::MAX),
            exclusive: schedule.jobs == 1,
            load_average,
            block_rows,
            threads_used: None,
        },
        started_at,
        wall_s,
        metrics,
    }
}

/// What else the machine was busy with when the cell began: the one-minute load average.
fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
