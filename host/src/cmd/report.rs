//! `vq-host report`: one HTML page that shows a store.

use super::{say, stored};
use crate::cli;
use miette::IntoDiagnostic;
use std::process::ExitCode;
use vq_host::report::page::{PageInput, page};
use vq_host::store::ReadError;

/// A page of more cells than these would be slow to open.
const MOST: usize = 5_000;

pub(super) fn report(args: &cli::ReportArgs) -> miette::Result<ExitCode> {
    let (selected, there) = stored::select_newest(&args.stored, MOST)?;
    let runs = match selected.reader.runs() {
        // What is damaged is told at the end; the page says that it has no description.
        Err(ReadError::Damaged { .. }) => Vec::new(),
        runs => runs.into_diagnostic()?,
    };
    let spectra = selected.reader.spectra().into_diagnostic()?;
    let mut store =
        selected.reader.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(there) = there {
        let shown = format!("the newest {} of {there} records", selected.records.len());
        say::note(&format!("the page shows {shown}: --dataset and --method choose others"));
        store = format!("{store}, {shown}");
    }
    let input =
        PageInput { store: &store, records: &selected.records, runs: &runs, spectra: &spectra };
    stored::write_file(&args.output, page(&input).into_diagnostic()?.as_bytes())?;
    selected.end()
}
