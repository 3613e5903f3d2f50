//! `vq-host compare`: what got worse or better between two stores, or two runs.

use super::{SOME_FAILED, say, stored, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vq_host::output;
use vq_host::record::{Filter, Record, RunInfo};
use vq_host::report::compare::{Settings, compare as difference, one_machine, write_comparison};
use vq_host::report::results::Format;
use vq_host::store::{Damage, Reader};
use vq_host::suggest;

pub(super) fn compare(args: &cli::CompareArgs) -> miette::Result<ExitCode> {
    if args.format == Format::Csv {
        return Err(miette!(help = "table or json", "a comparison is not written as csv"));
    }
    let before = Side::read(&args.before)?;
    let after = Side::read(&args.after)?;
    let settings = Settings {
        tolerance: args.tolerance,
        metrics: args.metrics.clone(),
        timings: args.timings,
    };
    known(&settings.metrics, [&before, &after])?;
    if args.timings {
        let runs = [before.runs()?, after.runs()?].concat();
        one_machine(before.records.iter().chain(&after.records), &runs).map_err(|error| {
            miette!(help = "leave --timings out: quality compares everywhere", "{error}")
        })?;
    }
    let comparison = difference(&before.records, &after.records, &settings);
    let mut out = say::out();
    match args.format {
        Format::Json => output::write(&comparison, &mut out).into_diagnostic()?,
        _ => write_comparison(&comparison, &settings, style(), &mut out).into_diagnostic()?,
    }
    out.flush().into_diagnostic()?;
    let damaged = before.say_damage() | after.say_damage();
    // A gate that compared nothing has not been passed.
    if comparison.is_empty() {
        return Err(miette!(
            help = "both need cells of the same data, configuration, evaluation and seed",
            "nothing was compared"
        ));
    }
    match damaged || comparison.is_worse() {
        true => Ok(ExitCode::from(SOME_FAILED)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// A store, or one run of it.
struct Side {
    reader: Reader,
    records: Vec<Record>,
    damage: Vec<Damage>,
}

impl Side {
    fn read(text: &str) -> miette::Result<Self> {
        let (path, run) = place(text);
        let reader = stored::open(&path)?;
        let contents = reader.contents(&Filter::default()).into_diagnostic()?;
        let mut side = Self { reader, records: contents.records, damage: contents.damage };
        if let Some(run) = run {
            let id = side.run(run, &path)?;
            side.records.retain(|record| record.run_id == id);
        }
        Ok(side)
    }

    fn runs(&self) -> miette::Result<Vec<RunInfo>> {
        self.reader.runs().into_diagnostic()
    }

    /// The id of the run that begins with `start`.
    fn run(&self, start: &str, store: &Path) -> miette::Result<String> {
        let mut ids: Vec<&str> = self.records.iter().map(|record| record.run_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let found: Vec<&&str> = ids.iter().filter(|id| id.starts_with(start)).collect();
        match found[..] {
            [one] => Ok((*one).to_owned()),
            ref several => {
                let help = match ids[..] {
                    [] => "the store is empty".to_owned(),
                    _ => format!("it has records of {}", ids.join(", ")),
                };
                let many = if several.is_empty() { "no run" } else { "several runs" };
                let store = store.display();
                Err(miette!(help = help, "{store} has {many} whose id begins with `{start}`"))
            }
        }
    }

    /// Says what is damaged; whether anything is.
    fn say_damage(&self) -> bool {
        for line in Damage::lines(&self.damage) {
            say::warning(&format!("{}: {line}; it is left out", self.reader.path().display()));
        }
        !self.damage.is_empty()
    }
}

/// The store and the run that `text` names; a file with a `#` in its name is a store.
fn place(text: &str) -> (PathBuf, Option<&str>) {
    match text.rsplit_once('#') {
        Some((store, run)) if !Path::new(text).exists() => (store.into(), Some(run)),
        _ => (text.into(), None),
    }
}

/// Refuses a metric that no record has.
fn known(metrics: &[String], sides: [&Side; 2]) -> miette::Result<()> {
    let names = || {
        let records = sides.into_iter().flat_map(|side| &side.records);
        records.flat_map(|record| &record.metrics).map(|metric| metric.name())
    };
    for name in metrics {
        if !names().any(|known| known == name) {
            let near = suggest::nearest_name(name, names());
            let help = near.map(|near| format!("did you mean `{near}`?"));
            return Err(miette!(
                help = help.unwrap_or_else(|| "`vq-host results --format csv` has all".to_owned()),
                "no record has the metric `{name}`"
            ));
        }
    }
    Ok(())
}
