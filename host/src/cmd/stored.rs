//! What verbs that read a store share: which one, which records, and what is damaged in it.

use super::{SOME_FAILED, counted, not_interrupted, say};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::{BTreeMap, BTreeSet};
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

/// Reads what `args` select, of each cell one record, and those whose keys begin with one of `keys` if
/// there are any; a data set or method of which there is no record is an error.
pub(super) fn select(args: &cli::Stored, keys: &[String]) -> miette::Result<Selected> {
    let (reader, mut filter) = ask(args)?;
    // All of a large store are too many to choose among. All of another are looked at, so that the
    // record of a cell is the same one whether others are shown or not.
    if reader.is_large().into_diagnostic()? {
        filter.keys = keys.to_vec();
    }
    let contents = reader.contents(&filter).into_diagnostic()?;
    let mut selected = Selected::of(reader, contents).one_of_each();
    if !keys.is_empty() {
        let begins = |record: &Record| keys.iter().any(|key| record.key.starts_with(key.as_str()));
        selected.records.retain(begins);
    }
    Ok(selected)
}

/// As [`select`], with the records of each machine.
pub(super) fn select_of_each_machine(args: &cli::Stored) -> miette::Result<Selected> {
    let (reader, filter) = ask(args)?;
    let contents = reader.contents(&filter).into_diagnostic()?;
    Ok(Selected::of(reader, contents))
}

/// As [`select`], at most so many records, the newest; with how many there are where these are not
/// all.
pub(super) fn select_newest(
    args: &cli::Stored,
    most: usize,
) -> miette::Result<(Selected, Option<usize>)> {
    let (reader, filter) = ask(args)?;
    if !reader.is_large().into_diagnostic()? {
        let contents = reader.contents(&filter).into_diagnostic()?;
        return Ok((Selected::of(reader, contents).one_of_each(), None));
    }
    let there = reader.counted(&filter).into_diagnostic()?;
    let contents = reader.newest(most, &filter).into_diagnostic()?;
    Ok((Selected::of(reader, contents).one_of_each(), (there > most).then_some(there)))
}

/// Opens the store that `args` name, and says what is wanted of it.
fn ask(args: &cli::Stored) -> miette::Result<(Reader, Filter)> {
    let store = match &args.store {
        Some(store) => store.clone(),
        None => store_of_default_sweep()?,
    };
    let filter = Filter {
        datasets: args.dataset.clone(),
        methods: args.method.clone(),
        outcomes: args.outcome.clone(),
        keys: Vec::new(),
    };
    let reader = open(&store)?;
    let (datasets, methods) = reader.names().into_diagnostic()?;
    known("data set", &args.dataset, &datasets, &store)?;
    known("method", &args.method, &methods, &store)?;
    Ok((reader, filter))
}

/// The names that an error lists.
const LISTED: usize = 20;

/// A store whose data sets are read by families: each data set at all its sizes.
pub(super) struct Families {
    selected: Selected,
    /// The families that are wanted; all where none is named.
    wanted: Vec<String>,
    /// What is read at once: all of a store, or of a large one a family after the other.
    parts: Vec<Filter>,
    /// Those that there are, as far as names tell.
    there: BTreeSet<String>,
}

/// Opens a store of which these families are wanted, or all of them where none is named.
pub(super) fn families(store: Option<&Path>, wanted: &[String]) -> miette::Result<Families> {
    let store = match store {
        Some(store) => store.to_owned(),
        None => store_of_default_sweep()?,
    };
    let reader = open(&store)?;
    let (names, _) = reader.names().into_diagnostic()?;
    let mut parts: BTreeMap<String, Filter> = BTreeMap::new();
    for name in names {
        parts.entry(stem(&name).to_owned()).or_default().datasets.push(name);
    }
    let there = parts.keys().cloned().collect();
    if reader.is_large().into_diagnostic()? {
        parts.retain(|stem, Filter { datasets, .. }| {
            wanted.is_empty() || wanted.iter().any(|of| of == stem || datasets.contains(of))
        });
    } else {
        parts = BTreeMap::from([(String::new(), Filter::default())]);
    }
    if wanted.is_empty() && parts.len() > 1 {
        let records = counted(reader.counted(&Filter::default()).into_diagnostic()?, "record");
        say::note(&format!(
            "reading {records} of {} data sets, one after the other; --dataset names some",
            parts.len()
        ));
    }
    let (parts, wanted) = (parts.into_values().collect(), wanted.to_vec());
    Ok(Families { selected: Selected::of(reader, Contents::default()), wanted, parts, there })
}

/// The family of a data set with this name, unless the name says another number of rows than it has:
/// that is known when its records are read.
fn stem(name: &str) -> &str {
    let sized = name.rsplit_once('@').filter(|(_, rows)| rows.parse::<u64>().is_ok());
    sized.map_or(name, |(stem, _)| stem)
}

impl Families {
    /// Shows `visit` the records of one part after the other, of each cell one, without what `trim`
    /// takes from them.
    pub(super) fn read(
        &mut self,
        trim: impl Fn(&mut Record),
        mut visit: impl FnMut(&[Record]),
    ) -> miette::Result<()> {
        self.there.retain(|name| !self.wanted.contains(name));
        for filter in std::mem::take(&mut self.parts) {
            not_interrupted()?;
            let contents = self.selected.reader.trimmed(&filter, &trim).into_diagnostic()?;
            let Contents { mut records, runs, damage } = contents;
            self.there.extend(records.iter().map(|record| record.dataset.family().to_owned()));
            let wanted = &self.wanted;
            records.retain(|record| {
                wanted.is_empty() || wanted.iter().any(|name| name == record.dataset.family())
            });
            // Runs are read with each part.
            let told = &mut self.selected.damage;
            for of_part in damage {
                if matches!(of_part, Damage::Record { .. }) || !told.contains(&of_part) {
                    told.push(of_part);
                }
            }
            visit(&one_of_each(records, &runs));
        }
        let there: Vec<String> = self.there.iter().cloned().collect();
        known("data set", &self.wanted, &there, self.selected.reader.path())
    }

    /// As [`Selected::end`].
    pub(super) fn end(self) -> miette::Result<ExitCode> {
        self.selected.end()
    }
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
    fn of(reader: Reader, contents: Contents) -> Self {
        let Contents { records, runs, damage } = contents;
        Self { reader, records, runs, damage }
    }

    fn one_of_each(mut self) -> Self {
        self.records = one_of_each(std::mem::take(&mut self.records), &self.runs);
        self
    }

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
        // Of a large store that is not known: all of it would have to be read.
        let most = match reader.is_large().into_diagnostic()? {
            true => None,
            false => reader.too_damaged().into_diagnostic()?,
        };
        if let Some(most) = most {
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
        all if all.len() > LISTED => format!("it has results of {}, …", all[..LISTED].join(", ")),
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
