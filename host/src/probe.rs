//! The probe of a plan: one small cell of each method that nothing tells of, to see what it costs.
//!
//! It is measured as all cells are, on the first rows of a data set of the sweep, and its record is
//! kept beside the prepared data: it is no result, and belongs into nobody's store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::cost::{coder, coder_of};
use crate::data::{Queries, Train};
use crate::plan::Cell;
use crate::record::{MethodInfo, Outcome, Record, canonical_json};
use crate::session::Planned;
use crate::sweep::Sweep;

/// Rows of the source that a probe takes.
pub const ROWS: usize = 5000;
/// Queries that it holds out, at most.
const QUERIES: usize = 500;
/// What takes longer among so few rows takes very long among more.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time limit of a probe's cell, in a sweep whose cells have `timeout`.
pub fn limit(timeout: Duration) -> Duration {
    timeout.min(PATIENCE)
}

/// The cells of a probe.
#[derive(Debug)]
pub struct Probe {
    /// The sweep that they are of, with others that are not measured.
    pub sweep: Sweep,
    /// Data set, coder and parameters of each.
    cells: BTreeSet<(String, String, String)>,
}

impl Probe {
    /// One cell for each coder of the cells to run of `planned` that is not `known`: of its cells with the
    /// widest rows the one whose codes are neither small nor large. None where all are known.
    ///
    /// `store` takes the records.
    pub fn of(planned: &Planned, known: impl Fn(&Cell) -> bool, store: PathBuf) -> Option<Self> {
        let mut unknown: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
        for cell in planned.to_run().into_iter().filter(|cell| !known(cell)) {
            unknown.entry(coder(cell.methods())).or_default().push(cell);
        }
        let chosen: Vec<&Cell> = unknown
            .into_values()
            .filter_map(|mut cells| {
                let dim = |cell: &Cell| planned.rows[&cell.dataset].base.dim;
                let widest = cells.iter().map(|cell| dim(cell)).max()?;
                // Of several such data sets the first: its rows are prepared once for all coders.
                let first = cells.iter().find(|cell| dim(cell) == widest)?.dataset;
                cells.retain(|cell| cell.dataset == first);
                cells.sort_by_key(|cell| cell.code_bytes);
                cells.get(cells.len() / 2).copied()
            })
            .collect();
        let datasets: BTreeSet<usize> = chosen.iter().map(|cell| cell.dataset).collect();
        let cells: BTreeSet<_> = chosen.into_iter().map(name).collect();
        (!cells.is_empty()).then(|| Probe { sweep: small(planned, &datasets, store), cells })
    }

    /// How many cells are measured.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Whether `cell` of its sweep is one that is measured.
    pub fn has(&self, cell: &Cell) -> bool {
        self.cells.contains(&name(cell))
    }
}

fn name(cell: &Cell) -> (String, String, String) {
    (cell.dataset_name.clone(), coder(cell.methods()), canonical_json(&cell.params()))
}

/// The sweep of `planned` on the first rows of some of its data sets, with one seed.
fn small(planned: &Planned, datasets: &BTreeSet<usize>, store: PathBuf) -> Sweep {
    let mut sweep = planned.sweep.clone();
    sweep.seeds.truncate(1);
    sweep.run.store = store;
    sweep.run.timeout = limit(sweep.run.timeout);
    let rows = |at: &usize| &planned.rows[at];
    sweep.datasets = datasets
        .iter()
        .map(|at| {
            let mut dataset = planned.sweep.datasets[*at].clone();
            let spec = &mut dataset.spec;
            let tenth = (rows(at).base.rows / 10).max(1);
            spec.limit = Some(spec.limit.map_or(ROWS, |limit| limit.min(ROWS)));
            spec.queries = Queries::HoldOut(rows(at).queries.rows.min(QUERIES).min(tenth));
            if matches!(spec.train, Train::File(_)) {
                spec.train = Train::Reserved(None);
            }
            // Both are of all rows.
            (spec.thin, spec.neighbours) = (None, None);
            dataset.truth_of = None;
            dataset
        })
        .collect();
    let kept: BTreeSet<&str> = sweep.datasets.iter().map(|of| of.spec.name.as_str()).collect();
    sweep.methods.retain(|method| kept.iter().any(|name| method.runs_on(name)));
    for names in sweep.methods.iter_mut().filter_map(|method| method.datasets.as_mut()) {
        names.retain(|name| kept.contains(name.get_ref().as_str()));
    }
    sweep
}

/// Of `records`, those of the very files that the cells to run of `planned` are of, and of one coder and data set
/// the last.
pub fn telling(planned: &Planned, records: Vec<Record>) -> Vec<Record> {
    let file = |of: &MethodInfo| (of.plugin_digest.clone(), of.needs_digest.clone());
    let to_run = planned.to_run();
    let files: BTreeSet<_> =
        to_run.iter().map(|cell| (coder(cell.methods()), file(&cell.method))).collect();
    // Who was interrupted tells nothing.
    let telling = records.into_iter().filter(|of| {
        of.outcome != Outcome::Cancelled && files.contains(&(coder_of(of), file(&of.method)))
    });
    let last: BTreeMap<_, Record> =
        telling.map(|of| ((coder_of(&of), of.dataset.digest.clone()), of)).collect();
    last.into_values().collect()
}
