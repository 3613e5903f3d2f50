//! `vq-host submit`.

use super::number::at_least_one;
use super::selection::Selection;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host submit sweeps.toml --dry-run
  vq-host submit sweeps.toml --tasks 64 --time 2h --cpus 8 --exclusive --watch
  vq-host submit sweeps.toml --print | head -n -1 | parallel

What the store has is not submitted again. [submit] in the sweep says the same
as the options, which win. Scripts, logs and the stores of all attempts are in
a folder beside the store, NAME.submit/1 for the first submission.

Exit codes:
  0              submitted; with --watch: all cells are ok
  1              could not be submitted
  2              wrong usage
  3              --watch: some cells failed or are missing
  129, 130, 143  ended by SIGHUP, Ctrl-C, SIGTERM; jobs go on";

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// The scheduler
    #[arg(long, value_name = "ENGINE", default_value = "slurm")]
    pub(crate) engine: Engine,
    /// Tasks at most, each about as long by the records of the store; default: 64
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) tasks: Option<usize>,
    /// The account that pays
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// The scheduler's queue, which Slurm calls a partition
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Time limit per task, such as 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) time: Option<std::time::Duration>,
    /// Memory per task, such as 16GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<bytesize::ByteSize>,
    /// Processors per task
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) cpus: Option<usize>,
    /// GPUs per task
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) gpus: Option<usize>,
    /// An environment module to load first; repeatable
    #[arg(long, value_name = "NAME", conflicts_with = "print")]
    pub(crate) module: Vec<String>,
    /// Ask for whole nodes, so that nothing else slows what is timed
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// Where each node keeps prepared data; default: $VQ_CACHE_DIR, else a folder in $TMPDIR
    #[arg(long, value_name = "DIR")]
    pub(crate) node_cache: Option<PathBuf>,
    /// Show the scripts and the cells of each task; write and submit nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one command a task, and last the merge, for any other scheduler; submit nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Tell how far it is until all jobs have ended
    #[arg(long, conflicts_with_all = ["dry_run", "print"])]
    pub(crate) watch: bool,
}

/// A scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Slurm,
}
