//! `vq-host run`.

use super::number::{at_least_one, positive, share};
use super::selection::Selection;
use clap::Args;
use std::path::PathBuf;
use vq_host::report::results::Format;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host run sweeps.toml
  vq-host run sweeps.toml --only METHOD --jobs 2
  vq-host run sweeps.toml --rerun failed
  vq-host run sweeps.toml --partition hash:3/16
  vq-host run --data FILE.parquet
  vq-host run --data 'shards/*.parquet' --limit 100000
  vq-host run --data FILE.fbin --metric cosine --recall 0.9 --rows 30e6
  vq-host run --data FILE.fbin --method METHOD --param NAME=8,16,32";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Cells at once; timings count as exclusive only with 1
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) jobs: Option<usize>,
    /// Threads per cell; 0 = cores / jobs
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Time limit per cell, such as 90s or 10min
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<std::time::Duration>,
    /// Memory limit per cell, such as 512MiB or 8GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<bytesize::ByteSize>,
    /// Limit on what a cell may write to its scratch folder, such as 512MiB or 8GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) scratch: Option<bytesize::ByteSize>,
    /// The same as `vq-host plan`
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// For --data: true rates to try every method at
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "1,2,4,8", value_parser = positive)]
    pub(crate) bits: Vec<f64>,
    /// For --data: time for everything, such as 10min; the default is for 2 cores
    #[arg(long, value_name = "TIME", default_value = "2min", value_parser = humantime::parse_duration)]
    pub(crate) budget: std::time::Duration,
    /// For --data: the recall@10 that a code is asked for
    #[arg(long, value_name = "RECALL", default_value = "0.95", value_parser = share)]
    pub(crate) recall: f64,
    /// For --data: rows that will be stored, such as 100e6; default: those of the file
    #[arg(long, value_name = "ROWS", value_parser = positive)]
    pub(crate) rows: Option<f64>,
    /// For --data: write a sweep of the best few here, to go on with
    #[arg(long, value_name = "FILE")]
    pub(crate) write_sweep: Option<PathBuf>,
    /// table, json or csv
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
    /// Rows per block of the walk over the base; changes no result
    #[arg(long, value_name = "N", hide = true, value_parser = at_least_one)]
    pub(crate) block_rows: Option<usize>,
}
