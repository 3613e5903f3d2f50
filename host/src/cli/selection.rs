//! Which cells of which sweep, and where what they need is.

use clap::Args;
use std::path::PathBuf;
use vq_host::plan::Partition;
use vq_host::record::Outcome;
use vq_host::session::Rerun;

/// Which cells.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// The sweep file
    #[arg(value_name = "SWEEP", required_unless_present = "data")]
    pub(crate) sweep: Option<PathBuf>,
    /// Measure on this file, folder of files or quoted pattern instead of a sweep: every method
    /// found, or one with --method, and then repeatable
    #[arg(long, value_name = "FILE", conflicts_with = "sweep")]
    pub(crate) data: Vec<PathBuf>,
    /// Queries for --data; without it 500 rows are held out, or a tenth of a small file
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(crate) queries: Option<PathBuf>,
    /// Metric for --data: l2, ip or cosine
    #[arg(long, value_name = "METRIC", requires = "data")]
    pub(crate) metric: Option<String>,
    /// Take only the first rows of --data
    #[arg(long, value_name = "ROWS", requires = "data")]
    pub(crate) limit: Option<usize>,
    /// The method for --data
    #[arg(long, value_name = "METHOD", requires = "data")]
    pub(crate) method: Option<String>,
    /// A parameter for --method: NAME=VALUE, or NAME=V1,V2 to sweep; repeatable
    #[arg(long = "param", value_name = "NAME=VALUES", requires = "method")]
    pub(crate) params: Vec<String>,
    /// Only cells whose title (data set, method, configuration, seed) contains TEXT; repeatable
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Only one part of all cells, into a store of its own: hash:3/16 (a cell's part never changes),
    /// slice:3/16 (equally many each) or list:FILE (those that it names)
    #[arg(long, value_name = "PART", conflicts_with = "data")]
    pub(crate) partition: Option<Partition>,
    /// Also measure again what ended so: failed (anything but ok), or one outcome such as timeout
    #[arg(long, value_name = "WHAT", value_parser = parse_rerun)]
    pub(crate) rerun: Option<Rerun>,
    /// Measure again whatever is selected
    #[arg(long)]
    pub(crate) force: bool,
    /// The SQLite file that holds the results
    #[arg(long, value_name = "FILE")]
    pub(crate) store: Option<PathBuf>,
    /// Where prepared data is kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) places: Places,
}

impl Selection {
    /// Whether every method is to be tried on a file.
    pub(crate) fn is_tournament(&self) -> bool {
        !self.data.is_empty() && self.method.is_none()
    }
}

fn parse_rerun(text: &str) -> Result<Rerun, String> {
    if text == "failed" {
        return Ok(Rerun::Failed);
    }
    text.parse().map(Rerun::Outcome).map_err(|_| {
        let names: Vec<&str> =
            Outcome::ALL.iter().map(|o| o.as_str()).filter(|n| *n != "failed").collect();
        format!("expected failed, {}", names.join(", "))
    })
}

/// Where plugins and prepared data are.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// Look for plugins in this folder first; repeatable
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
    /// Accept plugin files and folders that anybody may write to
    #[arg(long)]
    pub(crate) allow_world_writable: bool,
    /// Let plugins use your files and the network; for authors at work on one
    #[arg(long)]
    pub(crate) no_sandbox: bool,
}
