//! `vq-host plot`.

use super::stored::Stored;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host plot results/first-look.db
  vq-host plot results/first-look.db --y mse,recall@100 -o pictures
  vq-host plot results/first-look.db --x ratio --y recall@10 --format svg
  vq-host plot results/first-look.db --terminal

Without --y: recall, relative error, bias and speeds against the rate, and
what is missed after re-ranking. A line joins what no other configuration of
its method is as good as; each mark of an SVG tells its key.";

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// The metric across; `bits_per_dim with model` counts the model in
    #[arg(long, value_name = "METRIC", default_value = "bits_per_dim")]
    pub(crate) x: String,
    /// The metrics up, separated by commas, a picture for each
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(crate) y: Vec<String>,
    /// Re-ranking is shown of each method's best up to so many bits per dimension
    #[arg(long, value_name = "BITS", default_value_t = 2.0)]
    pub(crate) rate: f64,
    /// No logarithmic scales
    #[arg(long)]
    pub(crate) linear: bool,
    /// The folder for the pictures
    #[arg(long, short, value_name = "DIR", default_value = "plots")]
    pub(crate) output: PathBuf,
    /// svg, png or both
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "svg,png")]
    pub(crate) format: Vec<PictureFormat>,
    /// Draw in the terminal, a letter for each method, and write no files
    #[arg(long)]
    pub(crate) terminal: bool,
}

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PictureFormat {
    Svg,
    Png,
}
