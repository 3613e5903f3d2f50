//! `vq-host data`, which has verbs of its own.

use super::number::at_least_one;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use vq_host::data::Metric;
use vq_host::report::results::Format;

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) verb: DataVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataVerb {
    /// Show what prepared data is kept, where, and how large it is; or clear it
    #[command(after_help = CACHE_EXAMPLES)]
    Cache(CacheArgs),
    /// Read files of vectors and say what is in them, and what to know before choosing a method
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Write vectors of any format as one .npy or .fbin file of f32
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(ConvertArgs),
    /// Write random rows of a data set as one .npy or .fbin file of f32, the same ones every time
    #[command(after_help = SAMPLE_EXAMPLES)]
    Sample(SampleArgs),
    /// Find the exact neighbours of queries and write them as .ibin or .npy
    #[command(after_help = TRUTH_EXAMPLES)]
    Truth(TruthArgs),
    /// Show the field's public sets: what they are, how large, and under which licence
    List(ListArgs),
    /// Fetch a public set into the cache; goes on where an earlier try ended
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch(FetchArgs),
}

const CACHE_EXAMPLES: &str = "Examples:
  vq-host data cache
  vq-host data cache --clear --older-than 30d
  vq-host data cache --format json | jq .bytes

Prepared data can be made again, except from a source that is gone.
What a running vq-host uses stays.";

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Remove everything, or with --older-than what was not used for so long
    #[arg(long)]
    pub(crate) clear: bool,
    /// Only what was not used for this time, such as 30d or 12h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) older_than: Option<std::time::Duration>,
    /// Where prepared data is kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

const INSPECT_EXAMPLES: &str = "Examples:
  vq-host data inspect vectors.parquet
  vq-host data inspect glove-100-angular.hdf5 --table test
  vq-host data inspect 'shards/train-*.parquet' --format json | jq '.[0].rows'";

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A file, a folder of files or a pattern of names in quotes; each is a data set
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The table or column, where a file has several
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

const CONVERT_EXAMPLES: &str = "Examples:
  vq-host data convert vectors.parquet vectors.fbin
  vq-host data convert shards/ all.npy
  vq-host data convert glove-100-angular.hdf5 queries.fbin --table test";

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A file, a folder of files or a pattern of names in quotes
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// The file to write: .npy or .fbin
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
    /// The table or column, where a file has several
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// Take only the first rows
    #[arg(long, value_name = "ROWS", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
}

const SAMPLE_EXAMPLES: &str = "Examples:
  vq-host data sample 'shards/*.parquet' some.fbin --rows 100000";

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A file, a folder of files or a pattern of names in quotes
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// The file to write: .npy or .fbin
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
    /// How many; all where there are no more
    #[arg(long, value_name = "ROWS", value_parser = at_least_one)]
    pub(crate) rows: usize,
    /// The table or column, where a file has several
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
}

const TRUTH_EXAMPLES: &str = "Examples:
  vq-host data truth glove-100-angular.hdf5 truth.ibin
  vq-host data truth base.fbin truth.npy --queries q.fbin --metric ip --k 10
  vq-host data truth base.u8bin t.ibin --queries q.u8bin --neighbours GT.ibin

What comes with a data set as its neighbours is held against those that are
found, and a line says whether all are right. Prepared data is kept as by a
run.";

#[derive(Debug, Args)]
pub(crate) struct TruthArgs {
    /// The rows that are searched: a file, a folder of files or a pattern of names in quotes
    #[arg(value_name = "BASE")]
    pub(crate) base: PathBuf,
    /// The file to write: .ibin (row numbers, then distances) or .npy (row numbers)
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
    /// The rows that are searched for; without it, those of the base's own file
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: Option<PathBuf>,
    /// Neighbours of each query; as many as there are rows where these are fewer
    #[arg(long, value_name = "K", default_value_t = 100, value_parser = at_least_one)]
    pub(crate) k: usize,
    /// l2, ip or cosine; without it, what the file says, or l2
    #[arg(long, value_name = "METRIC", value_parser = metric)]
    pub(crate) metric: Option<Metric>,
    /// Only the first rows of the base
    #[arg(long, value_name = "ROWS", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
    /// Published neighbours that are held against the exact ones: .ibin, .bin, .ivecs or .hdf5
    #[arg(long, value_name = "FILE")]
    pub(crate) neighbours: Option<PathBuf>,
    /// Where prepared data is kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

fn metric(text: &str) -> Result<Metric, String> {
    let all = [Metric::L2, Metric::Ip, Metric::Cosine];
    let named = all.into_iter().find(|of| of.name() == text);
    named.ok_or_else(|| "expected l2, ip or cosine".into())
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Where fetched sets are kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

const FETCH_EXAMPLES: &str = "Examples:
  vq-host data fetch glove-100-angular
  vq-host data fetch bigann-10m

It prints the lines of a sweep that take it. Nobody publishes digests of these
files: that of the first download is kept, and later ones must have it too.";

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// As `vq-host data list` calls it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where fetched sets are kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}
