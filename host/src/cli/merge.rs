//! `vq-host merge`.

use clap::Args;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
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

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The store to merge into; made if there is none
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// The stores to take over, which stay as they are
    #[arg(value_name = "IN", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
}
