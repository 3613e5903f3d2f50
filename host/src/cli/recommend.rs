//! `vq-host recommend`.

use super::number::positive;
use super::selection::Places;
use clap::Args;
use std::path::PathBuf;
use vq_host::report::results::Format;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host recommend results/first-look.db
  vq-host recommend results/first-look.db --recall 0.9 --rerank 4
  vq-host recommend results/first-look.db --max-bits 4 --min-encode 1e6
  vq-host recommend results/first-look.db --rows 100e6

A recall counts where its one-sided 95 % lower limit over queries and seeds
reaches what is asked. What is unproven is never recommended.";

#[derive(Debug, Args)]
pub(crate) struct RecommendArgs {
    /// The SQLite file; default: the store of ./sweeps.toml
    #[arg(value_name = "STORE")]
    pub(crate) store: Option<PathBuf>,
    /// Only this data set, with all its sizes; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Vec<String>,
    /// The least recall, above 0 and at most 1
    #[arg(long, value_name = "RECALL", default_value = "0.95", value_parser = wanted_recall)]
    pub(crate) recall: f64,
    /// The k of recall@k
    #[arg(long, value_name = "K", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) k: u32,
    /// Rank the best R times k again by the original vectors
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rerank: Option<u32>,
    /// The most bits per dimension, with the model's
    #[arg(long, value_name = "BITS", value_parser = positive)]
    pub(crate) max_bits: Option<f64>,
    /// The fewest vectors to encode per second, such as 1e6
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) min_encode: Option<f64>,
    /// Rows that will be stored, such as 100e6; default: as many as were measured
    #[arg(long, value_name = "ROWS", value_parser = positive)]
    pub(crate) rows: Option<f64>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) places: Places,
    /// Where it is remembered what plugins say of themselves
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

fn wanted_recall(text: &str) -> Result<f64, String> {
    positive(text).ok().filter(|share| *share <= 1.0).ok_or("expected above 0 and at most 1".into())
}
