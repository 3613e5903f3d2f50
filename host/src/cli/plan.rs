//! `vq-host plan`.

use super::selection::Selection;
use clap::Args;
use vq_host::report::results::Format;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host plan sweeps.toml
  vq-host plan sweeps.toml --probe         also how long it takes
  vq-host plan sweeps.toml --format json | jq '.cells | length'";

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Measure one small cell of each method that no record tells of, never into the store, to say
    /// what its cells take
    #[arg(long)]
    pub(crate) probe: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
