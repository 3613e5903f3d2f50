//! `vq-host man`: the manual pages, from the same words as `--help`.

use crate::cli::{Cli, ManArgs};
use clap::CommandFactory;
use miette::miette;
use std::process::ExitCode;

pub(super) fn man(args: &ManArgs) -> miette::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.folder))
        .map_err(|error| miette!("cannot write into {}: {error}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
