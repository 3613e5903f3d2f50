//! `vq-host methods`.

use super::selection::Places;
use clap::Args;
use std::path::PathBuf;
use vq_host::report::results::Format;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host methods
  vq-host methods METHOD
  vq-host methods --plugin-dir ./target/release --verbose";

#[derive(Debug, Args)]
pub(crate) struct MethodsArgs {
    /// Show this method's parameters, defaults, grids and paper
    #[arg(value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Also digest, SDK, ABI, licence and every place that was searched
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Ask every library again instead of remembering what it said, and with more patience
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Where it is remembered
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) places: Places,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
