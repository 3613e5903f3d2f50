//! `vq-host results`: what a store holds.

use super::{say, stored, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::process::ExitCode;
use vq_host::record::Record;
use vq_host::report::plain;
use vq_host::report::results::{Request, write_results};

pub(super) fn results(args: &cli::ResultsArgs) -> miette::Result<ExitCode> {
    let selected = stored::select(&args.stored, &args.key)?;
    let begins = |record: &Record, key: &String| record.key.starts_with(key.as_str());
    for key in &args.key {
        if !selected.records.iter().any(|record| begins(record, key)) {
            return Err(miette!(
                help = "`vq-host results STORE --verbose` tells all of them",
                "no record has a key that begins with `{}`",
                plain(key)
            ));
        }
    }
    let request = Request {
        metrics: args.columns.clone(),
        sort: args.sort.clone(),
        best: args.best,
        verbose: args.verbose,
        format: args.format,
    };
    let mut out = say::out();
    write_results(&selected.records, &request, style(), &mut out).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    selected.end()
}
