//! `vq-host results`.

use super::stored::Stored;
use clap::Args;
use vq_host::report::results::{Format, Sort};

pub(super) const EXAMPLES: &str = "Examples:
  vq-host results results/first-look.db
  vq-host results results/first-look.db --method METHOD --best
  vq-host results results/first-look.db --columns mse,recall@10 --sort mse
  vq-host results results/first-look.db --outcome failed --verbose
  vq-host results results/first-look.db --format csv > results.csv";

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// Only the record whose key begins so, as pictures, answers and --verbose tell it; repeatable
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// The metrics that get a column, separated by commas
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Sort by a column: COLUMN, COLUMN:asc or COLUMN:desc
    #[arg(long, value_name = "COLUMN")]
    pub(crate) sort: Option<Sort>,
    /// Also the cause, log, sandbox, plugin and circumstances of each, under its row
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Only the best trade-offs of size and quality, as at the end of a run
    #[arg(long)]
    pub(crate) best: bool,
    /// table, json or csv
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
