//! `vq-host export`: a store's records for other programs.

use super::{say, stored};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use vq_host::report::export;

pub(super) fn export(args: &cli::ExportArgs) -> miette::Result<ExitCode> {
    if args.format.is_binary() && args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(miette!(help = "add -o FILE", "a Parquet file is nothing for a terminal"));
    }
    let selected = stored::select_of_each_machine(&args.stored)?;
    let mut bytes = Vec::new();
    export::export(&selected.records, &args.columns, args.format, &mut bytes).into_diagnostic()?;
    match &args.output {
        Some(path) => stored::write_file(path, &bytes)?,
        None => {
            let mut out = say::out();
            out.write_all(&bytes).into_diagnostic()?;
            out.flush().into_diagnostic()?;
        }
    }
    selected.end()
}
