//! Which records.

use clap::Args;
use std::path::PathBuf;
use vq_host::record::Outcome;

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
