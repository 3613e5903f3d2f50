//! What can be typed: one struct of arguments per verb.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use vq_host::data::Metric;
use vq_host::plan::Partition;
use vq_host::record::Outcome;
use vq_host::report::export::ExportFormat;
use vq_host::report::results::{Format, Sort};
use vq_host::session::Rerun;

/// A neutral referee for vector quantization: every method is a plugin, and all are measured on
/// the same data, at the same true bits per dimension, with the same metrics.
#[derive(Debug, Parser)]
#[command(name = "vq-host", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "Examples:
  vq-host run sweeps.toml                  measure what is not measured yet
  vq-host plan sweeps.toml                 what would run, what not, and why
  vq-host methods                          which methods are there, from where
  vq-host results results/first-look.db    what was measured

Exit codes:
  0              all cells ok
  1              could not start or go on
  2              wrong usage
  3              some cells failed
  129, 130, 143  ended by SIGHUP, Ctrl-C, SIGTERM";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a sweep: measure what is not in its store yet, end with the best trade-offs
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Show what a sweep would run, what it skips and why, and what is done already
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// List methods and the plugins they come from, or show one method's parameters
    #[command(after_help = METHODS_EXAMPLES)]
    Methods(MethodsArgs),
    /// Hold a plugin file against the contract, as its author does before shipping
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Write the project of a new method: a plugin that builds and passes as it is
    #[command(after_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// Show what a store holds
    #[command(after_help = RESULTS_EXAMPLES)]
    Results(ResultsArgs),
    /// Show what got worse or better between two stores, or two runs
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Draw a store: SVG and PNG files of recall, error, bias, speed and re-ranking
    #[command(after_help = PLOT_EXAMPLES)]
    Plot(PlotArgs),
    /// Write one HTML page that shows a store: chart, tables, failures, machines, digests
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Write a store's records for other programs: Parquet, CSV, JSON Lines, Markdown
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Share a sweep out among the nodes of a cluster: a job array, and a merge after it
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit(SubmitArgs),
    /// Put several stores into one: of each cell and machine the best record
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArgs),
    /// Say which code reaches a recall with the fewest bits, what it costs and how sure that is
    #[command(after_help = RECOMMEND_EXAMPLES)]
    Recommend(RecommendArgs),
    /// Look at files of vectors, convert them, look after prepared data
    Data(DataArgs),
    /// Print what makes a shell complete verbs, options and their values
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each verb
    Man(ManArgs),
}

const RUN_EXAMPLES: &str = "Examples:
  vq-host run sweeps.toml
  vq-host run sweeps.toml --only METHOD --jobs 2
  vq-host run sweeps.toml --rerun failed
  vq-host run sweeps.toml --partition hash:3/16
  vq-host run --data FILE.parquet
  vq-host run --data 'shards/*.parquet' --limit 100000
  vq-host run --data FILE.fbin --metric cosine --recall 0.9 --rows 30e6
  vq-host run --data FILE.fbin --method METHOD --param NAME=8,16,32";

const PLAN_EXAMPLES: &str = "Examples:
  vq-host plan sweeps.toml
  vq-host plan sweeps.toml --probe         also how long it takes
  vq-host plan sweeps.toml --format json | jq '.cells | length'";

const COMPLETIONS_EXAMPLES: &str = "Examples:
  vq-host completions bash >> ~/.bash_completion
  vq-host completions fish > ~/.config/fish/completions/vq-host.fish
  vq-host completions zsh > ~/.zfunc/_vq-host";

const METHODS_EXAMPLES: &str = "Examples:
  vq-host methods
  vq-host methods METHOD
  vq-host methods --plugin-dir ./target/release --verbose";

const CHECK_EXAMPLES: &str = "Examples:
  vq-host check target/release/libmy_method.so
  vq-host check libmy_method.so --format json
  vq-host check libmy_methods.so --method METHOD --timeout 30s
  vq-host check libmy_methods.so --method METHOD --param iterations=2

Each method is checked in a process of its own.
One that crashes or hangs costs its own checks only.

Exit codes:
  0              keeps the contract
  1              cannot be loaded
  2              wrong usage
  3              breaks a rule
  129, 130, 143  ended by SIGHUP, Ctrl-C, SIGTERM";

const NEW_EXAMPLES: &str = "Examples:
  vq-host new my-method
  vq-host new my-method --lang c
  vq-host new my-method --lang python
  vq-host new my-method --lang c++ --path ~/code/my-method
  vq-host new my-method --api ../vq-host/plugin-api";

const RESULTS_EXAMPLES: &str = "Examples:
  vq-host results results/first-look.db
  vq-host results results/first-look.db --method METHOD --best
  vq-host results results/first-look.db --columns mse,recall@10 --sort mse
  vq-host results results/first-look.db --outcome failed --verbose
  vq-host results results/first-look.db --format csv > results.csv";

const COMPARE_EXAMPLES: &str = "Examples:
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

const PLOT_EXAMPLES: &str = "Examples:
  vq-host plot results/first-look.db
  vq-host plot results/first-look.db --y mse,recall@100 -o pictures
  vq-host plot results/first-look.db --x ratio --y recall@10 --format svg
  vq-host plot results/first-look.db --terminal

Without --y: recall, relative error, bias and speeds against the rate, and
what is missed after re-ranking. A line joins what no other configuration of
its method is as good as; each mark of an SVG tells its key.";

const REPORT_EXAMPLES: &str = "Examples:
  vq-host report results/first-look.db -o first-look.html
  vq-host report results/first-look.db --dataset NAME -o name.html

The page is one file that fetches nothing: send it, or open it from the disk.
Its address holds what is shown, so a link to a page on a server shows it too.";

const EXPORT_EXAMPLES: &str = "Examples:
  vq-host export results/first-look.db --format parquet -o results.parquet
  vq-host export results/first-look.db --format jsonl | jq .key
  vq-host export results/first-look.db --format csv-ann > ann-benchmarks.csv
  vq-host export results/first-look.db --format markdown --method METHOD

Each row has the key of its record.";

const SUBMIT_EXAMPLES: &str = "Examples:
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

const MERGE_EXAMPLES: &str = "Examples:
  vq-host merge results/all.db results/all.hash-*-of-16.db
  vq-host merge results/all.db node1.db node2.db

What OUT has already counts as well. The order of the stores changes nothing,
nor does merging them again. A record that went well wins over one that did
not, then the later one. Of a damaged store what can be read is taken over.

Exit codes:
  0              merged
  1              could not merge: OUT is as it was
  2              wrong usage
  3              merged, and something is damaged, or two machines disagree
  129, 130, 143  ended by SIGHUP, Ctrl-C, SIGTERM";

const RECOMMEND_EXAMPLES: &str = "Examples:
  vq-host recommend results/first-look.db
  vq-host recommend results/first-look.db --recall 0.9 --rerank 4
  vq-host recommend results/first-look.db --max-bits 4 --min-encode 1e6
  vq-host recommend results/first-look.db --rows 100e6

A recall counts where its one-sided 95 % lower limit over queries and seeds
reaches what is asked. What is unproven is never recommended.";

const CACHE_EXAMPLES: &str = "Examples:
  vq-host data cache
  vq-host data cache --clear --older-than 30d
  vq-host data cache --format json | jq .bytes

Prepared data can be made again, except from a source that is gone.
What a running vq-host uses stays.";

const INSPECT_EXAMPLES: &str = "Examples:
  vq-host data inspect vectors.parquet
  vq-host data inspect glove-100-angular.hdf5 --table test
  vq-host data inspect 'shards/train-*.parquet' --format json | jq '.[0].rows'";

const CONVERT_EXAMPLES: &str = "Examples:
  vq-host data convert vectors.parquet vectors.fbin
  vq-host data convert shards/ all.npy
  vq-host data convert glove-100-angular.hdf5 queries.fbin --table test";

const SAMPLE_EXAMPLES: &str = "Examples:
  vq-host data sample 'shards/*.parquet' some.fbin --rows 100000";

const FETCH_EXAMPLES: &str = "Examples:
  vq-host data fetch glove-100-angular
  vq-host data fetch bigann-10m

It prints the lines of a sweep that take it. Nobody publishes digests of these
files: that of the first download is kept, and later ones must have it too.";

const TRUTH_EXAMPLES: &str = "Examples:
  vq-host data truth glove-100-angular.hdf5 truth.ibin
  vq-host data truth base.fbin truth.npy --queries q.fbin --metric ip --k 10
  vq-host data truth base.u8bin t.ibin --queries q.u8bin --neighbours GT.ibin

What comes with a data set as its neighbours is held against those that are
found, and a line says whether all are right. Prepared data is kept as by a
run.";

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

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number, at least 1".into()),
        Ok(n) => Ok(n),
    }
}

fn metric(text: &str) -> Result<Metric, String> {
    let all = [Metric::L2, Metric::Ip, Metric::Cosine];
    let named = all.into_iter().find(|of| of.name() == text);
    named.ok_or_else(|| "expected l2, ip or cosine".into())
}

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

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The plugin library
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Check only this method; repeatable
    #[arg(long, value_name = "ID")]
    pub(crate) method: Vec<String>,
    /// Fit with this parameter instead of the default and the grid's; repeatable. For methods
    /// that take minutes to train
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) param: Vec<String>,
    /// Time limit per method
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = humantime::parse_duration)]
    pub(crate) timeout: std::time::Duration,
    /// Memory limit per method
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub(crate) memory: bytesize::ByteSize,
    /// Limit on what it may write to its scratch folder
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) scratch: bytesize::ByteSize,
    /// Let the plugin use your files and the network
    #[arg(long)]
    pub(crate) no_sandbox: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The method's id, as sweeps will call it: a to z first, then also 0 to 9, - and _
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The language to write it in
    #[arg(long, value_name = "LANG", default_value = "rust")]
    pub(crate) lang: Language,
    /// The project's folder, which must not exist yet; default: ./NAME
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// The folder where a Rust project finds vq-plugin-api; default: in the checkout this program
    /// was built in, else the tag of its own release in the repository
    #[arg(long, value_name = "DIR")]
    pub(crate) api: Option<String>,
}

/// The language of a new project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    C,
    #[value(name = "c++", alias = "cpp")]
    Cpp,
    Python,
}

impl Language {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Cpp => "C++",
            Language::Python => "Python",
        }
    }
}

/// Which records of which store.
#[derive(Debug, Args)]
pub(crate) struct Stored {
    /// The SQLite file; default: the store of ./sweeps.toml
    #[arg(value_name = "STORE")]
    pub(crate) store: Option<PathBuf>,
    /// Only this data set; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Vec<String>,
    /// Only this method; repeatable
    #[arg(long, value_name = "ID")]
    pub(crate) method: Vec<String>,
    /// Only this outcome: ok, failed, crashed, …; repeatable
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) outcome: Vec<Outcome>,
}

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

/// `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| unit * number);
    let share = share.filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to below 1, such as 1% or 0.01".into())
}

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

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The store to merge into; made if there is none
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// The stores to take over, which stay as they are
    #[arg(value_name = "IN", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
}

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

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// The file to write, whole or not at all
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

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

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) stored: Stored,
    /// Only the record whose key begins so, as pictures, answers and --verbose tell it; repeatable
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// The metrics that get a column, separated by commas
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Sort by a column: COLUMN, COLUMN:asc or COLUMN:desc
    #[arg(long, value_name = "COLUMN")]
    pub(crate) sort: Option<Sort>,
    /// Also the cause, log, sandbox, plugin and circumstances of each, under its row
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Only the best trade-offs of size and quality, as at the end of a run
    #[arg(long)]
    pub(crate) best: bool,
    /// table, json or csv
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

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

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

fn wanted_recall(text: &str) -> Result<f64, String> {
    positive(text).ok().filter(|share| *share <= 1.0).ok_or("expected above 0 and at most 1".into())
}

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

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Where fetched sets are kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// As `vq-host data list` calls it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where fetched sets are kept
    #[arg(long, value_name = "DIR", env = "VQ_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

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

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages; it is made if it is not there
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_share_is_written_in_two_ways() {
        assert_eq!((share("1%"), share("0.01"), share("0")), (Ok(0.01), Ok(0.01), Ok(0.0)));
        for bad in ["", "%", "100%", "-1%", "x", "NaN"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_follows_the_options_fits_a_terminal_of_80_columns() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 78, "{}: {line}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
