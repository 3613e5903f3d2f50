//! `vq-host report`.

use super::stored::Stored;
use clap::Args;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host report results/first-look.db -o first-look.html
  vq-host report results/first-look.db --dataset NAME -o name.html

The page is one file that fetches nothing: send it, or open it from the disk.
Its address holds what is shown, so a link to a page on a server shows it too.";

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// The file to write, whole or not at all
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}
