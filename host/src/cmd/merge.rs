//! `vq-host merge`: several stores become one.

use super::run::opening;
use super::{SOME_FAILED, counted, say};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::BTreeSet;
use std::process::ExitCode;
use vq_host::report::disagreements;
use vq_host::store::{Damage, OpenError, Reader, Store};

/// More disagreements than these would scroll away what matters.
const TOLD: usize = 10;

pub(super) fn merge(args: &cli::MergeArgs) -> miette::Result<ExitCode> {
    let mut readers: Vec<Reader> = Vec::new();
    let mut well = true;
    for path in &args.inputs {
        match Store::open_read_only(path) {
            Ok(reader) => readers.push(reader),
            Err(error @ (OpenError::Corrupted { .. } | OpenError::NotAStore { .. })) => {
                well = false;
                say::warning(&format!("{error}; it is left out"));
            }
            Err(error) => return Err(error).into_diagnostic(),
        }
    }
    if readers.is_empty() {
        return Err(miette!(
            help = "name the stores that `vq-host run --partition` wrote",
            "none of the {} can be read",
            counted(args.inputs.len(), "store")
        ));
    }
    let mut store = Store::open(&args.out).map_err(opening)?;
    let merged = match store.merge(&readers) {
        Ok(merged) => merged,
        Err(error) => {
            store.abandon();
            return Err(error).into_diagnostic();
        }
    };
    let damaged: BTreeSet<_> = merged.damage.iter().map(|(path, _)| path).collect();
    for path in damaged {
        well = false;
        let of_path = merged.damage.iter().filter(|(at, _)| at == path);
        let damage: Vec<Damage> = of_path.map(|(_, damage)| damage.clone()).collect();
        for line in Damage::lines(&damage) {
            say::warning(&format!("{}: {line}; what is sound is taken over", path.display()));
        }
    }
    let twice = store.measured_twice().into_diagnostic()?;
    let lines = disagreements(&twice.records, &twice.runs);
    well &= lines.is_empty();
    lines.iter().take(TOLD).for_each(|line| say::warning(line));
    if lines.len() > TOLD {
        say::warning(&format!("machines disagree on {} more cells", lines.len() - TOLD));
    }
    say::line(&format!(
        "{} has {}, {} of them new, of {}",
        args.out.display(),
        counted(merged.records, "record"),
        merged.records.saturating_sub(merged.before),
        counted(readers.len(), "store"),
    ));
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(SOME_FAILED) })
}
