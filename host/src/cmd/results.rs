//! `vq-host results`: what a store holds.

use super::{SOME_FAILED, say, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vq_host::record::Filter;
use vq_host::report::results::{Request, write_results};
use vq_host::store::{Contents, Damage, Reader, Store};
use vq_host::suggest;
use vq_host::sweep::Sweep;

pub(super) fn results(args: &cli::ResultsArgs) -> miette::Result<ExitCode> {
    let store = match &args.store {
        Some(store) => store.clone(),
        None => store_of_default_sweep()?,
    };
    if !store.exists() {
        return Err(miette!(
            help = "`vq-host run` makes it; `vq-host plan SWEEP` tells where a sweep keeps its results",
            "there is no store at {}",
            store.display()
        ));
    }
    let filter = Filter {
        datasets: args.dataset.clone(),
        methods: args.method.clone(),
        outcomes: args.outcome.clone(),
    };
    let reader = Store::open_read_only(&store).into_diagnostic()?;
    let (datasets, methods) = reader.names().into_diagnostic()?;
    known("data set", &args.dataset, &datasets, &store)?;
    known("method", &args.method, &methods, &store)?;
    let Contents { records, damage } = reader.contents(&filter).into_diagnostic()?;
    let request = Request {
        metrics: args.columns.clone(),
        sort: args.sort.clone(),
        best: args.best,
        verbose: args.verbose,
        format: args.format,
    };
    let mut out = say::out();
    write_results(&records, &request, style(), &mut out).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    told_damage(&reader, damage, &store)
}

/// Says what is damaged in the store that was read, and by the exit code whether anything is.
pub(super) fn told_damage(
    reader: &Reader,
    damage: Vec<Damage>,
    store: &Path,
) -> miette::Result<ExitCode> {
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
        let store = store.display();
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

/// Refuses what the store has no record of, with the nearest name that it has.
pub(super) fn known(
    what: &str,
    wanted: &[String],
    there: &[String],
    store: &Path,
) -> miette::Result<()> {
    let Some(unknown) = wanted.iter().find(|name| !there.contains(name)) else { return Ok(()) };
    let all = match there {
        [] => "the store is empty".to_owned(),
        all => format!("it has results of {}", all.join(", ")),
    };
    let near = suggest::nearest_name(unknown, there.iter().map(String::as_str));
    let help = near.map_or_else(|| all.clone(), |near| format!("did you mean `{near}`? {all}"));
    Err(miette!(help = help, "{} has no results of the {what} `{unknown}`", store.display()))
}

pub(super) fn store_of_default_sweep() -> miette::Result<PathBuf> {
    let path = Path::new("sweeps.toml");
    if !path.exists() {
        return Err(miette!(
            help = "vq-host results results/NAME.db",
            "name a store: there is no sweeps.toml here to tell which"
        ));
    }
    Ok(Sweep::load(path)?.run.store)
}
