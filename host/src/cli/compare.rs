//! `vq-host compare`.

use super::number::share;
use clap::Args;
use vq_host::report::results::Format;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host compare results/old.db results/new.db
  vq-host compare results/old.db results/new.db --tolerance 2% --timings
  vq-host compare results/all.db#20251122 results/all.db#20251124

Cells are matched by data, method, configuration and evaluation, and paired
over the seeds and queries that both have. STORE#RUN takes one run of a store:
the beginning of its id, which tells its time. A store keeps the last record
of a cell.

Exit codes:
  0              nothing got worse
  1              could not compare
  2              wrong usage
  3              something got worse, or a record is damaged
  129, 130, 143  ended by SIGHUP, Ctrl-C, SIGTERM";

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The store to compare with, or one run of it: STORE#RUN
    #[arg(value_name = "BEFORE")]
    pub(crate) before: String,
    /// The store that is compared, or one run of it
    #[arg(value_name = "AFTER")]
    pub(crate) after: String,
    /// Differences up to this share of the value do not count, such as 1% or 0.01
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub(crate) tolerance: f64,
    /// Also compare speeds and the time to fit; all records have to be of one machine
    #[arg(long)]
    pub(crate) timings: bool,
    /// The metrics to compare; default: every recall@k, relative_error and bits_per_dim
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(crate) metrics: Vec<String>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
