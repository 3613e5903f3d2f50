//! What the cells to run of a plan will take, by what is known of their methods.

use super::{counted, probe};
use bytesize::ByteSize;
use miette::IntoDiagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use vq_host::cost::{Costs, Expected, Job, Source, Work, coder, coder_of};
use vq_host::data::PreparedRows;
use vq_host::plan::Cell;
use vq_host::probe::limit;
use vq_host::record::{Filter, Record};
use vq_host::session::{Planned, State};
use vq_host::store::{OpenError, Store};

/// So many records tell what cells take.
const TELLING: usize = 5_000;

/// What is known of what cells cost.
pub(super) struct Known {
    /// By the plan's store.
    records: Costs,
    /// By a probe.
    probes: Costs,
    /// The records of the probe, of what the plan's store does not tell of.
    pub(super) probed: Vec<Record>,
}

impl Known {
    pub(super) fn of(planned: &Planned, cache: &Path) -> miette::Result<Self> {
        let records = Costs::of(&recorded(planned)?);
        let mut probed = probe::kept(planned, cache);
        probed.retain(|record| !records.knows(&coder_of(record)));
        Ok(Known { records, probes: Costs::of(&probed), probed })
    }

    /// What a probe could not measure.
    fn failed(&self) -> impl Iterator<Item = &Record> {
        self.probed.iter().filter(|of| !self.probes.knows(&coder_of(of)))
    }

    pub(super) fn has(&self, cell: &Cell) -> bool {
        let coder = coder(cell.methods());
        self.records.knows(&coder) || self.probes.knows(&coder)
    }

    pub(super) fn expected(&self, planned: &Planned, cell: &Cell) -> Option<Expected> {
        let (coder, job) = (coder(cell.methods()), job(planned, cell));
        let of = |costs: &Costs, by| {
            let (seconds, memory) = (costs.likely(&coder, &job)?, costs.memory(&coder, &job));
            Some(Expected { seconds, memory, by })
        };
        of(&self.records, Source::Records).or_else(|| of(&self.probes, Source::Probe))
    }

    /// Seconds of a cell; of a method that nothing is known of, those of others.
    pub(super) fn seconds(&self, planned: &Planned, cell: &Cell) -> f64 {
        let job = job(planned, cell);
        let others =
            || self.records.likely_of_any(&job).or_else(|| self.probes.likely_of_any(&job));
        let expected = self.expected(planned, cell).map(|expected| expected.seconds);
        expected.or_else(others).unwrap_or(0.0)
    }
}

fn job(planned: &Planned, cell: &Cell) -> Job {
    let rows = &planned.rows[&cell.dataset];
    Job {
        work: Work { rows: rows.base.rows, queries: rows.queries.rows, train: rows.train.rows },
        dim: rows.base.dim,
        bits_per_dim: cell.bits_per_dim,
    }
}

/// What the store of the plan has, if there is one; of many records the newest.
fn recorded(planned: &Planned) -> miette::Result<Vec<Record>> {
    match Store::open_read_only(planned.store()) {
        Err(OpenError::Missing { .. }) => Ok(Vec::new()),
        opened => {
            let reader = opened.into_diagnostic()?;
            Ok(reader.newest(TELLING, &Filter::default()).into_diagnostic()?.records)
        }
    }
}

/// A cell to run, and what it is expected to take.
type ToRun<'a> = (&'a Cell, Option<&'a Expected>);

/// The time, disk and memory that cells to run will take, and the limits that they would hit.
pub(super) fn lines(
    planned: &Planned,
    expected: &[Option<Expected>],
    states: &[State<'_>],
    known: &Known,
) -> Vec<String> {
    let cells = planned.cells().zip(expected).zip(states);
    let to_run: Vec<ToRun<'_>> = cells
        .filter(|(_, state)| state.runs())
        .map(|((cell, expected), _)| (cell, expected.as_ref()))
        .collect();
    if to_run.is_empty() {
        return Vec::new();
    }
    let mut lines = time(planned, &to_run, known);
    lines.extend(disk_and_memory(planned, &to_run));
    lines
}

/// Of each coder the most of what `of` says of its cells.
fn of_coders(to_run: &[ToRun<'_>], of: impl Fn(&Expected) -> Option<f64>) -> BTreeMap<String, f64> {
    let mut most: BTreeMap<String, f64> = BTreeMap::new();
    for (cell, expected) in to_run {
        if let Some(value) = expected.and_then(&of) {
            let known = most.entry(coder(cell.methods())).or_insert(value);
            *known = known.max(value);
        }
    }
    most
}

fn time(planned: &Planned, to_run: &[ToRun<'_>], known: &Known) -> Vec<String> {
    let mut lines = Vec::new();
    let expected: Vec<&Expected> = to_run.iter().filter_map(|(_, expected)| *expected).collect();
    let count = expected.len();
    let rest = to_run.len() - count;
    if count > 0 {
        let of_probe = |of: &Expected| (of.by == Source::Probe).then_some(0.0);
        let by = match of_coders(to_run, of_probe).len() {
            0 => "records here".to_owned(),
            n => {
                let records = expected.iter().any(|of| of.by == Source::Records);
                let records = if records { "records here and " } else { "" };
                format!("{records}a probe of {}", counted(n, "method"))
            }
        };
        let jobs = planned.sweep.run.jobs;
        let beside = if jobs > 1 { format!(" divided among {jobs} jobs") } else { String::new() };
        let rest = match rest {
            0 => String::new(),
            n => format!("; nothing is known of the other {n}"),
        };
        lines.push(format!(
            "{} {} about {}{beside}, by {by}{rest}",
            counted(count, "cell"),
            if count == 1 { "takes" } else { "take" },
            time_of(expected.iter().map(|expected| expected.seconds).sum())
        ));
    } else {
        let cells = counted(rest, "cell");
        lines.push(format!("how long {cells} will take is not known: no method has a record here"));
    }
    let failed: Vec<&Record> = known.failed().collect();
    let told: BTreeSet<String> = failed.iter().map(|record| coder_of(record)).collect();
    let unknown = to_run.iter().filter(|(_, expected)| expected.is_none());
    let unknown: BTreeSet<String> = unknown.map(|(cell, _)| coder(cell.methods())).collect();
    let open = unknown.difference(&told).count();
    if open > 0 {
        lines.push(format!(
            "`vq-host plan --probe` measures one small cell of {} to say it, most in a few seconds, \
             each in at most {}",
            match open {
                1 => "its method".to_owned(),
                n => format!("each of {n} methods"),
            },
            humantime::format_duration(limit(planned.sweep.run.timeout))
        ));
    }
    for record in failed {
        let cause = record.error.as_deref().unwrap_or("no cause known");
        let coder = coder_of(record);
        lines.push(format!("{coder} ended with {} in its probe: {cause}", record.outcome));
    }
    let timeout = planned.sweep.run.timeout;
    let longer = |of: &Expected| (of.seconds > timeout.as_secs_f64()).then_some(of.seconds);
    let count = expected.iter().filter(|of| longer(of).is_some()).count();
    if count > 0 {
        lines.push(format!(
            "{} of these {} likely to reach the time limit of {}: {}",
            counted(count, "cell"),
            if count == 1 { "is" } else { "are" },
            humantime::format_duration(timeout),
            Vec::from_iter(of_coders(to_run, longer).into_keys()).join(", ")
        ));
    }
    lines
}

fn time_of(seconds: f64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs_f64(seconds.ceil()))
}

fn disk_and_memory(planned: &Planned, to_run: &[ToRun<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    let rows_of = |cell: &Cell| &planned.rows[&cell.dataset];
    let codes = to_run
        .iter()
        .filter_map(|(cell, _)| Some(cell.code_bytes? as u64 * rows_of(cell).base.rows as u64))
        .max();
    let training = to_run.iter().map(|(cell, _)| {
        let rows = rows_of(cell);
        4 * rows.train.rows as u64 * rows.train.dim as u64
    });
    let training = training.max();
    let memory = planned.sweep.run.memory;
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
        if training > memory {
            lines.push(format!(
                "its training rows alone are more than the {} of memory that it may take",
                ByteSize(memory)
            ));
        }
    }
    let most = of_coders(to_run, |of| of.memory);
    let over: Vec<String> = most
        .iter()
        .filter(|(_, bytes)| **bytes > memory as f64)
        .map(|(coder, bytes)| format!("{coder} ({})", ByteSize(*bytes as u64)))
        .collect();
    if !over.is_empty() {
        lines.push(format!(
            "likely to take more than the {} of memory that a cell may: {}",
            ByteSize(memory),
            over.join(", ")
        ));
    }
    lines
}
