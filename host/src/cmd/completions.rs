//! `vq-host completions`: what a shell has to know of the command line.

use super::say;
use crate::cli::{Cli, CompletionsArgs};
use clap::CommandFactory;
use miette::IntoDiagnostic;
use std::io::Write;
use std::process::ExitCode;

pub(super) fn completions(args: &CompletionsArgs) -> miette::Result<ExitCode> {
    // The generator panics when it cannot write, as it would into a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vq-host", &mut script);
    let mut out = say::out();
    out.write_all(&script).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
