//! The main job without a terminal: a sweep and a catalogue become a plan, the plan a run.
//!
//! ```text
//! Session   sweep × catalogue, every parameter checked
//!   plan      headers ─► dimensions ─► grids ─► rows and digests ─► cells, selected
//! Planned   what is done, what is left
//!   neighbours  exact neighbours, for data sets with cells that will run
//!   run         cells ─► records in the store
//! ```
//!
//! Each step refuses what it can before the next one costs more. A grid that is impossible is
//! refused before any row is read, and no neighbour is sought for a cell that will not run.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array2;
use vq_plugin_api::GridRequest;
use vq_plugin_api::handle::Proposal;

use crate::data::{self, Blame, DataError, Facts, Headers, PrepareError, Prepared, PreparedRows};
use crate::metric::Family;
use crate::metric::retrieval::RANK_DEPTH;
use crate::plan::{self, Cell, DataShape, Grids, Partition, Plan, PlanError};
use crate::plugin::{Catalog, Found};
use crate::record::{Done, Outcome, Record, RunInfo};
use crate::report::quality_changed;
use crate::schedule::{self, RunError, RunEvent, Schedule, Scheduled};
use crate::store::{Contents, Damage, Finished, ReadError, Reader, Store, WriteError};
use crate::sweep::{self, Dataset, Sweep};
use crate::worker::ask::ExpandError;
use crate::worker::fault::HostFault;
use crate::worker::protocol::Evaluation;
use crate::worker::supervise::Limits;

/// Which cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only cells whose title contains one of these; all if there is none.
    pub only: Vec<String>,
    /// Which part of all cells; all of them if there is none.
    pub partition: Option<Partition>,
    /// Which of the recorded cells are measured again.
    pub rerun: Option<Rerun>,
    /// All of the recorded cells are.
    pub force: bool,
}

/// Which recorded cells are measured again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rerun {
    /// Those with any outcome but ok.
    Failed,
    /// Those with this outcome.
    Outcome(Outcome),
}

/// What a session asks of its caller.
#[derive(Clone, Copy)]
pub struct Callbacks<'a> {
    /// Asks the grid generator of a method for configurations, a list per request.
    pub expand: &'a Expand<'a>,
    /// Hears, by the name of the data set, how far its preparation is.
    pub progress: &'a (dyn Fn(&str, data::Progress) + Sync),
    /// Hears what a reader of the results should know of a data set: its name, a sentence.
    pub note: &'a dyn Fn(&str, &str),
    /// Set once to end everything.
    pub cancel: &'a AtomicBool,
}

/// See [`Callbacks::expand`].
pub type Expand<'a> =
    dyn Fn(Found<'_>, Vec<GridRequest>) -> Result<Vec<Vec<Proposal>>, ExpandError> + 'a;

/// Why there is no plan.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SessionError {
    /// At a place of the sweep.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// Prepared data cannot be kept.
    #[error("`{dataset}` cannot be prepared")]
    Cache {
        /// The data set's name.
        dataset: String,
        /// What to do.
        #[help]
        help: Option<String>,
        /// Why not.
        source: Box<DataError>,
    },
    /// What is recorded cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// A plugin was replaced since it was found.
    #[error(transparent)]
    Replaced(ExpandError),
    /// The host's own part failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Host(#[from] HostFault),
    /// The selection is empty.
    #[error("--only {} selects none of the {cells} cells", only.join(" --only "))]
    #[diagnostic(help("titles look like: {example}"))]
    NothingSelected {
        /// The texts that were asked for.
        only: Vec<String>,
        /// How many cells there are.
        cells: usize,
        /// The title of the first.
        example: String,
    },
    /// By the user.
    #[error("interrupted")]
    Interrupted,
}

/// A sweep, read and held against plugins and store, before any data is looked at.
#[derive(Debug)]
pub struct Session {
    sweep: Sweep,
    catalog: Catalog,
    cache: PathBuf,
    recorded: Recorded,
}

/// What a store has.
#[derive(Debug)]
pub enum Recorded {
    /// All of it.
    All(Finished),
    /// More than is read before it is known which cells there are.
    Large(Reader),
}

impl From<HashMap<String, Done>> for Recorded {
    fn from(outcomes: HashMap<String, Done>) -> Self {
        Self::All(Finished { outcomes, damage: Vec::new() })
    }
}

impl Recorded {
    /// What it has of `cells`, and what of that is damaged.
    fn of(self, cells: &[Cell]) -> Result<Finished, ReadError> {
        match self {
            Self::All(finished) => Ok(finished),
            Self::Large(store) => {
                let keys: Vec<&str> = cells.iter().map(|cell| cell.key.as_str()).collect();
                store.finished_of(&keys)
            }
        }
    }
}

impl Session {
    /// `recorded` is what the store has; `cache` is where prepared data is kept.
    ///
    /// # Errors
    /// What [`plan::choose`] refuses.
    pub fn new(
        sweep: Sweep,
        catalog: Catalog,
        cache: PathBuf,
        recorded: impl Into<Recorded>,
    ) -> Result<Self, PlanError> {
        plan::choose(&sweep, &catalog)?;
        Ok(Self { sweep, catalog, cache, recorded: recorded.into() })
    }

    /// The sweep.
    pub fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// Whether its store is too large to be read before it is known which cells there are.
    pub fn is_of_large_store(&self) -> bool {
        matches!(self.recorded, Recorded::Large(_))
    }

    /// Whether rows are prepared, and cells are recorded: whether all may be done already.
    pub fn may_be_done(&self) -> bool {
        let prepared = |of: &Dataset| data::is_prepared(&of.spec, &self.cache);
        let any = match &self.recorded {
            Recorded::All(done) => !done.outcomes.is_empty(),
            Recorded::Large(_) => true,
        };
        any && self.sweep.datasets.iter().all(prepared)
    }

    /// Plans all cells of the data sets that the selected ones are of, and selects these. Rows of
    /// no other data set are read, and none before the grids are known to be possible; exact
    /// neighbours are not sought.
    ///
    /// # Errors
    /// The first thing that cannot be, at its place in the sweep where it has one.
    pub fn plan(
        mut self,
        selection: &Selection,
        on: &Callbacks<'_>,
    ) -> Result<Planned, SessionError> {
        let headers = self.headers()?;
        for (dataset, headers) in self.sweep.datasets.iter_mut().zip(&headers) {
            dataset.spec.metric = headers.metric();
        }
        let mut grids = self.grids(&headers, on)?;
        self.selects_some(&grids, &selection.only)?;
        let wanted = self.wanted(&mut grids, selection);
        let rows = self.rows(headers, &wanted.datasets, on)?;
        let facts = rows
            .iter()
            .filter_map(|(at, rows)| Some((*at, known_facts(&self.sweep, rows, on)?)))
            .collect();
        let Self { sweep, recorded, .. } = self;
        let plan = grids.into_plan(&sweep, &digests(&sweep, &rows));
        let Finished { outcomes: done, damage } = recorded.of(&plan.cells)?;
        let (selected, selection) = (wanted.cells, selection.clone());
        Ok(Planned { sweep, rows, facts, plan, selected, done, damage, selection })
    }

    fn headers(&self) -> Result<Vec<Headers>, SessionError> {
        let read =
            |of: &Dataset| Headers::read(&of.spec).map_err(|error| refused(&self.sweep, of, error));
        self.sweep.datasets.iter().map(read).collect()
    }

    /// Asks every grid generator.
    fn grids(&self, headers: &[Headers], on: &Callbacks<'_>) -> Result<Grids, SessionError> {
        let Self { sweep, catalog, .. } = self;
        let shapes: Vec<DataShape> = headers.iter().map(DataShape::from).collect();
        let choice = plan::choose(sweep, catalog)?;
        let asked = plan::requests(sweep, &choice, &shapes)?;
        let mut answers = Vec::with_capacity(asked.len());
        for ask_for in &asked {
            let of = ask_for.of(&choice);
            let found = of.found();
            let answer = (on.expand)(found, ask_for.requests.clone());
            if on.cancel.load(Ordering::Relaxed) {
                return Err(SessionError::Interrupted);
            }
            answers.push(match answer {
                Ok(answer) => answer,
                Err(ExpandError::Host(fault)) => return Err(fault.into()),
                Err(error @ ExpandError::Replaced { .. }) => {
                    return Err(SessionError::Replaced(error));
                }
                // What one of all cannot do is no reason to measure nothing of the others.
                Err(ExpandError::Method(error)) if of.is_one_of_all() => {
                    let reason = format!("its grid generator failed: {error}");
                    vec![vec![Proposal::Skip { config: BTreeMap::new(), reason }]]
                }
                Err(ExpandError::Method(error)) => {
                    let (id, library) = (&found.method.id, found.library.path.display());
                    return Err(PlanError::at(
                        &sweep.source,
                        of.span(),
                        format!("the grid generator of {id} failed: {error}"),
                        "its plugin cannot be used",
                        Some(format!("report it to the author of {library}")),
                    )
                    .into());
                }
            });
        }
        Ok(plan::assemble(sweep, &shapes, &choice, &asked, answers)?)
    }

    fn selects_some(&self, grids: &Grids, only: &[String]) -> Result<(), SessionError> {
        let seeds = &self.sweep.seeds;
        let mut titles =
            grids.candidates.iter().flat_map(|of| seeds.iter().map(|seed| of.title(*seed)));
        if titles.any(|title| is_selected(&title, only)) {
            return Ok(());
        }
        Err(SessionError::NothingSelected {
            only: only.to_vec(),
            cells: grids.candidates.len() * seeds.len(),
            example: grids.candidates.first().map(|of| of.title(seeds[0])).unwrap_or_default(),
        })
    }

    /// Selects among the cells of `grids`, and leaves those of other data sets out of it.
    fn wanted(&self, grids: &mut Grids, selection: &Selection) -> Wanted {
        let Self { sweep, .. } = self;
        let Selection { only, partition, .. } = selection;
        let mut selected = Vec::new();
        let mut at = 0;
        for of in &grids.candidates {
            for seed in &sweep.seeds {
                let is_in = |part: &Partition| part.has(at, &of.name(*seed));
                let wanted =
                    is_selected(&of.title(*seed), only) && partition.as_ref().is_none_or(is_in);
                selected.push((of.dataset, wanted));
                at += 1;
            }
        }
        let measured: BTreeSet<usize> =
            selected.iter().filter(|(_, wanted)| *wanted).map(|(dataset, _)| *dataset).collect();
        let judges = measured.iter().filter_map(|at| sweep.truth_of(*at));
        grids.candidates.retain(|of| measured.contains(&of.dataset));
        let known = selected.iter().filter(|(dataset, _)| measured.contains(dataset));
        let cells =
            known.enumerate().filter(|(_, (_, wanted))| *wanted).map(|(at, _)| at).collect();
        Wanted { cells, datasets: judges.chain(measured.iter().copied()).collect() }
    }

    /// Prepares the rows of the `wanted` data sets.
    fn rows(
        &self,
        headers: Vec<Headers>,
        wanted: &BTreeSet<usize>,
        on: &Callbacks<'_>,
    ) -> Result<BTreeMap<usize, PreparedRows>, SessionError> {
        let Self { sweep, cache, .. } = self;
        let mut all: BTreeMap<usize, PreparedRows> = BTreeMap::new();
        for (at, (dataset, headers)) in sweep.datasets.iter().zip(headers).enumerate() {
            if !wanted.contains(&at) {
                continue;
            }
            let name = &dataset.spec.name;
            let rows = headers
                .rows(cache, &telling(name, on))
                .map_err(|error| refused(sweep, dataset, error))?;
            rows.notices.iter().for_each(|text| (on.note)(name, text));
            // Of several sizes the first says what they share.
            let written = |at: &usize| &sweep.datasets[*at].written_name;
            if !all.keys().any(|earlier| *written(earlier) == dataset.written_name) {
                rows.notes.iter().for_each(|text| (on.note)(name, text));
            }
            let n = rows.base.rows;
            let above: Vec<String> =
                sweep.evaluate.k.iter().filter(|k| **k > n).map(usize::to_string).collect();
            if !above.is_empty() {
                let rows = if n == 1 { "1 row".to_owned() } else { format!("{n} rows") };
                let above = above.join(", ");
                let text = format!("its base has {rows}: metrics of k = {above} are not recorded");
                (on.note)(name, &text);
            }
            let by_l2 = rows.metric() == data::Metric::L2 && !dataset.metric_written;
            if by_l2 && are_of_unit_length(&rows) {
                let write = match sweep.source.name() {
                    sweep::COMMAND_LINE => "--metric cosine",
                    _ => "metric = \"cosine\"",
                };
                let text = format!(
                    "its rows have unit length and are compared by l2, the default: embeddings are mostly \
                     meant to be compared by {write}"
                );
                (on.note)(name, &text);
            }
            all.insert(at, rows);
        }
        for (at, dataset) in sweep.datasets.iter().enumerate() {
            let Some((other, name)) = sweep.truth_of(at).zip(dataset.truth_of.as_ref()) else {
                continue;
            };
            let [Some(here), Some(there)] = [at, other].map(|at| all.get(&at)) else { continue };
            let [here, there] = [here, there].map(|of| (of.base.rows, of.queries.rows));
            if here != there {
                let (of, by) = (&dataset.spec.name, name.get_ref());
                return Err(PlanError::at(
                    &sweep.source,
                    name.span(),
                    format!("`{of}` and `{by}` do not have the same rows"),
                    "named here",
                    Some(format!(
                        "`{of}` has {} base rows and {} queries, `{by}` {} and {}: both need the same \
                         rows in the same order, with as many held out and kept apart",
                        here.0, here.1, there.0, there.1
                    )),
                )
                .into());
            }
        }
        Ok(all)
    }
}

/// What is asked of all cells.
struct Wanted {
    /// Positions among the cells of `datasets`.
    cells: Vec<usize>,
    /// Those with selected cells, and whose neighbours are the true ones of these.
    datasets: BTreeSet<usize>,
}

/// The digests of the data sets in the order of the sweep; nothing for what is not prepared, and
/// has no cells then.
fn digests<'a>(sweep: &Sweep, rows: &'a BTreeMap<usize, PreparedRows>) -> Vec<&'a str> {
    let digest = |at| rows.get(&at).map_or("", |rows| rows.digest.as_str());
    (0..sweep.datasets.len()).map(digest).collect()
}

/// Whether all of some rows of a file have unit length, as far as f16 would keep it.
fn are_of_unit_length(rows: &PreparedRows) -> bool {
    const LOOKED_AT: usize = 256;
    const TOLERANCE: f64 = 2e-3;
    let n = rows.base.rows;
    let Ok(base) = rows.base.open() else { return false };
    let mut row = Array2::zeros((1, base.dim()));
    n > 0
        && rows.is_from_file()
        && (0..LOOKED_AT.min(n)).all(|i| {
            let read = base.read(i * n / LOOKED_AT.min(n), row.view_mut());
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            read.is_ok() && (norm - 1.0).abs() < TOLERANCE
        })
}

/// Exact neighbours that are needed for each query.
fn depth(sweep: &Sweep) -> usize {
    sweep.evaluate.k.iter().copied().max().unwrap_or(1).max(RANK_DEPTH)
}

fn known_facts(sweep: &Sweep, rows: &PreparedRows, on: &Callbacks<'_>) -> Option<Facts> {
    let (facts, notes) = rows.known_facts(depth(sweep));
    notes.iter().for_each(|text| (on.note)(rows.name(), text));
    facts
}

fn is_selected(title: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|text| title.contains(text.as_str()))
}

/// Tells of the progress of `name`'s preparation, and ends it once that is asked for.
fn telling<'a>(
    name: &'a str,
    &Callbacks { progress, cancel, .. }: &Callbacks<'a>,
) -> impl Fn(data::Progress) -> bool + Sync + use<'a> {
    move |now| {
        progress(name, now);
        !cancel.load(Ordering::Relaxed)
    }
}

/// What is wrong with the data, at the key that asks for it.
fn refused(sweep: &Sweep, dataset: &Dataset, error: PrepareError) -> SessionError {
    let PrepareError { blame, error } = error;
    let name = &dataset.spec.name;
    let help = advice(sweep, dataset, &error);
    let span = match blame {
        _ if matches!(error, DataError::Interrupted) => return SessionError::Interrupted,
        Blame::Base => dataset.source_span.clone(),
        Blame::Queries => dataset.queries_span.clone(),
        Blame::Train => dataset.train_span.clone().unwrap_or(dataset.source_span.clone()),
        Blame::Cache => {
            return SessionError::Cache { dataset: name.clone(), help, source: error.into() };
        }
    };
    PlanError::of(&sweep.source, span, error, format!("`{name}` cannot be prepared"), help).into()
}

/// What to do about data that cannot be prepared, with what the user has: keys or flags.
fn advice(sweep: &Sweep, dataset: &Dataset, error: &DataError) -> Option<String> {
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

/// A sweep whose cells are known, with what the store has of them.
#[derive(Debug)]
pub struct Planned {
    /// The sweep.
    pub sweep: Sweep,
    /// Those of its data sets that selected cells are of, by position, without neighbours.
    pub rows: BTreeMap<usize, PreparedRows>,
    /// What is peculiar about each of them, where it was counted by an earlier run: some of it is
    /// counted while neighbours are sought.
    pub facts: BTreeMap<usize, Facts>,
    /// All cells of these data sets, and all skips.
    pub plan: Plan,
    /// Positions of the selected cells.
    selected: Vec<usize>,
    /// What is recorded already, of all cells.
    done: HashMap<String, Done>,
    /// What is damaged of what was read of the store: all of it, or the cells of this plan where it
    /// is too large to be verified whole.
    pub damage: Vec<Damage>,
    selection: Selection,
}

/// What is to be done about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
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
    /// Whether the cell is measured.
    pub fn runs(self) -> bool {
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

/// What cells may use while they run.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Cells at once.
    pub jobs: usize,
    /// Per cell.
    pub limits: Limits,
    /// Rows per block of the walk over the base; `None`: chosen from the dimension.
    pub block_rows: Option<usize>,
}

/// The records of a store cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl StoreError {
    /// True when there is no room for what was to be stored.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Write(error) if error.is_full_disk())
    }
}

impl Planned {
    /// The names of data sets with the same contents: of each, the first that has them and itself.
    pub fn same_contents(&self) -> Vec<(&str, &str)> {
        // Those with other neighbours are measured for themselves.
        let own = self.rows.iter().filter(|(at, _)| self.sweep.truth_of(**at).is_none());
        plan::same_contents(own.map(|(_, rows)| (rows.name(), rows.digest.as_str())))
    }

    /// The store that the sweep names.
    pub fn store(&self) -> &Path {
        &self.sweep.run.store
    }

    /// Selects the cells that are `wanted`, whatever was selected before.
    pub fn select(&mut self, wanted: impl Fn(&Cell) -> bool) {
        self.selected =
            (0..self.plan.cells.len()).filter(|i| wanted(&self.plan.cells[*i])).collect();
    }

    /// The selected cells.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = &Cell> {
        self.selected.iter().map(|i| &self.plan.cells[*i])
    }

    /// What is to be done about each of [`Planned::cells`], in their order.
    pub fn states(&self) -> Vec<State<'_>> {
        let mut first: HashMap<&str, &str> = HashMap::new();
        let state = |cell: &'_ Cell| match self.done.get(&cell.key) {
            None => State::ToRun,
            // An interrupted cell is not done.
            Some(Done { outcome: Outcome::Cancelled, .. }) => State::Again(Outcome::Cancelled),
            Some(done @ Done { outcome, .. }) => {
                let again = self.selection.force
                    || !done.answers(&self.sweep.evaluate.metrics)
                    || match self.selection.rerun {
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
    pub fn to_run(&self) -> Vec<&Cell> {
        let states = self.states();
        self.cells().zip(states).filter(|(_, state)| state.runs()).map(|(cell, _)| cell).collect()
    }

    /// What is measured of `cell`: also what its record has, which the new one replaces.
    fn evaluation(&self, cell: &Cell) -> Evaluation {
        let digests = digests(&self.sweep, &self.rows);
        let mut evaluation = plan::evaluation(&self.sweep, cell.dataset, &digests);
        let known = self.done.get(&cell.key).map_or(&[][..], |done| &done.metrics);
        evaluation.metrics = Family::ALL
            .into_iter()
            .filter(|of| evaluation.has(*of) || known.contains(of))
            .collect();
        evaluation
    }

    /// Finds the exact neighbours in the data sets of [`Planned::to_run`], or takes those in the
    /// cache.
    ///
    /// # Errors
    /// Data that cannot be read or kept.
    pub fn neighbours(&self, on: &Callbacks<'_>) -> Result<Ready, SessionError> {
        let measured: HashSet<usize> = self.to_run().iter().map(|cell| cell.dataset).collect();
        let judges = measured.iter().filter_map(|at| self.sweep.truth_of(*at));
        // Its own neighbours are not needed where another's are the true ones, but what is counted
        // while they are sought is.
        let wanted: HashSet<usize> = measured.iter().copied().chain(judges).collect();
        let mut ready = BTreeMap::new();
        for (&i, rows) in self.rows.iter().filter(|(i, _)| wanted.contains(i)) {
            let dataset = &self.sweep.datasets[i];
            let name = rows.name();
            let prepared = rows
                .clone()
                .with_neighbours(depth(&self.sweep), &telling(name, on))
                .map_err(|error| refused(&self.sweep, dataset, error))?;
            let notices = prepared.notices.iter().skip(rows.notices.len());
            // What an earlier run counted was told when the cells were planned.
            let told = if self.facts.contains_key(&i) { usize::MAX } else { rows.notes.len() };
            let notes = prepared.notes.iter().skip(told);
            notices.chain(notes).for_each(|text| (on.note)(name, text));
            ready.insert(i, prepared);
        }
        let judged: Vec<(usize, Prepared)> = ready
            .iter()
            .filter_map(|(at, prepared)| {
                let other = self.sweep.truth_of(*at)?;
                Some((*at, prepared.clone().judged_by(ready.get(&other)?)))
            })
            .collect();
        ready.extend(judged);
        Ok(Ready(ready))
    }

    /// Gives records the name that their data set has now: the sweep may have renamed it.
    ///
    /// # Errors
    /// What the store refuses.
    pub fn rename(&self, store: &mut Store) -> Result<(), StoreError> {
        let names = names(&self.plan.cells);
        let is_other = |(key, names): &(&&str, &Vec<&str>)| {
            let recorded = self.done.get(**key).map_or(&[][..], |done| &done.datasets);
            recorded.iter().any(|name| !names.contains(&name.as_str()))
        };
        let keys: Vec<&str> = names.iter().filter(is_other).map(|(key, _)| *key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut renamed = store.of_cells(&keys)?.records;
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

    /// Of `records`, those of the selected cells, under the names that the sweep gives their data
    /// sets: a record of two cells, whose data sets have one content, once for each.
    pub fn records_of_cells(&self, records: Vec<Record>) -> Vec<Record> {
        let names = names(self.cells());
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

    /// Runs [`Planned::to_run`] and stores a record of each cell as it ends. `on_event` hears of
    /// it, with the record as it was stored, and for a finished cell in how far its quality
    /// differs from the record before, where that was measured of the same thing.
    ///
    /// # Errors
    /// The store refuses a record; or the host's own part failed.
    ///
    /// # Panics
    /// When `ready` is of another plan.
    pub fn run(
        &self,
        ready: &Ready,
        store: &mut Store,
        capacity: Capacity,
        cancel: &AtomicBool,
        on_event: &mut dyn FnMut(RunEvent, Option<&str>),
    ) -> Result<(), RunError<StoreError>> {
        let to_run = self.to_run();
        let run = RunInfo::begin(&self.sweep.name, self.sweep.source.text());
        let write = |error: WriteError| RunError::Event(error.into());
        store.begin_run(&run).map_err(write)?;
        for rows in self.rows.values() {
            store.insert_spectrum(&rows.digest, &rows.spectrum).map_err(write)?;
        }
        let before = match self.selection.force {
            true => earlier(store, &to_run, &run.machine())
                .map_err(|error| RunError::Event(error.into()))?,
            false => HashMap::new(),
        };
        let schedule = Schedule {
            cells: to_run
                .into_iter()
                .map(|cell| Scheduled {
                    cell,
                    data: &ready.0[&cell.dataset],
                    evaluation: self.evaluation(cell),
                })
                .collect(),
            limits: capacity.limits,
            jobs: capacity.jobs,
            run_id: run.run_id,
            block_rows: capacity.block_rows,
        };
        schedule::run(&schedule, cancel, &mut |mut event| {
            let mut notice = None;
            if let RunEvent::Finished { record, .. } = &mut event {
                let earlier = before.get(&record.key);
                notice = earlier.and_then(|earlier| quality_changed(earlier, record));
                record.notices.extend(notice.clone());
                store.insert(record)?;
            }
            on_event(event, notice.as_deref());
            Ok(())
        })
    }
}

/// The data sets with cells to run, by their position in the sweep.
#[derive(Debug)]
pub struct Ready(BTreeMap<usize, Prepared>);

impl Ready {
    /// True when no cell has to run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The records that measuring `cells` again on `machine` will replace, by their keys.
fn earlier(
    store: &Store,
    cells: &[&Cell],
    machine: &str,
) -> Result<HashMap<String, Record>, ReadError> {
    let keys: Vec<&str> = cells.iter().map(|cell| cell.key.as_str()).collect();
    let Contents { mut records, runs, .. } = store.of_cells(&keys)?;
    let here: HashSet<&str> =
        runs.iter().filter(|run| run.machine() == machine).map(|run| run.run_id.as_str()).collect();
    records.retain(|record| here.contains(record.run_id.as_str()));
    Ok(records.into_iter().map(|record| (record.key.clone(), record)).collect())
}

/// By key, the names that the sweep gives the data sets of its cells.
fn names<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> HashMap<&'a str, Vec<&'a str>> {
    let mut names: HashMap<&str, Vec<&str>> = HashMap::new();
    for cell in cells {
        names.entry(&cell.key).or_default().push(&cell.dataset_name);
    }
    names
}

#[cfg(test)]
mod tests;
