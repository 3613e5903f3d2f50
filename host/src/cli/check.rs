//! `vq-host check`.

use clap::Args;
use std::path::PathBuf;
use vq_host::report::results::Format;

pub(super) const EXAMPLES: &str = "Examples:
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
