//! `vq-host report`: one HTML page that shows a store.

use super::stored;
use crate::cli;
use miette::IntoDiagnostic;
use std::process::ExitCode;
use vq_host::report::page::{PageInput, page};
use vq_host::store::ReadError;

pub(super) fn report(args: &cli::ReportArgs) -> miette::Result<ExitCode> {
    let selected = stored::select(&args.stored)?;
    let runs = match selected.reader.runs() {
        // What is damaged is told at the end; the page says that it has no description.
        Err(ReadError::Damaged { .. }) => Vec::new(),
        runs => runs.into_diagnostic()?,
    };
    let spectra = selected.reader.spectra().into_diagnostic()?;
    let store = selected.reader.path().file_name().unwrap_or_default().to_string_lossy();
    let input =
        PageInput { store: &store, records: &selected.records, runs: &runs, spectra: &spectra };
    stored::write_file(&args.output, page(&input).into_diagnostic()?.as_bytes())?;
    selected.end()
}
