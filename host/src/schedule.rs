//! Cells → records: keeps a few cells under way and turns each end into a record.

mod stages;

use crate::data::Prepared;
use crate::plan::Cell;
use crate::plugin::Digests;
use crate::plugin::needs::Needs;
use crate::record::{MetricValue, Outcome, Proof, Record, TimingInfo, timestamp};
use crate::worker::fault::HostFault;
use crate::worker::protocol::{Answer, Evaluation};
use crate::worker::supervise::{self, CellJob, Ended, Limits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::SystemTime;

/// Events on their way to the thread that takes them.
const WAITING: usize = 256;

/// What all cells of a run share.
#[derive(Debug)]
pub struct Schedule<'a> {
    /// Cells to run, in order.
    pub cells: Vec<Scheduled<'a>>,
    /// Per cell.
    pub limits: Limits,
    /// Cells at once.
    pub jobs: usize,
    /// The run these records belong to.
    pub run_id: String,
    /// Rows per block; `None`: chosen from the dimension.
    pub block_rows: Option<usize>,
}

/// A cell that is to run.
#[derive(Clone, Debug)]
pub struct Scheduled<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Its data, with neighbours.
    pub data: &'a Prepared,
    /// What is measured.
    pub evaluation: Evaluation,
}

/// What happens while a schedule runs. `slot` tells simultaneous cells apart, 0..jobs.
#[derive(Debug)]
pub enum RunEvent {
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
    /// At the end: cells that were left to the next run, because their library is not the one
    /// they were planned with. Nothing is recorded of them.
    Left {
        /// The library.
        library: PathBuf,
        /// How that showed: `has other contents`.
        how: String,
        /// How many cells.
        cells: usize,
    },
}

/// Why a schedule was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E: std::error::Error + 'static> {
    /// The host's own part failed; nothing is recorded of that cell.
    #[error(transparent)]
    Host(HostFault),
    /// `on_event` failed.
    #[error(transparent)]
    Event(E),
}

/// What the workers of a schedule share.
#[derive(Default)]
struct Shared {
    next: AtomicUsize,
    /// No further cell is started.
    stop: AtomicBool,
    /// The libraries that were replaced, how it showed, and the cells left because of it.
    replaced: Mutex<BTreeMap<String, (String, usize)>>,
    /// The first fault of the host's own.
    fault: Mutex<Option<HostFault>>,
}

impl Shared {
    /// True, and counted, for a cell of a library that is known to be another by now.
    fn leaves(&self, library: &str) -> bool {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.get_mut(library).map(|(_, cells)| *cells += 1).is_some()
    }

    fn leave(&self, library: &str, how: String) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.entry(library.to_owned()).or_insert((how, 0)).1 += 1;
    }

    fn fail(&self, fault: HostFault) {
        self.stop.store(true, Ordering::Relaxed);
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }
}

/// Runs all cells, `jobs` at once, and hands every event to `on_event` on this thread.
///
/// `cancel` stops what runs (recorded as cancelled) and starts nothing more.
///
/// # Errors
/// The first error of `on_event`, after the running cells were stopped; the first thing that the
/// host could not do, after the running cells were finished and recorded.
pub fn run<E: std::error::Error + 'static>(
    schedule: &Schedule<'_>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(RunEvent) -> Result<(), E>,
) -> Result<(), RunError<E>> {
    run_with(schedule, &supervise::measure, cancel, on_event)
}

/// [`supervise::measure`], or what stands for it.
type Measure<'a> = dyn Fn(
        &Path,
        &Digests,
        &CellJob<'_>,
        &Limits,
        &AtomicBool,
        &mut dyn FnMut(&str, f32),
    ) -> Result<Ended, HostFault>
    + Sync
    + 'a;

fn run_with<E: std::error::Error + 'static>(
    schedule: &Schedule<'_>,
    measure: &Measure<'_>,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(RunEvent) -> Result<(), E>,
) -> Result<(), RunError<E>> {
    let shared = Shared::default();
    // Who waits for `on_event` (a terminal that stands still, a slow disk) must not gather what the
    // plugins' processes say meanwhile.
    let (events, inbox) = mpsc::sync_channel(WAITING);
    thread::scope(|scope| {
        let _stop = StopOnPanic(cancel);
        for slot in 0..schedule.jobs.min(schedule.cells.len()) {
            let (events, shared) = (events.clone(), &shared);
            // The worker process lives no longer than this thread, as it must (see supervise).
            let work = move || {
                while !cancel.load(Ordering::Relaxed) && !shared.stop.load(Ordering::Relaxed) {
                    let cell = shared.next.fetch_add(1, Ordering::Relaxed);
                    let Some(of) = schedule.cells.get(cell) else { break };
                    if of.cell.methods().any(|method| shared.leaves(&method.plugin_path)) {
                        continue;
                    }
                    let _ = events.send(RunEvent::Started { slot, cell });
                    let ran = run_cell(schedule, of, measure, cancel, &mut |stage, fraction| {
                        let stage = stage.into();
                        // Left out where many wait: this thread also watches the cell's limits.
                        let _ = events.try_send(RunEvent::Progress { slot, stage, fraction });
                    });
                    match ran {
                        Ok(Ran::Recorded(record)) => {
                            let _ = events.send(RunEvent::Finished { slot, record });
                        }
                        Ok(Ran::Replaced { library, how }) => shared.leave(&library, how),
                        Err(fault) => shared.fail(fault),
                    }
                }
            };
            // Those that run already go on; with none, nothing would.
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, work) {
                shared.fail(HostFault::thread(&error));
                break;
            }
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
    .map_err(RunError::Event)?;
    let replaced = shared.replaced.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (library, (how, cells)) in replaced {
        on_event(RunEvent::Left { library: library.into(), how, cells })
            .map_err(RunError::Event)?;
    }
    match shared.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(fault) => Err(RunError::Host(fault)),
        None => Ok(()),
    }
}

/// How a cell ended.
enum Ran {
    Recorded(Box<Record>),
    /// Not at all: its library is not the one that was planned with.
    Replaced {
        /// Its file.
        library: String,
        how: String,
    },
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
    of: &Scheduled<'_>,
    measure: &Measure<'_>,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Ran, HostFault> {
    let Scheduled { cell, data, evaluation } = of;
    let started_at = timestamp(SystemTime::now());
    let load_average = load_average();
    let ended = stages::measure(schedule, of, measure, cancel, on_progress);
    if let Err(HostFault::Data { .. }) = ended {
        // What cannot be read may be a source that was cut, and is then told as that.
        data.unchanged()?;
        data.discard_damaged()?;
    }
    let (ended, library) = ended?;
    let Ended { answer, log, changed, notices: noticed, sandbox, peaks, wall_s, .. } = ended;
    let peaks = [
        ("peak_rss_bytes", peaks.encoder.max(peaks.decoder)),
        ("encoder_peak_rss_bytes", peaks.encoder),
        ("decoder_peak_rss_bytes", peaks.decoder),
    ];
    let peaks = peaks.into_iter().filter(|(_, bytes)| *bytes > 0);
    let peaks = peaks.flat_map(|(name, bytes)| MetricValue::new(name, bytes as f64));
    let mut threads_used = None;
    let (mut recalls, mut proof, mut notices) = (Vec::new(), None, Vec::new());
    let (outcome, error, metrics, block_rows) = match answer {
        Answer::Measured(mut of) => {
            recalls = of.recalls;
            proof = Some(of.unproven.map_or(Proof::Proven, |reason| Proof::Unproven { reason }));
            notices = of.notices;
            threads_used = of.threads_used.filter(|threads| threads.is_finite());
            of.metrics.extend(MetricValue::new("overhead_s", wall_s - of.measured_s));
            of.metrics.extend(peaks);
            (Outcome::Ok, None, of.metrics, Some(of.block_rows as u64))
        }
        Answer::Failed { outcome, error } => (outcome, Some(error), peaks.take(1).collect(), None),
        Answer::Replaced { how } => {
            return Ok(Ran::Replaced { library: library.plugin_path.clone(), how });
        }
        _ => (Outcome::Crashed, Some("the worker answered another question".into()), vec![], None),
    };
    notices.extend(noticed);
    notices.extend(changed);
    // The system reads code from its file as it is called: what was overwritten in place ran in
    // part, and if that crashed, it was not the method that was planned.
    for method in cell.methods() {
        let library = Path::new(&method.plugin_path);
        if let Err(how) = stages::digests(method).hold(library, &Needs::of(library)) {
            return Ok(Ran::Replaced { library: method.plugin_path.clone(), how });
        }
    }
    // Rows that were overwritten meanwhile were measured in part, and a method that choked on them
    // did no wrong.
    data.unchanged()?;
    Ok(Ran::Recorded(Box::new(Record {
        key: cell.key.clone(),
        run_id: schedule.run_id.clone(),
        dataset: data.info(),
        metric: data.metric.name().to_owned(),
        method: cell.method.clone(),
        params: cell.params(),
        label: cell.label.clone(),
        seed: cell.seed,
        evaluation: serde_json::to_value(evaluation).unwrap_or_default(),
        outcome,
        error,
        log,
        sandbox,
        proof,
        notices,
        timing: TimingInfo {
            threads: u32::try_from(schedule.limits.threads).unwrap_or(u32::MAX),
            jobs: u32::try_from(schedule.jobs).unwrap_or(u32::MAX),
            exclusive: schedule.jobs == 1,
            load_average,
            block_rows,
            threads_used,
        },
        started_at,
        wall_s,
        metrics,
        recalls,
    })))
}

/// What else the machine was busy with when the cell began: the one-minute load average.
fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
