//! `vq-host results`: what a store holds.

use super::{say, stored, style};
use crate::cli;
use miette::IntoDiagnostic;
use std::io::Write;
use std::process::ExitCode;
use vq_host::report::results::{Request, write_results};

pub(super) fn results(args: &cli::ResultsArgs) -> miette::Result<ExitCode> {
    let selected = stored::select(&args.stored)?;
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
