//! What verbs that read a store share: which one, which records, and what is damaged in it.

use super::{SOME_FAILED, say};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vq_host::record::{Filter, Record, RunInfo};
use vq_host::report::one_of_each;
use vq_host::store::{Contents, Damage, Reader, Store};
use vq_host::suggest;
use vq_host::sweep::Sweep;

/// A store that was opened, and the records that are wanted of it.
pub(super) struct Selected {
    pub(super) reader: Reader,
    pub(super) records: Vec<Record>,
    runs: Vec<RunInfo>,
    damage: Vec<Damage>,
}

/// Reads what `args` select, of each cell one record; a data set or method of which there is no
/// record is an error.
pub(super) fn select(args: &cli::Stored) -> miette::Result<Selected> {
    let mut selected = select_of_each_machine(args)?;
    selected.records = one_of_each(selected.records, &selected.runs);
    Ok(selected)
}

/// As [`select`], with the records of each machine.
pub(super) fn select_of_each_machine(args: &cli::Stored) -> miette::Result<Selected> {
    let store = match &args.store {
        Some(store) => store.clone(),
        None => store_of_default_sweep()?,
    };
    let filter = Filter {
        datasets: args.dataset.clone(),
        methods: args.method.clone(),
        outcomes: args.outcome.clone(),
    };
    let reader = open(&store)?;
    let (datasets, methods) = reader.names().into_diagnostic()?;
    known("data set", &args.dataset, &datasets, &store)?;
    known("method", &args.method, &methods, &store)?;
    let Contents { records, runs, damage } = reader.contents(&filter).into_diagnostic()?;
    Ok(Selected { reader, records, runs, damage })
}

/// As [`select`], at most so many records, the newest; with how many there are where these are not
/// all.
pub(super) fn select_newest(
    args: &cli::Stored,
    most: usize,
) -> miette::Result<(Selected, Option<usize>)> {
    let is_all = args.dataset.is_empty() && args.method.is_empty() && args.outcome.is_empty();
    let store = match &args.store {
        Some(store) => store.clone(),
        None => store_of_default_sweep()?,
    };
    let reader = open(&store)?;
    let mut there = reader.counted().into_diagnostic()?;
    let mut selected = if is_all && reader.is_large().into_diagnostic()? {
        let Contents { records, runs, damage } = reader.newest(most).into_diagnostic()?;
        let records = one_of_each(records, &runs);
        Selected { reader, records, runs, damage }
    } else {
        let selected = select(args)?;
        there = selected.records.len();
        selected
    };
    let cut = selected.records.len().saturating_sub(most);
    selected.records.drain(..cut);
    let all_are_there = there <= most;
    Ok((selected, (!all_are_there).then_some(there)))
}

/// The names of data sets that an error lists.
const LISTED: usize = 10;

/// Reads the records of the data sets of these families, at all their sizes; of all where none is
/// named, unless the store is large and has several.
pub(super) fn families(store: Option<&Path>, wanted: &[String]) -> miette::Result<Selected> {
    let store = match store {
        Some(store) => store.to_owned(),
        None => store_of_default_sweep()?,
    };
    let reader = open(&store)?;
    let (datasets, _) = reader.names().into_diagnostic()?;
    let mut filter = Filter::default();
    let large = reader.is_large().into_diagnostic()?;
    if large && wanted.is_empty() && datasets.len() > 1 {
        let more = if datasets.len() > LISTED { ", …" } else { "" };
        let some: Vec<&str> = datasets.iter().take(LISTED).map(String::as_str).collect();
        return Err(miette!(
            help = format!("name data sets with --dataset: it has {}{more}", some.join(", ")),
            "{} has {} records, too many to be read at once",
            store.display(),
            reader.counted().into_diagnostic()?
        ));
    }
    if large && !wanted.is_empty() {
        let may_be = |name: &&String| wanted.iter().any(|of| name.starts_with(of.as_str()));
        filter.datasets = datasets.iter().filter(may_be).cloned().collect();
    }
    let Contents { mut records, runs, damage } = reader.contents(&filter).into_diagnostic()?;
    let there: BTreeSet<&str> = records.iter().map(|record| record.dataset.family()).collect();
    let there: Vec<String> = there.into_iter().map(str::to_owned).collect();
    known("data set", wanted, &there, &store)?;
    records.retain(|record| {
        wanted.is_empty() || wanted.iter().any(|name| name == record.dataset.family())
    });
    let records = one_of_each(records, &runs);
    Ok(Selected { reader, records, runs, damage })
}

/// Opens the store at `path`, which has to be there.
pub(super) fn open(path: &Path) -> miette::Result<Reader> {
    if !path.exists() {
        return Err(miette!(
            help = "`vq-host run` makes it; `vq-host plan SWEEP` tells where a sweep keeps its results",
            "there is no store at {}",
            path.display()
        ));
    }
    Store::open_read_only(path).into_diagnostic()
}

impl Selected {
    /// Says what is damaged, and what to do; the exit code of a command that is done.
    pub(super) fn end(self) -> miette::Result<ExitCode> {
        let Self { reader, damage, .. } = self;
        if damage.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let of_run = |damage: &Damage| matches!(damage, Damage::Run { .. });
        let (runs, others): (Vec<Damage>, Vec<Damage>) = damage.into_iter().partition(of_run);
        for line in Damage::lines(&others) {
            say::warning(&format!("{line}; it is left out"));
        }
        for line in Damage::lines(&runs) {
            say::warning(&format!("{line}; its records are not"));
        }
        if let Some(most) = reader.too_damaged().into_diagnostic()? {
            let store = reader.path().display();
            say::line(&format!(
                "{most}: try `sqlite3 {store} .recover`, or move the store away and run again"
            ));
        } else if others.is_empty() {
            say::line("`vq-host run` takes a damaged description out and keeps the run's records");
        } else {
            say::line("`vq-host run` measures anew what is damaged");
        }
        Ok(ExitCode::from(SOME_FAILED))
    }
}

/// Writes a file, whole or not at all: beside its place first, then by rename.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> miette::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let write = || {
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // A device or a pipe is written into, never replaced.
        if path.exists() && !path.is_file() {
            return std::fs::write(path, bytes);
        }
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(bytes)?;
        // As a file that is simply created has it: a temporary one is its owner's alone.
        use std::os::unix::fs::PermissionsExt as _;
        beside.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        beside.persist(path).map(|_| ()).map_err(|error| error.error)
    };
    write().map_err(|error| miette!("cannot write {}: {error}", path.display()))
}

/// Refuses what the store has no record of, with the nearest name that it has.
fn known(what: &str, wanted: &[String], there: &[String], store: &Path) -> miette::Result<()> {
    let Some(unknown) = wanted.iter().find(|name| !there.contains(name)) else { return Ok(()) };
    let all = match there {
        [] => "the store is empty".to_owned(),
        all => format!("it has results of {}", all.join(", ")),
    };
    let near = suggest::nearest_name(unknown, there.iter().map(String::as_str));
    let help = near.map_or_else(|| all.clone(), |near| format!("did you mean `{near}`? {all}"));
    Err(miette!(help = help, "{} has no results of the {what} `{unknown}`", store.display()))
}

fn store_of_default_sweep() -> miette::Result<PathBuf> {
    let path = Path::new("sweeps.toml");
    if !path.exists() {
        return Err(miette!(
            help = "vq-host results results/NAME.db",
            "name a store: there is no sweeps.toml here to tell which"
        ));
    }
    Ok(Sweep::load(path)?.run.store)
}
