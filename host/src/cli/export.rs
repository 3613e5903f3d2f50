//! `vq-host export`.

use super::stored::Stored;
use clap::Args;
use std::path::PathBuf;
use vq_host::report::export::ExportFormat;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host export results/first-look.db --format parquet -o results.parquet
  vq-host export results/first-look.db --format jsonl | jq .key
  vq-host export results/first-look.db --format csv-ann > ann-benchmarks.csv
  vq-host export results/first-look.db --format markdown --method METHOD

Each row has the key of its record.";

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// The metrics that get a column, separated by commas; of parquet, csv and markdown
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// parquet, csv, csv-ann (ann-benchmarks' columns), jsonl or markdown
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    /// Write to this file, whole or not at all; default: stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
