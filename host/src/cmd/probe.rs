//! `vq-host plan --probe`: runs the probe and keeps its records beside the prepared data.

use super::display::Display;
use super::needed::Known;
use super::run::{by, run_cells};
use super::{counted, plan, say};
use crate::cli::Selection;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use vq_host::plugin::Catalog;
use vq_host::probe::{Probe, ROWS, telling};
use vq_host::record::{Filter, Record, RunInfo};
use vq_host::session::{self, Callbacks, Planned, Session};
use vq_host::store::{OpenError, Store};

/// So many of its newest records are looked at.
const NEWEST: usize = 2_000;

fn store_in(cache: &Path) -> PathBuf {
    cache.join("probes.db")
}

/// What probes on this machine told of the very files that the cells to run of `planned` are of. A store
/// that cannot be read tells nothing, and stops nothing.
pub(super) fn kept(planned: &Planned, cache: &Path) -> Vec<Record> {
    let place = store_in(cache);
    let read = match Store::open_read_only(&place) {
        Err(OpenError::Missing { .. }) => return Vec::new(),
        opened => opened.ok().and_then(|reader| reader.newest(NEWEST, &Filter::default()).ok()),
    };
    let Some(mut contents) = read else {
        say::note_once(&format!(
            "what earlier probes told cannot be read; --probe makes {} again",
            place.display()
        ));
        return Vec::new();
    };
    let here = RunInfo::begin("", "").machine();
    contents.runs.retain(|run| run.machine() == here);
    contents.records.retain(|of| contents.runs.iter().any(|run| run.run_id == of.run_id));
    telling(planned, contents.records)
}

/// Measures a cell of each method of the cells to run that nothing tells of.
pub(super) fn run(
    planned: &Planned,
    catalog: Catalog,
    cache: &Path,
    selection: &Selection,
) -> miette::Result<()> {
    let known = Known::of(planned, cache)?;
    let Some(probe) = Probe::of(planned, |cell| known.has(cell), store_in(cache)) else {
        return Ok(());
    };
    let Some(mut store) = opened(&store_in(cache)) else { return Ok(()) };
    let (count, display) = (counted(probe.len(), "method"), Display::only_bars());
    say::line(&format!("probe: one cell of {count}, on at most {ROWS} rows"));
    let sweep = probe.sweep.clone();
    let session = Session::new(sweep, catalog, cache.to_owned(), HashMap::new())?;
    let (planned, ready) = plan::with_callbacks(selection, &display, |on| {
        // What is to be known of the data was said of all of it.
        let on = Callbacks { note: &|_, _| (), ..*on };
        let mut planned = session.plan(&session::Selection::default(), &on)?;
        planned.select(|cell| probe.has(cell));
        let ready = planned.neighbours(&on)?;
        Ok((planned, ready))
    })?;
    display.prepared();
    // One at a time, with as many threads as each will have.
    let mut capacity = by(&planned.sweep.run, !selection.places.no_sandbox);
    capacity.jobs = 1;
    run_cells(capacity, &planned, &ready, &mut store, &display)?;
    display.finish();
    Ok(())
}

/// The store of probes, made again where what is there is none. None, said in a line, where there can be none.
fn opened(path: &Path) -> Option<Store> {
    let nothing = |why: &dyn std::fmt::Display| {
        say::warning(&format!("nothing is probed: {why}"));
        None
    };
    match Store::open(path) {
        Ok(mut store) => match store.discard_damaged() {
            Ok(_) => return Some(store),
            Err(error) if error.is_full_disk() => return nothing(&error),
            Err(_) => {}
        },
        Err(OpenError::Locked { .. }) => {
            return nothing(&format!("another vq-host does so, into {}", path.display()));
        }
        Err(
            OpenError::NotAStore { .. } | OpenError::Corrupted { .. } | OpenError::Newer { .. },
        ) => {}
        Err(error) => return nothing(&error),
    }
    match fs::remove_file(path) {
        Ok(()) => Store::open(path).map_or_else(|error| nothing(&error), Some),
        Err(error) => nothing(&format!("cannot remove {}: {error}", path.display())),
    }
}
